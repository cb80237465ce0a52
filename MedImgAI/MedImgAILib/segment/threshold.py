"""Threshold by a range or by Otsu's method."""

from __future__ import annotations

import numpy as np

from ..core import ChoiceParameter, RangeParameter, Segmentation, SegmentationPort, TablePort, Task, VolumePort
from .kinds import kind_parameter, new_segment
from .measures import measure


class Threshold(Task):
    """Voxels within (or outside) a range of values."""

    id = "segment.threshold"
    title = "Threshold"
    group = "Segmentation"
    summary = "Takes every voxel whose value lies in a range, given or found by Otsu's method."
    references = ("Otsu N. A threshold selection method from gray-level histograms. IEEE Trans SMC 1979; 9:62-66.",)
    keywords = ("binarize", "otsu", "range", "window")

    inputs = (VolumePort("image", "Image", "The volume to segment."),)
    parameters = (
        ChoiceParameter(
            "method", "Method", "otsu", "Otsu finds the value that best separates dark from bright voxels.",
            choices={"otsu": "Otsu", "range": "Range"},
        ),
        RangeParameter(
            "range", "Range", (0.0, 1000.0), "Lowest and highest value of the segment, in the unit of the image.",
            bounds_from="image", enabled_when=("method", ("range",)),
        ),
        ChoiceParameter(
            "side", "Keep", "inside", "Bright voxels, or those in the range; or all others.",
            choices={"inside": "Bright or in the range", "outside": "Dark or outside the range"},
        ),
        kind_parameter(),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segmentation", "One segment on the grid of the image."),
        TablePort("measures", "Sizes", "Volume in mL, mean value and the threshold used.", optional=True),
    )

    def run(self, inputs, parameters, context):
        from ..core.intensity import otsu_threshold

        image = inputs.image
        if parameters.method == "otsu":
            lower = otsu_threshold(image.array, image.label)
            mask = image.array > lower
            limits = {"threshold": lower}
        else:
            low, high = parameters.range
            mask = (image.array >= low) & (image.array <= high)
            limits = {"lowest": low, "highest": high}
        context.progress(0.6)
        if parameters.side == "outside":
            np.logical_not(mask, out=mask)
        if not mask.any():
            context.warn(f"No voxel of {image.label.lower()} passes the threshold; the segment is empty.")
        result = Segmentation.from_labels(mask.view(np.uint8), image.geometry, [new_segment(parameters.segment)])
        context.progress(0.8, "Measuring")
        return {"segmentation": result, "measures": measure(result, image, **limits)}
