"""Histogram equalisation of a whole volume."""

from __future__ import annotations

import numpy as np

from ..core import InputError, IntegerParameter, SegmentationPort, Task, VolumePort


class HistogramEqualization(Task):
    """Each voxel becomes the fraction of voxels darker than it, stretched to the image's range."""

    id = "enhance.histogram_equalization"
    title = "Histogram equalisation"
    group = "Enhancement"
    summary = "Spreads the grey values so that each occurs about equally often; for viewing, not for measuring."
    references = ("Gonzalez RC, Woods RE. Digital Image Processing. 4th ed., Pearson 2018, section 3.3.",)
    keywords = ("contrast", "grey values", "histogram equalization")

    inputs = (
        VolumePort("image", "Image", "The volume to change."),
        SegmentationPort(
            "region", "Region", "Its voxels alone make the histogram, so that air or padding does not count.",
            optional=True,
        ),
    )  # fmt: skip
    parameters = (
        IntegerParameter(
            "bins", "Bins", 1024, "Intervals of the histogram; the mapping is linear within each.",
            minimum=16, maximum=65536, advanced=True,
        ),
    )  # fmt: skip
    outputs = (VolumePort("equalized", "Equalised image", "Same grid and same range of values; no longer in HU."),)

    def run(self, inputs, parameters, context):
        image = inputs.image
        values = self._region_values(inputs, context)
        context.progress(0.3)
        low, high = float(values.min()), float(values.max())
        if low == high:
            raise InputError(f"{image.label} has the same value everywhere, so there is no contrast to spread.")
        counts, edges = np.histogram(values, bins=parameters.bins, range=(low, high))
        context.progress(0.5)
        # What lies in the lowest bin is background: it maps to the bottom of the range, whatever its share.
        cumulative = np.concatenate([[0.0], np.cumsum(counts[1:], dtype=np.float64)])
        target = low + (high - low) * cumulative / cumulative[-1]
        result = np.empty(image.array.shape, np.float32)
        for k, plane in enumerate(image.array):
            result[k] = np.interp(plane, edges[1:], target)
            context.progress(0.5 + 0.5 * (k + 1) / len(result))
        return {"equalized": image.with_array(result)}

    def _region_values(self, inputs, context):
        if inputs.region is None:
            return inputs.image.array
        from ..core.resampling import resample_segmentation

        with context.part(0.0, 0.3):
            region = resample_segmentation(inputs.region, inputs.image.geometry, context=context)
        mask = np.zeros(region.geometry.shape, bool)
        for segment in region.segments:
            mask |= region.mask(segment)
        if not mask.any():
            raise InputError(f"{inputs.region.label} covers no voxel of {inputs.image.in_sentence}.")
        return inputs.image.array[mask]
