"""Segmentation by networks: streaming inference beside MONAI's, and public weights on labelled images."""

from __future__ import annotations

import importlib
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, Geometry, Volume
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.networks.network_task import NetworkSegmentation
from MedImgAILib.networks.public_models import convert
from MedImgAILib.networks.sliding_window import Plan, infer

from . import pixel_classifier
from .measuring import interleaved, row

EXTRAS = ("monai",)
"""Packages of peers, installed for the benchmark only."""
SHAPE, WINDOW, CLASSES = (256, 256, 192), (96, 96, 96), 40
WHITE, GREY = (1, 5), (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Labels of MeshNet that are white and grey matter."""
WEIGHTS = {
    "brainchop.subcortical": "weights/brainchop/subcortical.pth",
    "brainchop.mindgrab": "weights/brainchop/mindgrab.pth",
    "lwnet.vessels": "weights/lwnet/wnet_drive.pth",
}


def rows() -> list[dict]:
    """All figures."""
    return [*trivial_rows(), *real_network_rows(), *vessel_rows(), *brain_rows(), *pixel_classifier.rows()]


def trivial_rows() -> list[dict]:
    """A network of one pointwise layer, so that nothing but the blending takes time and memory."""
    import torch

    image, network = _image(), _trivial(CLASSES)
    plan = Plan(WINDOW, 0.5)
    with torch.inference_mode():
        different = int((infer(network, image, plan).labels != _peer(network, image)).sum())
        ours, peer = interleaved(lambda: infer(network, image, plan), lambda: _peer(network, image), 3)
        opaque = interleaved(lambda: infer(lambda x: network(x), image, plan), lambda: _peer(network, image), 1)
    what = f"trivial network, {CLASSES} classes, 256×256×192, overlap 0.5"
    return [
        row(f"{what}: voxels that differ from MONAI's", different, "= 0", "voxels"),
        row(f"{what}: MONAI's time relative to ours", peer / ours, "≥ 3", "×", ours, peer),
        row(f"{what}, network not looked into: MONAI's time relative to ours", opaque[1] / opaque[0], "≥ 3", "×",
            *opaque),
        row(f"{what}: memory beyond input and network", _memory("ours", CLASSES), "≤ 100", "MB",
            peer=_memory("monai", CLASSES)),
    ]  # fmt: skip


def real_network_rows() -> list[dict]:
    """SegResNet: no slower than MONAI's inferer, and memory that 120 classes do not raise."""
    import torch
    from monai.networks.nets import SegResNet

    torch.manual_seed(0)
    network = SegResNet(init_filters=8, in_channels=1, out_channels=CLASSES).eval()
    image, plan = _image()[:, :128, :128, :128], Plan((64, 64, 64), 0.5)
    with torch.inference_mode():
        ours, peer = interleaved(
            lambda: infer(network, image, plan), lambda: _peer(network, image, (64, 64, 64)), repeats=2
        )
    what = "SegResNet, 128³"
    growth = _memory("segresnet", 120) - _memory("segresnet", 2)
    return [
        row(f"{what}, {CLASSES} classes: our time relative to MONAI's", ours / peer, "≤ 1", "×", ours, peer),
        row(f"{what}: memory that 120 classes take more than 2", growth, "≤ 50", "MB"),
    ]


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


def _image() -> np.ndarray:
    """Values in steps of 1/16, so that no voxel is a tie up to rounding."""
    return np.random.default_rng(0).integers(-64, 64, (1, *SHAPE)).astype(np.float32) / 16


def _trivial(classes: int):
    """Class c wins where the value is near its own place: tangents of a parabola."""
    import torch

    network = torch.nn.Conv3d(1, classes, 1).eval()
    with torch.no_grad():
        places = torch.linspace(-4.03, 4.01, classes)
        network.weight[:] = 2 * places.reshape(-1, 1, 1, 1, 1)
        network.bias[:] = -(places**2)
    return network


def _peer(network, image, window=WINDOW):
    import torch
    from monai.inferers import sliding_window_inference

    with torch.inference_mode():
        scores = sliding_window_inference(torch.from_numpy(image[None]), window, 1, network, 0.5, "gaussian")
        return scores[0].argmax(0).numpy()


def _memory(who: str, classes: int) -> float:
    """Peak resident memory in MB beyond what input, network and one window's computation take, in a fresh process."""
    command = [sys.executable, "-m", "Benchmarks.segmentation", who, str(classes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _resident(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main(who: str, classes: int):
    """Measure one inference in this process and print the MB."""
    image, window = _image(), WINDOW
    if who == "segresnet":
        from monai.networks.nets import SegResNet

        network, window = SegResNet(init_filters=8, in_channels=1, out_channels=classes).eval(), (64, 64, 64)
        image = np.ascontiguousarray(image[:, :128, :128, :128])
    else:
        network = _trivial(classes)
        importlib.import_module("monai.inferers")  # its import is not part of the measurement
    infer(network, image[:, :32, :32, :32].copy(), Plan((16, 16, 16)))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = _resident("VmRSS")
    _peer(network, image, window) if who == "monai" else infer(network, image, Plan(window, 0.5))
    print(_resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
