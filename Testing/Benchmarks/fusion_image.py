"""Image-level fusion on the public slices of CDDFuse, beside the network's published figures and the pixel maximum.

The images (Zhao et al., CVPR 2023; repository Zhaozixiang1228/MMIF-CDDFuse, folder ``test_img``) are no part of the
project. They are looked for in ``$MEDIMGAI_FUSION_DATA`` (that folder), then as ``fusion_slices`` in the test data, and
are else fetched from GitHub into ``build``.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
from MedImgAIFusionLib.image import metrics, network
from MedImgAIFusionLib.image.methods import METHODS, saliency

from .measuring import row

COMMIT = "fd8da1f39d8d403b7343e577bd5a30cba38c7b7b"
SHA256 = "11272c862dd68a782957459af75d033be40918241652749a6aaaad9df09cf413"
"""Of the names and contents of all images used, in the order of their names."""
FETCHED = Path(__file__).parents[2] / "build" / "cddfuse"
FIGURES = ("MI", "SCD", "VIF", "Qabf", "SSIM")
PUBLISHED = {
    "MRI_CT": (2.61, 1.41, 0.61, 0.68, 1.34),
    "MRI_PET": (2.03, 1.69, 0.71, 0.71, 1.49),
    "MRI_SPECT": (2.49, 1.35, 0.97, 0.78, 1.48),
}
"""Of CDDFuse_MIF, from the repository's README, as in table 5 of the paper."""
STEPS = 480
TRAINED_ON = 8


def rows() -> list[dict]:
    """How many of the five figures reach those published, and those of the pixel maximum, for each kind of pair."""
    folder = images_folder()
    if folder is None:
        why = "needs CDDFuse's test_img (GitHub Zhaozixiang1228/MMIF-CDDFuse) in $MEDIMGAI_FUSION_DATA"
        return [row(f"image fusion of CT-MR, PET-MR and SPECT-MR: {why}", float("nan"), "= 5", "figures")]
    result = []
    for name, published in PUBLISHED.items():
        pairs = load(folder, name)
        started = time.perf_counter()
        fused = by_network(pairs)
        seconds = (time.perf_counter() - started) / len(pairs)
        ours = _mean_figures(fused, pairs)
        plain = _mean_figures([np.maximum(*pair) for pair in pairs], pairs)
        salient = _mean_figures([_by_method("salient", pair) for pair in pairs], pairs)
        text = _text(ours)
        result += [
            row(f"{name}, fusion by network: figures that reach CDDFuse's published ones ({text}; CDDFuse "
                f"{_text(published)})", _reached(ours, published), "= 5", "of 5"),
            row(f"{name}, fusion by network: figures that reach the pixel maximum's ({_text(plain)})",
                _reached(ours, plain), "= 5", "of 5"),
            row(f"{name}, salient regions: figures that reach CDDFuse's published ones ({_text(salient)})",
                _reached(salient, published), "= 5", "of 5"),
            row(f"{name}, fusion by network, time a slice with training", seconds, "< 60", "s"),
        ]  # fmt: skip
    return result


def by_network(pairs) -> list[np.ndarray]:
    """Fused pictures 0…255 by one network, trained on some of the pairs alone."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    slices = []
    for pair in pairs:
        first, second = (image / np.float32(255) for image in pair)
        guess = (saliency(first[None], (1.0, 1.0, 1.0)) - saliency(second[None], (1.0, 1.0, 1.0)))[0]
        slices.append((first, second, guess))
    places = np.unique(np.linspace(0, len(slices) - 1, TRAINED_ON).round().astype(int))
    net = network.train([slices[n] for n in places], STEPS, 0, device)
    return [255 * network.apply(net, *pictures, device) for pictures in slices]


def _by_method(method, pair):
    scaled = [image[None] / np.float32(255) for image in pair]
    return 255 * np.clip(METHODS[method](scaled, (1.0, 1.0, 1.0))[0], 0, 1)


def _mean_figures(fused, pairs):
    found = []
    for picture, pair in zip(fused, pairs, strict=True):
        # As stored in a file of grey values.
        figures = metrics.evaluate(np.rint(picture)[None], [image[None] for image in pair])
        found.append([figures[name] for name in FIGURES])
    return tuple(np.mean(found, axis=0))


def _reached(figures, goal) -> int:
    """How many figures are at least the goal's, both with the two decimals that are published."""
    return sum(round(float(one), 2) >= round(float(other), 2) for one, other in zip(figures, goal, strict=True))


def _text(figures) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in zip(FIGURES, figures, strict=True))


def load(folder: Path, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(J, I) float32 grey values 0…255 of all pairs: the other modality and MR."""
    import SimpleITK as sitk

    def read(path):
        array = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(np.float64)
        if array.ndim == 3:
            array = np.rint(array[..., :3] @ [0.299, 0.587, 0.114])
        return array.astype(np.float32)

    first, second = name.split("_")
    names = sorted(path.name for path in (folder / name / first).glob("*.png"))
    return [(read(folder / name / second / n), read(folder / name / first / n)) for n in names]


def images_folder() -> Path | None:
    """Where the images lie, None where they are neither here nor to be had."""
    from testing_data import _BESIDE

    data = Path(os.environ.get("MEDIMGAI_TEST_DATA", _BESIDE))
    for folder in filter(None, (os.environ.get("MEDIMGAI_FUSION_DATA"), data / "fusion_slices", FETCHED)):
        if all((Path(folder) / name).is_dir() for name in PUBLISHED):
            return Path(folder)
    return FETCHED if _fetch() else None


def _fetch() -> bool:
    """Get the images from GitHub; nothing is kept unless all are there and are the expected ones."""
    address = f"https://codeload.github.com/Zhaozixiang1228/MMIF-CDDFuse/zip/{COMMIT}"
    try:
        with urllib.request.urlopen(address, timeout=60) as answer:
            archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    except (urllib.error.URLError, TimeoutError, zipfile.BadZipFile) as error:
        print(f"The images for fusion cannot be fetched: {error}")
        return False
    found = {}
    for name in archive.namelist():
        kept = name.partition("/test_img/")[2]
        if kept.split("/")[0] in PUBLISHED and kept.endswith(".png"):
            found[kept] = archive.read(name)
    if digest(found) != SHA256:
        print("The images for fusion are not the expected ones and are not used.")
        return False
    for name, content in found.items():
        path = FETCHED / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return True


def digest(files: dict[str, bytes]) -> str:
    """SHA-256 of names and contents in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return total.hexdigest()
