"""A model package for classification, ready to be asked: images in, scores, embeddings and maps out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core import Context, InputError, ModelError, ParameterError, Volume
from ..core.geometry import inverse_order, reorder_array
from ..core.model_card import ModelCard
from ..core.model_package import ModelPackage
from ..core.resampling import resample_volume
from ..networks.installed import find_package
from ..networks.preparation import Prepared, prepare_all, storage_order
from .diagnosis import Diagnosis, load_diagnosis
from .picture import as_picture, picture_order

_AT_ONCE = 32


def classification_package(text: str) -> ModelPackage:
    """The package in a folder, or the installed model of this name, checked to be one that tells classes apart.

    Raises
    ------
    ModelError, ParameterError
    """
    if not text.strip():
        raise ParameterError("Model: no folder was given; choose a model package.")
    package = find_package(text.strip())
    card = package.card
    if card.task != "classification" or not card.outputs or card.outputs[0].kind != "classes":
        raise ModelError(f"The model '{card.title}' does not tell classes apart; choose one for classification.")
    return package


def class_names(card: ModelCard) -> tuple[str, ...]:
    """Names of the classes; the positive of two is the last."""
    names = tuple(s.name for s in sorted(card.outputs[0].segments, key=lambda s: s.label))
    return (f"not {names[0]}", names[0]) if len(names) == 1 else names


@dataclass(frozen=True, eq=False)
class Instance:
    """One thing that the network sees: a view, a slice or a volume.

    Parameters
    ----------
    name : str
    sample : (C, …) float32 ndarray
    """

    name: str
    sample: np.ndarray


class Classifier:
    """The networks of a package on a device.

    Parameters
    ----------
    package : ModelPackage
    device : str
    """

    def __init__(self, package: ModelPackage, device: str = "cpu"):
        self.card, self.device = package.card, device
        self.classes = class_names(package.card)
        self.networks = package.networks(device)
        self._channels = package.card.inference.channels
        self.diagnosis = load_diagnosis(package.folder)
        if self.diagnosis is None:
            self.diagnosis = Diagnosis(self.classes)
        elif self.diagnosis.classes != self.classes:
            raise ModelError(f"The calibration of '{self.card.title}' is for other classes than its card names.")

    def cases(self, images, context: Context | None = None) -> list[tuple[str, list]]:
        """Groups of images that the network takes together: one, or one for each view.

        Raises
        ------
        InputError
            If the images can neither be the network's inputs nor views for its only input.
        """
        wanted = self.card.inputs
        if len(wanted) == 1:
            return [(image.name or f"image {n}", [image]) for n, image in enumerate(images, start=1)]
        from ..networks.network_task import match_inputs

        return [(images[0].name or "image", match_inputs(images, self.card, context))]

    def pictures(self, name: str, images) -> list[tuple[str, list]]:
        """What is prepared by itself: the slices of volumes for a network of single pictures, else the whole.

        Raises
        ------
        InputError
            If the images of one case have different numbers of slices.
        """
        wanted = self.card.inputs
        single = self.card.inference.dimensions == 2 and all(w.size is not None and w.size[2] == 1 for w in wanted)
        if not single or all(is_picture(i, w) for i, w in zip(images, wanted)):
            return [(name, list(images))]
        stored = [i.reordered(*storage_order(i.geometry, w.orientation)) for i, w in zip(images, wanted)]
        counts = {i.geometry.shape[0] for i in stored}
        if len(counts) > 1:
            raise InputError(f"The images of '{name}' have different numbers of slices; they must have the same.")
        return [(f"{name}, slice {k + 1}", [slice_of(i, k) for i in stored]) for k in range(counts.pop())]

    def prepared(self, images, context: Context) -> list[Prepared]:
        """The images of one view as the network wants them."""
        for image in images:
            if min(image.geometry.shape) > 1 and self.card.inputs[0].size is None and image.array.size > 1 << 28:
                raise InputError(f"{image.label} is too large for a network that takes it whole; crop it first.")
        return prepared_images(images, self.card.inputs, context, self.card.inference.dimensions == 2)

    def instances(self, name: str, prepared: list[Prepared]) -> list[Instance]:
        """What the network sees of one view: its slices for a network in two dimensions, else the whole."""
        array = np.concatenate([p.array for p in prepared])
        if self.card.inference.dimensions == 3:
            return [Instance(name, array)]
        if array.shape[1] == 1:
            return [Instance(name, array[:, 0])]
        return [Instance(f"{name}, slice {k + 1}", array[:, k]) for k in range(array.shape[1])]

    def seen(self, images, context: Context, quiet: bool = False) -> tuple[list[Instance], list[str]]:
        """What the network sees of all images, and the name of the case that each instance is of.

        Parameters
        ----------
        images : list of Volume
        context : Context
        quiet : bool
            Whether progress is left to the caller.
        """
        instances, owners = [], []
        groups = self.cases(images, context)
        for number, (name, group) in enumerate(groups):
            if not quiet:
                context.progress(number / len(groups), f"Preparing {name}")
            before = len(instances)
            for label, images_of_it in self.pictures(name, group):
                instances += self.instances(label, self.prepared(images_of_it, context))
            owners += [name] * (len(instances) - before)
        return instances, owners

    def scores(self, samples, check=None) -> tuple[np.ndarray, np.ndarray]:
        """Logits (n, classes), mean over the members, and embeddings (n, D): what the last layers see."""
        import torch

        logits, embeddings = [], []
        for start in range(0, len(samples), _AT_ONCE):
            if check is not None:
                check(start / len(samples))
            batch = torch.from_numpy(np.stack(samples[start : start + _AT_ONCE])).to(self.device)
            found = [with_embedding(network, batch) for network in self.networks]
            raw = torch.stack([f[0] for f in found]).mean(0).double().cpu().numpy()
            logits.append(self._two_channels(raw))
            embeddings.append(np.concatenate([f[1] for f in found], axis=1))
        return np.concatenate(logits), np.concatenate(embeddings)

    def _two_channels(self, raw: np.ndarray) -> np.ndarray:
        raw = raw if self._channels is None else raw[:, list(self._channels)]
        if raw.shape[1] == 1 and len(self.classes) == 2:
            raw = np.concatenate([np.zeros_like(raw), raw], axis=1)
        if raw.shape[1] != len(self.classes):
            raise ModelError(
                f"The network of '{self.card.id}' gives {raw.shape[1]} scores where its card names "
                f"{len(self.classes)} classes."
            )
        return raw

    def channel(self, network_outputs: int, index: int) -> int:
        """The output of the network that belongs to a class."""
        if network_outputs == 1:
            return 0
        return index if self._channels is None else self._channels[index]


def prepared_images(images, wanted, context: Context, pictures: bool = True) -> list[Prepared]:
    """Images as the card's inputs want them.

    Parameters
    ----------
    pictures : bool
        Whether single slices are turned as a viewer shows them, however they lie in the patient.
    """
    given = [as_picture(i) if pictures and is_picture(i, w) else i for i, w in zip(images, wanted)]
    # What prepares an image reports its own progress, which is no share of the caller's.
    return prepare_all([smoothed(i, w) for i, w in zip(given, wanted)], wanted, Context(context.device, context.seed))


def slice_of(volume: Volume, k: int) -> Volume:
    """One slice of a volume, in its place."""
    grid = volume.geometry.cropped((k, 0, 0), (1, *volume.geometry.shape[1:]))
    return Volume(volume.array[k : k + 1], grid, volume.name, volume.units)


def is_picture(image: Volume, wanted) -> bool:
    """Whether an image is a single slice for an input that wants pictures as a viewer shows them."""
    return wanted.orientation == "LPS" and min(image.geometry.shape) == 1


def with_embedding(network, batch):
    """Output of a network, and what its last linear layer takes (without one: the output itself), as (B, D)."""
    import torch

    linear = [m for m in network.modules() if isinstance(m, torch.nn.Linear)] if hasattr(network, "modules") else []
    held = {}
    handle = None
    if linear:
        handle = linear[-1].register_forward_pre_hook(lambda module, inputs: held.update(features=inputs[0]))
    try:
        with torch.no_grad():
            output = network(batch)
    finally:
        if handle is not None:
            handle.remove()
    output = output[0] if isinstance(output, (tuple, list)) else output
    if output.ndim > 2:
        output = output.flatten(2).mean(2)
    features = held.get("features", output)
    features = features.reshape(len(batch), -1) if features.shape[0] == len(batch) else output
    return output, features.float().cpu().numpy()


def smoothed(image: Volume, wanted) -> Volume:
    """The image without what a network's small picture cannot show, lest it turns into false detail."""
    if wanted.size is None or wanted.fit != "stretch":
        return image
    from scipy.ndimage import gaussian_filter1d

    extents, sizes = sorted(image.geometry.shape), sorted(wanted.size)
    factors = [n / m for n, m in zip(extents, sizes)]
    if max(factors) < 1.5:
        return image
    array = image.array.astype(np.float32)
    ranks = np.argsort(np.argsort(image.geometry.shape, kind="stable"), kind="stable")
    for axis, rank in enumerate(ranks):
        if factors[rank] > 1.5:
            array = gaussian_filter1d(array, 0.4 * factors[rank], axis=axis, mode="nearest")
    return Volume(array, image.geometry, image.name, image.units)


def map_on_image(values: np.ndarray, prepared: Prepared, image: Volume, name: str, context: Context) -> Volume:
    """A (K, J, I) map of the network's grid on the image's grid, interpolated; 0 outside."""
    source, order = image.geometry, None
    if not prepared.source.same_grid(source):
        # The image was turned into a picture first.
        order = picture_order(source)
    stored = prepared.source.reordered(*prepared.order)
    on_grid = resample_volume(Volume(values, prepared.geometry), stored, "linear", context=context)
    back = on_grid.reordered(*inverse_order(*prepared.order))
    array = back.array if order is None else reorder_array(back.array, *inverse_order(*order))
    return image.with_array(np.ascontiguousarray(array, dtype=np.float32), name=name)
