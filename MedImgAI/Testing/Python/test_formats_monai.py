"""MONAI bundles: a real small one gives what MONAI itself gives, and bad ones run nothing and leave nothing."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, ModelError, Volume
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.formats.monai_bundle import convert_bundle, is_bundle
from MedImgAILib.networks.formats.monai_config import Config
from MedImgAILib.networks.formats.monai_transforms import named
from MedImgAILib.networks.network_task import NetworkSegmentation
from testing_data import data_path

torch = pytest.importorskip("torch")
monai = pytest.importorskip("monai")
nib = pytest.importorskip("nibabel")
pytest.importorskip("safetensors")

METADATA = {
    "version": "0.1.0",
    "name": "Tiny test",
    "task": "Test",
    "description": "A network of random numbers.",
    "network_data_format": {
        "inputs": {"image": {"modality": "MRI", "num_channels": 1, "channel_def": {"0": "image"}}},
        "outputs": {"pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "spleen", "2": "kidney_left"}}},
    },
}


def transforms(*more):
    return [
        {"_target_": "LoadImaged", "keys": "@image_key"},
        {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
        {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": "@image_key", "pixdim": "@pixdim", "mode": "bilinear"},
        {"_target_": "NormalizeIntensityd", "keys": "@image_key"},
        {"_target_": "ScaleIntensityd", "keys": "@image_key", "minv": -1.0, "maxv": 1.0},
        *more,
    ]


def settings():
    return {
        "imports": ["$import os"],
        "bundle_root": ".",
        "image_key": "image",
        "highres": False,
        "pixdim": "$[1.5, 1.5, 1.5] if @highres else [3.01, 2.53, 3.4]",
        "network_def": {
            "_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": "$1 + 2", "channels": [4, 8],
            "strides": [2], "num_res_units": 1, "norm": "batch",
        },
        "network": "$@network_def.to('cpu')",
        "preprocessing": {"_target_": "Compose", "transforms": transforms()},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [32, 48, 32], "overlap": 0.5, "mode": "gaussian"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {
                    "_target_": "Invertd", "keys": "pred", "transform": "@preprocessing", "orig_keys": "@image_key",
                    "nearest_interp": False, "to_tensor": True,
                },
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
        "checkpointloader": {
            "_target_": "CheckpointLoader",
            "load_path": "$@bundle_root + '/models/model.pt'",
            "load_dict": {"model": "@network"},
        },
    }  # fmt: skip


def write(folder: Path, content: dict, weights=None, metadata=METADATA) -> Path:
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    (folder / "configs/inference.json").write_text(json.dumps(content))
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    (folder / "LICENSE").write_text("                 Apache License\n           Version 2.0, January 2004\n")
    if weights is None:
        weights = network().state_dict()
    torch.save(weights, folder / "models/model.pt")
    return folder


def network():
    torch.manual_seed(4)
    found = monai.networks.nets.UNet(3, 1, 3, [4, 8], [2], num_res_units=1, norm="batch").eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.6)
    return found


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "bundle", settings())


@pytest.fixture(scope="module")
def head():
    path = data_path("brain/t1_head_1p75mm.nii.gz")
    image = nib.load(path)
    matrix = image.affine
    array = np.ascontiguousarray(np.asarray(image.dataobj).T)
    return path, Volume(array, Geometry(matrix, array.shape), "head")


def ours(package, volume):
    task = NetworkSegmentation()
    return task.execute(
        {"images": [volume]}, {"model": str(package.folder), "reduced_precision": False}, Context("cpu")
    )["segmentation"]


def peer(bundle: Path, path: Path) -> np.ndarray:
    """What MONAI's own parser and classes make of the bundle: (I, J, K) labels."""
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/inference.json"))
    parser["bundle_root"] = str(bundle)
    parser.parse()
    model = parser.get_parsed_content("network_def")
    model.load_state_dict(torch.load(bundle / "models/model.pt", weights_only=True))
    model.eval()
    with torch.inference_mode():
        data = parser.get_parsed_content("preprocessing")({"image": str(path)})
        data["pred"] = parser.get_parsed_content("inferer")(data["image"][None], model)[0]
        return parser.get_parsed_content("postprocessing")(data)["pred"][0].numpy()


