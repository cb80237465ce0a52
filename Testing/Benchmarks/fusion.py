"""Rigid registration on real images with known motions beside itk-elastix; all figures of fusion."""

from __future__ import annotations

import statistics
import time

import numpy as np
from MedImgAIFusionLib.registration.tasks import RigidRegistration
from MedImgAILib.core import Context, LinearTransform
from MedImgAILib.core.geometry import LPS_FROM_RAS
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_volume

from . import fusion_deformable, fusion_image, fusion_multimodal
from .fusion_decision import atlas_rows, decision_rows
from .measuring import row

CASES = ("brats_2013_pat0002_1", "brats_2013_pat0003_1", "brats_2013_pat0005_1", "brats_2013_pat0006_1")
EXTRAS = ("itk-elastix",)
"""Packages of peers, installed for the benchmark only."""
TRIALS = 10
"""Far starts per glioma case."""


def glioma(case: str):
    """T1c, FLAIR and (N, 3) RAS points of the brain."""
    folder = f"glioma_NC/{case}/"
    files = ("T1c_subtrMeanDivStd", "Flair_subtrMeanDivStd", "brainmask")
    fixed, moving, mask = (_load(f"{folder}{name}.nii.gz") for name in files)
    inside = np.argwhere(mask.array > 0)[::499, ::-1]
    return fixed, moving, mask.geometry.ras(inside)


def near_rows() -> list[dict]:
    """Known motions of up to ±15° about each axis and ±15 mm: target registration error, and time beside elastix."""
    fusion_deformable.warm_up()
    rng = np.random.default_rng(5)
    ours, peer, errors, peer_errors = [], [], [], []
    for case in CASES:
        fixed, moving, points = glioma(case)
        motion = _motion(_euler(rng.uniform(-15, 15, 3)), rng.uniform(-15, 15, 3), fixed.geometry.center)
        moved = moving.transformed(motion)
        seconds, matrix = _timed(lambda fixed=fixed, moved=moved: _register(fixed, moved))
        ours.append(seconds)
        errors.append(_error(matrix, motion, points))
        if _has_elastix():
            seconds, matrix = _timed(lambda fixed=fixed, moved=moved: _elastix(fixed, moved))
            peer.append(seconds)
            peer_errors.append(_error(matrix, motion, points))
    theirs = statistics.mean(peer_errors) if peer else None
    result = [
        row(
            "rigid FLAIR to T1c, ±15° and ±15 mm, mean target registration error, beside itk-elastix",
            statistics.mean(errors), "≤ 0.2", "mm", peer=theirs,
        )
    ]  # fmt: skip
    if peer:
        value = statistics.mean(ours) / statistics.mean(peer)
        figure = "rigid FLAIR to T1c, time with resampling relative to itk-elastix"
        result.append(row(figure, value, "≤ 0.5", "×", statistics.mean(ours), statistics.mean(peer)))
    return result


def far_rows() -> list[dict]:
    """Motions of up to ±60° about each axis, and headers with permuted axes: share brought within 1 mm."""
    rng = np.random.default_rng(6)
    solved = []
    for case in CASES:
        fixed, moving, points = glioma(case)
        for trial in range(TRIALS):
            if trial % 2:
                rotation = _cube_rotation(rng)
            else:
                rotation = _euler(rng.uniform(-60, 60, 3))
            motion = _motion(rotation, rng.uniform(-40, 40, 3), fixed.geometry.center)
            matrix = _register(fixed, moving.transformed(motion), resample=False)
            solved.append(_error(matrix, motion, points) < 1.0)
    figure = f"rigid from ±60° and permuted axes, share within 1 mm of {len(solved)}"
    return [row(figure, 100 * statistics.mean(solved), "≥ 95", "%")]


