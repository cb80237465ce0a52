"""Region features of segments as a table."""

from __future__ import annotations

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    RangeParameter,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Volume,
    VolumePort,
)
from .ibsi import CODES, FAMILIES, SHAPE_ONLY, Settings, region_features
from .ibsi_matrices import AGGREGATIONS

_MARGIN_MM = 7.0
"""The local intensity looks 6.2 mm beyond the region."""

_INTENSITIES = frozenset(
    f"stat_{name}" for name in (
        "mean", "median", "minimum", "percentile_10", "percentile_90", "maximum", "interquartile_range", "range",
        "mean_absolute_deviation", "robust_mean_absolute_deviation", "median_absolute_deviation", "root_mean_square",
    )
) | {
    "loc_peak_local", "loc_peak_global", "ivh_intensity_at_volume_10", "ivh_intensity_at_volume_90",
    "ivh_intensity_difference",
}  # fmt: skip
"""Features in the unit of the image's intensities."""

DISCRETISATION = (
    ChoiceParameter(
        "discretisation", "Grey levels", "number",
        "A fixed number of bins between the region's extremes (MR, and whenever intensities have no unit), or bins of "
        "a fixed size (CT, PET).",
        choices={"number": "Fixed number of bins", "size": "Fixed bin size"},
    ),
    IntegerParameter(
        "bins", "Number of bins", 32, "Grey levels between the least and the greatest intensity of the region.",
        minimum=2, maximum=1024, enabled_when=("discretisation", ("number",)),
    ),
    FloatParameter(
        "bin_size", "Bin size", 25.0, "Width of a grey level in the image's unit: 25 HU for CT, 0.5 SUV for PET.",
        minimum=1e-6, maximum=1e6, decimals=4, enabled_when=("discretisation", ("size",)),
    ),
    ChoiceParameter(
        "aggregation", "Texture", "3d_merged",
        "Whether neighbours are sought in space or within slices, and how the matrices are combined.",
        choices=AGGREGATIONS,
    ),
)  # fmt: skip
PREPARATION = (
    FloatParameter(
        "resample_mm", "Resample to", 0.0,
        "Voxel size to which image and segments are brought first, within slices only for 2-D and 2.5-D texture; 0 "
        "leaves them as they are.", "mm", minimum=0.0, maximum=20.0,
    ),
    ChoiceParameter(
        "interpolation", "Interpolation", "linear", "Of the intensities; segments are interpolated linearly.",
        choices={"linear": "Linear", "cubic": "Cubic B-spline"}, advanced=True,
    ),
    BooleanParameter("use_limits", "Limit intensities", False, "Whether voxels outside the limits are left out."),
    RangeParameter(
        "limits", "Limits", (-1000.0, 400.0), "Only intensities from the first to the second value are counted.",
        enabled_when=("use_limits", (True,)),
    ),
    FloatParameter(
        "outlier_sigma", "Outliers beyond", 0.0,
        "Intensities farther from the region's mean than so many standard deviations are not counted; 0 counts all.",
        minimum=0.0, maximum=10.0, advanced=True,
    ),
)  # fmt: skip
REFERENCES = (
    "Zwanenburg A, Vallières M, Abdalah MA, et al. The Image Biomarker Standardization Initiative: standardized "
    "quantitative radiomics for high-throughput image-based phenotyping. Radiology 2020; 295:328-338.",
    "Zwanenburg A, Leger S, Vallières M, Löck S. Image biomarker standardisation initiative. arXiv:1612.07003.",
)


class RegionFeatures(Task):
    """Shape, intensity and texture of each segment in each image.

    Features without reference values in the manual are left out. Slices are those across the axis with the thickest
    voxels, or if all are equal, the axial ones.
    """

    id = "features.region"
    title = "Region features (radiomics)"
    group = "Features"
    summary = "Describes every segment by the 169 standardised radiomics features of the IBSI, in a table."
    references = REFERENCES
    keywords = ("IBSI", "radiomics", "texture", "GLCM", "GLRLM", "shape", "biomarker", "haralick", "SUV peak")

    inputs = (
        VolumePort(
            "images", "Images", "One or several images of the patient; the others are brought to the first one's grid.",
            multiple=True,
        ),
        SegmentationPort("segmentation", "Segments", "The regions; they may overlap."),
    )  # fmt: skip
    parameters = (
        *DISCRETISATION, *PREPARATION,
        ChoiceParameter(
            "layout", "Rows", "features", "What a row of the table is; one per segment is what classifiers learn from.",
            choices={"features": "One for each feature", "segments": "One for each segment"},
        ),
    )  # fmt: skip
    outputs = (TablePort("features", "Features", "Names end with the unit where it is a length, area or volume."),)

    def run(self, inputs, parameters, context):
        rows = region_rows(inputs.images, inputs.segmentation, parameters, context)
        name = f"Features of {inputs.segmentation.name}".strip()
        table = _long if parameters.layout == "features" else wide_table
        return {"features": table(rows, inputs.images, name)}


