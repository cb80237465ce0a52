"""Good model packages come back as they were; bad ones are refused in a sentence, run nothing and leave nothing."""

import hashlib
import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from MedImgAILib.core.errors import MissingPackageError, ModelError, OutputError
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.model_package import CARD, WEIGHTS, ModelPackage
from model_testing import CARD_VALUES, edge_filter, random_state

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def state():
    return random_state()


@pytest.fixture
def folder(tmp_path):
    return edge_filter(tmp_path)


def _edit(folder, change):
    """Apply ``change`` to the parsed card."""
    card = json.loads((folder / CARD).read_text())
    change(card)
    (folder / CARD).write_text(json.dumps(card))


def _refused(folder, match):
    before = sorted(p.name for p in folder.parent.iterdir())
    with pytest.raises(ModelError, match=match) as caught:
        ModelPackage.load(folder)
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in folder.parent.iterdir()) == before


# What is right


def test_round_trip(folder, state, tmp_path):
    loaded = ModelPackage.load(folder)
    sha256 = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert loaded.card == replace(CARD_VALUES, weights_sha256=sha256)
    network = loaded.network()
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name])
    copy = loaded.save(tmp_path / "copy")
    assert copy.card == loaded.card
    assert (copy.folder / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "edge_filter"]


def test_texts_and_pictures_may_lie_beside(folder):
    for name in ("README.md", "LICENSE.txt", "preview.png", ".DS_Store"):
        (folder / name).write_text("x")
    ModelPackage.load(folder)


def test_monai_network(tmp_path):
    nets = pytest.importorskip("monai.networks.nets")
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "channels": [4, 8], "strides": [2]}
    card = replace(CARD_VALUES, architecture="monai.UNet", arguments=arguments)
    network = nets.UNet(**arguments).eval()
    loaded = ModelPackage.create(tmp_path / "unet", card, network.state_dict()).network()
    image = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(loaded(image), network(image))


# Cards


@pytest.mark.parametrize("name", sorted(CARD_VALUES.to_json()))
def test_every_field_is_required(folder, name):
    _edit(folder, lambda card: card.pop(name))
    _refused(folder, f"lacks '{name}'")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.update(schema_version=2), "format version 2; update MedImgAI"),
        (lambda c: c.update(schema_version=True), "wrong type"),
        (lambda c: c.update(surprise=1), "no such field"),
        (lambda c: c.update(id="../x"), "'id'"),
        (lambda c: c.update(title=" "), "'title'"),
        (lambda c: c.update(task="world domination"), "is not one of segmentation"),
        (lambda c: c.update(inputs=[]), "'inputs': it is empty"),
        (lambda c: c["inputs"][0].update(spacing_mm=[1, 1]), r"'inputs\[0\].spacing_mm': 3 finite numbers"),
        (lambda c: c["inputs"][0].update(spacing_mm=[1, 1, -1]), "spacings are positive"),
        (lambda c: c["inputs"][0].update(spacing_mm=[1, 1, float("nan")]), "3 finite numbers"),
        (lambda c: c["inputs"][0].update(orientation="RRS"), "does not name three axes"),
        (lambda c: c["inputs"][0].update(intensity={"rule": "magic"}), "is not one of none, range"),
        (lambda c: c["inputs"][0].update(intensity={"rule": "range", "lower": 2, "upper": 1}), "lower must be less"),
        (lambda c: c["inputs"][0].update(intensity={"rule": "range", "lower": "a", "upper": 1}), "finite number"),
        (lambda c: c["inputs"][0].update(intensity={"import": "os"}), "intensity"),
        (lambda c: c["outputs"][0].update(segments=[]), "segments': it is empty"),
        (lambda c: c["outputs"][0]["segments"][0].update(label=0), "0 is less than 1"),
        (lambda c: c["outputs"][0]["segments"].append(c["outputs"][0]["segments"][0]), "the same label"),
        (lambda c: c["outputs"][0]["segments"][0].update(terminology={"category": ["a"]}), "scheme, value, meaning"),
        (lambda c: c["network"].update({"class": "os.system"}), "not a network that MedImgAI may load"),
        (lambda c: c["network"].update({"class": "torch.load"}), "not a network that MedImgAI may load"),
        (lambda c: c["network"].update({"class": "monai.bundle.run"}), "not a network that MedImgAI may load"),
        (lambda c: c["network"].update(arguments=[]), "wrong type"),
        (lambda c: c["network"]["arguments"].update(act="$__import__('os').system('x')"), "expressions and references"),
        (lambda c: c["network"]["arguments"].update(norm={"_target_": "os.system"}), "not allowed as a name"),
        (lambda c: c["network"]["arguments"].update(out_channels=1e9), "at most a million"),
        (lambda c: c["network"]["arguments"].update(padding=float("inf")), "at most a million"),
        (lambda c: c["network"]["arguments"].update(pretrained=True), "'pretrained', which is not allowed"),
        (lambda c: c["training"].update(metrics={"dice": "good"}), "numbers are needed"),
        (lambda c: c.update(weights_sha256="0" * 64), "not those that the model card names"),
        (lambda c: c.update(weights_sha256="A" * 64), "weights_sha256"),
    ],
)
def test_wrong_cards(folder, change, match):
    _edit(folder, change)
    _refused(folder, match)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_cards_that_are_not_objects(folder, text):
    (folder / CARD).write_bytes(text)
    _refused(folder, "model card")


