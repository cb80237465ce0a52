"""Median filter with a radius in mm."""

from __future__ import annotations

import numpy as np

from ..core import FloatParameter, Task, VolumePort


class Median(Task):
    """The median of a box around each voxel; outermost voxels are repeated beyond the edge."""

    id = "enhance.median"
    title = "Median filter"
    group = "Enhancement"
    summary = "Removes isolated bright and dark voxels and keeps edges sharp; details thinner than the radius vanish."
    references = ("Tukey JW. Exploratory Data Analysis. Addison-Wesley 1977, chapter 7.",)
    keywords = ("denoise", "salt and pepper", "despeckle", "filter")

    inputs = (VolumePort("image", "Image", "The volume to filter.", components=()),)
    parameters = (
        FloatParameter(
            "radius_mm", "Radius", 1.5,
            "Half the width of the box; along each axis it takes in every voxel whose centre is this near.", "mm",
            minimum=0.0, maximum=20.0, step=0.5,
        ),
    )  # fmt: skip
    outputs = (VolumePort("filtered", "Filtered image", "On the grid of the image.", components=()),)

    def run(self, inputs, parameters, context):
        import SimpleITK as sitk

        from ..core.itk import run_filter

        image = inputs.image
        radius = half_widths(parameters.radius_mm, image.geometry)
        if not any(radius):
            context.warn(f"A radius of {parameters.radius_mm:g} mm reaches no neighbouring voxel; nothing changes.")
            return {"filtered": image.with_array(image.array.copy(), units=image.units, display=image.display)}
        median = sitk.MedianImageFilter()
        median.SetRadius(radius)
        # The box lies along the image's own axes, so ITK needs to know voxels only, not their place.
        array = image.array.view(np.uint8) if image.array.dtype == bool else image.array
        array = array.astype(np.float32) if array.dtype == np.float16 else array
        channels = [array] if not image.is_vector else [array[..., c] for c in range(image.components)]
        results = []
        for number, channel in enumerate(channels):
            with context.part(number / len(channels), (number + 1) / len(channels)):
                source = sitk.GetImageFromArray(np.ascontiguousarray(channel), isVector=False)
                results.append(sitk.GetArrayFromImage(run_filter(median, source, context=context)))
        result = np.stack(results, axis=-1) if image.is_vector else results[0]
        return {"filtered": image.with_array(result, units=image.units, display=image.display)}


def half_widths(radius_mm: float, geometry) -> list[int]:
    """Neighbours along i, j and k whose centres lie within ``radius_mm``, at most the image's extent."""
    counts = np.floor(radius_mm / geometry.spacing + 1e-6).astype(int)
    return np.minimum(counts, np.array(geometry.shape[::-1]) - 1).tolist()
