"""Lungs, airways and dense parts of the lungs from a chest CT, without training."""

from __future__ import annotations

import numpy as np

from ..core import (
    FloatParameter,
    InputError,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    VolumePort,
)
from ..core.geometry import inverse_order
from ..core.terminology import ANATOMY_CATEGORY, LUNG, MASS, Code, Terminology, anatomy
from .cleanup import bounding_box, fill_holes, largest_component, smooth, with_margin

_SIDE = {
    "Right lung": Code("SCT", "24028007", "Right"),
    "Left lung": Code("SCT", "7771000", "Left"),
}
_AIRWAY = anatomy("44567001", "Trachea")
_AIR_HU = -400.0
"""Half way between air and soft tissue; lungs lie below."""
_LUMEN_HU = -900.0
"""The lumen of trachea and main bronchi lies below."""
_GAS_HU = -950.0
"""Half of the voxels of air alone lie below; those of a lung above, unless most of it is emphysema."""
_MOST_AIR = 0.3
"""Share of a slice's sides that is air at most where they run through the body."""
_SMALLEST_LUNG_ML = 100.0
_WIDEST_TRACHEA_MM2 = 900.0
_LEAK = 1.6
"""An airway that grows by more than this factor from one limit to the next has leaked into the lung."""


class LungsCT(Task):
    """Air within the body, without the airways, is lung; what dense tissue the lungs enclose is a dense part.

    The airways are grown from the trachea's cross-section under ever higher limits until they would leak into the
    lung. Dense parts are wider than vessels: those that survive an opening. Vessels stay in the lungs. The emphysema
    index is the share of the lung, vessels and dense parts left out, below -950 HU.
    """

    id = "segment.lungs_ct"
    title = "Lungs from CT"
    group = "Segmentation"
    summary = "Outlines both lungs, the airways and dense lesions in a chest CT and measures the emphysema index."
    references = (
        "Hu S, Hoffman EA, Reinhardt JM. Automatic lung segmentation for accurate quantitation of volumetric X-ray CT "
        "images. IEEE Trans Med Imaging 2001; 20:490-498.",
        "Mori K, Hasegawa J, Toriwaki J, et al. Automated extraction and visualization of bronchus from 3D CT images "
        "of lung. CVRMed 1995: 542-548.",
        "Gevenois PA, de Maertelaer V, De Vuyst P, et al. Comparison of computed density and macroscopic morphometry "
        "in pulmonary emphysema. Am J Respir Crit Care Med 1995; 152:653-657.",
    )
    keywords = ("chest", "emphysema", "LAA-950", "trachea", "bronchi", "nodule", "consolidation")

    inputs = (VolumePort("image", "CT image", "Chest CT in HU.", three_d=True, minimum_shape=32),)
    parameters = (
        FloatParameter(
            "closing_mm", "Closing", 8.0, "Dense parts and vessels up to twice as wide are taken in.", "mm",
            minimum=0.0, maximum=30.0, step=1.0,
        ),
        FloatParameter(
            "lesion_mm", "Lesion radius", 3.0, "Dense parts must hold a ball of this radius.", "mm",
            minimum=0.5, maximum=20.0, step=0.5,
        ),
        FloatParameter(
            "dense_hu", "Dense above", -300.0, "Voxels of the lungs above this value are dense.", "HU",
            minimum=-900.0, maximum=300.0, step=50.0,
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segmentation", "Right and left lung, airways, dense parts."),
        TablePort("measures", "Sizes", "Volume in mL, mean HU and emphysema index of each part.", optional=True),
    )

    def example(self):
        return {"image": example_chest()}, {"closing_mm": 4.0}

    def run(self, inputs, parameters, context):
        image = inputs.image
        if image.array.min() > -700:
            raise InputError(f"CT image: {image.label} has no air (its lowest value is {image.array.min():g} HU, not "
                             "-1000); choose a chest CT in HU.")  # fmt: skip
        ordered = image.canonical()
        geometry, hu = ordered.geometry, ordered.array
        air = inner_air(hu)
        context.progress(0.2, "Airways")
        airways = find_airways(hu, air, geometry)
        context.progress(0.4, "Lungs")
        near = with_margin(airways, geometry, 1.5 * float(geometry.spacing.min())) if airways.any() else airways
        right, left = split_lungs(without_gas(air & ~near, hu), geometry, image.label)
        if airways.any() and _height(airways) < _height(right | left):
            airways[:] = False  # a loop of bowel below the lungs
        context.progress(0.55, "Closing the lungs")
        closed = []
        for number, lung in enumerate((right, left)):
            filled = fill_holes(smooth(lung, geometry, "closing", parameters.closing_mm))
            closed.append(filled & ~airways)
            context.progress(0.55 + 0.15 * (number + 1))
        closed[1] &= ~closed[0]
        dense = (closed[0] | closed[1]) & (hu > parameters.dense_hu)
        dense = smooth(dense, geometry, "opening", parameters.lesion_mm)
        context.progress(0.9, "Measuring")
        labels = np.zeros(hu.shape, np.uint8)
        parts = (closed[0] & ~dense, closed[1] & ~dense, airways, dense)
        for number, part in enumerate(parts, start=1):
            labels[part] = number
        labels = ordered.with_array(labels).reordered(*inverse_order(*image.geometry.canonical_order())).array
        segments = [
            Segment(name, n, color, Terminology(ANATOMY_CATEGORY, LUNG.type, side))
            for n, ((name, side), color) in enumerate(
                zip(_SIDE.items(), ((0.77, 0.65, 0.63), (0.68, 0.76, 0.86))), start=1
            )
        ]
        segments += [Segment("Airways", 3, (0.71, 0.89, 1.0), _AIRWAY), Segment("Dense part", 4, (0.9, 0.4, 0.3), MASS)]
        result = Segmentation.from_labels(np.ascontiguousarray(labels), image.geometry, segments)
        return {"segmentation": result, "measures": _measures(hu, parts, segments, geometry)}


def inner_air(hu: np.ndarray) -> np.ndarray:
    """Air within the body: (K, J, I) bool, slices along S.

    Air that reaches the sides of its axial slice is outside, unless the sides run through the body and it is too dense
    for air alone: then the image was cut through the lung.
    """
    from scipy.ndimage import label

    result = np.zeros(hu.shape, bool)
    for k, plane in enumerate(hu):
        numbers, _ = label(plane < _AIR_HU)
        outside = np.unique(_sides(numbers))
        if (_sides(plane) < _GAS_HU).mean() < _MOST_AIR:
            outside = [n for n in outside if n and np.median(plane[numbers == n]) < _GAS_HU]
        result[k] = (numbers > 0) & ~np.isin(numbers, outside)
    return result


def _height(mask: np.ndarray) -> float:
    return float(np.average(np.arange(len(mask)), weights=mask.sum(axis=(1, 2))))


def _sides(plane: np.ndarray) -> np.ndarray:
    return np.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def without_gas(air: np.ndarray, hu: np.ndarray) -> np.ndarray:
    """``air`` less the connected parts that hold nothing but air, as stomach and bowel do and lungs do not."""
    from scipy.ndimage import find_objects, label

    numbers, _ = label(air)
    result = air.copy()
    for number, box in enumerate(find_objects(numbers), start=1):
        part = numbers[box] == number
        if np.median(hu[box][part]) < _GAS_HU:
            result[box][part] = False
    return result


def find_airways(hu, air, geometry) -> np.ndarray:
    """The trachea and the bronchi down to where a higher limit would leak into the lung; empty if none is found."""
    from scipy.ndimage import label

    pixel = geometry.spacing[0] * geometry.spacing[1]
    middle = np.array(hu.shape[1:]) / 2
    # From the top, the first slices whose lumen is round, of the right size and near the middle.
    for k in range(len(hu) - 1, len(hu) // 3, -1):
        numbers, count = label((hu[k] < _LUMEN_HU) & air[k])
        best = None
        for number in range(1, count + 1):
            places = np.argwhere(numbers == number)
            size = len(places) * pixel
            extent = (np.ptp(places, axis=0) + 1) * geometry.spacing_kji[1:]
            away = np.abs(places.mean(axis=0) - middle) / hu.shape[1:]
            round_ = size > 0.5 * extent[0] * extent[1] and extent.max() < 2 * extent.min()
            if 50 < size < _WIDEST_TRACHEA_MM2 and round_ and away[0] < 0.3 and away[1] < 0.15:
                best = places if best is None or len(places) > len(best) else best
        if best is not None:
            return _grown_airways(hu, air, (k, *best[len(best) // 2]))
    return np.zeros(hu.shape, bool)


def _grown_airways(hu, air, seed) -> np.ndarray:
    from scipy.ndimage import label

    found = None
    for limit in range(-980, -840, 10):
        numbers, _ = label(air & (hu < limit))
        if not numbers[seed]:
            continue
        grown = numbers == numbers[seed]
        if found is not None and grown.sum() > _LEAK * found.sum():
            break
        found = grown
    return np.zeros(hu.shape, bool) if found is None else found


def split_lungs(air, geometry, label_) -> tuple[np.ndarray, np.ndarray]:
    """(right, left) bool arrays of a canonical grid; lungs that touch are parted by ever deeper erosion."""
    from scipy.ndimage import distance_transform_edt, label

    smallest = _SMALLEST_LUNG_ML * 1000 / geometry.voxel_volume_mm3
    box = bounding_box(air, (1, 1, 1)) if air.any() else None
    if box is None or air.sum() < smallest:
        raise InputError(f"CT image: no lung was found in {label_.lower()}; choose a chest CT in HU.")
    inside = air[box]
    for depth in (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0):
        core = inside if depth == 0 else distance_transform_edt(inside, sampling=geometry.spacing_kji) > depth
        numbers, _ = label(core)
        sizes = np.bincount(numbers.ravel())
        sizes[0] = 0
        first, second = np.argsort(sizes)[::-1][:2] if len(sizes) > 2 else (sizes.argmax(), 0)
        if second and sizes[second] > max(0.1 * sizes[first], smallest * 0.2):
            break
    else:
        second = 0
    right, left = np.zeros_like(air), np.zeros_like(air)
    if not second:
        whole = largest_component(inside)
        middle = np.nonzero(air)[2].mean()
        columns = np.arange(inside.shape[2]) + box[2].start
        right[box] = whole & (columns > middle)
        left[box] = whole & (columns <= middle)
        return right, left
    seeds = np.where(numbers == first, 1, np.where(numbers == second, 2, 0))
    nearest = distance_transform_edt(seeds == 0, sampling=geometry.spacing_kji, return_indices=True)[1]
    owner = seeds[tuple(nearest)]
    numbers, _ = label(inside)
    wanted = np.isin(numbers, np.unique(numbers[seeds > 0]))
    halves = [wanted & (owner == n) for n in (1, 2)]
    # The first axis of a canonical grid's columns runs to the right of the patient.
    halves.sort(key=lambda half: -np.nonzero(half)[2].mean())
    right[box], left[box] = halves
    return right, left


def _measures(hu, parts, segments, geometry) -> Table:
    counts = np.array([part.sum() for part in parts])
    means = [float(hu[p].mean(dtype=np.float64)) if p.any() else np.nan for p in parts]
    index = []
    for number, part in enumerate(parts):
        lung = hu[part & (hu < -500)] if number < 2 else ()
        index.append(100 * float((lung < -950).mean()) if len(lung) else np.nan)
    columns = {
        "segment": tuple(s.name for s in segments),
        "volume": counts * (geometry.voxel_volume_mm3 / 1000),
        "mean": np.array(means),
        "emphysema index": np.array(index),
    }
    return Table(columns, "Lung sizes", {"volume": "mL", "mean": "HU", "emphysema index": "%"})


def example_chest():
    """A body with two lungs, a trachea and a ball in the right lung; HU, float32."""
    from ..core import Geometry, Volume

    shape, spacing = (40, 44, 60), np.array([5.0, 5.0, 6.0])
    geometry = Geometry.from_spacing(shape, spacing, (-150.0, -110.0, -120.0))
    k, j, i = np.meshgrid(*map(np.arange, shape), indexing="ij")
    ras = geometry.ras(np.stack([i, j, k], axis=-1)) - geometry.center

    def ellipsoid(center, axes):
        return (((ras - center) / np.array(axes, float)) ** 2).sum(axis=-1) < 1

    hu = np.full(shape, -1000.0)
    hu[ellipsoid((0, 0, 0), (140, 100, 1e4))] = 40
    for side in (-1, 1):
        hu[ellipsoid((side * 62, 0, -20), (42, 65, 75))] = -850
    hu[ellipsoid((0, 10, 90), (11, 11, 70))] = -1000
    hu[ellipsoid((65, 0, -20), (16, 16, 16))] = 30
    hu += np.random.default_rng(0).normal(0, 8, shape)
    return Volume(hu.astype(np.float32), geometry, "chest", "HU")
