"""Region growing from seed points, with clean-up of the boundary."""

from __future__ import annotations

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    PointsPort,
    RangeParameter,
    Segmentation,
    SegmentationPort,
    TablePort,
    Task,
    VolumePort,
)
from .cleanup import components_at, fill_holes, smooth, voxels_within
from .fast_marching import front
from .kinds import kind_parameter, new_segment
from .measures import measure

_RANGE = ("method", ("range", "neighbourhood"))
_CONFIDENCE = ("method", ("confidence",))
_FRONT = ("method", ("fast_marching",))


class RegionGrowing(Task):
    """Voxels that are joined to a seed by faces through voxels of similar value.

    With ``confidence`` the range is the mean ± ``multiplier`` standard deviations, first of the seeds' surroundings,
    then again and again of the region itself; it always takes in the seeds' own values. With ``neighbourhood`` a voxel
    counts only if the whole box around it lies in the range, which keeps the region out of thin leaks. With
    ``fast_marching`` a front leaves the seeds, fast where the image is even and slowly across edges.
    """

    id = "segment.region_growing"
    title = "Region growing"
    group = "Segmentation"
    summary = "Grows a segment from points placed in it, as long as the values stay similar; then smooths its boundary."
    references = (
        "Adams R, Bischof L. Seeded region growing. IEEE Trans PAMI 1994; 16:641-647.",
        "Johnson HJ, McCormick MM, Ibáñez L. The ITK Software Guide Book 2. Kitware 2015, section 4.1 "
        "(confidence connected, neighborhood connected).",
        "Sethian JA. A fast marching level set method for monotonically advancing fronts. PNAS 1996; 93:1591-1595.",
    )
    keywords = (
        "seeds", "flood fill", "connected threshold", "confidence connected", "neighborhood connected",
        "fast marching", "magic wand",
    )  # fmt: skip

    inputs = (
        VolumePort("image", "Image", "The volume to segment."),
        PointsPort("seeds", "Seeds", "Points inside the structure."),
    )
    parameters = (
        ChoiceParameter(
            "method", "Similar means", "confidence", "What keeps the region together.",
            choices={
                "confidence": "Near the mean of the region", "range": "Within a range",
                "neighbourhood": "Within a range, with all neighbours", "fast_marching": "No edge on the way",
            },
        ),
        FloatParameter(
            "multiplier", "Standard deviations", 2.5, "How far from the region's mean a value may lie.",
            minimum=0.1, maximum=10.0, step=0.1, enabled_when=_CONFIDENCE,
        ),
        FloatParameter(
            "seed_radius_mm", "Seed radius", 3.0, "The values this near to a seed give the first mean.", "mm",
            minimum=0.0, maximum=50.0, step=0.5, enabled_when=_CONFIDENCE,
        ),
        IntegerParameter(
            "iterations", "Iterations", 4, "How often the range is taken anew from the region.",
            minimum=0, maximum=50, advanced=True, enabled_when=_CONFIDENCE,
        ),
        RangeParameter(
            "range", "Range", (0.0, 1000.0), "Lowest and highest value of the segment, in the unit of the image.",
            bounds_from="image", enabled_when=_RANGE,
        ),
        FloatParameter(
            "neighbourhood_mm", "Neighbourhood", 1.5, "Half the edge of the box that must lie in the range.", "mm",
            minimum=0.0, maximum=20.0, step=0.5, enabled_when=("method", ("neighbourhood",)),
        ),
        FloatParameter(
            "reach_mm", "Reach", 20.0, "How far the front may go in an even image; edges shorten the way.", "mm",
            minimum=0.1, maximum=500.0, step=1.0, enabled_when=_FRONT,
        ),
        FloatParameter(
            "edge_scale_mm", "Edge scale", 1.0, "Width of the Gaussian with which edges are looked for.", "mm",
            minimum=0.1, maximum=20.0, step=0.1, enabled_when=_FRONT,
        ),
        FloatParameter(
            "edge_strength", "Edge strength", 0.0,
            "Slope that halves the speed of the front, in units of the image for each mm; 0 takes the mean slope.",
            minimum=0.0, step=1.0, advanced=True, enabled_when=_FRONT,
        ),
        ChoiceParameter(
            "smoothing", "Smooth boundary", "median",
            "Median evens out both sides; closing only fills gaps; opening only cuts bridges.",
            choices={"none": "No", "median": "Median", "closing": "Closing", "opening": "Opening"},
        ),
        FloatParameter(
            "smoothing_mm", "Smoothing radius", 1.5, "Radius of the ball that smooths.", "mm",
            minimum=0.0, maximum=20.0, step=0.5, enabled_when=("smoothing", ("median", "closing", "opening")),
        ),
        BooleanParameter("fill_holes", "Fill holes", True, "Whether cavities inside the segment are filled."),
        kind_parameter(),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segmentation", "One segment on the grid of the image."),
        TablePort("measures", "Sizes", "Volume in mL, mean value and the range used.", optional=True),
    )

    def validate(self, inputs, parameters):
        inside = inputs.image.geometry.contains(inputs.seeds.positions)
        if not inside.all():
            outside = ", ".join(f"'{inputs.seeds.labels[n]}'" for n in np.flatnonzero(~inside))
            raise InputError(f"Seeds: {outside} lies outside {inputs.image.in_sentence}; move or remove it.")

    def run(self, inputs, parameters, context):
        image = inputs.image
        upper = np.array(image.geometry.shape) - 1
        seeds = np.clip(np.rint(image.geometry.ijk(inputs.seeds.positions)[:, ::-1]).astype(int), 0, upper)
        values = image.array[tuple(seeds.T)].astype(np.float64)
        context.progress(0.05, "Growing")
        limits = {}
        if parameters.method == "fast_marching":
            with context.part(0.05, 0.7):
                mask = front(
                    image, seeds, parameters.reach_mm, parameters.edge_scale_mm, parameters.edge_strength, context
                )
        elif parameters.method == "confidence":
            mask, low, high = self._grow_by_confidence(image, seeds, values, parameters, context)
            limits = {"lowest": low, "highest": high}
        else:
            low, high = parameters.range
            limits = {"lowest": low, "highest": high}
            if not ((values >= low) & (values <= high)).any():
                found = ", ".join(f"{v:g}" for v in values)
                raise InputError(f"No seed has a value from {low:g} to {high:g} (found: {found}); change the range.")
            if parameters.method == "range":
                mask = grow(image.array, seeds, low, high)
            else:
                even = whole_boxes((image.array >= low) & (image.array <= high), image, parameters.neighbourhood_mm)
                mask = components_at(even, seeds)
                if not mask.any():
                    raise InputError(
                        f"No seed has all its neighbours within {parameters.neighbourhood_mm:g} mm in the range from "
                        f"{low:g} to {high:g}; choose a smaller neighbourhood or a wider range."
                    )
        context.progress(0.7, "Smoothing")
        if parameters.smoothing != "none":
            smoothed = smooth(mask, image.geometry, parameters.smoothing, parameters.smoothing_mm)
            context.progress(0.8)
            # What smoothing cut off from the seeds no longer belongs to the region.
            seeded = components_at(smoothed, seeds)
            if seeded.any():
                mask = seeded
            else:
                context.warn("Smoothing would remove every seed, so the boundary stays as grown; use a smaller radius.")
        if parameters.fill_holes:
            mask = fill_holes(mask)
        context.progress(0.9, "Measuring")
        labels = np.ascontiguousarray(mask).view(np.uint8)
        result = Segmentation.from_labels(labels, image.geometry, [new_segment(parameters.segment)])
        return {"segmentation": result, "measures": measure(result, image, **limits)}

    @staticmethod
    def _grow_by_confidence(image, seeds, values, parameters, context):
        around = np.unique(
            np.concatenate([voxels_within(image.geometry, s, parameters.seed_radius_mm) for s in seeds]), axis=0
        )
        sample = image.array[tuple(around.T)].astype(np.float64)
        rounds = parameters.iterations + 1
        for number in range(rounds):
            spread = parameters.multiplier * (sample.std(ddof=1) if sample.size > 1 else 0.0)
            low = min(sample.mean() - spread, values.min())
            high = max(sample.mean() + spread, values.max())
            mask = grow(image.array, seeds, low, high)
            context.progress(0.05 + 0.65 * (number + 1) / rounds)
            sample = image.array[mask].astype(np.float64)
        return mask, float(low), float(high)


def grow(array: np.ndarray, seeds: np.ndarray, low: float, high: float) -> np.ndarray:
    """(K, J, I) bool: voxels from ``low`` to ``high`` joined by faces to one of the (N, 3) (k, j, i) seeds."""
    return components_at((array >= low) & (array <= high), seeds)


def whole_boxes(mask: np.ndarray, image, radius_mm: float) -> np.ndarray:
    """(K, J, I) bool: voxels whose box of ± ``radius_mm`` along each axis of the grid is true; the edge repeats."""
    from scipy.ndimage import minimum_filter1d

    result = mask
    for axis, spacing in enumerate(image.geometry.spacing_kji):
        reach = int(np.floor(radius_mm / spacing + 1e-6))
        if reach and mask.shape[axis] > 1:
            result = minimum_filter1d(result.view(np.uint8), 2 * reach + 1, axis=axis, mode="nearest").view(bool)
    return result