def region_rows(images, segmentation, parameters, context) -> dict[tuple[str, str], dict[str, float]]:
    """``{(segment, image): {feature: value}}`` for all segments that are not empty; shape is given for each image.

    ``parameters`` has the values of :data:`DISCRETISATION` and :data:`PREPARATION`.

    Raises
    ------
    InputError
        If the axes are sheared, no segment lies in the first image or a region cannot be measured.
    """
    first = images[0]
    if not first.geometry.is_orthogonal:
        raise InputError(f"{first.label} has sheared axes; resample it to right angles first.")
    names = unique([image.name or f"image {n}" for n, image in enumerate(images, start=1)])
    axis = _slice_axis(first.canonical().geometry)
    rows, jobs = {}, [(s, n) for s in segmentation.segments for n in range(len(images))]
    for done, (segment, number) in enumerate(jobs):
        image = images[number]
        context.progress(done / len(jobs), f"{segment.name} in {names[number]}")
        part = _region(image, first, segmentation, segment, axis, parameters)
        if part is None:
            if number == 0:
                context.warn(f"Segment '{segment.name}' has no voxel in {first.in_sentence} and is left out.")
            continue
        array, mask, spacing = part
        settings = Settings(
            parameters.discretisation, parameters.bins, parameters.bin_size,
            parameters.limits if parameters.use_limits else None, parameters.outlier_sigma, parameters.aggregation,
            bool(image.units),
        )  # fmt: skip
        try:
            rows[segment.name, names[number]] = region_features(array, mask, spacing, settings)
        except InputError as error:
            raise InputError(f"Segment '{segment.name}' in {image.in_sentence}: {error}") from error
    if not rows:
        raise InputError(
            f"{segmentation.label} has no voxel in {first.in_sentence}; choose images and segments of the same patient."
        )
    return rows


def unique(names) -> list[str]:
    """The names, with a number behind those that repeat."""
    result = []
    for name in names:
        count = 2
        wanted = name
        while wanted in result:
            wanted, count = f"{name} {count}", count + 1
        result.append(wanted)
    return result


def _slice_axis(geometry) -> int:
    """Of a canonical grid: the axis (k, j, i) across the slices."""
    spacing = np.round(geometry.spacing_kji, 3)
    thin = [a for a in range(3) if geometry.shape[a] == 1]
    return thin[0] if thin and min(geometry.shape) == 1 else int(np.argmax(spacing))


def _region(image: Volume, first: Volume, segmentation, segment, axis, parameters):
    """Intensities and mask in the box of a segment, slices first, and the voxel size; None if it has no voxel."""
    from ..core.resampling import resample_labels, resample_volume

    grid = first.canonical().geometry
    ordered, own = image.canonical(), segmentation.canonical()
    mask = own.mask(segment)
    spacing = np.array(grid.spacing)
    resampled = parameters.resample_mm > 0
    if resampled:
        flat = None if parameters.aggregation.startswith("3d") else 2 - axis
        spacing = np.array([s if n == flat else parameters.resample_mm for n, s in enumerate(spacing)])
        grid = _centred(grid, spacing)
    if not own.geometry.same_grid(grid):
        box = _cover(own.geometry, mask, grid)
        if box is None:
            return None
        grid = grid.cropped(*box)
        if resampled:
            # Rounded, so that a voxel on the edge does not fall out by the last digit.
            soft = resample_volume(Volume(mask.astype(np.float32), own.geometry), grid, "linear").array
            mask = np.round(soft, 4) >= 0.5
        else:
            mask = resample_labels(mask, own.geometry, grid)
    if not mask.any():
        return None
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != n)))[[0, -1]] for n in range(3)]
    margin = np.ceil(_MARGIN_MM / grid.spacing_kji).astype(int)
    start = np.maximum([s[0] for s in spans] - margin, 0)
    stop = np.minimum([s[1] + 1 for s in spans] + margin, grid.shape)
    box = tuple(slice(a, b) for a, b in zip(start, stop))
    here = grid.cropped(tuple(int(s) for s in start), tuple(int(n) for n in stop - start))
    if ordered.geometry.same_grid(grid):
        array = ordered.array[box]
    else:
        way = parameters.interpolation if resampled else "linear"
        array = resample_volume(ordered, here, way, outside=float(image.array.min())).array
        if image.array.dtype.kind in "iu" and resampled:
            # What was whole numbers, such as HU, stays so.
            array = np.rint(array).astype(np.int32)
    turn = (axis, *(a for a in range(3) if a != axis))
    return array.transpose(turn), mask[box].transpose(turn), grid.spacing_kji[list(turn)]


