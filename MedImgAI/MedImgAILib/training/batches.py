"""Batches of prepared cases: patches with their labels, or whole images with their classes."""

from __future__ import annotations

import numpy as np

from ..core import Context, MedImgAIError
from .augmentation import Augmentation, mixup_share
from .cache import PreparedCase
from .loading import Batch
from .sampling import Sampler, sample_rng

_SCALES = (0.75, 1.0, 1.25)


class _Batches:
    """What both kinds share; a call makes the batch of some sample numbers."""

    def __init__(self, cases, sampler: Sampler, augmentation, seed, context, on_error, multi_scale, divisor, load):
        self.cases, self.sampler, self.augmentation, self.seed = cases, sampler, augmentation, seed
        self.context, self.on_error = context or Context(), on_error
        self.multi_scale, self.divisor = multi_scale, divisor
        self.load = load or (lambda case: case)
        self._warned: set[str] = set()

    def __call__(self, samples: list[int]) -> Batch:
        import torch

        made = [self._sample(n) for n in samples]
        inputs = torch.stack([one[0] for one in made])
        targets = torch.stack([one[1] for one in made])
        inputs, targets = self._scaled(inputs, targets, samples[0])
        return Batch(inputs, targets, tuple(one[2] for one in made))

    def _sample(self, number: int):
        """The sample, or with "skip" the next one whose case can be used."""
        first, failure = self.sampler.case(number), None
        for further in range(len(self.cases)):
            case = self.cases[(first + further) % len(self.cases)]
            try:
                return self._one(self.load(case), sample_rng(self.seed, number), number)
            except MedImgAIError as error:
                if self.on_error != "skip":
                    raise
                failure = error
                if case.case.id not in self._warned:
                    self._warned.add(case.case.id)
                    self.context.warn(f"Case '{case.case.id}' is left out: {error}")
        raise failure

    def _one(self, case: PreparedCase, rng, number: int):
        raise NotImplementedError

    def _scaled(self, inputs, targets, first: int):
        """Another resolution for the whole batch, a multiple of what the network can take."""
        if not self.multi_scale:
            return inputs, targets
        from torch.nn import functional

        factor = _SCALES[sample_rng(self.seed, first, purpose=1).integers(len(_SCALES))]
        shape = inputs.shape[2:]
        size = [max(d, round(n * factor / d) * d) if n > 1 else n for n, d in zip(shape, self.divisor)]
        if tuple(size) == tuple(shape):
            return inputs, targets
        mode = "trilinear" if len(size) == 3 else "bilinear"
        inputs = functional.interpolate(inputs, size, mode=mode, align_corners=False)
        if targets.ndim > 2:
            targets = functional.interpolate(targets[:, None].float(), size, mode="nearest-exact")[:, 0].to(
                targets.dtype
            )
        return inputs, targets


class PatchBatches(_Batches):
    """Patches of labelled images.

    Parameters
    ----------
    cases : list of PreparedCase
    patch : (K, J, I)
        Extent in voxels; K is 1 in two dimensions, and the batch then has no such axis.
    sampler : Sampler
    augmentation : Augmentation
    foreground : float
        Share of the patches whose middle is a labelled voxel, of each label alike; the others lie anywhere.
    seed : int
    context : Context, optional
        Warned of cases that are left out.
    on_error : "stop" or "skip"
        What to do when a case cannot be read.
    multi_scale : bool
        Whether batches come in three resolutions.
    divisor : tuple of int
        Of which extents must be multiples.
    load : callable, optional
        Gives the case with its arrays, where they are not kept.
    """

    def __init__(
        self, cases, patch, sampler, augmentation: Augmentation, foreground=1 / 3, seed=0, context=None,
        on_error="stop", multi_scale=False, divisor=(1, 1, 1), load=None,
    ):  # fmt: skip
        super().__init__(cases, sampler, augmentation, seed, context, on_error, multi_scale, divisor, load)
        self.patch, self.foreground = tuple(patch), foreground

    def _one(self, case, rng, number):
        image, labels = cut_patch(case, self.patch, rng, self.foreground)
        if self.augmentation.dimensions == 2:
            image, labels = image[:, 0], labels[0]
        image, labels = self.augmentation(image, labels, rng)
        return image, labels, case.case.id


def cut_patch(case: PreparedCase, patch, rng, foreground: float):
    """``(C, K, J, I)`` image and ``(K, J, I)`` labels of a patch; 0 where it reaches beyond the image."""
    shape = np.array(case.image.shape[1:])
    patch = np.array(patch)
    # As in inference, an image smaller than the patch lies in its middle.
    least = -(np.maximum(patch - shape, 0) // 2)
    most = np.where(shape > patch, shape - patch, least)
    if case.places and rng.random() < foreground:
        places = case.places[int(rng.choice(sorted(case.places)))]
        start = np.clip(places[rng.integers(len(places))] - patch // 2, least, most)
    else:
        start = rng.integers(least, most + 1)
    inside = tuple(slice(max(0, s), min(n, s + p)) for s, n, p in zip(start, shape, patch))
    into = tuple(slice(i.start - s, i.stop - s) for i, s in zip(inside, start))
    image = np.zeros((case.image.shape[0], *patch), np.float32)
    labels = np.zeros(patch, np.uint8)
    image[(slice(None), *into)] = case.image[(slice(None), *inside)]
    labels[into] = case.labels[inside]
    return image, labels


class ImageBatches(_Batches):
    """Whole images with the shares of their classes; see :class:`PatchBatches`.

    Parameters
    ----------
    numbers : (N,) int array_like
        Class of each case.
    classes : int
    mixup : float
        α of MixUp; 0 for none.
    """

    def __init__(
        self, cases, numbers, classes: int, sampler, augmentation: Augmentation, mixup=0.0, seed=0, context=None,
        on_error="stop", multi_scale=False, divisor=(1, 1, 1), load=None,
    ):  # fmt: skip
        super().__init__(cases, sampler, augmentation, seed, context, on_error, multi_scale, divisor, load)
        self.by_case = {case.case.id: int(n) for case, n in zip(cases, numbers)}
        self.classes, self.mixup = classes, mixup

    def _one(self, case, rng, number):
        import torch

        image, shares = self._single(case, rng)
        share = mixup_share(rng, self.mixup)
        if share < 1:
            other = self.cases[int(rng.integers(len(self.cases)))]
            second, second_shares = self._single(self.load(other), rng)
            image, shares = share * image + (1 - share) * second, share * shares + (1 - share) * second_shares
        return image, torch.as_tensor(shares, dtype=torch.float32), case.case.id

    def _single(self, case, rng):
        array = case.image[:, 0] if self.augmentation.dimensions == 2 else case.image
        image, _ = self.augmentation(np.asarray(array), None, rng)
        return image, np.eye(self.classes, dtype=np.float32)[self.by_case[case.case.id]]