def test_the_same_labels_as_monai(bundle, head, tmp_path):
    assert is_bundle(bundle)
    package = convert_bundle(bundle, tmp_path / "package")
    card = package.card
    assert card.id == "monai.tiny_test" and card.license == "Apache-2.0"
    assert [s.terminology.type.value for s in card.outputs[0].segments] == ["78961009", "64033007"]
    assert card.outputs[0].segments[1].terminology.modifier.meaning == "Left"
    assert card.inputs[0].modality == "MR" and card.inputs[0].spacing_mm == (3.4, 2.53, 3.01)
    labels = ours(package, head[1]).layers[0].T
    wanted = peer(bundle, head[0])
    assert all((wanted == label).mean() > 0.02 for label in range(3)), "the test's network finds nothing"
    # Probabilities are brought back, by MONAI as by us; what differs are ties up to rounding.
    assert (labels == wanted).mean() > 0.99


def test_prepared_image_is_monais(bundle, head, tmp_path):
    """Voxel for voxel what the network gets."""
    from MedImgAILib.networks.preparation import prepare
    from monai.bundle import ConfigParser

    parser = ConfigParser(settings())
    wanted = parser.get_parsed_content("preprocessing")({"image": str(head[0])})["image"][0].numpy()
    card = convert_bundle(bundle, tmp_path / "package").card
    got = prepare(head[1], card.inputs[0], Context("cpu")).array[0]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=2e-3)


def test_zip_and_changed_entries(bundle, tmp_path):
    with zipfile.ZipFile(tmp_path / "bundle.zip", "w") as file:
        for path in bundle.rglob("*"):
            file.write(path, f"tiny/{path.relative_to(bundle)}")
    package = convert_bundle(tmp_path / "bundle.zip", tmp_path / "package", "own.name", {"highres": True})
    assert package.card.id == "own.name" and package.card.inputs[0].spacing_mm == (1.5, 1.5, 1.5)
    assert (package.folder / "LICENSE.txt").read_text().strip().startswith("Apache License")
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["bundle", "bundle.zip", "package"]


def test_brats_like_bundle_paints_regions(tmp_path, head):
    content = settings()
    content["network_def"] |= {"in_channels": 2, "out_channels": 3}
    normalize = {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True}
    content["preprocessing"]["transforms"] = [*transforms()[:1], normalize]
    content["postprocessing"]["transforms"] = [
        {"_target_": "Activationsd", "keys": "pred", "sigmoid": True},
        {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5},
        {
            "_target_": "Lambdad",
            "keys": "pred",
            "func": "$lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))",
        },
    ]
    metadata = json.loads(json.dumps(METADATA))
    metadata["network_data_format"]["inputs"]["image"] |= {"num_channels": 2, "channel_def": {"0": "T1c", "1": "T1"}}
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = {"0": "core", "1": "whole", "2": "enhancing"}
    torch.manual_seed(5)
    net = monai.networks.nets.UNet(3, 2, 3, [4, 8], [2], num_res_units=1, norm="batch").eval()
    package = convert_bundle(write(tmp_path / "b", content, net.state_dict(), metadata), tmp_path / "package")
    assert [i.name for i in package.card.inputs] == ["T1c", "T1"]
    assert [s.name for s in package.card.outputs[0].segments] == ["Whole", "Core", "Enhancing"]
    cut = head[1].array[30:62, 40:88, 40:72]
    geometry = head[1].geometry.cropped((30, 40, 40), cut.shape)
    images = [Volume(cut, geometry, "a T1"), Volume(cut[::-1].copy(), geometry, "a T1c")]
    task = NetworkSegmentation()
    got = task.execute({"images": images}, {"model": str(package.folder), "reduced_precision": False}, Context("cpu"))[
        "segmentation"
    ].layers[0]
    # The image lies LAS; MONAI's axes are (R, A, S), the named input comes first.
    ras = [v.array.transpose(2, 1, 0)[::-1].astype(np.float32) for v in reversed(images)]
    ras = [np.where(a != 0, (a - a[a != 0].mean()) / a[a != 0].std(), 0) for a in ras]
    with torch.inference_mode():
        scores = monai.inferers.sliding_window_inference(
            torch.from_numpy(np.stack(ras)[None].astype(np.float32)), (32, 48, 32), 1, net, 0.5, "gaussian"
        )[0].numpy()
    wanted = np.where(scores[2] > 0, 3, np.where(scores[0] > 0, 2, np.where(scores[1] > 0, 1, 0)))
    assert len(np.unique(wanted)) > 2
    assert (got.transpose(2, 1, 0)[::-1] == wanted).mean() > 0.999


