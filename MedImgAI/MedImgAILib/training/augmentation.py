"""Random changes of training images: places by our own warp, intensities by MONAI; labels move with the images."""

from __future__ import annotations

import threading

import numpy as np

from .warping import Warp

LEVELS = ("none", "light", "full", "strong")
_WARPS = {
    "light": {"share": 0.3, "degrees": 8, "scale": 0.1},
    "full": {"share": 0.4, "degrees": 18, "scale": 0.2},
    "strong": {"share": 1.0, "degrees": 18, "scale": 0.15, "bend": 1.5},
}


class Augmentation:
    """Spatial and intensity changes of one sample, a pure function of its random numbers.

    Parameters
    ----------
    dimensions : 2 or 3
    level : str
        none   nothing
        light  small turns, scales and shifts, brightness and contrast
        full   larger ones, and noise, blur, low resolution and (MR) a bias field, each with the probabilities that
               nnU-Net uses (Isensee et al. 2021)
        strong every sample turned, scaled, moved and bent, and twice as often of other intensities: for few cases
    flips : tuple of bool
        For each axis (k, j, i; or j, i) whether it may be mirrored.
    bias_field : bool
        For MR.
    isotropic : bool
        If not, three-dimensional images are turned within their slices only.
    """

    def __init__(self, dimensions=3, level="full", flips=None, bias_field=False, isotropic=True):
        if level not in LEVELS:
            raise ValueError(f"level is one of {', '.join(LEVELS)}")
        self.dimensions, self.level = dimensions, level
        self.flips = tuple(flips) if flips is not None else (False,) * dimensions
        self.bias_field, self.isotropic = bias_field, isotropic
        self.warp = Warp(**_WARPS[level], in_slices=not isotropic) if level != "none" else None
        self._own = threading.local()  # MONAI's transforms hold their random state, so each thread has its own

    def __call__(self, image: np.ndarray, labels: np.ndarray | None, rng: np.random.Generator):
        """Change a sample.

        Parameters
        ----------
        image : (C, …) float32 ndarray
        labels : (…) integer ndarray, optional
        rng : numpy Generator

        Returns
        -------
        (C, …) float32 tensor, (…) uint8 tensor or None
        """
        import torch

        image = torch.from_numpy(np.require(image, np.float32, "CW"))
        if labels is not None:
            labels = torch.from_numpy(np.require(labels, np.uint8, "CW"))
        if self.level == "none":
            return image, labels
        image, labels = self.warp(image, labels, rng)
        axes = [axis for axis, may in enumerate(self.flips) if may and rng.random() < 0.5]
        if axes:
            image = image.flip([axis + 1 for axis in axes])
            labels = None if labels is None else labels.flip(axes)
        # One state for all transforms: MONAI would seed one for each, which takes longer than most of them.
        state = np.random.RandomState(np.random.PCG64(int(rng.integers(1 << 31))))
        for transform in self._transforms():
            transform.set_random_state(state=state)
            image = transform({"image": image})["image"]
        image = torch.as_tensor(image).as_subclass(torch.Tensor).float().contiguous()
        return image, None if labels is None else labels.contiguous()

    def _transforms(self) -> list:
        if not hasattr(self._own, "transforms"):
            self._own.transforms = self._intensity()
        return self._own.transforms

    def _intensity(self) -> list:
        from monai import transforms as t

        key = ["image"]
        if self.level == "light":
            return [t.RandScaleIntensityd(key, 0.1, prob=0.3), t.RandShiftIntensityd(key, 0.1, prob=0.3)]
        often = 2 if self.level == "strong" else 1
        linear = "bilinear" if self.dimensions == 2 else "trilinear"
        result = [
            t.RandGaussianNoised(key, prob=often * 0.1, std=0.1),
            t.RandGaussianSmoothd(key, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=often * 0.1),
            t.RandScaleIntensityd(key, 0.25, prob=often * 0.15),
            t.RandShiftIntensityd(key, 0.2, prob=often * 0.15),
            t.RandAdjustContrastd(key, prob=often * 0.15, gamma=(0.7, 1.5)),
            t.RandSimulateLowResolutiond(key, prob=often * 0.12, upsample_mode=linear, zoom_range=(0.5, 1.0)),
        ]
        if self.bias_field:
            result.append(t.RandBiasFieldd(key, prob=often * 0.1, degree=2, coeff_range=(-0.15, 0.15)))
        return result


def mixup_share(rng: np.random.Generator, alpha: float) -> float:
    """How much of the first of two samples a mixed one is (Zhang et al. 2018, ICLR); 1 where ``alpha`` is 0."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0
