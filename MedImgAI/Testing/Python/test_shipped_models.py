"""The models that come with the product: whole, small, found by name, and as good on real images as their cards say."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, Volume, registry
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.installed import SHIPPED, find_package
from testing_data import data_path

NAMES = sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
MOST_MB = 10.0


def applied(model: str, image: Volume):
    """(segmentation, warnings)"""
    pytest.importorskip("torch")
    warnings = []

    class Listening(Context):
        def warn(self, message):
            warnings.append(message)

    task = registry()["segment.network"]
    return task.execute({"images": [image]}, {"model": model}, Listening("cpu"))["segmentation"], warnings


def read(relative: str, **options):
    from MedImgAILib.hosts.files import read_file

    return read_file(data_path(relative), **options)


def dice(first, second) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("name", NAMES)
def test_packages_are_whole_and_tell_what_they_are(name):
    package = find_package(name)
    assert package.card.id == name and package.folder == SHIPPED / name
    assert package.card.metrics, "measured on what it has not seen"
    assert package.card.license and package.card.limits
    folds = package.folder / "folds.txt"
    if folds.exists():
        lines = folds.read_text(encoding="utf-8").split("\n")[:-1]
        assert [line.partition(": ")[0] for line in lines] == [
            "weights.safetensors",
            *(f"weights_{n}.safetensors" for n in range(2, len(package.card.members) + 2)),
        ]
        cases = [case for line in lines for case in line.partition(": ")[2].split()]
        assert len(set(cases)) == len(cases)


def test_all_models_together_are_small():
    total = sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file())
    assert total <= MOST_MB * 1e6


def test_damaged_weights_are_refused(tmp_path):
    folder = tmp_path / "model"
    ModelPackage.load(SHIPPED / "hippocampus").save(folder)
    weights = folder / "weights_2.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    from MedImgAILib.core import ModelError

    with pytest.raises(ModelError, match="are not those that the model card names"):
        ModelPackage.load(folder)


@pytest.mark.parametrize("case", ["hippocampus_109", "hippocampus_374"])
def test_hippocampus(case):
    """In any order of the axes."""
    image, truth = read(f"hippocampus/images/{case}.nii.gz"), read(f"hippocampus/labels/{case}.nii.gz")
    truth = truth.labelmap() if hasattr(truth, "labelmap") else truth.array
    found, warnings = applied("hippocampus", image)
    assert not warnings
    assert min(dice(found.labelmap() == n, truth == n) for n in (1, 2)) > 0.82
    turned = image.reordered((2, 0, 1), (True, False, True))
    again, _ = applied("hippocampus", turned)
    assert dice(Volume(again.labelmap(), again.geometry).canonical().array > 0, found.labelmap() > 0) > 0.99


def test_a_whole_head_is_warned_of():
    pytest.importorskip("torch")
    from MedImgAILib.networks.matching import warn_of_unlikely

    warnings = []

    class Listening(Context):
        def warn(self, message):
            warnings.append(message)

    head = Volume(np.ones((180, 220, 180), np.uint8), Geometry.from_spacing((180, 220, 180)), "head")
    wanted = find_package("hippocampus").card.inputs[0]
    warn_of_unlikely(head, wanted, Listening("cpu"))
    assert warnings == [
        "Volume 'head' covers 220×180×180 mm; the model knows images of at most 55×43×39 mm, so cut it to what it is "
        "for."
    ]


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_retinal_vessels_at_any_size(scale):
    from MedImgAILib.core.resampling import resample_volume

    image = read("fundus_chase/Image_06R.jpg", spacing_mm=1.0)
    truth = read("fundus_chase/Image_06R_1stHO.png", spacing_mm=1.0)
    if scale != 1.0:
        grid = image.geometry.resized((1, *(round(scale * n) for n in image.geometry.shape[1:])))
        image = resample_volume(image, grid, "linear")
        truth = resample_volume(truth.with_array((truth.array > 0).astype(np.float32)), grid, "linear")
        image = image.with_array(image.array.round().astype(np.uint8))
    found, _ = applied("retinal_vessels", image)
    assert dice(found.labelmap() > 0, truth.array > (0 if scale == 1.0 else 0.5)) > 0.72
