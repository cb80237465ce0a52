"""DICOM Segmentation objects (PS3.3 A.51) as segmentations: binary, fractional (at one half) and label maps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ...core import Code, Geometry, InputError, Segment, Segmentation, Terminology
from .dicom_color import rgb_from_lab
from .dicom_geometry import normal_of
from .dicom_index import Frame, frames_of
from .dicom_pixels import decode
from .voxels import label_color, ras_geometry, stem_of


def read(path: Path) -> Segmentation:
    """The segments on the smallest grid that holds all frames; overlapping segments lie in different layers.

    Raises
    ------
    InputError
        If frames lie off a regular grid or name segments that are not described.
    """
    from pydicom import dcmread

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = dcmread(path)
        table = {int(item.SegmentNumber): item for item in dataset.get("SegmentSequence") or []}
        frames = frames_of(path, dataset)
        if not table or any(frame.position is None or frame.spacing is None for frame in frames):
            raise InputError(f"'{path.name}' is a damaged DICOM segmentation: it lacks segments or frame positions.")
        kind = str(dataset.get("SegmentationType") or "BINARY")
        pixels = decode(path)[0]
        geometry, slices = _grid(frames, path.name)
        if kind == "LABELMAP":
            table.pop(0, None)
            labels = np.zeros(geometry.shape, pixels.dtype)
            for frame, k in zip(frames, slices):
                labels[k] = pixels[frame.index]
            layers, places = [labels], {number: (0, number) for number in table}
        else:
            threshold = 0.5 * float(dataset.get("MaximumFractionalValue") or 1) if kind == "FRACTIONAL" else 0.5
            masks = _masks(dataset, frames, slices, pixels >= threshold, geometry, table, path.name)
            layers, places = _layered(masks, geometry.shape)
        segments = [_segment(item, number, *places[number]) for number, item in sorted(table.items())]
        uids = {"series_uid": "SeriesInstanceUID", "study_uid": "StudyInstanceUID"}
        uids |= {"frame_of_reference_uid": "FrameOfReferenceUID"}
        identity = {"modality": "SEG"} | {key: str(dataset.get(tag) or "") for key, tag in uids.items()}
    name = str(dataset.get("SeriesDescription") or "").strip() or stem_of(path)
    return Segmentation(layers, geometry, _unique(segments), name, {"dicom": identity})


def _grid(frames: list[Frame], name: str) -> tuple[Geometry, np.ndarray]:
    """The grid of all frames, and the slice number of each; slices without segments may be missing in the file."""
    first = frames[0]
    normal = normal_of(first)
    if any(np.abs(f.orientation - first.orientation).max() > 1e-3 for f in frames):
        raise InputError(f"'{name}' has frames of different orientation, which cannot be read.")
    positions = np.array([frame.position for frame in frames])
    distances = positions @ normal
    order = np.argsort(distances, kind="stable")
    gaps = np.diff(distances[order])
    gaps = gaps[gaps > 1e-3]
    spacing = first.thickness or 1.0
    if gaps.size:
        declared = first.thickness
        fits = declared > 0 and np.abs(gaps / declared - np.rint(gaps / declared)).max() < 0.02
        spacing = declared if fits and gaps.min() > 0.5 * declared else float(gaps.min())
    start, stop = positions[order[0]], positions[order[-1]]
    exact = (distances - distances[order[0]]) / spacing
    slices = np.rint(exact).astype(int)
    if np.abs(exact - slices).max() > 0.05 or slices.max() > 100000:
        raise InputError(f"'{name}' has frames that do not lie on evenly spaced slices, which cannot be read.")
    count = int(slices.max()) + 1
    matrix = np.eye(4)
    matrix[:3, 0] = first.orientation[:3] * first.spacing[1]
    matrix[:3, 1] = first.orientation[3:] * first.spacing[0]
    matrix[:3, 2] = (stop - start) / (count - 1) if count > 1 else normal * spacing
    matrix[:3, 3] = start
    return ras_geometry(matrix, (count, int(first.header.Rows), int(first.header.Columns))), slices


def _masks(dataset, frames, slices, pixels, geometry: Geometry, table: dict, name: str) -> dict[int, np.ndarray]:
    masks = {number: np.zeros(geometry.shape, bool) for number in table}
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    for frame, own, k in zip(frames, dataset.PerFrameFunctionalGroupsSequence, slices):
        group = own.get("SegmentIdentificationSequence") or (shared and shared.get("SegmentIdentificationSequence"))
        number = int(group[0].ReferencedSegmentNumber) if group else -1
        if number not in masks:
            raise InputError(f"'{name}' is damaged: a frame belongs to segment {number}, which is not described.")
        masks[number][k] |= pixels[frame.index]
    return masks


def _layered(masks: dict[int, np.ndarray], shape) -> tuple[list[np.ndarray], dict[int, tuple[int, int]]]:
    """Masks as few label images: each goes to the first one that it does not overlap; (layer, label) of each."""
    layers, places = [], {}
    dtype = np.uint8 if max(masks) < 256 else np.uint16
    for number, mask in masks.items():
        position = next((n for n, layer in enumerate(layers) if not layer[mask].any()), len(layers))
        if position == len(layers):
            layers.append(np.zeros(shape, dtype))
        layers[position][mask] = number
        places[number] = (position, number)
    return layers, places


def _segment(item, number: int, layer: int, label: int) -> Segment:
    category, kind = (
        _code(item, "SegmentedPropertyCategoryCodeSequence"),
        _code(item, "SegmentedPropertyTypeCodeSequence"),
    )
    region = _code(item, "AnatomicRegionSequence")
    types = item.get("SegmentedPropertyTypeCodeSequence") or [{}]
    modifier = _code(types[0], "SegmentedPropertyTypeModifierCodeSequence")
    regions = item.get("AnatomicRegionSequence") or [{}]
    region_modifier = _code(regions[0], "AnatomicRegionModifierSequence")
    lab = item.get("RecommendedDisplayCIELabValue")
    color = rgb_from_lab(lab) if lab is not None and len(lab) == 3 else label_color(number)
    name = str(item.get("SegmentLabel") or "").strip() or kind.meaning or f"Segment_{number}"
    terms = Terminology(category, kind, modifier, region, region_modifier) if category and kind else Terminology()
    return Segment(name, label, color, terms, layer, str(item.get("TrackingID") or ""))


def _code(item, name: str) -> Code:
    values = item.get(name)
    if not values:
        return Code()
    code = values[0]
    return Code(*(str(code.get(tag) or "") for tag in ("CodingSchemeDesignator", "CodeValue", "CodeMeaning")))


def _unique(segments: list[Segment]) -> list[Segment]:
    """Segments with ids that differ (names may repeat)."""
    from dataclasses import replace

    seen, result = set(), []
    for segment in segments:
        identifier = segment.id
        while identifier in seen:
            identifier = f"{identifier}_{segment.label}"
        seen.add(identifier)
        result.append(replace(segment, id=identifier))
    return result
