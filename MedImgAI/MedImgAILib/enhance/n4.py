"""N4 bias field correction."""

from __future__ import annotations

import numpy as np

from ..core import FloatParameter, Geometry, InputError, IntegerParameter, SegmentationPort, Task, Volume, VolumePort


class N4(Task):
    """N4ITK on a coarser copy of the image; the smooth field is then evaluated on the full grid."""

    id = "enhance.n4"
    title = "N4 bias correction"
    group = "Enhancement"
    summary = "Removes the slow brightness change that coils and patient cause in MR images; use it before segmenting."
    references = (
        "Tustison NJ, Avants BB, Cook PA, et al. N4ITK: improved N3 bias correction. "
        "IEEE Trans Med Imaging 2010; 29:1310-1320.",
    )
    keywords = ("inhomogeneity", "shading", "N3", "coil sensitivity", "MRI")

    inputs = (
        VolumePort("image", "Image", "An MR volume with positive intensities.", three_d=True, minimum_shape=4),
        SegmentationPort(
            "mask", "Mask", "Only voxels in its segments are fitted; without it, those above Otsu's threshold.",
            optional=True,
        ),
    )  # fmt: skip
    parameters = (
        FloatParameter(
            "working_mm", "Working resolution", 4.0,
            "The field is fitted on voxels averaged to about this size; finer is slower and hardly better.", "mm",
            minimum=0.5, maximum=20.0, step=0.5,
        ),
        FloatParameter(
            "knots_mm", "Knot distance", 200.0,
            "Distance of the spline's knots at the first level; it halves with each level.", "mm",
            minimum=10.0, maximum=1000.0, step=10.0,
        ),
        IntegerParameter(
            "levels", "Levels", 4, "Each level lets the field vary twice as fast.", minimum=1, maximum=6,
        ),
        IntegerParameter(
            "iterations", "Iterations per level", 50, "At most so many; a level ends earlier when it has converged.",
            minimum=1, maximum=500, advanced=True,
        ),
        FloatParameter(
            "convergence", "Convergence threshold", 0.001,
            "A level ends when the field's coefficient of variation changes by less.",
            minimum=0.0, maximum=0.1, step=0.0005, decimals=4, advanced=True,
        ),
        FloatParameter(
            "bias_fwhm", "Width of the bias histogram", 0.15,
            "Full width at half maximum, in log intensity, of the bias that one iteration sharpens away.",
            minimum=0.01, maximum=1.0, step=0.01, advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        VolumePort("corrected", "Corrected image", "The image divided by the field, on its own grid."),
        VolumePort("field", "Bias field", "Factor by which each voxel was too bright; its mean in the mask is 1."),
    )

    def run(self, inputs, parameters, context):
        import SimpleITK as sitk

        from ..core.geometry import inverse_order, reorder_array
        from ..core.itk import itk_image, run_filter

        order = inputs.image.geometry.canonical_order()
        image = inputs.image.reordered(*order)
        mask = reorder_array(self._mask(inputs), *order)
        context.progress(0.05, "Averaging")
        # Fitted in the image's own axes, which differ from the patient's by a rotation only. Rounding keeps the
        # iterations, which amplify the last digits, the same whatever the rotation.
        axes = Geometry.from_spacing(image.geometry.shape, np.round(image.geometry.spacing, 6))
        full = itk_image(Volume(image.array, axes), np.float32)
        shrink = shrink_factors(parameters.working_mm, image.geometry)
        small = sitk.BinShrink(full, shrink)
        # A coarse voxel takes part if all of it is in the mask, so that the dark outside does not dilute it.
        where = itk_image(Volume(mask.astype(np.float32), axes))
        small_mask = sitk.BinShrink(where, shrink) >= 0.999
        if not sitk.GetArrayViewFromImage(small_mask).any():
            small_mask = sitk.BinShrink(where, shrink) > 0.0
            small = sitk.Maximum(small, float(np.finfo(np.float32).tiny))

        n4 = sitk.N4BiasFieldCorrectionImageFilter()
        n4.SetMaximumNumberOfIterations([parameters.iterations] * parameters.levels)
        n4.SetConvergenceThreshold(parameters.convergence)
        n4.SetBiasFieldFullWidthAtHalfMaximum(parameters.bias_fwhm)
        extent = np.array(image.geometry.shape[::-1]) * image.geometry.spacing
        n4.SetNumberOfControlPoints([int(np.ceil(e / parameters.knots_mm)) + 3 for e in extent])

        def fraction():
            level = n4.GetCurrentLevel() + n4.GetElapsedIterations() / parameters.iterations
            return min(1.0, level / parameters.levels)

        context.progress(0.1, "Fitting the field")
        with context.part(0.1, 0.8):
            run_filter(n4, small, small_mask, context=context, fraction=fraction)
        context.progress(0.8, "Evaluating the field")
        log_field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(full))
        context.check()
        # The correction leaves the overall brightness alone.
        log_field -= log_field[mask].mean()
        field = np.exp(log_field)
        context.progress(0.95, "Dividing")
        corrected = (image.array / field).astype(np.float32)

        back = inverse_order(*order)
        return {
            "corrected": image.with_array(corrected, units=image.units).reordered(*back),
            "field": image.with_array(field).reordered(*back),
        }

    def _mask(self, inputs):
        """(K, J, I) bool on the image's grid: foreground with positive intensity."""
        from ..core.intensity import otsu_threshold
        from ..core.resampling import resample_segmentation

        image = inputs.image
        positive = image.array > 0
        if not positive.any():
            raise InputError(f"{image.label} has no positive voxel; N4 works on the logarithm of the intensity.")
        threshold = otsu_threshold(image.array, image.label)
        if inputs.mask is None:
            return positive & (image.array > threshold)
        inside = resample_segmentation(inputs.mask, image.geometry)
        mask = np.zeros(image.geometry.shape, bool)
        for segment in inside.segments:
            mask |= inside.mask(segment)
        if not (mask & positive).any():
            raise InputError(f"{inputs.mask.label} covers no voxel of {image.in_sentence} with positive intensity.")
        return mask & positive


def shrink_factors(working_mm: float, geometry) -> list[int]:
    """How many voxels along i, j and k make one of about ``working_mm``; at least 4 coarse voxels remain."""
    counts = np.rint(working_mm / geometry.spacing).astype(int)
    return np.clip(counts, 1, np.maximum(1, np.array(geometry.shape[::-1]) // 4)).tolist()
