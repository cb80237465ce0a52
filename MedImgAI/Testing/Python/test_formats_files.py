"""ONNX and TorchScript networks, and the command that takes them in; what could run code does not."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, ModelError, OutputError, ParameterError, ResourceError, Volume
from MedImgAILib.core.model_files import TORCHSCRIPT
from MedImgAILib.core.model_onnx import check_onnx
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.hosts import cli
from MedImgAILib.networks.formats.single_file import convert_file, write_template
from MedImgAILib.networks.network_task import NetworkSegmentation
from MedImgAILib.networks.torchscript_task import TorchScriptSegmentation
from testing_data import data_path

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

CARD = {
    "schema_version": 1,
    "id": "own.blobs",
    "version": "1.0.0",
    "title": "Blobs",
    "task": "segmentation",
    "inputs": [
        {"name": "image", "modality": "MR", "orientation": "RAS", "intensity": {"rule": "z_score"}},
    ],
    "outputs": [{"name": "s", "kind": "segmentation", "segments": [{"name": "Blob", "label": 1}]}],
    "inference": {"window": [16, 24, 32]},
    "license": "MIT",
    "citation": "None.",
    "training": {"data": "None."},
    "intended_use": "Tests.",
    "limits": "All.",
}


class Worker(Context):
    in_worker = True


def network():
    torch.manual_seed(2)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(4, 2, 3, padding=1)
    ).eval()


def save_onnx(path: Path, external: str = "", **node) -> Path:
    """A graph of two convolutions, written by hand with the library ``onnx``."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    state = network().state_dict()
    tensors = [numpy_helper.from_array(v.numpy(), k) for k, v in state.items()]
    pads = {"pads": [1] * 6, "kernel_shape": [3, 3, 3]}
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], **pads),
        helper.make_node(**({"op_type": "Relu", "inputs": ["a"], "outputs": ["b"]} | node)),
        helper.make_node("Conv", ["b", "2.weight", "2.bias"], ["y"], **pads),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, ["b", 1, "k", "j", "i"])],
        [helper.make_tensor_value_info("y", kind, None)], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)])
    model.ir_version = 8
    if external:
        tensor = model.graph.initializer[0]
        content = tensor.raw_data
        target = path.parent / external
        if target.parent.exists():
            target.write_bytes(content)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", external), ("offset", "0"), ("length", str(len(content)))):
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def with_card(path: Path, card=CARD) -> Path:
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


@pytest.fixture(scope="module")
def image():
    nib = pytest.importorskip("nibabel")
    found = nib.load(data_path("brain/t1_head_1p75mm.nii.gz"))
    array = np.ascontiguousarray(np.asarray(found.dataobj).T)[30:62, 40:90, 40:80]
    return Volume(array, Geometry(found.affine, found.shape[::-1]).cropped((30, 40, 40), array.shape), "head")


def wanted_labels(volume: Volume) -> np.ndarray:
    """What the network gives for the image at once, by torch itself; the image lies LAS, the model wants RAS."""
    array = volume.array[:, :, ::-1].astype(np.float32)
    array = (array - array.mean()) / array.std()
    with torch.inference_mode():
        return network()(torch.from_numpy(array.copy())[None, None])[0].argmax(0).numpy()[:, :, ::-1]


@pytest.mark.parametrize("external", ["", "blobs.onnx.data"])
def test_onnx_gives_what_torch_gives(tmp_path, image, external):
    pytest.importorskip("onnxruntime")
    (tmp_path / "given").mkdir()
    package = convert_file(with_card(save_onnx(tmp_path / "given/blobs.onnx", external)), tmp_path / "package")
    assert sorted(p.name for p in package.folder.iterdir()) == sorted(
        ["model.json", "network.onnx", *([external] if external else [])]
    )
    task = NetworkSegmentation()
    parameters = {"model": str(package.folder), "reduced_precision": False}
    found = task.execute({"images": [image]}, parameters, Context("cpu"))["segmentation"]
    wanted = wanted_labels(image)
    assert 0.02 < wanted.mean() < 0.98
    # Where windows end, blending differs from the whole image at once.
    assert (found.layers[0] == wanted).mean() > 0.97
    (package.folder / (external or "network.onnx")).write_bytes(b"other")
    with pytest.raises(ModelError, match="not the one that the model card names"):
        ModelPackage.load(package.folder)


