"""How a model wants the voxel values of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

_FIELDS = {
    "none": (),
    "range": ("lower", "upper"),
    "percentiles": ("lower", "upper"),
    "z_score": (),
    "fixed_z_score": ("mean", "std"),
}


@dataclass(frozen=True)
class Intensity:
    """A rule and its numbers.

    =============  =====================================================================================
    none           as it comes
    range          ``lower`` … ``upper`` (in the image's unit, HU for CT) to 0 … 1, clipped
    percentiles    the image's percentiles ``lower`` … ``upper`` (0 … 100) to 0 … 1, clipped
    z_score        the image's mean to 0 and standard deviation to 1
    fixed_z_score  ``mean`` to 0 and ``std`` to 1, the same for all images
    =============  =====================================================================================

    With ``nonzero`` the statistics of percentiles and z_score are those of the voxels that are not 0, and the
    others stay 0.

    Raises
    ------
    ValueError
        If the rule is unknown or its numbers are missing or make no sense.
    """

    rule: str = "none"
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None
    nonzero: bool = False

    def __post_init__(self):
        if self.rule not in _FIELDS:
            raise ValueError(f"'{str(self.rule)[:40]}' is not one of {', '.join(_FIELDS)}")
        needed = _FIELDS[self.rule]
        for name in ("lower", "upper", "mean", "std"):
            value = getattr(self, name)
            if (value is not None) != (name in needed):
                raise ValueError(f"'{self.rule}' takes {' and '.join(needed) or 'no numbers'}")
            if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
                raise ValueError(f"{name} must be a finite number")
        if not isinstance(self.nonzero, bool) or (self.nonzero and self.rule not in ("percentiles", "z_score")):
            raise ValueError("nonzero is for percentiles and z_score")
        if "lower" in needed and not self.lower < self.upper:
            raise ValueError("lower must be less than upper")
        if self.rule == "percentiles" and not 0 <= self.lower < self.upper <= 100:
            raise ValueError("percentiles lie between 0 and 100")
        if "std" in needed and not self.std > 0:
            raise ValueError("std must be positive")

    def apply(self, array: np.ndarray) -> np.ndarray:
        """The values prepared by the rule, as float32; an image without contrast becomes 0.

        Parameters
        ----------
        array : ndarray
            Any shape; one image's voxels.
        """
        values = array.astype(np.float32)
        if self.rule == "none":
            return values
        if self.rule == "range":
            return _scaled(values, self.lower, self.upper)
        if self.rule == "fixed_z_score":
            return (values - np.float32(self.mean)) / np.float32(self.std)
        kept = values != 0 if self.nonzero else np.ones(values.shape, bool)
        inside = values[kept]
        if not inside.size:
            return np.zeros_like(values)
        if self.rule == "percentiles":
            prepared = _scaled(values, *np.percentile(inside, (self.lower, self.upper)))
        else:
            mean, std = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
            prepared = ((values - mean) / std if std > 0 else values * 0).astype(np.float32)
        return np.where(kept, prepared, np.float32(0))

    def to_json(self) -> dict:
        """The object of ``model.json``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in values.items() if v is not None and v is not False}


def _scaled(values: np.ndarray, lower: float, upper: float) -> np.ndarray:
    if not upper > lower:
        return np.zeros_like(values)
    return ((values.clip(lower, upper) - lower) / (upper - lower)).astype(np.float32)
