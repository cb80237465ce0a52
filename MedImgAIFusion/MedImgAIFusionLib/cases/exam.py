"""From the MR images of a head to brain images on one grid: registration, bias correction, skull stripping."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    InputError,
    LinearTransform,
    ResourceError,
    Segment,
    Segmentation,
    SegmentationPort,
    Volume,
    VolumePort,
)
from MedImgAILib.core.geometry import inverse_order
from MedImgAILib.core.model_package import CARD
from MedImgAILib.core.resampling import resample_labels, resample_volume
from MedImgAILib.enhance.n4 import N4
from MedImgAILib.networks.installed import SHIPPED

from ..model.cases import foreground
from ..registration.tasks import RigidRegistration

MODALITIES = {"t1": "T1", "t1c": "T1c", "t2": "T2", "flair": "FLAIR"}
"""Input names and what the networks call them."""
REFERENCES = ("T1c", "T1", "FLAIR", "T2")
"""The first of these that is there gives the grid."""
BRAIN_MODEL = "brain_extraction"
"""The package for heads, if it came with the program."""
LARGEST_BRAIN_ML = 2200.0
"""More than this around a constant background is a head, not a stripped brain."""

INPUTS = (
    *(
        VolumePort(name, title, f"{title} image of the head, if there is one.", optional=True, three_d=True)
        for name, title in MODALITIES.items()
    ),
    SegmentationPort(
        "brain", "Brain mask", "In place of automatic skull stripping, drawn on the first of T1c, T1, FLAIR and T2 "
        "that is given.", optional=True,
    ),
)  # fmt: skip
PARAMETERS = (
    ChoiceParameter(
        "alignment", "Registration", "automatic",
        "Rigid, to the first of T1c, T1, FLAIR and T2; automatic leaves images alone that share one grid already.",
        choices={"automatic": "Where grids differ", "always": "Always", "never": "Never"},
    ),
    ChoiceParameter(
        "bias", "Bias correction", "n4", "Evens out the slow change of brightness.",
        choices={"n4": "N4", "none": "None"}, advanced=True,
    ),
    ChoiceParameter(
        "stripping", "Skull stripping", "automatic",
        "Automatic recognises images that show a brain alone, and else asks the network for brains of any contrast; "
        "deepbet knows T1 and T1c.",
        choices={
            "automatic": "Automatic", "network": "Network for any contrast", "deepbet": "deepbet",
            "none": "Images show the brain alone",
        }, advanced=True,
    ),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Exam:
    """Registered, corrected, stripped images.

    Parameters
    ----------
    images : {modality: Volume}
        On one grid, 0 outside the brain.
    brain : (K, J, I) bool ndarray
    transforms : {modality: LinearTransform}
        Of the images that were moved, from their place to the reference.
    notes : list of str
        What was done, in sentences.
    """

    images: dict[str, Volume]
    brain: np.ndarray
    transforms: dict[str, LinearTransform] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def reference(self) -> Volume:
        """The image whose grid all have."""
        return next(iter(self.images.values()))


def given_images(inputs) -> dict[str, Volume]:
    """The images by modality, the reference first.

    Raises
    ------
    InputError
        If there is none.
    """
    found = {title: getattr(inputs, name) for name, title in MODALITIES.items() if getattr(inputs, name) is not None}
    if not found:
        raise InputError("No image was given; choose at least one of T1, T1c, T2 and FLAIR.")
    return {name: found[name] for name in REFERENCES if name in found}


def prepare_exam(images: dict[str, Volume], brain: Segmentation | None, parameters, context) -> Exam:
    """Bring all images to the reference's grid, even out their brightness and cut out the brain.

    Parameters
    ----------
    images : {modality: Volume}
        The reference first; see :func:`given_images`.
    brain : Segmentation, optional
    parameters : namespace
        With the values of :data:`PARAMETERS`.

    Raises
    ------
    InputError
        If the images cannot be registered, no brain is found, or an image shows nothing there.
    """
    notes: list[str] = []
    with context.part(0.0, 0.6):
        aligned, transforms = _aligned(images, parameters.alignment, notes, context)
    reference = next(iter(aligned))
    with context.part(0.6, 0.75):
        mask = _brain(aligned, brain, parameters.stripping, notes, context)
    if mask.sum() * aligned[reference].geometry.voxel_volume_mm3 < 1000:
        raise InputError("The brain mask holds less than 1 mL; check the mask and the images.")
    for name, volume in aligned.items():
        if np.ptp(volume.array[mask]) == 0:
            elsewhere = "" if name == reference else f", or see whether it lies where {reference} does"
            raise InputError(f"{name} is the same everywhere in the brain; leave it out{elsewhere}.")
    ready, evened = {}, []
    for number, (name, volume) in enumerate(aligned.items()):
        with context.part(0.75 + 0.25 * number / len(aligned), 0.75 + 0.25 * (number + 1) / len(aligned)) as part:
            corrected = _corrected(volume, mask, part) if parameters.bias == "n4" else volume
        if corrected is not volume:
            evened.append(name)
        values = np.where(mask, corrected.array.astype(np.float32), np.float32(0))
        ready[name] = volume.with_array(values, name=f"{name} brain", units=volume.units)
    if evened:
        notes.append(f"N4 evened out the brightness of {', '.join(evened)}.")
    if parameters.bias == "n4" and len(evened) < len(ready):
        rest = ", ".join(name for name in ready if name not in evened)
        notes.append(f"N4 left {rest} alone: values in the brain are below 0, or mostly 0.")
    return Exam(ready, mask, transforms, notes)


def _aligned(images, alignment, notes, context):
    names = list(images)
    fixed = images[names[0]]
    aligned, transforms = {names[0]: fixed}, {}
    for number, name in enumerate(names[1:]):
        moving = images[name]
        ordered = moving.canonical()
        if ordered.geometry.same_grid(fixed.canonical().geometry) and alignment != "always":
            # The same voxels, perhaps stored in another order.
            aligned[name] = ordered.reordered(*inverse_order(*fixed.geometry.canonical_order()))
            continue
        transform = None
        if alignment != "never":
            with context.part(number / len(names), (number + 1) / len(names)) as part:
                given = {"fixed": fixed, "moving": moving}
                found = RigidRegistration().execute(given, {"search": "center", "resample": False}, part)["transform"]
            transform = replace(found, name=f"{name} to {names[0]}")
            transforms[name] = transform
            notes.append(f"{name} was registered to {names[0]}.")
        aligned[name] = resample_volume(moving, fixed.geometry, "linear", transform)
    return aligned, transforms


def _brain(images, given, stripping, notes, context) -> np.ndarray:
    """(K, J, I) bool on the grid of the images."""
    reference = next(iter(images.values()))
    if given is not None:
        notes.append(f"The brain is that of {given.in_sentence}.")
        labels = np.zeros(given.geometry.shape, np.uint8)
        for segment in given.segments:
            labels |= given.mask(segment)
        return resample_labels(labels, given.geometry, reference.geometry) > 0
    tissue = np.ones(reference.array.shape, bool)
    for volume in images.values():
        tissue &= foreground(volume.array)
    volume_ml = tissue.sum() * reference.geometry.voxel_volume_mm3 / 1000
    if stripping == "none" or (stripping == "automatic" and not tissue.all() and volume_ml < LARGEST_BRAIN_ML):
        notes.append("The images show the brain alone already.")
        return tissue
    if stripping == "network" or (stripping == "automatic" and (SHIPPED / BRAIN_MODEL / CARD).exists()):
        return _network_mask(images, notes, context)
    return _deepbet_mask(images, notes, context)


def _network_mask(images, notes, context) -> np.ndarray:
    """By the network that comes with the program, on the reference, whatever its contrast."""
    from MedImgAILib.networks.network_task import NetworkSegmentation

    name, volume = next(iter(images.items()))
    task = NetworkSegmentation()
    task.require_packages()
    found = task.execute({"images": [volume]}, {"model": BRAIN_MODEL}, context)["segmentation"]
    notes.append(
        f"The network '{BRAIN_MODEL}' found the brain in {name}; it has seen no tumours, so look whether all of this "
        "one is in the pictures."
    )
    return found.mask("Brain")


def _deepbet_mask(images, notes, context) -> np.ndarray:
    from MedImgAILib.segment.brain_extraction import BrainExtraction

    task = BrainExtraction()
    name = next((n for n in ("T1", "T1c") if n in images), None)
    if name is None:
        raise InputError("Skull stripping by deepbet needs a T1 or T1c image; give one, or a brain mask.")
    if not context.in_worker:
        raise ResourceError("Skull stripping by deepbet runs in the worker process only; choose that, or give a mask.")
    task.require_packages()
    result = task.run(SimpleNamespace(image=images[name]), SimpleNamespace(threshold=0.5), context)
    notes.append(f"deepbet found the brain in {name}.")
    return result["segmentation"].mask("Brain")


def _corrected(volume: Volume, mask: np.ndarray, context) -> Volume:
    """N4 within the brain; images with values below 0, such as z-scores, and images of zeros are left alone."""
    inside = volume.array[mask]
    if inside.min() < 0 or np.median(inside) <= 0:
        return volume
    # Voids in vessels, and places that the image does not reach, are 0.
    seen = mask & (volume.array > 0)
    brain = Segmentation.from_labels(seen.astype(np.uint8), volume.geometry, [Segment("Brain", 1)])
    positive = replace(volume, array=np.where(seen, volume.array, volume.array[seen].min()).astype(np.float32))
    values = SimpleNamespace(**N4().defaults())
    corrected = N4().run(SimpleNamespace(image=positive, mask=brain), values, context)["corrected"]
    return replace(corrected, array=np.where(seen, corrected.array, np.float32(0)))
