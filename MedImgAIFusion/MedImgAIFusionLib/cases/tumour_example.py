"""Made-up patients with a tumour, for examples and tests."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from MedImgAILib.core import Geometry, Segment, Segmentation, Volume

_folder: tempfile.TemporaryDirectory | None = None


def made_up(seed: int, shape=(24, 32, 28), spacing_mm: float = 4.0):
    """``({modality: Volume}, Segmentation)``: a round brain on a ground of 0, with oedema (2), core (1) and rim (4)."""
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing(shape, (spacing_mm,) * 3)
    axes = [(np.arange(n) - (n - 1) / 2) / (n / 2) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    brain = x**2 + y**2 + z**2 < 0.8
    place = rng.uniform(-0.25, 0.25, 3)
    distance = np.sqrt((z - place[0]) ** 2 + (y - place[1]) ** 2 + (x - place[2]) ** 2)
    labels = np.zeros(shape, np.uint8)
    labels[(distance < 0.45) & brain], labels[(distance < 0.3) & brain] = 2, 4
    labels[(distance < 0.17) & brain] = 1
    values = {"T1c": {0: 100, 2: 80, 4: 200, 1: 60}, "FLAIR": {0: 100, 2: 180, 4: 150, 1: 130}}
    images = {}
    for modality, levels in values.items():
        array = np.zeros(shape, np.float32)
        for label, value in levels.items():
            array[labels == label] = value
        array += rng.normal(0, 8, shape)
        images[modality] = Volume(np.where(brain, np.maximum(array, 1), 0).astype(np.float32), geometry, modality)
    segments = [Segment(f"Segment {n}", n) for n in (1, 2, 4)]
    return images, Segmentation.from_labels(labels, geometry, segments, "labels")


def example_folder(patients: int = 2) -> Path:
    """A folder of made-up patients, one for the life of the process."""
    global _folder
    if _folder is None:
        from MedImgAILib.core.itk import itk_image
        from SimpleITK import WriteImage

        _folder = tempfile.TemporaryDirectory(prefix="medimgai-tumour-")
        for number in range(patients):
            images, segmentation = made_up(number)
            place = Path(_folder.name) / "patients" / f"patient{number + 1}"
            place.mkdir(parents=True)
            for name, volume in images.items():
                WriteImage(itk_image(volume), str(place / f"{name}.nrrd"))
            labels = images["T1c"].with_array(segmentation.layers[0])
            WriteImage(itk_image(labels), str(place / "labels.nrrd"))
    return Path(_folder.name) / "patients"


def example_images() -> dict[str, Volume]:
    """The images of one more made-up patient, by input."""
    images, _ = made_up(7)
    return {"t1c": images["T1c"], "flair": images["FLAIR"]}


def example_model() -> Path:
    """A package trained for a few steps, one for the life of the process."""
    folder = example_folder().parent / "model"
    if not folder.exists():
        from MedImgAILib.core import Context

        from .tumour_train import TrainBrainTumour

        task = TrainBrainTumour()
        _, parameters = task.example()
        task.execute({}, parameters | {"model": str(folder)}, Context("cpu"))
    return folder
