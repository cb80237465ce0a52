"""Joint label fusion as a task: atlases registered to a target, each an image with a segmentation."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import FloatParameter, InputError, SegmentationPort, TablePort, Task, Volume, VolumePort
from MedImgAILib.core.geometry import inverse_order
from MedImgAILib.core.resampling import resample_volume

from . import raters
from .joint import fuse


class JointLabelFusion(Task):
    """Multi-atlas segmentation with the atlases' images as witnesses."""

    id = "fusion.joint_label_fusion"
    title = "Joint label fusion"
    group = "Decision fusion"
    summary = (
        "Fuses the segmentations of several atlases registered to a target; an atlas counts where its image looks like "
        "the target, and atlases that make the same error share one vote."
    )
    references = (
        "Wang H, Suh JW, Das SR, Pluta JB, Craige C, Yushkevich PA. Multi-atlas segmentation with joint label fusion. "
        "IEEE Trans Pattern Anal Mach Intell 2013;35:611-623. doi:10.1109/TPAMI.2012.143",
    )
    keywords = ("multi-atlas", "JLF", "patch", "consensus", "label propagation", "MALF")
    orientation_tolerance = 5e-3

    inputs = (
        VolumePort("target", "Target", "The image to segment; its grid is that of the result."),
        VolumePort(
            "images", "Atlas images", "Registered to the target, in the order of the segmentations.",
            multiple=True, minimum_count=2,
        ),
        SegmentationPort(
            "segmentations", "Atlas segmentations", "One for each atlas image, registered with it.",
            multiple=True, minimum_count=2,
        ),
    )  # fmt: skip
    parameters = (
        FloatParameter(
            "patch_mm", "Patch radius", 2.0, "Half the width of the patches that are compared.", "mm",
            minimum=0.1, maximum=20.0, step=0.5,
        ),
        FloatParameter(
            "search_mm", "Search radius", 2.0,
            "How far a better patch is looked for in every atlas, which makes up for inexact registration; 0: nowhere.",
            "mm", minimum=0.0, maximum=20.0, step=0.5,
        ),
        FloatParameter(
            "alpha", "Regularisation", 0.1, "The larger, the more alike the atlases' votes.",
            minimum=1e-4, maximum=1e4, decimals=4, advanced=True,
        ),
        FloatParameter(
            "beta", "Sharpness", 2.0, "The larger, the more the most similar atlases decide.",
            minimum=0.1, maximum=10.0, step=0.5, advanced=True,
        ),
        raters.MATCH,
    )  # fmt: skip
    outputs = (
        SegmentationPort("consensus", "Consensus", "The segments of the target."),
        VolumePort("agreement", "Agreement", "Share of the votes for the answer given, 0…1.", optional=True),
        TablePort(
            "raters", "Atlases", "Of every atlas and segment: mean weight, Dice, sensitivity and specificity against "
            "the consensus, mean Dice with the other atlases, volume.", optional=True,
        ),
    )  # fmt: skip

    def validate(self, inputs, parameters):
        images, segmentations = len(inputs.images), len(inputs.segmentations)
        if images != segmentations:
            raise InputError(
                f"There are {images} atlas images but {segmentations} segmentations; give one of each per atlas."
            )

    def example(self):
        from MedImgAILib.core.examples import example_segmentation, example_volume

        atlases = range(3)
        return {
            "target": example_volume("target"),
            "images": [example_volume(f"atlas {n}", seed=n + 1) for n in atlases],
            "segmentations": [example_segmentation(f"atlas {n}", shift_mm=0.8 * (n - 1)) for n in atlases],
        }, {"search_mm": 1.5}

    def run(self, inputs, parameters, context):
        order = inputs.target.geometry.canonical_order()
        target = inputs.target.reordered(*order)
        with context.part(0.0, 0.2) as part:
            ratings = raters.collect(inputs.segmentations, target, part, parameters.match)
        images = [_on_grid(image, target) for image in inputs.images]
        context.progress(0.3, "Comparing patches")
        # Where all say the same there is nothing to decide.
        decided, share = ratings.labels(0), np.ones(target.geometry.shape, np.float32)
        is_disputed = (ratings.patterns != ratings.patterns[:, :1]).any(axis=1)
        disputed = np.argwhere(ratings.spread(is_disputed))
        weight = np.full(len(images), 1 / len(images))
        if len(disputed):
            patch, search = (_voxels(radius, target.geometry) for radius in (parameters.patch_mm, parameters.search_mm))
            labels = [ratings.labels(r) for r in range(len(images))]
            with context.part(0.3, 0.95) as part:
                votes, weight = fuse(
                    target.array.astype(np.float32), images, labels, len(ratings.segments) + 1, disputed, patch, search,
                    parameters.alpha, parameters.beta, part.progress,
                )  # fmt: skip
            place = tuple(disputed.T)
            decided[place] = votes.argmax(axis=1)
            share[place] = np.clip(votes.max(axis=1), 0, 1)
        table = ratings.table(decided, weight=np.broadcast_to(weight, (len(ratings.segments), len(images))))
        back = inverse_order(*order)
        return {
            "consensus": ratings.segmentation(decided, "Joint label fusion").reordered(*back),
            "agreement": Volume(share, target.geometry, name="Agreement").reordered(*back),
            "raters": table,
        }


def _on_grid(image: Volume, target: Volume) -> np.ndarray:
    """(K, J, I) float32 voxels of an atlas image on the target's grid, its lowest value where it does not reach."""
    if image.geometry.same_grid(target.geometry):
        return image.array.astype(np.float32)
    if not raters.boxes_meet(image.geometry, target.geometry):
        raise InputError(f"{image.label} does not overlap {target.in_sentence}; register the atlases first.")
    lowest = float(image.array.min())
    return resample_volume(image, target.geometry, "linear", outside=lowest).array.astype(np.float32)


def _voxels(radius_mm: float, geometry) -> tuple[int, int, int]:
    """A radius in voxels (k, j, i): at least one along every axis that has several, unless it is 0."""
    return tuple(
        0 if n < 2 or radius_mm == 0 else max(1, round(radius_mm / s))
        for n, s in zip(geometry.shape, geometry.spacing_kji, strict=True)
    )