def test_huge_card(folder):
    (folder / CARD).write_bytes(b" " * (1 << 20) + b"{}")
    _refused(folder, "larger than 1 MB")


def test_arguments_must_be_plain_json(tmp_path, state):
    for value in ((1, 2), {1: 2}, object(), print):
        card = replace(CARD_VALUES, arguments=CARD_VALUES.arguments | {"dilation": value})
        with pytest.raises(ModelError):
            ModelPackage.create(tmp_path / "new", card, state)
    assert list(tmp_path.iterdir()) == []


# Files


@pytest.mark.parametrize("name", ["model.py", "weights.pt", "data.pkl", "x.pth", "lib.so", "noext", "a.json", "x.PY"])
def test_files_that_are_not_data(folder, name):
    (folder / name).write_text("raise SystemExit")
    _refused(folder, f"contains '{name}'")


def test_folders_and_special_files(folder):
    (folder / "sub.txt").mkdir()
    _refused(folder, "contains 'sub.txt'")
    (folder / "sub.txt").rmdir()
    os.mkfifo(folder / "pipe.txt")
    _refused(folder, "contains 'pipe.txt'")


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_missing_files(folder, name):
    (folder / name).unlink()
    _refused(folder, f"has no {name}")


def test_missing_folder(tmp_path):
    with pytest.raises(ModelError, match="no model package"):
        ModelPackage.load(tmp_path / "absent")


def test_links_that_leave_the_folder(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)
    _refused(folder, "links to a file outside")


# Weights