ESCAPES = ["../outside.data", "/etc/passwd", "sub/inside.data", "..", "a/../../outside.data"]


@pytest.mark.parametrize("external", ESCAPES)
def test_onnx_data_outside_its_folder(tmp_path, external):
    folder = tmp_path / "given"
    folder.mkdir()
    path = with_card(save_onnx(folder / "blobs.onnx"))
    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=external)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="does not lie in its folder") as caught:
        convert_file(path, tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["given"]


def test_onnx_data_behind_a_link(tmp_path):
    (tmp_path / "given").mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4000)
    path = with_card(save_onnx(tmp_path / "given/blobs.onnx", "blobs.data"))
    (tmp_path / "given/blobs.data").unlink()
    (tmp_path / "given/blobs.data").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="does not lie in its folder"):
        convert_file(path, tmp_path / "package")


@pytest.mark.parametrize(
    "node",
    [
        {"op_type": "Anything", "domain": "mine"},
        {"op_type": "EPContext", "domain": "com.microsoft"},
        {"op_type": "PyOp", "domain": "ai.onnx.contrib"},
    ],
)
def test_onnx_with_foreign_operators(tmp_path, node):
    path = with_card(save_onnx(tmp_path / "blobs.onnx", **node))
    with pytest.raises(ModelError, match="which MedImgAI does not load"):
        convert_file(path, tmp_path / "package")
    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("content", [b"", b"hello, no graph", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x0b" * 9])
def test_damaged_onnx(tmp_path, content):
    (tmp_path / "blobs.onnx").write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX file"):
        check_onnx(tmp_path / "blobs.onnx")


def test_card_must_be_there_and_fit(tmp_path):
    pytest.importorskip("onnxruntime")
    path = save_onnx(tmp_path / "blobs.onnx")
    with pytest.raises(ModelError, match="medimgai models card blobs.onnx"):
        convert_file(path, tmp_path / "package")
    template = write_template(path)
    assert json.loads(template.read_text())["inputs"][0]["channels"] == 1
    with pytest.raises(ModelError, match="still says 'FILL IN'"):
        convert_file(path, tmp_path / "package")
    with pytest.raises(OutputError, match="exists already"):
        write_template(path)
    two = CARD | {"inputs": [CARD["inputs"][0], CARD["inputs"][0] | {"name": "b"}]}
    with pytest.raises(ModelError, match="takes 1 channels, but its card names inputs with 2"):
        convert_file(with_card(path, two), tmp_path / "package")
    with pytest.raises(ModelError, match="its card 2"):
        convert_file(
            with_card(path, CARD | {"inference": {"dimensions": 2, "window": [8, 8, 1]}}), tmp_path / "package"
        )
    assert not (tmp_path / "package").exists()


# TorchScript


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "blobs.ts"
    torch.jit.script(network()).save(str(path))
    return convert_file(with_card(path), tmp_path / "package")


def test_torchscript_runs_after_consent_in_the_worker_only(script, image, monkeypatch):
    assert script.runs_code and script.card.architecture == TORCHSCRIPT
    monkeypatch.setattr(torch.jit, "load", _forbidden)
    inputs, parameters = {"images": [image]}, {"model": str(script.folder)}
    with pytest.raises(ModelError, match="use the task 'Network from TorchScript'"):
        NetworkSegmentation().execute(inputs, parameters, Worker())
    task = TorchScriptSegmentation()
    with pytest.raises(ParameterError, match="agree to that"):
        task.execute(inputs, parameters, Worker())
    with pytest.raises(ResourceError, match="worker process"):
        task.execute(inputs, parameters | {"trust": True}, Context("cpu"))
    with pytest.raises(ResourceError, match="can run code"):
        script.network()
    monkeypatch.undo()
    found = task.execute(inputs, parameters | {"trust": True, "reduced_precision": False}, Worker())["segmentation"]
    assert (found.layers[0] == wanted_labels(image)).mean() > 0.97


def _forbidden(*arguments, **options):
    raise AssertionError("a TorchScript file was loaded")


def test_nothing_of_a_torchscript_runs_while_it_is_taken_in(tmp_path, monkeypatch):
    target = tmp_path / "ran.pt"
    path = tmp_path / "evil.ts"
    torch.jit.script(network()).save(str(path))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("evil/extra.txt", str(target))
    monkeypatch.setattr(torch.jit, "load", _forbidden)
    package = convert_file(with_card(path, CARD | {"id": "own.evil"}), tmp_path / "package")
    assert ModelPackage.load(package.folder).runs_code and not target.exists()


def test_changed_or_damaged_torchscript(script):
    (script.folder / "network.ts").write_bytes(b"not a module")
    with pytest.raises(ModelError, match="not the one that the model card names"):
        script.network(trusted=True)


def test_damaged_torchscript_is_a_sentence(tmp_path):
    path = tmp_path / "x.ts"
    path.write_bytes(b"PK\x03\x04 nothing")
    package = convert_file(with_card(path), tmp_path / "package")
    with pytest.raises(ModelError, match="not TorchScript that can be loaded"):
        package.network(trusted=True)


# The command


def run(capsys, *argv):
    code = cli.main(["models", *argv])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_command(tmp_path, monkeypatch, capsys, image):
    monkeypatch.setenv("MEDIMGAI_MODELS", str(tmp_path / "models"))
    code, out, _ = run(capsys, "list", "hippocampus", "--modality", "MR")
    assert code == 0 and "hippodeep" in out and "lwnet" not in out
    code, out, _ = run(capsys, "show", "monai.spleen_ct")
    assert code == 0 and "SCT^78961009" in out and "Apache-2.0" in out
    code, _, err = run(capsys, "get", "lwnet.vessels")
    assert code == 1 and "licence MIT; accept it first" in err
    code, out, _ = run(capsys, "import", str(data_path("weights/lwnet/wnet_drive.pth")))
    assert code == 0 and out.startswith("lwnet.vessels\t")
    code, out, _ = run(capsys, "list", "--installed")
    assert code == 0 and "* lwnet.vessels" in out and "brainchop" not in out
    assert run(capsys, "remove", "lwnet.vessels")[0] == 0
    assert run(capsys, "remove", "lwnet.vessels")[0] == 1
    assert run(capsys, "show", "absent")[0] == 1
    assert run(capsys, "clear")[0] == 0
    assert run(capsys, "no-such-command")[0] == 2


def test_installed_model_is_found_by_its_id(tmp_path, monkeypatch, capsys, image, script):
    monkeypatch.setenv("MEDIMGAI_MODELS", str(tmp_path / "models"))
    assert run(capsys, "import", str(script.folder))[0] == 0
    task = TorchScriptSegmentation()
    for words, is_meant in (((), True), (("blob",), True), (("blob", "--modality", "CT"), False), (("lung",), False)):
        code, out, _ = run(capsys, "list", *words)
        assert code == 0 and ("Blobs  [own]" in out) == is_meant, words
    assert "pneumonia_chest_xray" not in out and "[own]" not in run(capsys, "list", "pneumonia")[1]
    inputs = {"images": [image]}
    parameters = {"model": "own.blobs", "trust": True}
    assert task.execute(inputs, parameters, Worker())["segmentation"].segments[0].name == "Blob"
    with pytest.raises(ModelError, match="no installed model 'own.other'"):
        task.execute(inputs, parameters | {"model": "own.other"}, Worker())


def test_replaced_architecture_does_not_smuggle_torchscript(script):
    card = json.loads((script.folder / "model.json").read_text())
    card["network"]["class"] = "file.onnx"
    (script.folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError):
        ModelPackage.load(script.folder)
