"""The data that tasks take and give: arrays with geometry, independent of MRML, files and Qt.

Arrays handed to a task are read-only; a task returns new ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import InputError
from .geometry import Geometry, reorder_array
from .terminology import TISSUE, Terminology


class Labelled:
    """What messages call a thing."""

    @property
    def in_sentence(self) -> str:
        """Its ``label`` within a sentence: in lower case but for the user's own name."""
        return self.label[0].lower() + self.label[1:]


@dataclass(frozen=True, eq=False)
class Display:
    """How a volume is best shown: window and level in its unit, a Slicer colour node name, interpolation."""

    window: float | None = None
    level: float | None = None
    color: str = ""
    interpolate: bool = True


@dataclass(frozen=True, eq=False)
class Volume(Labelled):
    """An image with its place in the patient.

    Parameters
    ----------
    array : (K, J, I) or (K, J, I, C) ndarray
        Scalar voxels, or vector voxels with ``C`` components last (RGB, displacements).
    geometry : Geometry
        Its ``shape`` is the array's first three extents.
    name : str
    units : str
        Unit of the voxel values: "HU", "SUV", "1/mm", "mm"; empty if arbitrary.
    display : Display, optional
    provenance : dict
        How it was made; see :mod:`.provenance`.

    Raises
    ------
    InputError
        If the array's extents are not the geometry's.
    """

    array: np.ndarray
    geometry: Geometry
    name: str = ""
    units: str = ""
    display: Display | None = None
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.array.ndim not in (3, 4):
            raise InputError(f"{self.label} has {self.array.ndim} dimensions; a volume has 3, or 4 with components.")
        if self.array.shape[:3] != self.geometry.shape:
            raise InputError(f"{self.label} has {self.array.shape[:3]} voxels but its grid {self.geometry.shape}.")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Volume '{self.name}'" if self.name else "The volume"

    @property
    def is_vector(self) -> bool:
        return self.array.ndim == 4

    @property
    def components(self) -> int:
        return self.array.shape[3] if self.is_vector else 1

    @property
    def is_finite(self) -> bool:
        """Whether no voxel is NaN or infinite; one pass, no temporary."""
        if not np.issubdtype(self.array.dtype, np.inexact):
            return True
        with np.errstate(over="ignore", invalid="ignore"):
            total = self.array.sum(dtype=np.complex128 if np.iscomplexobj(self.array) else np.float64)
        return math.isfinite(total.real) and math.isfinite(total.imag) or bool(np.isfinite(self.array).all())

    def with_array(self, array: np.ndarray, **changes) -> Volume:
        """A volume on the same grid with other voxels; name, unit and provenance are reset unless given."""
        return Volume(array, self.geometry, **changes)

    def reordered(self, axes, flips) -> Volume:
        """The same image stored in another axis order; see :meth:`Geometry.reordered`. No copy."""
        return replace(
            self, array=reorder_array(self.array, axes, flips), geometry=self.geometry.reordered(axes, flips)
        )

    def canonical(self) -> Volume:
        """The same image stored in the axis order nearest RAS. No copy, no interpolation."""
        return self.reordered(*self.geometry.canonical_order())

    def transformed(self, matrix) -> Volume:
        """The image after the patient was moved by a (4, 4) RAS-to-RAS matrix. No copy."""
        return replace(self, geometry=self.geometry.transformed(matrix))


@dataclass(frozen=True)
class Segment:
    """One segment: voxels of ``layer`` that equal ``label``.

    ``color`` is (red, green, blue) in 0…1; ``id`` is unique in the segmentation (made from the name if empty).
    """

    name: str
    label: int = 1
    color: tuple[float, float, float] = (0.5, 0.68, 0.5)
    terminology: Terminology = TISSUE
    layer: int = 0
    id: str = ""

    def __post_init__(self):
        if not self.name:
            raise InputError("A segment needs a name.")
        if self.label < 1:
            raise InputError(f"Segment '{self.name}' has label {self.label}; labels start at 1, 0 is background.")
        object.__setattr__(self, "color", tuple(float(c) for c in self.color))
        if not self.id:
            object.__setattr__(self, "id", self.name)


@dataclass(frozen=True, eq=False)
class Segmentation(Labelled):
    """Label images on one grid with a table of segments.

    Parameters
    ----------
    layers : sequence of (K, J, I) integer ndarray
        Segments that overlap lie in different layers.
    geometry : Geometry
    segments : sequence of Segment

    Raises
    ------
    InputError
        If shapes differ, a segment names a layer that is missing, or ids repeat.
    """

    layers: tuple[np.ndarray, ...]
    geometry: Geometry
    segments: tuple[Segment, ...]
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "segments", tuple(self.segments))
        for layer in self.layers:
            if layer.shape != self.geometry.shape:
                raise InputError(f"A label image has {layer.shape} voxels but its grid {self.geometry.shape}.")
            if layer.dtype.kind not in "iub":
                raise InputError(f"A label image has {layer.dtype} voxels; labels are integers.")
        if any(not 0 <= s.layer < len(self.layers) for s in self.segments):
            raise InputError("A segment refers to a label image that does not exist.")
        if len({s.id for s in self.segments}) < len(self.segments):
            raise InputError("Two segments have the same id.")

    @classmethod
    def from_labels(cls, labels: np.ndarray, geometry: Geometry, segments, name: str = "") -> Segmentation:
        """A segmentation without overlap from one (K, J, I) label image."""
        return cls((labels,), geometry, tuple(segments), name)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Segmentation '{self.name}'" if self.name else "The segmentation"

    def segment(self, key: str) -> Segment:
        """The segment with this id or, failing that, name.

        Raises
        ------
        InputError
            If there is none.
        """
        for attribute in ("id", "name"):
            for segment in self.segments:
                if getattr(segment, attribute) == key:
                    return segment
        names = ", ".join(s.name for s in self.segments) or "none"
        raise InputError(f"{self.label} has no segment '{key}' (it has: {names}).")

    def mask(self, segment: Segment | str) -> np.ndarray:
        """(K, J, I) bool: the voxels of one segment."""
        if isinstance(segment, str):
            segment = self.segment(segment)
        return self.layers[segment.layer] == segment.label

    def labelmap(self) -> np.ndarray:
        """(K, J, I) integers: 1 + the position of the segment in the table; where segments overlap the later wins."""
        result = np.zeros(self.geometry.shape, np.uint8 if len(self.segments) < 256 else np.int16)
        for number, segment in enumerate(self.segments, start=1):
            result[self.mask(segment)] = number
        return result

    def reordered(self, axes, flips) -> Segmentation:
        """The same segments stored in another axis order. No copy."""
        layers = tuple(reorder_array(layer, axes, flips) for layer in self.layers)
        return replace(self, layers=layers, geometry=self.geometry.reordered(axes, flips))

    def canonical(self) -> Segmentation:
        """The same segments stored in the axis order nearest RAS. No copy."""
        return self.reordered(*self.geometry.canonical_order())

    def transformed(self, matrix) -> Segmentation:
        """The segments after the patient was moved by a (4, 4) RAS-to-RAS matrix. No copy."""
        return replace(self, geometry=self.geometry.transformed(matrix))


