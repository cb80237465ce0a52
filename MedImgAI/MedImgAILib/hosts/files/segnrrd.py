"""Segmentations as Slicer stores them: .seg.nrrd, with names, colours, terminology and layers in the header."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import Geometry, InputError, Segment, Segmentation, Terminology
from . import nrrd
from .atomic import Part
from .voxels import RAS_FROM_LPS, as_segmentation, label_color, ras_geometry, stem_of

_KEYS = ("ID", "Name", "Color", "LabelValue", "Layer", "Tags")
_REFERENCE = "Reference image geometry"


def read(path: Path) -> Segmentation:
    """A segmentation; a file cropped to its segments is put back into the reference image's extent.

    A NRRD without segment metadata gives one segment for each label value.
    """
    image = nrrd.read_image(path)
    array, pairs = image.array, image.pairs
    if array.dtype.kind not in "iu":
        whole = array.astype(np.int32) if np.abs(array).max() < 2**31 else None
        if whole is None or not np.array_equal(whole, array):
            raise InputError(f"'{path.name}' is no label image: its voxels are not whole numbers.")
        array = whole
    geometry = ras_geometry(RAS_FROM_LPS @ image.matrix, array.shape[:3])
    layers = [array] if array.ndim == 3 else [np.ascontiguousarray(array[..., n]) for n in range(array.shape[3])]
    if "Segment0_ID" not in pairs and "Segment0_Name" not in pairs:
        if len(layers) > 1 or "Segmentation_MasterRepresentation" not in pairs:
            return as_segmentation(nrrd.read(path), path)
        return Segmentation(layers, geometry, (), stem_of(path))
    segments = list(_segments(pairs, len(layers)))
    layers, geometry = _uncropped(layers, geometry, pairs)
    return Segmentation(layers, geometry, segments, stem_of(path))


def _segments(pairs: dict, layer_count: int):
    number = 0
    while f"Segment{number}_ID" in pairs or f"Segment{number}_Name" in pairs:
        get = {key: pairs.get(f"Segment{number}_{key}") for key in _KEYS}
        color = [float(c) for c in (get["Color"] or "").split()][:3]
        # Files from before layers were shared have one layer for each segment.
        layer = int(get["Layer"]) if get["Layer"] is not None else min(number, layer_count - 1)
        tags = dict(tag.partition(":")[::2] for tag in (get["Tags"] or "").split("|") if tag)
        entry = tags.get("TerminologyEntry") or tags.get("Segmentation.TerminologyEntry")
        terms = {"terminology": Terminology.parse(entry)} if entry and entry.count("~") >= 2 else {}
        label = int(get["LabelValue"]) if get["LabelValue"] is not None else 1
        color = tuple(color) if len(color) == 3 else label_color(number + 1)
        name = get["Name"] or get["ID"]
        yield Segment(name, label, color, layer=layer, id=get["ID"] or name, **terms)
        number += 1


def _uncropped(layers: list[np.ndarray], geometry: Geometry, pairs: dict):
    """Layers on the reference image's grid if the file's grid is a part of it, else as they are."""
    reference = _reference(pairs)
    if reference is None:
        return layers, geometry
    start = reference.ijk(geometry.origin)
    whole = np.rint(start).astype(int)
    aligned = np.allclose(reference.ijk_to_ras[:3, :3], geometry.ijk_to_ras[:3, :3], atol=1e-5)
    stop = whole + geometry.shape[::-1]
    inside = (whole >= 0).all() and (stop <= reference.shape[::-1]).all()
    if not aligned or np.abs(start - whole).max() > 1e-3 or not inside or reference.shape == geometry.shape:
        return layers, geometry
    place = tuple(slice(int(a), int(b)) for a, b in zip(whole[::-1], stop[::-1]))
    padded = []
    for layer in layers:
        full = np.zeros(reference.shape, layer.dtype)
        full[place] = layer
        padded.append(full)
    return padded, reference


def _reference(pairs: dict) -> Geometry | None:
    """The reference image's grid from Slicer's conversion parameters."""
    for entry in pairs.get("Segmentation_ConversionParameters", "").split("&"):
        name, _, rest = entry.partition("|")
        numbers = rest.partition("|")[0].strip(";").split(";")
        if name != _REFERENCE or len(numbers) != 22:
            continue
        matrix = np.array([float(v) for v in numbers[:16]]).reshape(4, 4)
        low, high = np.array([int(float(v)) for v in numbers[16:]]).reshape(3, 2).T
        if (high < low).any() or np.prod((high - low + 1).astype(float)) > 2**34:
            return None
        matrix[:3, 3] = matrix[:3, :3] @ low + matrix[:3, 3]
        return Geometry(matrix, tuple(int(n) for n in (high - low + 1)[::-1]))
    return None


def parts(value: Segmentation, path: Path) -> list[Part]:
    """What to write for a segmentation."""
    dtype = np.result_type(np.uint8, *(_narrow(layer) for layer in value.layers))
    layers = [np.maximum(layer, 0).astype(dtype, copy=False) for layer in value.layers]
    layers = layers or [np.zeros(value.geometry.shape, np.uint8)]
    array = layers[0] if len(layers) == 1 else np.stack(layers, axis=-1)
    upper = [n - 1 for n in value.geometry.shape[::-1]]
    matrix = ";".join(repr(float(v)) for v in value.geometry.ijk_to_ras.ravel())
    extent = ";".join(f"0;{n}" for n in upper)
    pairs = {}
    for number, segment in enumerate(value.segments):
        own = {
            "Color": " ".join(f"{c:g}" for c in segment.color),
            "ColorAutoGenerated": "0",
            "Extent": " ".join(str(n) for n in _extent(value.mask(segment))),
            "ID": segment.id,
            "LabelValue": segment.label,
            "Layer": segment.layer,
            "Name": segment.name,
            "NameAutoGenerated": "0",
            "Tags": f"TerminologyEntry:{_one_tag(segment.terminology.serialize())}|",
        }
        pairs |= {f"Segment{number}_{key}": text for key, text in own.items()}
    pairs |= {
        "Segmentation_ContainedRepresentationNames": "Binary labelmap|",
        "Segmentation_ConversionParameters": f"{_REFERENCE}|{matrix};{extent};|&",
        "Segmentation_MasterRepresentation": "Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    return nrrd.encode(array, value.geometry, path, "list", pairs)


def _narrow(layer: np.ndarray) -> np.dtype:
    """The smallest of the label types that Slicer reads for the labels there are."""
    highest = int(layer.max())
    if layer.dtype.kind == "b" or highest < 256:
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if highest < 32768 else np.int32)


def _one_tag(text: str) -> str:
    """``text`` without the characters that end a tag."""
    return text.replace("|", "/").replace("\n", " ")


def _extent(mask: np.ndarray) -> list[int]:
    """(i0, i1, j0, j1, k0, k1) of the voxels that are set, an upside-down extent if none is."""
    result = []
    for axis in (2, 1, 0):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        result += [int(hit[0]), int(hit[-1])] if hit.size else [0, -1]
    return result
