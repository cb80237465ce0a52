"""``python Testing/registration_picture.py FOLDER``: the checkerboards of docs/registration.md, before and after.

FLAIR and T2 of one patient (Lesjak et al. 2016, CC-BY), the T2 turned by 8° and shifted by 12 mm beforehand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from MedImgAIFusionLib.registration.checkerboard import checkerboard
from MedImgAIFusionLib.registration.tasks import RigidRegistration
from MedImgAILib.core import Context
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_volume
from testing_data import data_path

SLICE = 24
WIDTH = 900


def boards():
    """(J, I) slices of the two checkerboards, 0…1."""
    import SimpleITK as sitk

    fixed, moving = (
        volume_from_itk(
            sitk.ReadImage(str(data_path(f"longitudinal_ms/patient12/study1_{n}.nii.gz")), sitk.sitkFloat32)
        )
        for n in ("FLAIR", "T2W")
    )
    angle, center = np.radians(8), fixed.geometry.center
    motion = np.eye(4)
    motion[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = center - motion[:3, :3] @ center + (9.0, -8.0, 0.0)
    moving = moving.transformed(motion)
    found = RigidRegistration().execute({"fixed": fixed, "moving": moving}, {"make_checkerboard": True}, Context("cpu"))
    before = checkerboard(fixed, resample_volume(moving, fixed.geometry))
    return [board.array[SLICE] for board in (before, found["checkerboard"])]


def main(folder: Path):
    """Write registration-checkerboard.png."""
    import SimpleITK as sitk

    picture = np.concatenate([np.pad(board, 4, constant_values=1.0) for board in boards()], axis=1)
    image = sitk.GetImageFromArray(np.rint(255 * picture).astype(np.uint8))
    factor = image.GetWidth() / WIDTH
    size = [WIDTH, round(image.GetHeight() / factor)]
    image.SetOrigin([0.0, 0.0])
    small = sitk.Resample(image, size, sitk.Transform(), sitk.sitkLinear, [0.0, 0.0], [factor, factor])
    sitk.WriteImage(small, str(folder / "registration-checkerboard.png"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