def _weights(folder, header, data: bytes, length=None):
    """Write weights with this header and set the card's hash to match."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack("<Q", len(text) if length is None else length) + text + data
    (folder / WEIGHTS).write_bytes(content)
    _edit(folder, lambda card: card.update(weights_sha256=hashlib.sha256(content).hexdigest()))


def _tensor(begin, end, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        ({"a": _tensor(0, 8)}, b"\0" * 8, 1 << 62),
        ({"a": _tensor(0, 8)}, b"\0" * 8, 0),
        ({"a": _tensor(0, 8)}, b"\0" * 4, None),
        ({"a": _tensor(0, 8)}, b"\0" * 9, None),
        ({"a": _tensor(0, 8, (3,))}, b"\0" * 8, None),
        ({"a": _tensor(0, 8, (-2,))}, b"\0" * 8, None),
        ({"a": _tensor(0, 8, (2.0,))}, b"\0" * 8, None),
        ({"a": _tensor(0, 8, (1 << 62, 1 << 62))}, b"\0" * 8, None),
        ({"a": _tensor(8, 0)}, b"\0" * 8, None),
        ({"a": _tensor(0, 8), "b": _tensor(4, 12)}, b"\0" * 12, None),
        ({"a": _tensor(0, 8), "b": _tensor(12, 20)}, b"\0" * 20, None),
        ({"a": _tensor(0, 8, dtype="OBJECT")}, b"\0" * 8, None),
        ({"a": _tensor(0, 8, dtype=["F32"])}, b"\0" * 8, None),
        ({"a": {"dtype": "F32"}}, b"", None),
        ({"a": _tensor(0, 8) | {"hook": "x"}}, b"\0" * 8, None),
        ({"a": _tensor(0, 8), "__metadata__": {"x": 1}}, b"\0" * 8, None),
        (b'{"a": 1, "a": 2}', b"", None),
        (b"[" * 50_000, b"", None),
        (b"\x80\x04cos\nsystem\n.", b"", None),
        (b"[]", b"", None),
    ],
)
def test_lying_headers(folder, header, data, length):
    _weights(folder, header, data, length)
    _refused(folder, "are damaged")


@pytest.mark.parametrize("size", [0, 4, 8, 60])
def test_truncated_weights(folder, size):
    content = (folder / WEIGHTS).read_bytes()[:size]
    (folder / WEIGHTS).write_bytes(content)
    _refused(folder, "not those that the model card names")
    _edit(folder, lambda card: card.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    _refused(folder, "are damaged")


def test_the_checker_accepts_what_the_library_writes(folder):
    from safetensors.numpy import save

    tensors = {
        "half": np.ones((2, 3), np.float16),
        "empty": np.zeros((0, 4), np.int64),
        "scalar": np.array(3.0),
        "flags": np.array([True, False, True]),
    }
    content = save(tensors, metadata={"made": "by a test"})
    (folder / WEIGHTS).write_bytes(content)
    _edit(folder, lambda card: card.update(weights_sha256=hashlib.sha256(content).hexdigest()))
    package = ModelPackage.load(folder)
    with pytest.raises(ModelError, match="do not fit its network"):
        package.network()


def test_weights_changed_after_loading(folder):
    package = ModelPackage.load(folder)
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(ModelError, match="not those"):
        package.network()


def test_strict_weights(tmp_path, state):
    for change in ({"extra": torch.zeros(1)}, {"weight": torch.zeros(2, 1, 3, 3, 2)}):
        package = ModelPackage.create(tmp_path / next(iter(change)), CARD_VALUES, state | change)
        with pytest.raises(ModelError, match=f"'{next(iter(change))}' has the shape"):
            package.network()


def test_arguments_that_the_class_does_not_take(folder):
    _edit(folder, lambda card: card["network"]["arguments"].update(colour="red"))
    with pytest.raises(ModelError, match="cannot be built"):
        ModelPackage.load(folder).network()


def test_missing_library_is_named(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackageError) as caught:
        ModelPackage.load(folder).network()
    assert caught.value.requirements == ("torch>=2.2",)


# Writing


def test_existing_folders_are_kept(folder, state):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(OutputError, match="exists already"):
        ModelPackage.create(folder, CARD_VALUES, state)
    with pytest.raises(OutputError, match="exists already"):
        ModelPackage.load(folder).save(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_bad_card_is_not_written(tmp_path, state):
    with pytest.raises(ModelError):
        ModelPackage.create(tmp_path / "new", replace(CARD_VALUES, title=""), state)
    with pytest.raises(OutputError, match="cannot be written"):
        ModelPackage.create(tmp_path / "absent" / "new", CARD_VALUES, state)
    assert list(tmp_path.iterdir()) == []


# Intensity


def test_intensity_rules():
    values = np.array([0.0, 0.0, 10.0, 20.0, 30.0])
    np.testing.assert_allclose(Intensity("range", lower=10, upper=20).apply(values), [0, 0, 0, 1, 1])
    np.testing.assert_allclose(Intensity("fixed_z_score", mean=10, std=5).apply(values), [-2, -2, 0, 2, 4])
    z = Intensity("z_score").apply(values)
    assert z.dtype == np.float32 and abs(z.mean()) < 1e-6 and z.std() == pytest.approx(1)
    half = np.sqrt(2 / 3)
    np.testing.assert_allclose(
        Intensity("z_score", nonzero=True).apply(values), [0, 0, -1 / half, 0, 1 / half], rtol=1e-6
    )
    np.testing.assert_allclose(Intensity("percentiles", lower=0, upper=100).apply(values), values / 30, rtol=1e-6)
    for rule in (Intensity("z_score"), Intensity("percentiles", lower=1, upper=99)):
        assert not rule.apply(np.full((2, 2), 7.0)).any()
    assert not Intensity("z_score", nonzero=True).apply(np.zeros(3)).any()
