"""Deformable registration: overlap of labels carried between real images, and time, beside ANTsPy's SyN."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from MedImgAIFusionLib.registration.deformable import DeformableRegistration
from MedImgAILib.core import Context, Segment, Segmentation
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_segmentation

from .measuring import row

PAIRS = 10
"""Pairs of hippocampi."""
ENVIRONMENT = Path(__file__).parents[2] / "build" / "antspyx"
"""Where ANTsPy is installed: it needs NumPy below 2.4."""


def rows() -> list[dict]:
    """Both figures, with ANTsPy's beside them where it can be installed."""
    with tempfile.TemporaryDirectory() as folder:
        peer = _Peer(Path(folder))
        try:
            return [
                *_compared("hippocampus", _hippocampi(PAIRS), peer),
                *_compared("brain", [_brains(Path(folder))], peer),
            ]
        finally:
            peer.close()


def _compared(name, cases, peer):
    warm_up()
    ours, theirs, seconds, their_seconds = [], [], [], []
    for fixed, moving, truth, labels in cases:
        wanted, given = (np.rint(_load(p).array).astype(np.uint8) for p in (truth, labels))
        # Both read the files before the clock starts.
        images = {"fixed": _load(fixed), "moving": _load(moving)}
        names = [Segment(str(n), n) for n in np.unique(wanted) if n]
        segments = Segmentation.from_labels(given, images["moving"].geometry, names)
        start = time.perf_counter()
        found = DeformableRegistration().execute(images, {}, Context())
        carried = resample_segmentation(segments, images["fixed"].geometry, found["transform"])
        seconds.append(time.perf_counter() - start)
        ours.append(_dice(wanted, carried.layers[0]))
        if peer.ready:
            spent, result = peer.carry(fixed, moving, labels)
            their_seconds.append(spent)
            theirs.append(_dice(wanted, result))
    dice, time_s = statistics.mean(ours), statistics.mean(seconds)
    if not theirs:
        return [row(f"deformable, {name}: Dice of carried labels (ANTsPy not installed)", dice, "≥ 0", "Dice")]
    peer_dice, peer_s = statistics.mean(theirs), statistics.mean(their_seconds)
    return [
        row(f"deformable, {name}: Dice of carried labels less ANTsPy SyN's", dice - peer_dice, "≥ 0", "Dice",
            dice, peer_dice),
        row(f"deformable, {name}: time relative to ANTsPy SyN's", time_s / peer_s, "≤ 1", "×", time_s, peer_s),
    ]  # fmt: skip


def warm_up():
    """Compile the loops of the registration, or load them from the last time, before a clock starts."""
    inputs, parameters = DeformableRegistration().example()
    DeformableRegistration().execute(inputs, parameters | {"initial": "affine"}, Context())


def _hippocampi(count):
    """Paths of fixed and moving image and of their labels, for pairs of different people."""
    from testing_data import data_path

    images = sorted(data_path("hippocampus/images").glob("*.nii.gz"))
    labels = data_path("hippocampus/labels")
    for one, other in list(zip(images[::2], images[1::2], strict=True))[:: max(1, len(images) // 2 // count)]:
        yield one, other, labels / one.name, labels / other.name


def _brains(folder):
    """Colin 27 and the MNI template, skull-stripped: white and grey matter.

    The template's come from its tissue maps, Colin's from two Otsu thresholds of its intensities.
    """
    import SimpleITK as sitk
    from testing_data import data_path

    fixed, moving = data_path("brain/ch2bet.nii.gz"), data_path("brain/mni152_t1.nii.gz")
    image = sitk.Cast(sitk.ReadImage(str(fixed)), sitk.sitkFloat32)
    classes = sitk.MaskImageFilter().Execute(
        sitk.OtsuMultipleThresholds(sitk.Mask(image, image > 0), 3), sitk.Cast(image > 0, sitk.sitkUInt8)
    )
    array = sitk.GetArrayFromImage(classes)
    truth = np.maximum(array.astype(int) - 1, 0).astype(np.uint8)
    maps = [sitk.ReadImage(str(data_path(f"brain/mni152_{name}.nii.gz"))) for name in ("gm", "wm")]
    grey, white = (sitk.GetArrayFromImage(m).astype(int) for m in maps)
    labels = np.where(white > np.maximum(grey, 127), 2, np.where(grey > 127, 1, 0)).astype(np.uint8)
    paths = []
    for name, voxels, like in (("truth", truth, image), ("labels", labels, maps[0])):
        written = sitk.GetImageFromArray(voxels)
        written.CopyInformation(like)
        paths.append(folder / f"{name}.nii.gz")
        sitk.WriteImage(written, str(paths[-1]))
    return fixed, moving, *paths


def _dice(wanted, got):
    found = []
    for label in np.unique(wanted[wanted > 0]):
        one, other = wanted == label, got == label
        found.append(2 * (one & other).sum() / (one.sum() + other.sum()))
    return float(np.mean(found))


def _load(path):
    import SimpleITK as sitk

    return volume_from_itk(sitk.ReadImage(str(path), sitk.sitkFloat32), name=Path(path).name)


class _Peer:
    """ANTsPy in a process and an environment of its own, made at the first use."""

    def __init__(self, folder: Path):
        self._result = folder / "carried.nii.gz"
        python = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        installed = (
            python.exists() and not subprocess.run([python, "-c", "import ants"], capture_output=True).returncode
        )
        if not installed:
            subprocess.run([sys.executable, "-m", "venv", ENVIRONMENT], check=True)
            done = subprocess.run([python, "-m", "pip", "install", "--quiet", "antspyx>=0.6"])
            installed = done.returncode == 0
        self._process = None
        if installed:
            script = Path(__file__).parent / "peers" / "ants_syn.py"
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self._process = subprocess.Popen([python, script], **pipes)
            self._process.stdout.readline()

    @property
    def ready(self) -> bool:
        return self._process is not None

    def carry(self, fixed, moving, labels):
        """Seconds, and the (K, J, I) labels on the fixed grid."""
        self._process.stdin.write("\t".join(map(str, (fixed, moving, labels, self._result))) + "\n")
        self._process.stdin.flush()
        seconds = float(self._process.stdout.readline())
        return seconds, np.rint(_load(self._result).array).astype(np.uint8)

    def close(self):
        if self.ready:
            self._process.stdin.close()
            self._process.wait()
