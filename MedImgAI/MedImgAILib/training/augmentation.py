"""Random changes of training images by MONAI; labels move with the images."""

from __future__ import annotations

import threading

import numpy as np

LEVELS = ("none", "light", "full")
_DEGREE = np.pi / 180


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
    flips : tuple of bool
        For each axis (k, j, i; or j, i) whether it may be mirrored.
    bias_field : bool
        For MR.
    isotropic : bool
        If not, three-dimensional images are turned within their slices only.
    fill : float
        Value outside of the image.
    """

    def __init__(self, dimensions=3, level="full", flips=None, bias_field=False, isotropic=True):
        if level not in LEVELS:
            raise ValueError(f"level is one of {', '.join(LEVELS)}")
        self.dimensions, self.level = dimensions, level
        self.flips = tuple(flips) if flips is not None else (False,) * dimensions
        self.bias_field, self.isotropic = bias_field, isotropic
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

        data = {"image": torch.from_numpy(np.require(image, np.float32, "CW"))}
        if labels is not None:
            data["labels"] = torch.from_numpy(np.require(labels[None], np.uint8, "CW"))
        if self.level != "none":
            transform = self._transform(labels is not None)
            transform.set_random_state(int(rng.integers(1 << 31)))
            data = transform(data)
        image = torch.as_tensor(data["image"]).as_subclass(torch.Tensor).float().contiguous()
        if labels is None:
            return image, None
        return image, torch.as_tensor(data["labels"]).as_subclass(torch.Tensor)[0].to(torch.uint8).contiguous()

    def _transform(self, with_labels: bool):
        held = getattr(self._own, "transforms", None)
        if held is None:
            held = self._own.transforms = {}
        if with_labels not in held:
            from monai.transforms import Compose

            keys = ["image", "labels"] if with_labels else ["image"]
            held[with_labels] = Compose([*self._spatial(keys), *self._intensity()])
        return held[with_labels]

    def _spatial(self, keys) -> list:
        from monai.transforms import RandAffined, RandFlipd

        modes = ["bilinear", "nearest"][: len(keys)]
        full = self.level == "full"
        turn = (18 if full else 8) * _DEGREE
        # MONAI turns about the first axis first; for slices thicker than wide only that about the slice direction.
        turns = turn if self.dimensions == 2 else [turn, turn, turn] if self.isotropic else [turn, 0.0, 0.0]
        scale = 0.25 if full else 0.1
        result = [
            RandAffined(
                keys, prob=0.4 if full else 0.3, rotate_range=turns, scale_range=[scale] * self.dimensions,
                translate_range=[3.0] * self.dimensions, mode=modes, padding_mode="zeros",
            )
        ]  # fmt: skip
        result += [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis, may in enumerate(self.flips) if may]
        return result

    def _intensity(self) -> list:
        from monai import transforms as t

        key = ["image"]
        if self.level == "light":
            return [t.RandScaleIntensityd(key, 0.1, prob=0.3), t.RandShiftIntensityd(key, 0.1, prob=0.3)]
        linear = "bilinear" if self.dimensions == 2 else "trilinear"
        result = [
            t.RandGaussianNoised(key, prob=0.1, std=0.1),
            t.RandGaussianSmoothd(key, (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=0.1),
            t.RandScaleIntensityd(key, 0.25, prob=0.15),
            t.RandShiftIntensityd(key, 0.2, prob=0.15),
            t.RandAdjustContrastd(key, prob=0.15, gamma=(0.7, 1.5)),
            t.RandSimulateLowResolutiond(key, prob=0.12, upsample_mode=linear, zoom_range=(0.5, 1.0)),
        ]
        if self.bias_field:
            result.append(t.RandBiasFieldd(key, prob=0.1, degree=2, coeff_range=(-0.15, 0.15)))
        return result


def mixup_share(rng: np.random.Generator, alpha: float) -> float:
    """How much of the first of two samples a mixed one is (Zhang et al. 2018, ICLR); 1 where ``alpha`` is 0."""
    return float(rng.beta(alpha, alpha)) if alpha > 0 else 1.0
