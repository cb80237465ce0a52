"""Scans of every geometry and what tests of CT share."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Context, Projections, ScanGeometry
from MedImgAIReconstructLib.ct.phantoms import Ellipsoid, project

TURN = 2 * np.pi
DISTANCES = {"source_to_isocenter_mm": 400.0, "source_to_detector_mm": 700.0}


def oblique() -> np.ndarray:
    """A scanner frame turned and shifted against the patient."""
    from task_comparison import oblique_matrix

    return oblique_matrix(25.0)


def turn(views: int, degrees: float = 360.0, first: float = 0.1) -> np.ndarray:
    """Evenly spread view angles in rad."""
    return first + np.deg2rad(degrees) * np.arange(views) / views


def scans(views: int = 120) -> dict[str, tuple[ScanGeometry, int, int]]:
    """Name: (scan, detector rows, columns); all see a cylinder of 40 mm radius and 30 mm height."""
    half, full = turn(views, 180.0), turn(views)
    short = turn(views, 180 + 2 * 12.0)
    up = (0.0, 0.0)
    return {
        "parallel": (ScanGeometry("parallel", half, (1.0, 1.0)), 31, 96),
        "parallel clockwise": (ScanGeometry("parallel", -half, (1.0, 1.0)), 30, 95),
        "parallel shifted": (ScanGeometry("parallel", half, (1.0, 1.0), (1.5, 2.2), axis_shift_mm=3.3), 31, 100),
        "parallel half": (ScanGeometry("parallel", turn(2 * views), (1.0, 1.0), (0.0, 25.0)), 31, 60),
        "fan flat": (ScanGeometry("fan", full, (2.0, 1.0), up, **DISTANCES), 1, 180),
        "fan curved": (ScanGeometry("fan", full, (2.0, 1.0), up, **DISTANCES, curved=True), 1, 181),
        "fan short": (ScanGeometry("fan", short, (2.0, 1.0), up, **DISTANCES), 1, 160),
        "fan half": (ScanGeometry("fan", turn(2 * views), (2.0, 1.0), (0.0, 40.0), **DISTANCES), 1, 110),
        "cone flat": (ScanGeometry("cone", full, (1.5, 1.5), up, **DISTANCES), 50, 116),
        "cone curved": (ScanGeometry("cone", full, (1.5, 1.5), up, **DISTANCES, curved=True), 51, 117),
        "cone shifted": (ScanGeometry("cone", full, (1.5, 1.5), (3.0, -4.0), **DISTANCES, axis_shift_mm=2.0), 56, 126),
        "cone tilted": (ScanGeometry("cone", full, (1.5, 1.5), up, **DISTANCES, tilt_rad=0.06), 60, 126),
    }


def balls(scan: ScanGeometry, radius: float = 4.0) -> list[Ellipsoid]:
    """Three balls (discs for a fan beam) off the centre."""
    if scan.kind == "fan":
        return [
            Ellipsoid(0.02, (radius, radius, np.inf), c) for c in ((12.0, 5.0, 0), (-9.0, 17.0, 0), (4.0, -20.0, 0))
        ]
    return [Ellipsoid(0.02, (radius,) * 3, c) for c in ((12.0, 5.0, 4.0), (-9.0, 17.0, -5.0), (4.0, -20.0, 1.0))]


def scan_of(phantom, scan: ScanGeometry, rows: int, columns: int, sub_rays: int = 2) -> Projections:
    """Exact projections."""
    return Projections(project(phantom, scan, rows, columns, sub_rays), scan, "phantom")


def run(task_class, inputs: dict, **parameters) -> dict:
    """Outputs of a task on the CPU."""
    return task_class().execute(inputs, parameters, Context("cpu"))
