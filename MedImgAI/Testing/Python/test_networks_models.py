"""The task on model packages, and public weights on real images."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, ModelError, ParameterError, Volume, registry
from MedImgAILib.core.examples import example_volume
from MedImgAILib.core.model_card import ModelInput
from MedImgAILib.networks.network_task import NetworkSegmentation, _example_package
from MedImgAILib.networks.preparation import prepare
from MedImgAILib.networks.public_models import convert
from testing_data import data_path

pytest.importorskip("torch")
pytest.importorskip("safetensors")


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_task_is_registered_and_gives_uncertainty():
    task = registry()["segment.network"]
    image = example_volume()
    parameters = {"model": str(_example_package()), "uncertainty": True}
    outputs = task.execute({"images": [image]}, parameters, Context("cpu"))
    segmentation = outputs["segmentation"]
    assert [s.name for s in segmentation.segments] == ["Grey matter", "White matter"]
    assert segmentation.geometry.same_grid(image.geometry)
    # The ball of the example is the brightest part; the head around it comes next.
    assert dice(segmentation.mask("White matter"), image.array > 120) > 0.6
    assert outputs["entropy"].array.min() >= 0 and outputs["entropy"].array.max() <= 1
    assert set(outputs["measures"].columns) == {"segment", "volume", "entropy"}
    assert list(segmentation.provenance["models"]) == ["example 1.0.0"]


def test_wrong_inputs_are_refused():
    task, model = NetworkSegmentation(), str(_example_package())
    image = example_volume()
    with pytest.raises(ParameterError, match="choose a model package"):
        task.execute({"images": [image]}, {}, Context("cpu"))
    with pytest.raises(ModelError, match="no model package"):
        task.execute({"images": [image]}, {"model": model + "x"}, Context("cpu"))
    with pytest.raises(InputError, match="takes 1 images, not 2"):
        task.execute({"images": [image, image]}, {"model": model}, Context("cpu"))
    color = Volume(np.zeros((2, 5, 5, 3), np.uint8), Geometry(np.eye(4), (2, 5, 5)))
    with pytest.raises(InputError, match="3 components per voxel; the model's input 'image' takes 1"):
        task.execute({"images": [color]}, {"model": model}, Context("cpu"))


def test_tissues_that_are_no_brain_are_doubted():
    """The example's network finds grey and white matter in a ball of a few mL."""
    told = []

    class Told(Context):
        def warn(self, message):
            told.append(message)

    NetworkSegmentation().execute({"images": [example_volume()]}, {"model": str(_example_package())}, Told("cpu"))
    assert len(told) == 1 and "hardly a brain" in told[0]


def test_conform_step_does_not_interpolate_at_the_same_spacing():
    array = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    volume = Volume(array, Geometry.from_spacing(array.shape))
    prepared = prepare(volume, ModelInput("T1", "MR", 1, (1.0, 1.0, 1.0), "AIL", size=(16, 8, 16)), Context("cpu"))
    assert prepared.array.shape == (1, 16, 8, 16)
    # AIL: k runs to the left, j downwards, i to the front.
    wanted = array.transpose(2, 0, 1)[::-1, ::-1]
    got = prepared.array[0]
    index = np.argwhere(np.isclose(got, wanted[5, 4, 5], atol=1e-6))
    assert len(index) == 1
    k, j, i = index[0] - (5, 4, 5)
    np.testing.assert_allclose(got[k : k + 11, :, i : i + 10], wanted[:, -j : 8 - j], atol=1e-5)
    np.testing.assert_allclose(prepared.back(got)[1:8], array[1:8], atol=1e-5)


def test_vessels_of_a_chase_photograph(tmp_path):
    image = pytest.importorskip("PIL.Image")
    package = convert(data_path("weights/lwnet/wnet_drive.pth"), tmp_path / "model")
    photograph = np.asarray(image.open(data_path("fundus_chase/Image_01L.jpg")))[None]
    truth = np.asarray(image.open(data_path("fundus_chase/Image_01L_1stHO.png")).convert("L"))[None] > 127
    place = Geometry.from_spacing(photograph.shape[:3], directions=np.diag([-1.0, -1.0, 1.0]))
    outputs = NetworkSegmentation().execute(
        {"images": [Volume(photograph, place, "fundus")]}, {"model": str(package.folder)}, Context("cpu")
    )
    # 0.757 is the mean over the data set by the published program.
    assert dice(outputs["segmentation"].layers[0] > 0, truth) > 0.757
