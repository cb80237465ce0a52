"""How a model wants the voxel values of its input."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

_FIELDS = {
    "none": (),
    "range": ("lower", "upper"),
    "clip": ("lower", "upper"),
    "percentiles": ("lower", "upper"),
    "min_max": (),
    "z_score": (),
    "fixed_z_score": ("mean", "std"),
}
_OF_NONZERO = ("percentiles", "z_score")
_ZERO = 1e-7
_SCALED = ("range", "percentiles", "min_max")


@dataclass(frozen=True)
class Intensity:
    """A rule and its numbers.

    =============  =====================================================================================
    none           as it comes
    range          ``lower`` … ``upper`` (in the image's unit, HU for CT) to 0 … 1, clipped
    clip           values below ``lower`` and above ``upper`` become these
    percentiles    the image's percentiles ``lower`` … ``upper`` (0 … 100) to 0 … 1, clipped
    min_max        the image's least and largest value to 0 … 1
    z_score        the image's mean to 0 and standard deviation to 1
    fixed_z_score  ``mean`` to 0 and ``std`` to 1, the same for all images
    =============  =====================================================================================

    ``target`` (two numbers) replaces 0 … 1 where values are scaled to that. With ``nonzero`` the statistics of
    percentiles and z_score are those of the voxels that are not 0, and the others stay 0; with ``filled`` too, those
    voxels are without holes. ``open`` leaves values outside of a range or of percentiles as they come out.

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
    filled: bool = False
    open: bool = False
    target: tuple[float, float] | None = None

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
        for name, rules in (("nonzero", _OF_NONZERO), ("filled", _OF_NONZERO), ("open", ("range", "percentiles"))):
            if not isinstance(getattr(self, name), bool) or (getattr(self, name) and self.rule not in rules):
                raise ValueError(f"{name} is for {' and '.join(rules)}")
        if self.filled and not self.nonzero:
            raise ValueError("filled goes with nonzero")
        self._check_target()
        if "lower" in needed and not self.lower < self.upper:
            raise ValueError("lower must be less than upper")
        if self.rule == "percentiles" and not 0 <= self.lower < self.upper <= 100:
            raise ValueError("percentiles lie between 0 and 100")
        if "std" in needed and not self.std > 0:
            raise ValueError("std must be positive")

    def _check_target(self):
        if self.target is None:
            return
        if self.rule not in _SCALED or not isinstance(self.target, (list, tuple)) or len(self.target) != 2:
            raise ValueError(f"target is two numbers, for {', '.join(_SCALED)}")
        if not all(type(n) in (int, float) and math.isfinite(n) for n in self.target):
            raise ValueError("target must be finite numbers")
        object.__setattr__(self, "target", tuple(float(n) for n in self.target))

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
        if self.rule == "clip":
            return values.clip(self.lower, self.upper)
        if self.rule == "range":
            return self._scaled(values, self.lower, self.upper)
        if self.rule == "min_max":
            return self._scaled(values, values.min(), values.max()) if values.size else values
        if self.rule == "fixed_z_score":
            return (values - np.float32(self.mean)) / np.float32(self.std)
        kept = self._kept(values)
        inside = values[kept]
        if not inside.size:
            return np.zeros_like(values)
        if self.rule == "percentiles":
            prepared = self._scaled(values, *np.percentile(inside, (self.lower, self.upper)))
        else:
            mean, std = inside.mean(dtype=np.float64), inside.std(dtype=np.float64)
            prepared = ((values - mean) / std if std > 0 else values * 0).astype(np.float32)
        return np.where(kept, prepared, np.float32(0))

    def _kept(self, values: np.ndarray) -> np.ndarray:
        """Which voxels count."""
        if not self.nonzero:
            return np.ones(values.shape, bool)
        # What interpolation between zeros leaves is as good as 0.
        kept = np.abs(values) > _ZERO * np.abs(values).max(initial=0)
        if self.filled:
            from scipy.ndimage import binary_fill_holes

            kept = np.stack([binary_fill_holes(channel) for channel in kept]) if kept.ndim == 4 else kept
        return kept

    def _scaled(self, values: np.ndarray, lower: float, upper: float) -> np.ndarray:
        if not upper > lower:
            return np.zeros_like(values)
        low, high = self.target or (0.0, 1.0)
        values = values if self.open else values.clip(lower, upper)
        share = ((values - lower) / (upper - lower)).astype(np.float32)
        return share if (low, high) == (0.0, 1.0) else share * np.float32(high - low) + np.float32(low)

    def to_json(self) -> dict:
        """The object of ``model.json``."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["target"] = list(self.target) if self.target else None
        return {k: v for k, v in values.items() if v is not None and v is not False}


def read_intensity(given) -> Intensity | tuple[Intensity, ...]:
    """One rule from its object, or several, applied in turn, from a list of objects.

    Raises
    ------
    ValueError, TypeError
        If one is wrong.
    """
    if isinstance(given, list):
        if not 1 <= len(given) <= 8:
            raise ValueError("one to eight rules are possible")
        return tuple(Intensity(**rule) for rule in given)
    return Intensity(**given)


def apply_intensity(intensity, array: np.ndarray) -> np.ndarray:
    """``array`` after one rule or several in turn; float32."""
    for rule in intensity if isinstance(intensity, tuple) else (intensity,):
        array = rule.apply(array)
    return array


def intensity_json(intensity):
    """What :func:`read_intensity` reads."""
    return [rule.to_json() for rule in intensity] if isinstance(intensity, tuple) else intensity.to_json()
