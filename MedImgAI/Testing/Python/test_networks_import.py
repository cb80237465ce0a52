"""Models of this machine taken in: what is sound becomes a package, the rest is refused and leaves nothing."""

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import ModelError, OutputError
from MedImgAILib.hosts.model_store import ModelStore
from MedImgAILib.networks.network_task import _example_package
from MedImgAILib.networks.public_cards import PUBLIC_MODELS
from MedImgAILib.networks.public_models import convert
from MedImgAILib.networks.tensors import read_tensors, sha256_of
from testing_data import data_path

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "models", mirror="")


def left(store):
    return sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if p.is_file())


def test_offline_import_of_folder_archive_and_removal(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        for path in _example_package().iterdir():
            file.write(path, path.name)
    assert store.import_model(_example_package()).card.id == "example"
    store.remove("example")
    assert store.import_model(tmp_path / "model.zip").card.id == "example"
    store.remove("example")
    assert left(store) == []
    for name in ("example", "../models", "licenses.json"):
        with pytest.raises(ModelError, match="no model"):
            store.remove(name)


def test_import_of_public_weights_and_what_is_none(store, tmp_path):
    package = store.import_model(data_path("weights/hippodeep"))
    assert package.card.id == "hippodeep"
    with pytest.raises(OutputError, match="here already"):
        store.import_model(data_path("weights/hippodeep"))
    with pytest.raises(ModelError, match="needs the published file"):
        store.remove("hippodeep")
        store.import_model(data_path("weights/hippodeep/hippodeep.pt"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match="none of the public weights"):
        store.import_model(tmp_path / "notes.txt")
    assert left(store) == []


def test_wheel_that_brings_weights(store, tmp_path):
    """Its files are looked at one by one; the wheel is not installed, and nothing of it runs."""
    weights = data_path("weights/lwnet/wnet_drive.pth")
    wheel = tmp_path / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("weights/__init__.py", f"open({str(tmp_path / 'ran.txt')!r}, 'w')")
        file.write(weights, "weights/data/wnet_drive.pth")
    assert store.import_model(wheel).card.id == "lwnet.vessels"
    store.remove("lwnet.vessels")
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(ModelError, match="ZIP file that can be read"):
        store.import_model(wheel)
    assert left(store) == [] and not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("name", ["model.zip", "bundle.zip", "result.zip", "weights.whl", "wnet_drive.pth"])
def test_damaged_archives_are_a_sentence(store, tmp_path, name):
    """Bytes changed in the middle, in the directory and at the end; or the file cut off."""
    weights = data_path("weights/lwnet/wnet_drive.pth")
    made = {
        "bundle.zip": {"configs/inference.json": b"{}", "configs/metadata.json": b"{}"},
        "result.zip": {"plans.json": b"{}", "dataset.json": b"{}", "fold_0/checkpoint_final.pth": b"x"},
        "weights.whl": {"a/wnet_drive.pth": weights.read_bytes()},
        "model.zip": {path.name: path.read_bytes() for path in _example_package().iterdir()},
    }
    source = tmp_path / name
    if name in made:
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as file:
            for inner, content in made[name].items():
                file.writestr(inner, content)
    else:
        source.write_bytes(weights.read_bytes())
    whole = source.read_bytes()
    rng = np.random.default_rng(0)
    for turn in range(40):
        content = bytearray(whole)
        last = len(content) if turn % 2 else min(len(content), 300)
        for place in rng.integers(1, last, 3):
            content[-place] ^= int(rng.integers(1, 256))
        source.write_bytes(content[: int(rng.integers(len(content)))] if turn % 10 == 0 else content)
        try:
            store.remove(store.import_model(source).card.id)
        except ModelError as error:
            assert "\n" not in str(error)
        assert left(store) == []


def test_archive_that_climbs_out_is_refused(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../../climbed.txt", "x")
    with pytest.raises(ModelError, match="not a plain file inside"):
        store.import_model(tmp_path / "evil.zip")
    assert left(store) == [] and not list(tmp_path.rglob("climbed.txt"))


class Bomb:
    """Runs code when it is unpickled by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "run")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_that_runs_code_is_refused(store, tmp_path, writer, monkeypatch):
    target, source = tmp_path / "ran.txt", tmp_path / "evil.pth"
    if writer == "torch":
        torch.save({"model_state_dict": Bomb(target)}, source)
    else:
        source.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(ModelError, match="not loaded") as refusal:
        read_tensors(source)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ModelError):
        store.import_model(source)
    monkeypatch.setitem(
        PUBLIC_MODELS,
        "lwnet.vessels",
        replace(
            PUBLIC_MODELS["lwnet.vessels"],
            files=(replace(PUBLIC_MODELS["lwnet.vessels"].files[0], sha256=sha256_of(source)),),
        ),
    )
    with pytest.raises(ModelError, match="not loaded"):
        store.import_model(source)
    assert not target.exists() and left(store) == []


def test_lying_header_and_other_files_are_refused(tmp_path):
    lying = tmp_path / "lying.pth"
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4000]}}).encode()
    lying.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 36)
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(lying)
    with pytest.raises(ModelError, match="none of those"):
        convert(lying, tmp_path / "package")
    with pytest.raises(ModelError, match="not the published one"):
        convert(lying, tmp_path / "package", "lwnet.vessels")
    assert not (tmp_path / "package").exists()
