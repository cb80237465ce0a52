"""Gaussian smoothing with a width in mm."""

from __future__ import annotations

import numpy as np

from ..core import FloatParameter, Task, VolumePort


class Gaussian(Task):
    """Isotropic Gaussian in patient space, whatever the voxel size."""

    id = "enhance.gaussian"
    title = "Gaussian smoothing"
    group = "Enhancement"
    summary = "Reduces noise by averaging neighbours with Gaussian weights; edges soften too."
    references = ("Lindeberg T. Scale-space theory in computer vision. Kluwer 1994, chapter 2.",)
    keywords = ("blur", "denoise", "filter")

    inputs = (VolumePort("image", "Image", "The volume to smooth.", components=()),)
    parameters = (
        FloatParameter(
            "sigma_mm", "Standard deviation", 1.0, "Width of the Gaussian, the same in all directions.", "mm",
            minimum=0.0, maximum=50.0, step=0.1,
        ),
    )  # fmt: skip
    outputs = (VolumePort("smoothed", "Smoothed image", "On the grid of the image.", components=()),)

    def run(self, inputs, parameters, context):
        from scipy.ndimage import gaussian_filter1d

        image = inputs.image
        result = image.array.astype(np.float32)
        buffer = np.empty_like(result)
        for axis, spacing in enumerate(image.geometry.spacing_kji):
            if image.array.shape[axis] > 1 and parameters.sigma_mm > 0:
                gaussian_filter1d(result, parameters.sigma_mm / spacing, axis=axis, output=buffer, mode="nearest")
                result, buffer = buffer, result
            context.progress((axis + 1) / 3)
        return {"smoothed": image.with_array(result, units=image.units, display=image.display)}
