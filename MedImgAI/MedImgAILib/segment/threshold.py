"""Threshold by a range or by a value found in the histogram."""

from __future__ import annotations

import colorsys

import numpy as np

from ..core import (
    ChoiceParameter,
    IntegerParameter,
    Plot,
    PlotPort,
    RangeParameter,
    Segment,
    Segmentation,
    SegmentationPort,
    Series,
    Table,
    TablePort,
    Task,
    Volume,
    VolumePort,
)
from .histogram_thresholds import find_thresholds
from .kinds import kind_parameter, new_segment
from .measures import measure

_ONE_SEGMENT = ("method", ("otsu", "li", "triangle", "range"))
HISTOGRAM_BINS = 256


class Threshold(Task):
    """Voxels within (or outside) a range of values, or one segment for each class of several.

    The automatic thresholds are those of the values' histogram: 256 bins, or one for each integer. With several
    classes the darkest is background, and each brighter one becomes a segment.
    """

    id = "segment.threshold"
    title = "Threshold"
    group = "Segmentation"
    summary = "Takes every voxel whose value lies in a range, which is given or found from the histogram."
    references = (
        "Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 1979; 9:62-66.",
        "Liao PS, Chen TS, Chung PC. A fast algorithm for multilevel thresholding. J Inf Sci Eng 2001; 17:713-727.",
        "Li CH, Tam PKS. An iterative algorithm for minimum cross entropy thresholding. Pattern Recogn Lett 1998; "
        "19:771-776.",
        "Zack GW, Rogers WE, Latt SA. Automatic measurement of sister chromatid exchange frequency. J Histochem "
        "Cytochem 1977; 25:741-753.",
    )
    keywords = ("binarize", "otsu", "multi-otsu", "li", "triangle", "cross entropy", "range", "window", "histogram")

    inputs = (VolumePort("image", "Image", "The volume to segment."),)
    parameters = (
        ChoiceParameter(
            "method", "Method", "otsu",
            "Otsu best separates dark from bright voxels, multi-Otsu several classes; Li suits small dark or bright "
            "structures, triangle one large peak with a long tail.",
            choices={
                "otsu": "Otsu", "multi_otsu": "Multi-Otsu", "li": "Li (least cross-entropy)", "triangle": "Triangle",
                "range": "Range",
            },
        ),
        RangeParameter(
            "range", "Range", (0.0, 1000.0), "Lowest and highest value of the segment, in the unit of the image.",
            bounds_from="image", enabled_when=("method", ("range",)),
        ),
        IntegerParameter(
            "classes", "Classes", 3, "How many classes of brightness there are, the dark background included.",
            minimum=2, maximum=4, enabled_when=("method", ("multi_otsu",)),
        ),
        ChoiceParameter(
            "side", "Keep", "inside", "Bright voxels, or those in the range; or all others.",
            choices={"inside": "Bright or in the range", "outside": "Dark or outside the range"},
            enabled_when=_ONE_SEGMENT,
        ),
        kind_parameter(),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segmentation", "One or several segments on the grid of the image."),
        TablePort("measures", "Sizes", "Volume in mL, mean value and the threshold used.", optional=True),
        PlotPort("histogram", "Histogram", "How often each value occurs, class by class.", optional=True),
    )

    def run(self, inputs, parameters, context):
        image = inputs.image
        ranged = parameters.method == "range"
        if ranged:
            low, high = parameters.range
            labels = ((image.array >= low) & (image.array <= high)).view(np.uint8)
            cuts = [np.nextafter(low, -np.inf), high]
        else:
            cuts = find_thresholds(image.array, parameters.method, parameters.classes, image.label)
            context.progress(0.3)
            labels = np.zeros(image.geometry.shape, np.uint8)
            for cut in cuts:
                labels += image.array > cut
        context.progress(0.6)
        several = parameters.method == "multi_otsu"
        if not several and parameters.side == "outside":
            labels ^= 1
        segments = _classes(parameters.segment, len(cuts)) if several else [new_segment(parameters.segment)]
        if not labels.any():
            context.warn(f"No voxel of {image.in_sentence} passes the threshold; the segment is empty.")
        result = Segmentation.from_labels(labels, image.geometry, segments)
        context.progress(0.8, "Measuring")
        limits = {"lowest": low, "highest": high} if ranged else {"threshold": cuts[0]}
        sizes = measure(result, image, **limits)
        if several:
            sizes = Table(sizes.columns | {"threshold": np.array(cuts)}, sizes.name, sizes.units)
        return {"segmentation": result, "measures": sizes, "histogram": class_histogram(image, cuts)}


def _classes(kind: str, count: int) -> list[Segment]:
    """One segment for each class above the darkest: the chosen kind, numbered, in hues of their own."""
    model = new_segment(kind)
    colors = [model.color] + [colorsys.hsv_to_rgb((0.08 + 0.3 * n) % 1, 0.55, 0.9) for n in range(1, count)]
    return [
        Segment(f"{model.name} {n + 1}" if count > 1 else model.name, n + 1, colors[n], model.terminology)
        for n in range(count)
    ]


def class_histogram(image: Volume, cuts: list[float]) -> Plot:
    """The image's histogram as one curve for each class between the ``cuts``, so that these can be seen."""
    counts, edges = np.histogram(image.array, HISTOGRAM_BINS)
    centers = (edges[:-1] + edges[1:]) / 2
    columns, units = {"value": centers}, {"value": image.units} if image.units else {}
    number = np.searchsorted(cuts, centers)
    for n in range(len(cuts) + 1):
        low = f"above {cuts[n - 1]:.6g}" if n else ""
        high = f"up to {cuts[n]:.6g}" if n < len(cuts) else ""
        columns[" ".join(filter(None, (low, high)))] = np.where(number == n, counts, 0)
    series = [Series(name, "value", name) for name in list(columns)[1:]]
    x_title = f"Value ({image.units})" if image.units else "Value"
    return Plot(Table(columns, "Histogram", units), series, "Histogram", "Histogram", x_title, "Voxels")
