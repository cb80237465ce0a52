"""Decision-level fusion: the same voxels as SimpleITK, and faster; fused atlases on real hippocampi."""

from __future__ import annotations

import statistics
import time

import numpy as np
from MedImgAIFusionLib.decision.joint_task import JointLabelFusion
from MedImgAIFusionLib.decision.shape_average import ShapeAverage
from MedImgAIFusionLib.decision.simple import Simple
from MedImgAIFusionLib.decision.staple import Staple
from MedImgAIFusionLib.decision.vote import MajorityVote
from MedImgAIFusionLib.registration.deformable import DeformableRegistration
from MedImgAILib.core import Context, Geometry, Segment, Segmentation
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_segmentation, resample_volume

from .measuring import row

TARGETS = 4
ATLASES = 6
"""Registered to every target."""


def decision_rows() -> list[dict]:
    """Ten raters of 256³ voxels against SimpleITK: the same voxels, and how much faster."""
    import SimpleITK as sitk

    answers = _raters(10, 256)
    grid = Geometry.from_spacing((256, 256, 256))
    result = []
    for name, task, labels in (("majority vote", MajorityVote(), 2), ("STAPLE", Staple(), 1)):
        voxels = [np.minimum(a, labels) for a in answers]
        segments = [Segment(f"segment {n}", n) for n in range(1, labels + 1)]
        segmentations = [Segmentation.from_labels(v, grid, segments, f"rater {n}") for n, v in enumerate(voxels)]
        images = [sitk.GetImageFromArray(v) for v in voxels]
        ours, peer = [], []
        for _ in range(7 if labels > 1 else 1):
            seconds, outputs = _timed(lambda: task.execute({"segmentations": segmentations}, {}, Context()))  # noqa: B023
            ours.append(seconds)
            seconds, consensus = _timed(lambda: _peer_consensus(images, labels))  # noqa: B023
            peer.append(seconds)
        different = int((outputs["consensus"].layers[0] != consensus).sum())
        faster = statistics.median(peer) / statistics.median(ours)
        timing = statistics.median(ours), statistics.median(peer)
        result.append(
            row(f"{name}, voxels that differ from SimpleITK's, 10 raters of 256³", different, "= 0", "voxels")
        )
        result.append(row(f"{name}, SimpleITK's time relative to ours, 10 raters of 256³", faster, "≥ 3", "×", *timing))
    return result


def atlas_rows() -> list[dict]:
    """Hippocampi segmented by six others carried over: mean Dice of every fusion, and joint label fusion's lead."""
    tasks = (MajorityVote(), Staple(), Simple(), ShapeAverage(), JointLabelFusion())
    found = {task.title: [] for task in tasks}
    single, times = [], []
    for target, truth, images, segmentations in _hippocampi():
        single += [_dice(s, truth) for s in segmentations]
        for task in tasks:
            inputs = {"segmentations": segmentations}
            if isinstance(task, JointLabelFusion):
                inputs |= {"target": target, "images": images}
            seconds, outputs = _timed(lambda: task.execute(inputs, {}, Context()))  # noqa: B023
            found[task.title].append(_dice(outputs["consensus"], truth))
        times.append(seconds)
    mean = {title: statistics.mean(values) for title, values in found.items()}
    vote, joint = mean[MajorityVote.title], mean[JointLabelFusion.title]
    every = ", ".join(f"{title} {value:.3f}" for title, value in mean.items())
    name = f"{TARGETS} hippocampi by {ATLASES} atlases"
    return [
        row(f"{name}, Dice of joint label fusion less majority vote's ({every})", joint - vote, "≥ 0", "Dice",
            joint, vote),
        row(f"{name}, worst fusion's Dice less the mean single atlas'", min(mean.values()) - statistics.mean(single),
            "≥ 0", "Dice", min(mean.values()), statistics.mean(single)),
        row(f"{name}, time of joint label fusion", statistics.mean(times), "< 30", "s"),
    ]  # fmt: skip


def _hippocampi():
    """Target, its truth, and the atlases' images and segmentations on its grid."""
    from testing_data import data_path

    names = sorted(path.name for path in data_path("hippocampus/images").glob("*.nii.gz"))
    segments = [Segment("anterior", 1), Segment("posterior", 2)]

    def volume(kind, name):
        import SimpleITK as sitk

        image = sitk.ReadImage(str(data_path(f"hippocampus/{kind}/{name}")), sitk.sitkFloat32)
        return volume_from_itk(image, name=name)

    def labels(name):
        read = volume("labels", name)
        return Segmentation.from_labels(np.rint(read.array).astype(np.uint8), read.geometry, segments, name)

    for position in range(0, len(names), len(names) // TARGETS):
        target = volume("images", names[position])
        images, segmentations = [], []
        for number in range(ATLASES):
            name = names[(position + 1 + 7 * number) % len(names)]
            image = volume("images", name)
            found = DeformableRegistration().execute({"fixed": target, "moving": image}, {}, Context())["transform"]
            images.append(resample_volume(image, target.geometry, "linear", found))
            segmentations.append(resample_segmentation(labels(name), target.geometry, found))
        yield target, labels(names[position]), images, segmentations


def _dice(segmentation, truth) -> float:
    found = []
    for segment in truth.segments:
        one, other = segmentation.mask(segment.name), truth.mask(segment.name)
        found.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return float(np.mean(found))


def _peer_consensus(images, labels):
    import SimpleITK as sitk

    if labels > 1:
        return sitk.GetArrayFromImage(sitk.LabelVoting(images, 0))
    return sitk.GetArrayFromImage(sitk.STAPLE(images)) >= 0.5


def _raters(count: int, size: int) -> list[np.ndarray]:
    """Outlines of two nested ellipsoids that waver differently for every rater."""
    from scipy.ndimage import zoom

    rng = np.random.default_rng(0)
    axis = np.arange(size, dtype=np.float32) - size / 2
    k, j, i = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    outer = np.sqrt((k / 90) ** 2 + (j / 100) ** 2 + (i / 80) ** 2)
    inner = np.sqrt(k**2 + j**2 + i**2) / 30
    answers = []
    for _ in range(count):
        wave = zoom(rng.normal(0, 0.05, (16, 16, 16)).astype(np.float32), size / 16, order=1)
        answers.append((outer + wave < 1).astype(np.uint8) + (inner + 3 * wave < 1))
    return answers


def _timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result
