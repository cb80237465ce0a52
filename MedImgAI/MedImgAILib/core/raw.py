"""Raw data of a scanner, with what is needed to put the reconstruction in the right place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .errors import InputError
from .geometry import Geometry


@dataclass(frozen=True, eq=False)
class ScanGeometry:
    """How projections were taken, in the scanner's frame.

    The rotation axis is the scanner's z axis, x = y = 0. At view angle θ the unit vectors are
    e_u = (cos θ, sin θ, 0) along a detector row, e_v = (0, 0, 1) along a detector column, and
    e_d = (−sin θ, cos θ, 0) from the source to the detector. With a for :attr:`axis_shift_mm`,
    R for :attr:`source_to_isocenter_mm` and D for :attr:`source_to_detector_mm`, the point (u, v) of the detector

    - of a parallel beam is met by the ray with direction e_d through (u − a) e_u + v e_v;
    - of a flat fan or cone detector lies at (D − R) e_d + (u − a) e_u + v e_v, the source at −R e_d − a e_u;
    - of a curved one at the source + D (sin(u/D) e_u + cos(u/D) e_d) + v e_v (a cylinder around the source).

    Pixel (row, column) of an array of (rows, columns) has u′ = (column − (columns − 1)/2) · column pitch + u offset and
    v′ = (row − (rows − 1)/2) · row pitch + v offset; the tilt τ turns it to
    u = u′ cos τ − v′ sin τ, v = u′ sin τ + v′ cos τ.

    Parameters
    ----------
    kind : "parallel", "fan" or "cone"
        "fan" and "cone" differ only in the number of detector rows.
    angles_rad : (V,) array
        View angles θ, any list.
    pixel_mm : (row, column) pitch on the detector in mm
    offset_mm : (v, u) position of the detector's middle in mm, on the detector
        u ≠ 0 is a laterally displaced (half-fan) detector.
    source_to_isocenter_mm, source_to_detector_mm : float
        Unused (0) for parallel beams.
    curved : bool
        Equiangular detector on an arc around the source; the column pitch is then measured along the arc.
    axis_shift_mm : float
        Centre-of-rotation shift: where the rotation axis projects onto u in mm, scaled to the isocentre.
    tilt_rad : float
        In-plane rotation of the detector around u = v = 0.
    scanner_to_ras : (4, 4) array
        Carries scanner coordinates in mm to patient RAS.
    """

    kind: str
    angles_rad: np.ndarray
    pixel_mm: tuple[float, float] = (1.0, 1.0)
    offset_mm: tuple[float, float] = (0.0, 0.0)
    source_to_isocenter_mm: float = 0.0
    source_to_detector_mm: float = 0.0
    curved: bool = False
    axis_shift_mm: float = 0.0
    tilt_rad: float = 0.0
    scanner_to_ras: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self):
        object.__setattr__(self, "angles_rad", np.asarray(self.angles_rad, dtype=np.float64).ravel())
        object.__setattr__(self, "scanner_to_ras", np.asarray(self.scanner_to_ras, dtype=np.float64))
        if self.kind not in ("parallel", "fan", "cone"):
            raise InputError(f"'{self.kind}' is no beam shape; use parallel, fan or cone.")
        if not len(self.angles_rad) or not np.isfinite(self.angles_rad).all():
            raise InputError("A scan needs at least one finite view angle.")
        if min(self.pixel_mm) <= 0:
            raise InputError("The detector's pixel pitch must be positive.")
        if self.kind != "parallel" and not self.source_to_detector_mm > self.source_to_isocenter_mm > 0:
            raise InputError("A diverging beam needs 0 < source-to-isocentre < source-to-detector distance (mm).")


@dataclass(frozen=True, eq=False)
class Projections:
    """Line integrals: (views, rows, columns) array in units of attenuation × length, with the scan geometry."""

    array: np.ndarray
    scan: ScanGeometry
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.array.ndim != 3:
            raise InputError(f"{self.label} must have the axes view, row, column.")
        if len(self.array) != len(self.scan.angles_rad):
            raise InputError(f"{self.label} has {len(self.array)} views but {len(self.scan.angles_rad)} angles.")
        if self.scan.kind == "fan" and self.array.shape[1] != 1:
            raise InputError(f"{self.label} has {self.array.shape[1]} detector rows; a fan beam has one.")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"Projections '{self.name}'" if self.name else "The projection data"

    def transformed(self, matrix) -> Projections:
        """The same data of a patient moved by a (4, 4) RAS-to-RAS matrix."""
        scan = replace(self.scan, scanner_to_ras=np.asarray(matrix, float) @ self.scan.scanner_to_ras)
        return replace(self, scan=scan)


@dataclass(frozen=True, eq=False)
class KSpace:
    """Cartesian or non-Cartesian samples of one acquisition.

    Parameters
    ----------
    array : (coils, slices, phase, readout) complex ndarray
        Cartesian: k = 0 at index ``n // 2`` of the last two axes; unacquired samples are 0.
        Non-Cartesian: phase counts spokes or interleaves.
    geometry : Geometry
        The grid of the image to make.
    trajectory : (slices or 1, phase, readout, dims) ndarray, optional
        Sample positions in cycles per field of view (−N/2 … N/2); None for Cartesian.
    sampled : (slices or 1, phase, readout) bool ndarray, optional
        Which Cartesian samples were acquired; None if all.
    """

    array: np.ndarray
    geometry: Geometry
    trajectory: np.ndarray | None = None
    sampled: np.ndarray | None = None
    name: str = ""
    provenance: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.array.ndim != 4 or not np.iscomplexobj(self.array):
            raise InputError(f"{self.label} must be complex with the axes coil, slice, phase, readout.")

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"k-space '{self.name}'" if self.name else "The k-space data"

    def transformed(self, matrix) -> KSpace:
        """The same data of a patient moved by a (4, 4) RAS-to-RAS matrix."""
        return replace(self, geometry=self.geometry.transformed(matrix))
