"""Segmentation: inference beside MONAI's, public weights on labelled images, the pixel classifier beside its parts."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, Geometry, Volume
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.networks.network_task import NetworkSegmentation
from MedImgAILib.networks.public_models import convert

from . import pixel_classifier, segmentation_accuracy, segmentation_inference
from .measuring import row

EXTRAS = ("monai",)
"""Packages of peers, installed for the benchmark only."""
WHITE, GREY = (1, 5), (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Labels of MeshNet that are white and grey matter."""
WEIGHTS = {
    "brainchop.subcortical": "weights/brainchop/subcortical.pth",
    "brainchop.mindgrab": "weights/brainchop/mindgrab.pth",
    "lwnet.vessels": "weights/lwnet/wnet_drive.pth",
}


def vessel_rows() -> list[dict]:
    """lwnet, trained on DRIVE, on all of CHASE_DB1."""
    from PIL import Image
    from testing_data import data_path

    dice = []
    for path in sorted(data_path("fundus_chase").glob("*.jpg")):
        photograph = np.asarray(Image.open(path))[None]
        place = Geometry.from_spacing(photograph.shape[:3], directions=np.diag([-1.0, -1.0, 1.0]))
        truth = np.asarray(Image.open(path.with_name(f"{path.stem}_1stHO.png")).convert("L"))[None] > 127
        found = _segmented("lwnet.vessels", Volume(photograph, place, "fundus"))
        dice.append(_dice(found.layers[0] > 0, truth))
    return [row("retinal vessels, lwnet on CHASE_DB1, mean Dice", statistics.mean(dice), "≥ 0.757", "Dice", peer=0.757)]


def brain_rows() -> list[dict]:
    """MeshNet on the MNI152 template and mindgrab on Colin27."""
    head, brain = (_load(f"brain/{name}.nii.gz") for name in ("ch2", "ch2bet"))
    template, grey, white = (_load(f"brain/mni152_{name}.nii.gz") for name in ("t1", "gm", "wm"))
    tissue = _segmented("brainchop.subcortical", template).layers[0]
    mask = _segmented("brainchop.mindgrab", head).layers[0]
    figures = (
        ("grey matter, MeshNet on MNI152", _dice(np.isin(tissue, GREY), grey.array > 127), 0.828),
        ("white matter, MeshNet on MNI152", _dice(np.isin(tissue, WHITE), white.array > 127), 0.892),
        ("brain, mindgrab on Colin27", _dice(mask > 0, brain.array > 0), 0.925),
    )
    return [row(f"{what}, Dice", dice, f"≥ {goal}", "Dice", peer=goal) for what, dice, goal in figures]


def _segmented(model: str, image: Volume):
    from testing_data import data_path

    with tempfile.TemporaryDirectory() as folder:
        package = convert(data_path(WEIGHTS[model]), Path(folder) / "model")
        task = NetworkSegmentation()
        return task.execute({"images": [image]}, {"model": str(package.folder)}, Context("cpu"))["segmentation"]


def _load(relative: str) -> Volume:
    import SimpleITK as sitk
    from testing_data import data_path

    return volume_from_itk(sitk.ReadImage(str(data_path(relative))), name=relative)


def _dice(first, second) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


PARTS = (
    segmentation_inference.trivial_rows,
    segmentation_inference.real_network_rows,
    segmentation_inference.prompt_rows,
    vessel_rows,
    brain_rows,
    pixel_classifier.rows,
    *segmentation_accuracy.PARTS,
)
