"""Volumes and segmentations brought to the grid of another image."""

from __future__ import annotations

from MedImgAILib.core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    SegmentationPort,
    Task,
    TransformPort,
    VolumePort,
)
from MedImgAILib.core.resampling import resample_segmentation, resample_volume


class Resample(Task):
    """Everything on one grid, voxel by voxel comparable."""

    id = "fusion.resample"
    title = "Resample to a reference"
    group = "Registration"
    summary = "Puts a volume, a segmentation or both onto the voxel grid of a reference image, through a transform."
    references = (
        "Unser M. Splines: a perfect fit for signal and image processing. IEEE Signal Proc Mag 1999;16:22-38",
    )
    keywords = ("regrid", "interpolate", "reslice", "apply transform")

    inputs = (
        VolumePort("reference", "Reference", "The grid of the result; its voxel values do not matter.",
                   components=(), allow_nan=True, allow_complex=True),
        VolumePort("image", "Image", "The volume to resample.", components=(), optional=True, allow_nan=True),
        SegmentationPort("segmentation", "Segmentation", "The segmentation to resample.", optional=True),
        TransformPort("transform", "Transform", "Carries image and segmentation to the reference; none if they lie "
                      "in its space already.", optional=True),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "interpolation", "Interpolation", "linear", "For the image; segmentations keep their labels.",
            choices={"nearest": "Nearest neighbour", "linear": "Linear", "cubic": "Cubic B-spline"},
        ),
        FloatParameter("outside", "Value outside", 0.0, "Voxels that the image does not reach, in its unit."),
    )  # fmt: skip
    outputs = (
        VolumePort("resampled", "Resampled image", "On the reference's grid.", components=(), optional=True),
        SegmentationPort("segments", "Resampled segmentation", "On the reference's grid.", optional=True),
    )

    def validate(self, inputs, parameters):
        if inputs.image is None and inputs.segmentation is None:
            raise InputError("There is nothing to resample; choose an image, a segmentation or both.")
        if inputs.image is not None and parameters.interpolation == "cubic" and not inputs.image.is_finite:
            raise InputError(
                f"{inputs.image.label} contains NaN or infinite voxels, which cubic interpolation would spread over "
                "the whole image; use linear or nearest."
            )

    def run(self, inputs, parameters, context):
        grid, outputs = inputs.reference.geometry, {}
        share = 0.0 if inputs.image is None else 0.7 if inputs.segmentation is not None else 1.0
        if inputs.image is not None:
            with context.part(0.0, share) as part:
                outputs["resampled"] = resample_volume(
                    inputs.image, grid, parameters.interpolation, inputs.transform, parameters.outside, part
                )
        if inputs.segmentation is not None:
            with context.part(share, 1.0) as part:
                outputs["segments"] = resample_segmentation(inputs.segmentation, grid, inputs.transform, part)
        self._warn_of_nothing(inputs, outputs, parameters.outside, context)
        return outputs

    @staticmethod
    def _warn_of_nothing(inputs, outputs, outside, context):
        """A result without content nearly always comes from a wrong header, reference or transform."""
        missed = []
        if "resampled" in outputs:
            before, after = inputs.image, outputs["resampled"].array
            if (after == outside).all() and not (before.array == outside).all():
                missed.append(before.in_sentence)
        if "segments" in outputs:
            before, after = inputs.segmentation, outputs["segments"]
            if any(a.any() for a in before.layers) and not any(a.any() for a in after.layers):
                missed.append(before.in_sentence)
        for label in missed:
            context.warn(f"Nothing of {label} lies on the reference's grid; the result is empty.")

    def example(self):
        from MedImgAILib.core.examples import example_geometry, example_segmentation, example_volume
        from MedImgAILib.core.transforms import LinearTransform

        grid = example_geometry().with_spacing((1.3, 1.3, 1.7))
        transform = LinearTransform([[0, -1, 0, 4], [1, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]])
        return {
            "reference": example_volume("reference", geometry=grid),
            "image": example_volume("image"),
            "segmentation": example_segmentation(),
            "transform": transform,
        }, {}
