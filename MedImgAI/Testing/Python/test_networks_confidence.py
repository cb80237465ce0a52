"""Variations, dropout and ensembles in the task on model packages: the table against counts done by hand."""

from dataclasses import replace

import numpy as np
import pytest
from MedImgAILib.core import Context, ModelError
from MedImgAILib.core.examples import example_volume
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.network_task import NetworkSegmentation, _example_package

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


def run(parameters, model=None):
    parameters = {"model": str(model or _example_package()), "reduced_precision": False} | parameters
    return NetworkSegmentation().execute({"images": [example_volume()]}, parameters, Context("cpu"))


def test_mirrored_passes_give_intervals():
    """The example's kernel is lopsided, so that mirrored passes differ, but not by much."""
    table = run({"variation": "flips", "passes": 8, "uncertainty": True})["measures"]
    columns = table.columns
    assert set(columns) == {
        "segment", "volume", "entropy", "lowest volume", "highest volume", "spread of the volume", "disagreement",
    }  # fmt: skip
    assert table.units["lowest volume"] == "mL"
    low, high = np.array(columns["lowest volume"]), np.array(columns["highest volume"])
    volume = np.array(columns["volume"])
    assert (low < high).all() and (0.9 * low < volume).all() and (volume < 1.1 * high).all()
    assert (np.array(columns["disagreement"]) > 0).all() and (np.array(columns["disagreement"]) < 0.5).all()


def test_ensemble_of_a_package(tmp_path):
    """Two members that shift the border between the classes: the volumes are theirs."""
    plain = ModelPackage.load(_example_package())
    state = plain.network().state_dict()
    other = {k: v.clone() for k, v in state.items()}
    other["bias"][2] -= 0.7
    card = replace(plain.card, weights_sha256="")
    single = ModelPackage.create(tmp_path / "single", card, other)
    both = ModelPackage.create(tmp_path / "both", card, [state, other])
    volumes = [np.array(run({"skip_empty": False}, m.folder)["measures"].columns["volume"]) for m in (plain, single)]
    columns = run({"uncertainty": True, "skip_empty": False}, both.folder)["measures"].columns
    np.testing.assert_allclose(columns["lowest volume"], np.minimum(*volumes), rtol=0.1)
    np.testing.assert_allclose(columns["highest volume"], np.maximum(*volumes), rtol=0.1)
    middle = np.array(columns["volume"])
    assert (np.minimum(*volumes) <= middle * 1.01).all() and (middle <= np.maximum(*volumes) * 1.01).all()


def test_dropout_needs_a_network_that_has_it():
    with pytest.raises(ModelError, match="has no dropout"):
        run({"variation": "dropout"})


def test_empty_parts_are_background():
    """An image with a wide black border: skipping it does not change what is found."""
    outputs = [run({"skip_empty": skip}) for skip in (True, False)]
    first, second = (o["segmentation"].layers[0] for o in outputs)
    assert (first == second).mean() > 0.999
