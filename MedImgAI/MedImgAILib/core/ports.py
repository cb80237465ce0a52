"""Typed inputs and outputs of a task: what a node selector, a file argument or a service field may hold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from . import data, raw, transforms
from .errors import InputError


@dataclass(frozen=True)
class Port:
    """A named place for data of one type.

    Parameters
    ----------
    name, title, help : str
    optional : bool
        An input may be missing (the task gets None); an output may be left out by task or user.
    wanted : bool
        Whether a panel starts with an optional output switched on.
    multiple : bool
        An input takes a list of at least ``minimum_count`` items.
    """

    name: str
    title: str
    help: str = ""
    optional: bool = field(default=False, kw_only=True)
    wanted: bool = field(default=True, kw_only=True)
    multiple: bool = field(default=False, kw_only=True)
    minimum_count: int = field(default=1, kw_only=True)

    data_type = object
    """The class (or classes) of :mod:`.data` that the port holds."""
    kind = ""
    """Word for messages, the service's schema and the documentation."""

    def check(self, value):
        """Raise :class:`InputError` in one sentence if ``value`` cannot stand in this port."""
        if value is None:
            if not self.optional:
                raise InputError(f"{self.title}: no {self.kind} was given; choose one.")
            return
        if not self.multiple:
            self._check_item(value)
            return
        items = list(value)
        if len(items) < self.minimum_count and not (self.optional and not items):
            raise InputError(f"{self.title}: needs at least {self.minimum_count}, not {len(items)}.")
        for item in items:
            self._check_item(item)

    def _check_item(self, item):
        if not isinstance(item, self.data_type):
            raise InputError(f"{self.title}: {type(item).__name__} was given where a {self.kind} is needed.")


@dataclass(frozen=True)
class VolumePort(Port):
    """An image. ``components``: how many a voxel may have (1 = scalar; empty = any)."""

    components: tuple[int, ...] = field(default=(1,), kw_only=True)
    allow_nan: bool = field(default=False, kw_only=True)
    """Whether voxels may be anything, NaN, infinite and extreme values included."""
    allow_complex: bool = field(default=False, kw_only=True)
    minimum_shape: int = field(default=1, kw_only=True)
    """Least number of voxels along the two longest axes."""
    three_d: bool = field(default=False, kw_only=True)
    """Whether a single slice is refused."""
    labelmap: bool = field(default=False, kw_only=True)
    """An output whose voxels are labels: shown without interpolation, stored as a label map."""

    data_type = data.Volume
    kind = "volume"

    def _check_item(self, item):
        super()._check_item(item)
        who = f"{self.title}: {item.label}"
        if self.components and item.components not in self.components:
            wanted = " or ".join(str(c) for c in self.components)
            held = f"{item.components} component{'s' if item.components > 1 else ''} per voxel"
            hint = " (a colour image must be made grey first)" if self.components == (1,) else ""
            raise InputError(f"{who} has {held}; {wanted} is needed{hint}.")
        if sorted(item.geometry.shape)[1] < self.minimum_shape:
            raise InputError(f"{who} is too small; at least {self.minimum_shape}×{self.minimum_shape} is needed.")
        if self.three_d and min(item.geometry.shape) < 2:
            raise InputError(f"{who} is a single slice; a three-dimensional volume is needed.")
        if not self.allow_nan and not item.is_finite:
            raise InputError(f"{who} contains NaN or infinite voxels; repair or mask them first.")
        if not self.allow_complex and item.array.dtype.kind == "c":
            raise InputError(f"{who} has complex voxels; take their magnitude first.")
        if not self.allow_nan and not _fits_single_precision(item.array):
            raise InputError(f"{who} has values beyond ±3e+38 or all below 1e-38; rescale them first.")


def _fits_single_precision(array: np.ndarray) -> bool:
    """Whether float32, in which tasks compute, neither overflows nor loses every value."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4 or not array.size:
        return True
    largest = max(float(array.max()), -float(array.min()))
    limits = np.finfo(np.float32)
    return largest == 0 or float(limits.tiny) <= largest <= float(limits.max)


@dataclass(frozen=True)
class SegmentationPort(Port):
    """Segments on a grid."""

    data_type = data.Segmentation
    kind = "segmentation"

    def _check_item(self, item):
        super()._check_item(item)
        if not item.segments:
            raise InputError(f"{self.title}: {item.label} has no segments.")


@dataclass(frozen=True)
class PointsPort(Port):
    """Markups points."""

    data_type = data.Points
    kind = "point list"

    def _check_item(self, item):
        super()._check_item(item)
        if not len(item.positions):
            raise InputError(f"{self.title}: {item.label} is empty; place at least one point.")


@dataclass(frozen=True)
class TransformPort(Port):
    """A spatial transform."""

    data_type = transforms.Transform
    kind = "transform"


@dataclass(frozen=True)
class TablePort(Port):
    """A table."""

    data_type = data.Table
    kind = "table"


@dataclass(frozen=True)
class PlotPort(Port):
    """A chart."""

    data_type = data.Plot
    kind = "plot"


@dataclass(frozen=True)
class TextPort(Port):
    """A text."""

    data_type = data.Text
    kind = "text"


@dataclass(frozen=True)
class SequencePort(Port):
    """Volumes along an index such as time."""

    data_type = data.Sequence
    kind = "sequence"


@dataclass(frozen=True)
class ProjectionsPort(Port):
    """Tomographic projections."""

    data_type = raw.Projections
    kind = "projection data set"


@dataclass(frozen=True)
class KSpacePort(Port):
    """Magnetic-resonance raw data."""

    data_type = raw.KSpace
    kind = "k-space data set"