def _centred(geometry, spacing):
    """The grid of exactly ``spacing`` (i, j, k) about the same middle that covers another one (IBSI's rule)."""
    from ..core import Geometry

    extent = np.array(geometry.shape[::-1]) * geometry.spacing
    counts = np.maximum(1, np.ceil(np.round(extent / spacing, 6))).astype(int)
    origin = geometry.center - geometry.directions @ ((counts - 1) / 2 * spacing)
    return Geometry.from_spacing(tuple(int(n) for n in counts[::-1]), spacing, origin, geometry.directions)


def _cover(source, mask, grid):
    """``(start, shape)`` of the part of ``grid`` about a mask on another grid, with the margin; None if it is empty."""
    places = np.argwhere(mask)
    if not len(places):
        return None
    low, high = places.min(0), places.max(0)
    corners = np.array(np.meshgrid(*zip(low - 0.5, high + 0.5), indexing="ij")).reshape(3, -1).T[:, ::-1]
    there = grid.ijk(source.ras(corners))[:, ::-1]
    margin = _MARGIN_MM / grid.spacing_kji + 1
    start = np.maximum(np.floor(there.min(0) - margin), 0).astype(int)
    stop = np.minimum(np.ceil(there.max(0) + margin) + 1, grid.shape).astype(int)
    if (stop <= start).any():
        return None
    return tuple(int(n) for n in start), tuple(int(n) for n in stop - start)


def unit_of(feature: str, intensity: str) -> str:
    """The unit of a feature of an image whose intensities have the unit ``intensity``."""
    for suffix, unit in (("_per_mm", "1/mm"), ("_mm3", "mm³"), ("_mm2", "mm²"), ("_mm", "mm")):
        if feature.endswith(suffix):
            return unit
    if not intensity:
        return ""
    if feature in ("stat_variance", "stat_energy"):
        return f"{intensity}²"
    if feature == "morph_integrated_intensity":
        return f"{intensity}·mm³"
    return intensity if feature in _INTENSITIES else ""


def _long(rows, images, name) -> Table:
    """One row for each feature; shape only once, as it is the same in all images."""
    families = {feature: title for title, names in FAMILIES.values() for feature in names}
    units = dict(zip(unique([image.name or f"image {n}" for n, image in enumerate(images, start=1)]),
                     (image.units for image in images)))  # fmt: skip
    first = next(iter(units))
    columns = {key: [] for key in ("segment", "image", "family", "feature", "value", "unit", "code")}
    for (segment, image), values in rows.items():
        for feature, value in values.items():
            if feature in SHAPE_ONLY and image != first:
                continue
            found = (segment, "" if feature in SHAPE_ONLY else image, families[feature], feature, value,
                     unit_of(feature, units[image]), CODES[feature])  # fmt: skip
            for key, entry in zip(columns, found):
                columns[key].append(entry)
    return Table(columns, name)


def wide_table(rows, images, name) -> Table:
    """One row for each segment; of several images, each has its own columns, which begin with its name."""
    names = unique([image.name or f"image {n}" for n, image in enumerate(images, start=1)])
    segments = list(dict.fromkeys(segment for segment, _ in rows))
    columns, units = {"segment": segments}, {}
    for feature in CODES:
        for image, volume in zip(names, images):
            if feature in SHAPE_ONLY and image != names[0]:
                continue
            key = feature if feature in SHAPE_ONLY or len(names) == 1 else f"{image} {feature}"
            columns[key] = np.array([rows[s, image][feature] if (s, image) in rows else np.nan for s in segments])
            if unit := unit_of(feature, volume.units):
                units[key] = unit
    return Table(columns, name, units)
