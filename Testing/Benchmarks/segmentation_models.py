"""Public weights, taken in by the model store and applied by the task, on the labelled images beside them."""

from __future__ import annotations

import functools
import statistics
import tempfile

import numpy as np
from MedImgAILib.core import Context, Geometry, Volume, registry
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.hosts.model_store import ModelStore
from MedImgAILib.networks.network_task import NetworkSegmentation

from .measuring import row

WHITE, GREY = (1, 5), (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Labels of MeshNet that are white and grey matter."""
HIPPOCAMPI_MM3 = (3161.0, 3344.0)
"""Left and right, as the publisher's program gives them for its own example image."""


class _Worker(Context):
    """As in the worker process, where deepbet's networks may be loaded."""

    in_worker = True


def with_store(part):
    """Hand a part a model store of its own in a temporary folder."""

    @functools.wraps(part)
    def wrapper() -> list[dict]:
        with tempfile.TemporaryDirectory() as folder:
            return part(ModelStore(folder, mirror=""))

    return wrapper


@with_store
def vessel_rows(store: ModelStore) -> list[dict]:
    """lwnet, trained on DRIVE, on all of CHASE_DB1."""
    from PIL import Image
    from testing_data import data_path

    model, dice = _imported(store, "weights/lwnet/wnet_drive.pth"), []
    for path in sorted(data_path("fundus_chase").glob("*.jpg")):
        photograph = np.asarray(Image.open(path))[None]
        place = Geometry.from_spacing(photograph.shape[:3], directions=np.diag([-1.0, -1.0, 1.0]))
        truth = np.asarray(Image.open(path.with_name(f"{path.stem}_1stHO.png")).convert("L"))[None] > 127
        found = _segmented(model, Volume(photograph, place, "fundus"))
        dice.append(_dice(found.layers[0] > 0, truth))
    return [row("retinal vessels, lwnet on CHASE_DB1, mean Dice", statistics.mean(dice), "≥ 0.757", "Dice", peer=0.757)]


@with_store
def tissue_rows(store: ModelStore) -> list[dict]:
    """Networks of brainchop on the MNI152 template."""
    template, grey, white = (_load(f"brain/mni152_{name}.nii.gz") for name in ("t1", "gm", "wm"))
    large = _segmented(_imported(store, "weights/brainchop/subcortical.pth"), template).layers[0]
    small = _segmented(_imported(store, "weights/brainchop/model5_gw_ae.pth"), template).layers[0]
    figures = (
        ("grey matter, MeshNet on MNI152", _dice(np.isin(large, GREY), grey.array > 127), 0.828),
        ("white matter, MeshNet on MNI152", _dice(np.isin(large, WHITE), white.array > 127), 0.892),
        ("grey matter, MeshNet of 5 channels on MNI152", _dice(small == 2, grey.array > 127), 0.80),
        ("white matter, MeshNet of 5 channels on MNI152", _dice(small == 1, white.array > 127), 0.85),
    )
    return [row(f"{what}, Dice", dice, f"≥ {goal}", "Dice", peer=goal) for what, dice, goal in figures]


@with_store
def brain_rows(store: ModelStore) -> list[dict]:
    """mindgrab and deepbet on Colin27."""
    head, brain = (_load(f"brain/{name}.nii.gz") for name in ("ch2", "ch2bet"))
    mindgrab = _segmented(_imported(store, "weights/brainchop/mindgrab.pth"), head)
    deepbet = registry()["segment.brain_extraction"].execute({"image": head}, {}, _Worker("cpu"))["segmentation"]
    figures = (("mindgrab", mindgrab, 0.925), ("deepbet", deepbet, 0.936))
    return [
        row(f"brain, {name} on Colin27, Dice", _dice(s.layers[0] > 0, brain.array > 0), f"≥ {goal}", "Dice", peer=goal)
        for name, s, goal in figures
    ]


@with_store
def hippocampus_rows(store: ModelStore) -> list[dict]:
    """hippodeep's volumes of its publisher's example."""
    image = _load("brain/t1_head_1p75mm.nii.gz")
    found = _segmented(_imported(store, "weights/hippodeep"), image)
    volumes = [float(found.mask(s).sum()) * image.geometry.voxel_volume_mm3 for s in found.segments]
    worst = max(abs(v / wanted - 1) for v, wanted in zip(volumes, HIPPOCAMPI_MM3))
    return [row("hippocampi, hippodeep: volumes beside the publisher's", 100 * worst, "≤ 2", "%")]


def _imported(store: ModelStore, relative: str) -> str:
    from testing_data import data_path

    return str(store.import_model(data_path(relative)).folder)


def _segmented(model: str, image: Volume):
    return NetworkSegmentation().execute({"images": [image]}, {"model": model}, Context("cpu"))["segmentation"]


def _load(relative: str) -> Volume:
    import SimpleITK as sitk
    from testing_data import data_path

    return volume_from_itk(sitk.ReadImage(str(data_path(relative))), name=relative)


def _dice(first, second) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


PARTS = (vessel_rows, tissue_rows, brain_rows, hippocampus_rows)
"""About four minutes on two quiet cores."""