def visits_rows() -> list[dict]:
    """The two visits of a patient, compared in the common space of the affines published with them."""
    import SimpleITK as sitk
    from testing_data import data_path

    folder = "longitudinal_ms/patient12/"
    first, second, brain = (
        _load(folder + name) for name in ("study1_FLAIR.nii.gz", "study2_FLAIR.nii.gz", "brainmask.nii.gz")
    )
    to_native = []
    for number in (1, 2):
        transform = sitk.ReadTransform(str(data_path(f"{folder}study{number}_FLAIR_to_common_space.tfm")))
        origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([transform.TransformPoint(tuple(a)) for a in np.eye(3)], axis=1) - origin[:, None]
        matrix[:3, 3] = origin
        to_native.append(LPS_FROM_RAS @ matrix @ LPS_FROM_RAS)
    inside = brain.array > 0

    def on_common(volume, to_common):
        return resample_volume(volume, brain.geometry, "linear", LinearTransform(to_common)).array[inside]

    base = np.linalg.inv(to_native[0])
    fixed = on_common(first, base)
    ours = np.corrcoef(fixed, on_common(second, base @ _register(first, second, resample=False)))[0, 1]
    theirs = np.corrcoef(fixed, on_common(second, np.linalg.inv(to_native[1])))[0, 1]
    return [row("rigid, two visits of longitudinal_ms/patient12, correlation in the brain, beside the affines given",
                float(ours), "≥ 0.94", "NCC", peer=float(theirs))]  # fmt: skip


def _load(relative):
    import SimpleITK as sitk
    from testing_data import data_path

    return volume_from_itk(sitk.ReadImage(str(data_path(relative)), sitk.sitkFloat32), name=relative)


def _timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def _register(fixed, moving, **parameters) -> np.ndarray:
    """(4, 4) moving RAS to fixed RAS."""
    task = RigidRegistration()
    return task.execute({"fixed": fixed, "moving": moving}, parameters, Context())["transform"].matrix


def _has_elastix() -> bool:
    from importlib import metadata

    try:
        return bool(metadata.version("itk-elastix"))
    except metadata.PackageNotFoundError:
        return False


def _elastix(fixed, moving) -> np.ndarray:
    """(4, 4) moving RAS to fixed RAS by elastix' default rigid registration, started from the aligned centres."""
    import itk

    images = []
    for volume in (fixed, moving):
        image = itk.image_from_array(np.ascontiguousarray(volume.array, np.float32))
        lps = LPS_FROM_RAS @ volume.geometry.ijk_to_ras
        image.SetSpacing(volume.geometry.spacing)
        image.SetOrigin(lps[:3, 3])
        image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / volume.geometry.spacing)))
        images.append(image)
    parameters = itk.ParameterObject.New()
    parameters.AddParameterMap(parameters.GetDefaultParameterMap("rigid"))
    _, found = itk.elastix_registration_method(*images, parameter_object=parameters, log_to_console=False)
    angles_and_shift = [float(v) for v in found.GetParameter(0, "TransformParameters")]
    center = np.array([float(v) for v in found.GetParameter(0, "CenterOfRotationPoint")])
    x, y, z = angles_and_shift[:3]
    # itk::Euler3DTransform composes Rz Rx Ry.
    rotation = _axis(2, z) @ _axis(0, x) @ _axis(1, y)
    to_moving = np.eye(4)
    to_moving[:3, :3] = rotation
    to_moving[:3, 3] = center + angles_and_shift[3:] - rotation @ center
    return np.linalg.inv(LPS_FROM_RAS @ to_moving @ LPS_FROM_RAS)


def _axis(axis: int, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    first, second = [n for n in range(3) if n != axis]
    sign = -1 if axis == 1 else 1
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -sign * s, sign * s
    return matrix


def _euler(degrees) -> np.ndarray:
    x, y, z = np.radians(degrees)
    return _axis(2, z) @ _axis(1, y) @ _axis(0, x)


def _cube_rotation(rng) -> np.ndarray:
    """A random proper permutation of the axes with signs."""
    while True:
        matrix = np.eye(3)[rng.permutation(3)] * rng.choice([-1.0, 1.0], 3)
        if np.linalg.det(matrix) > 0:
            return matrix


def _motion(rotation, shift, center) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    matrix[:3, 3] = center - rotation @ center + shift
    return matrix


def _error(matrix, motion, points) -> float:
    """Mean distance in mm between the points and where the found transform brings the moved ones."""
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    back = moved @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(back - points, axis=1).mean())


PARTS = (
    near_rows, far_rows, visits_rows, fusion_deformable.rows, decision_rows, atlas_rows, fusion_image.rows,
    fusion_multimodal.rows,
)  # fmt: skip