@dataclass(frozen=True, eq=False)
class Points(Labelled):
    """Labelled positions: (N, 3) RAS in mm, as Slicer's point list."""

    positions: np.ndarray
    labels: tuple[str, ...] = ()
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        positions = np.array(self.positions, dtype=np.float64)
        positions = positions.reshape(0, 3) if positions.size == 0 else positions
        if positions.ndim != 2 or positions.shape[1] != 3 or not np.isfinite(positions).all():
            raise InputError("Points need three finite coordinates (R, A, S) each.")
        labels = tuple(self.labels) or tuple(str(n + 1) for n in range(len(positions)))
        if len(labels) != len(positions):
            raise InputError(f"There are {len(positions)} points but {len(labels)} labels.")
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "labels", labels)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Point list '{self.name}'" if self.name else "The point list"

    def transformed(self, matrix) -> Points:
        """The points after the patient was moved by a (4, 4) RAS-to-RAS matrix."""
        matrix = np.asarray(matrix, float)
        return replace(self, positions=self.positions @ matrix[:3, :3].T + matrix[:3, 3])


@dataclass(frozen=True, eq=False)
class Table(Labelled):
    """Named columns of equal length; numbers as 1-D arrays, texts as tuples of str.

    ``units`` maps a column to its unit where it has one.
    """

    columns: dict
    name: str = ""
    units: dict = field(default_factory=dict)
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        columns = {}
        for key, values in self.columns.items():
            values = values.tolist() if isinstance(values, np.ndarray) and values.dtype.kind in "US" else values
            is_text = any(isinstance(v, str) for v in values)
            columns[str(key)] = tuple(str(v) for v in values) if is_text else np.asarray(values)
            if not is_text and columns[str(key)].ndim != 1:
                raise InputError(f"Column '{key}' of a table must be one-dimensional.")
        if len({len(c) for c in columns.values()}) > 1:
            raise InputError("The columns of a table must have the same length.")
        object.__setattr__(self, "columns", columns)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Table '{self.name}'" if self.name else "The table"

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True, eq=False)
class Series:
    """One curve of a plot: column names of the plot's table; ``x`` empty means the row number."""

    y: str
    x: str = ""
    name: str = ""
    kind: str = "line"  # line, scatter or bar


@dataclass(frozen=True, eq=False)
class Plot(Labelled):
    """A chart of columns of a table."""

    table: Table
    series: tuple[Series, ...]
    name: str = ""
    title: str = ""
    x_title: str = ""
    y_title: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "series", tuple(self.series))
        for series in self.series:
            for column in filter(None, (series.x, series.y)):
                if column not in self.table.columns:
                    raise InputError(f"The plot '{self.name}' names a column '{column}' that its table lacks.")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Plot '{self.name}'" if self.name else "The plot"


@dataclass(frozen=True, eq=False)
class Text(Labelled):
    """A text result (a report, a summary)."""

    text: str
    name: str = ""
    provenance: dict = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Text '{self.name}'" if self.name else "The text"


@dataclass(frozen=True, eq=False)
class Sequence(Labelled):
    """Volumes on one grid along an index: time in ms, b-value, echo time.

    ``values`` has one number per item; ``index_name`` and ``index_unit`` say what it is.
    """

    items: tuple[Volume, ...]
    values: np.ndarray = ()
    index_name: str = "time"
    index_unit: str = "ms"
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        items = tuple(self.items)
        values = np.asarray(self.values if len(self.values) else np.arange(len(items)), dtype=np.float64)
        if not items or len(values) != len(items):
            raise InputError(f"A sequence of {len(items)} volumes has {len(values)} index values.")
        if any(not item.geometry.same_grid(items[0].geometry) for item in items):
            raise InputError(f"The volumes of {self.in_sentence} lie on different grids.")
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "values", values)

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Sequence '{self.name}'" if self.name else "The sequence"

    @property
    def geometry(self) -> Geometry:
        return self.items[0].geometry

    def reordered(self, axes, flips) -> Sequence:
        """The same images stored in another axis order. No copy."""
        return replace(self, items=tuple(item.reordered(axes, flips) for item in self.items))

    def transformed(self, matrix) -> Sequence:
        """The images after the patient was moved by a (4, 4) RAS-to-RAS matrix. No copy."""
        return replace(self, items=tuple(item.transformed(matrix) for item in self.items))