class Bomb:
    """Runs code when it is unpickled by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "run")


def _network(c, **changes):
    c["network_def"] |= changes


BAD = {
    "network off the list": (lambda c, r: _network(c, _target_="scripts.evil.Net"), "scripts.evil.Net"),
    "a function as network": (lambda c, r: _network(c, _target_="os.system", command="touch x"), "os.system"),
    "network as expression": (lambda c, r: c.update(network_def="$__import__('os').system('touch x')"), "does not run"),
    "argument as expression": (
        lambda c, r: _network(c, out_channels=f"$open({str(r / 'ran.txt')!r}, 'w').write('x')"), "does not run",
    ),
    "attribute in an expression": (lambda c, r: _network(c, out_channels="$().__class__"), "does not run"),
    "power in an expression": (lambda c, r: _network(c, out_channels="$9 ** 9 ** 9"), "does not run"),
    "long text in an expression": (lambda c, r: _network(c, norm="$'a' * 999999999"), "does not run"),
    "macro": (lambda c, r: _network(c, out_channels="%/etc/passwd"), "does not run"),
    "reference to itself": (lambda c, r: c.update(pixdim="@pixdim"), "refers to itself"),
    "pretrained weights": (lambda c, r: _network(c, pretrained=True), "pretrained"),
    "unknown transform": (
        lambda c, r: c["preprocessing"].update(transforms=transforms({"_target_": "scripts.t.Mine", "keys": "x"})),
        "scripts.t.Mine",
    ),
    "transform with code": (
        lambda c, r: c["preprocessing"].update(transforms=transforms({"_target_": "Lambdad", "func": "$print(1)"})),
        "'Lambda'",
    ),
    "unknown postprocessing": (
        lambda c, r: c["postprocessing"]["transforms"].append({"_target_": "FillHolesd", "keys": "pred"}), "FillHoles",
    ),
    "unknown inferer": (lambda c, r: c["inferer"].update(_target_="scripts.I"), "scripts.I"),
    "weights outside": (lambda c, r: c["checkpointloader"].update(load_path="../../s.pt"), "outside of its folder"),
    "other weights": (lambda c, r: _network(c, channels=[4, 16]), "has the shape"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_bundles_are_refused(name, tmp_path):
    content = settings()
    change, match = BAD[name]
    change(content, tmp_path)
    write(tmp_path / "bundle", content)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(ModelError, match=match) as caught:
        convert_bundle(tmp_path / "bundle", tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_weights_that_run_code_are_not_loaded(tmp_path):
    write(tmp_path / "bundle", settings(), {"model": Bomb(tmp_path / "ran.txt")})
    with pytest.raises(ModelError, match="is not plain tensors"):
        convert_bundle(tmp_path / "bundle", tmp_path / "package")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_zip_that_climbs_out(bundle, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("configs/../../../climbed.txt", "x")
    with pytest.raises(ModelError, match="not a plain file inside"):
        convert_bundle(tmp_path / "evil.zip", tmp_path / "package")
    assert not list(tmp_path.parent.rglob("climbed.txt")) and not (tmp_path / "package").exists()


def test_damaged_files(bundle, tmp_path):
    (bundle / "models/model.pt").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(ModelError, match="damaged"):
        convert_bundle(bundle, tmp_path / "package")
    (bundle / "configs/inference.json").write_text("[1, 2")
    with pytest.raises(ModelError, match="cannot be read"):
        convert_bundle(bundle, tmp_path / "package")
    with pytest.raises(ModelError, match="no file or folder"):
        convert_bundle(tmp_path / "absent", tmp_path / "package")


def test_yaml_is_read_as_plain_values(tmp_path):
    yaml = pytest.importorskip("yaml")
    write(tmp_path / "bundle", settings())
    path = tmp_path / "bundle/configs/inference.json"
    path.unlink()
    path.with_suffix(".yaml").write_text(yaml.safe_dump(settings()))
    package = convert_bundle(tmp_path / "bundle", tmp_path / "package")
    assert isinstance(package, ModelPackage)
    path.with_suffix(".yaml").write_text("network_def: !!python/object/apply:os.system ['touch x']\n")
    with pytest.raises(ModelError, match="cannot be read"):
        convert_bundle(tmp_path / "bundle", tmp_path / "other")


def test_references_and_simple_expressions():
    config = Config({"a": [1, {"b": 2}], "c": "@a#1#b", "d": "$@c * 3 + len(@a)", "e": "$'x' if @c == 2 else 'y'"}, "t")
    assert config.get("c") == 2 and config.get("d") == 8 and config.get("e") == "x"
    assert config.value({"k": ["@a#0"]}) == {"k": [1]}
    with pytest.raises(ModelError, match="which is not there"):
        config.value("@a#7")


def test_names_of_transforms():
    assert named({"_target_": "LoadImaged"}) == named({"_target_": "monai.transforms.LoadImageD"}) == "LoadImage"
    assert named({"_target_": "evil.LoadImaged"}) == "evil.LoadImaged"
