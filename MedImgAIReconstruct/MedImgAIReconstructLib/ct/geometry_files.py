"""Scan geometry from files: the documented JSON, and RTK's XML."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from MedImgAILib.core import InputError, ScanGeometry

JSON_FIELDS = {
    "kind", "angles_rad", "pixel_mm", "offset_mm", "source_to_isocenter_mm", "source_to_detector_mm", "curved",
    "axis_shift_mm", "tilt_rad", "scanner_to_ras",
}  # fmt: skip
RTK_TO_RAS = np.array([[-1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
"""Scanner frame to RAS for RTK's frame (y is the rotation axis), taken as LPS like every ITK image."""


def scan_from_json(path: Path) -> tuple[ScanGeometry, dict]:
    """The scan geometry in a JSON file, and the file's other entries.

    The entries are those of :class:`ScanGeometry`; ``angles_deg`` and ``tilt_deg`` may stand in place of radians, and
    ``{"first_deg": 0, "step_deg": 0.5, "views": 720}`` in place of a list of angles.

    Raises
    ------
    InputError
        If the file is damaged or lacks beam shape or angles.
    """
    try:
        about = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"'{path.name}' cannot be read as JSON; a scan geometry is needed.") from error
    if not isinstance(about, dict):
        raise InputError(f"'{path.name}' does not describe a scan; its top level must be an object.")
    fields = {key: value for key, value in about.items() if key in JSON_FIELDS}
    angles = about.get("angles_deg")
    try:
        if isinstance(angles, dict):
            angles = angles["first_deg"] + angles["step_deg"] * np.arange(angles["views"])
        if angles is not None:
            fields["angles_rad"] = np.deg2rad(np.asarray(angles, float))
        if "tilt_deg" in about:
            fields["tilt_rad"] = float(np.deg2rad(about["tilt_deg"]))
        missing = [name for name in ("kind", "angles_rad") if name not in fields]
        if missing:
            raise InputError(f"'{path.name}' lacks {' and '.join(missing)}.")
        for name in ("pixel_mm", "offset_mm"):
            if name in fields:
                first, second = (float(n) for n in fields[name])
                fields[name] = (first, second)
        scan = ScanGeometry(**fields)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"'{path.name}' has an entry of the wrong kind ({error}).") from error
    if scan.scanner_to_ras.shape != (4, 4) or abs(np.linalg.det(scan.scanner_to_ras)) < 1e-9:
        raise InputError(f"'{path.name}': scanner_to_ras must be an invertible 4×4 matrix.")
    return scan, {key: value for key, value in about.items() if key not in JSON_FIELDS}


def scan_from_rtk(path: Path, pixel_mm, middle_mm) -> ScanGeometry:
    """The scan geometry in an RTK XML file, for a detector whose middle is at ``middle_mm`` (v, u) in its image.

    RTK turns around its y axis; see https://docs.openrtk.org, "Geometry". Only the gantry angle may change from view
    to view.

    Raises
    ------
    InputError
        If the file is damaged or describes something else than a circular scan.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise InputError(f"'{path.name}' is damaged: it cannot be read as XML.") from error
    views = root.findall("Projection")
    if root.tag != "RTKThreeDCircularGeometry" or not views:
        raise InputError(f"'{path.name}' is no RTK circular geometry with projections.")

    def constant(name: str) -> float:
        values = [view.findtext(name, root.findtext(name, "0")) for view in views]
        numbers = np.array([float(v) for v in values])
        if np.ptp(numbers) > 1e-6 * max(1.0, np.abs(numbers).max()):
            raise InputError(f"'{path.name}': {name} changes from view to view; only circular scans can be read.")
        return float(numbers[0])

    try:
        angles = np.deg2rad([float(view.findtext("GantryAngle", "nan")) for view in views])
        source, detector = constant("SourceToIsocenterDistance"), constant("SourceToDetectorDistance")
        source_x, source_y = constant("SourceOffsetX"), constant("SourceOffsetY")
        shift_x, shift_y = constant("ProjectionOffsetX"), constant("ProjectionOffsetY")
        turn, out_of_plane, radius = (
            constant(n) for n in ("InPlaneAngle", "OutOfPlaneAngle", "RadiusCylindricalDetector")
        )
    except ValueError as error:
        raise InputError(f"'{path.name}' has an entry that is no number.") from error
    if abs(out_of_plane) > 1e-6:
        raise InputError(f"'{path.name}' tilts the detector out of its plane, which is not supported.")
    if not np.isfinite(angles).all():
        raise InputError(f"'{path.name}' lacks gantry angles.")
    if radius and abs(radius - detector) > 1e-6 * detector:
        raise InputError(f"'{path.name}': only flat detectors and cylinders around the source can be read.")
    tilt = float(np.deg2rad(turn))
    lateral = float(source_x * np.cos(tilt) - source_y * np.sin(tilt))
    height = source_x * np.sin(tilt) + source_y * np.cos(tilt)
    to_ras = RTK_TO_RAS.copy()
    to_ras[:3, 3] = to_ras[:3, 2] * height
    offset = (float(middle_mm[0]) + shift_y - source_y, float(middle_mm[1]) + shift_x - source_x)
    if detector <= 0:
        axis_shift = -lateral
        return ScanGeometry("parallel", angles, pixel_mm, offset, 0.0, 0.0, False, axis_shift, tilt, to_ras)
    return ScanGeometry("cone", angles, pixel_mm, offset, source, detector, radius > 0, -lateral, tilt, to_ras)
