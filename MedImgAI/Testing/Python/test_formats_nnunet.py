"""nnU-Net's result folders: its networks with its weights, its preparation, and refusal of what is not sound."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, ModelError, Volume
from MedImgAILib.core.model_networks import build
from MedImgAILib.networks.formats.checkpoints import read_checkpoint
from MedImgAILib.networks.formats.nnunet import convert_nnunet, is_result_folder
from MedImgAILib.networks.formats.nnunet_plans import architecture, intensity, interpolation
from MedImgAILib.networks.network_task import NetworkSegmentation
from MedImgAILib.networks.preparation import prepare

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"


def kwargs(kind: str, dimensions: int = 3) -> dict:
    """As plans.json of nnU-Net 2.4 and later says it."""
    blocks = "n_conv_per_stage" if kind == PLAIN else "n_blocks_per_stage"
    return {
        "n_stages": 3,
        "features_per_stage": [4, 8, 12],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[1, 3, 3][-dimensions:], [3] * dimensions, [3] * dimensions],
        "strides": [[1] * dimensions, [1, 2, 2][-dimensions:], [2] * dimensions],
        blocks: [2, 1, 2],
        "n_conv_per_stage_decoder": [1, 2],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def peer_network(kind: str, dimensions: int = 3, inputs: int = 1, classes: int = 3, seed: int = 0):
    architectures = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    values = kwargs(kind, dimensions)
    values |= {
        "conv_op": getattr(torch.nn, f"Conv{dimensions}d"),
        "norm_op": getattr(torch.nn, f"InstanceNorm{dimensions}d"),
        "nonlin": torch.nn.LeakyReLU,
    }
    torch.manual_seed(seed)
    network = getattr(architectures, kind)(inputs, num_classes=classes, deep_supervision=False, **values)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def settings(kind: str = PLAIN, dimensions: int = 3) -> dict:
    return {
        "data_identifier": "x",
        "patch_size": [16, 24, 32][-dimensions:],
        "spacing": [3.0, 1.5, 1.25][-dimensions:],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [True],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
            "arch_kwargs": kwargs(kind, dimensions),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }


def plans(**changes) -> dict:
    return {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": settings()},
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 60.0, "std": 20.0, "percentile_00_5": 10.0, "percentile_99_5": 140.0}
        },
    } | changes  # fmt: skip


DATASET = {
    "name": "Tiny",
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "liver": 1, "tumor": 2},
    "licence": "CC-BY 4.0",
}


def write(folder: Path, plan: dict, states: dict, dataset=None, configuration="3d_fullres", extra=None) -> Path:
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plan))
    (folder / "dataset.json").write_text(json.dumps(dataset or DATASET))
    for fold, state in states.items():
        (folder / f"fold_{fold}").mkdir()
        content = {
            "network_weights": state,
            "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "dice_per_class": [[np.float32(0.5), np.float64(0.25)]]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 3,
            "init_args": {"configuration": configuration, "fold": fold, "device": torch.device("cpu")} | (extra or {}),
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(content, folder / f"fold_{fold}/checkpoint_final.pth")
    return folder


def image(shape=(14, 40, 44), spacing=(1.0, 1.0, 3.0), seed=0) -> Volume:
    """A smooth blob in a box of zeros."""
    from scipy.ndimage import gaussian_filter

    array = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0) * 400 + 80
    array[:2], array[:, :3], array[:, :, 36:] = 0, 0, 0
    geometry = Geometry.from_spacing(shape, spacing, (5.0, -7.0, 30.0))
    return Volume(array.astype(np.float32), geometry, "T1 image")


@pytest.mark.parametrize("kind", [PLAIN, RESIDUAL])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_our_networks_are_nnunets(kind, dimensions):
    """Same names of weights, same scores."""
    peer = peer_network(kind, dimensions)
    name, arguments = architecture({}, settings(kind, dimensions), 1, 3)
    own = build(name, arguments)
    state = {k: v for k, v in peer.state_dict().items() if ".all_modules." not in k and "decoder.encoder" not in k}
    own.load_state_dict(state, strict=True)
    x = torch.randn(2, 1, *[16, 24, 32][-dimensions:])
    with torch.inference_mode():
        torch.testing.assert_close(own.eval()(x), peer(x), rtol=1e-4, atol=1e-5)


def test_folds_become_an_ensemble(tmp_path):
    networks = [peer_network(PLAIN, seed=n) for n in range(2)]
    folder = write(tmp_path / "t__p__3d_fullres", plans(), {n: net.state_dict() for n, net in enumerate(networks)})
    assert is_result_folder(folder) and is_result_folder(tmp_path) and not is_result_folder(folder / "fold_0")
    package = convert_nnunet(folder, tmp_path / "package")
    card = package.card
    assert card.id == "nnunet.tiny" and card.license == "CC-BY 4.0" and len(card.members) == 1
    assert card.inputs[0].spacing_mm == (1.25, 1.5, 3.0) and card.inference.window == (32, 24, 16)
    assert [s.terminology.type.meaning for s in card.outputs[0].segments] == ["Liver", "Mass"]
    assert len(package.networks()) == 2
    x = torch.randn(1, 1, 16, 24, 32)
    with torch.inference_mode():
        wanted = sum(net(x) for net in networks) / 2
        torch.testing.assert_close(package.network()(x), wanted, rtol=1e-4, atol=1e-5)
    one = convert_nnunet(folder, tmp_path / "one", "own.id", ("1",))
    assert one.card.id == "own.id" and not one.card.members
    with pytest.raises(ModelError, match="no fold '7'"):
        convert_nnunet(folder, tmp_path / "other", folds=("7",))


def test_zip_with_a_folder_around_it(tmp_path):
    folder = write(tmp_path / "d/t__p__3d_fullres", plans(), {"all": peer_network(PLAIN).state_dict()})
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in folder.rglob("*"):
            file.write(path, path.relative_to(tmp_path))
    assert convert_nnunet(tmp_path / "a.zip", tmp_path / "package").card.title == "Tiny"


def test_transposed_axes_and_two_dimensions(tmp_path):
    plan = plans(
        transpose_forward=[1, 0, 2], image_reader_writer="NibabelIOWithReorient",
        configurations={"2d": settings(PLAIN, 2)},
    )  # fmt: skip
    folder = write(tmp_path / "f", plan, {0: peer_network(PLAIN, 2).state_dict()}, configuration="2d")
    card = convert_nnunet(folder, tmp_path / "package", orientation="LPS").card
    # Arrays run (k, j, i) = (S, A, R) in a reoriented file and (A, S, R) after the transposition.
    assert card.inputs[0].orientation == "RSA" and card.inputs[0].spacing_mm == (1.25, 1.5, 0.0)
    assert card.inference.dimensions == 2 and card.inference.window == (32, 24, 1)


def test_regions_are_painted_in_their_order(tmp_path):
    dataset = DATASET | {
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing": 3},
        "regions_class_order": [1, 2, 3],
    }  # fmt: skip
    network = peer_network(PLAIN)
    folder = write(tmp_path / "f", plans(), {0: network.state_dict()}, dataset)
    package = convert_nnunet(folder, tmp_path / "package")
    assert package.card.inference.activation == "regions"
    volume = image((16, 24, 32), (1.25, 1.5, 3.0))
    array = np.abs(volume.array) + 1
    parameters = {"model": str(package.folder), "reduced_precision": False}
    found = (
        NetworkSegmentation()
        .execute({"images": [volume.with_array(array, name="T1")]}, parameters, Context("cpu"))["segmentation"]
        .layers[0]
    )
    x = ((array - array.mean()) / array.std())[None, None].astype(np.float32)
    with torch.inference_mode():
        scores = network(torch.from_numpy(x))[0].numpy()
    wanted = np.zeros(array.shape, int)
    for channel in range(3):
        wanted[scores[channel] > 0] = channel + 1
    assert len(np.unique(wanted)) > 2 and (found == wanted).mean() > 0.999


def test_plans_of_older_versions():
    old = {
        "UNet_class_name": PLAIN, "UNet_base_num_features": 4, "unet_max_num_features": 12,
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "n_conv_per_stage_encoder": [2, 1, 2], "n_conv_per_stage_decoder": [1, 2],
    }  # fmt: skip
    name, new = architecture({}, settings(), 1, 3)
    assert architecture({}, old, 1, 3)[0] == name
    assert {k: new[k] for k in architecture({}, old, 1, 3)[1] if k != "features"} == {
        k: v for k, v in architecture({}, old, 1, 3)[1].items() if k != "features"
    }


# Preparation


def test_normalisation_is_nnunets():
    """The formulas of nnU-Net's normalisation schemes, written out."""
    array = image().array
    properties = plans()["foreground_intensity_properties_per_channel"]["0"]
    clipped, scaled = intensity("CTNormalization", False, properties)
    np.testing.assert_allclose(scaled.apply(clipped.apply(array)), (array.clip(10, 140) - 60) / 20, rtol=1e-5)
    inside = array != 0
    wanted = np.where(inside, (array - array[inside].mean()) / array[inside].std(), 0)
    np.testing.assert_allclose(intensity("ZScoreNormalization", True, None).apply(array), wanted, atol=1e-4)
    np.testing.assert_allclose(intensity("RGBTo01Normalization", False, None).apply(array.clip(0)), array.clip(0) / 255)
    with pytest.raises(ModelError, match="'Mine'"):
        intensity("Mine", False, None)
    with pytest.raises(ModelError, match="lack the intensities"):
        intensity("CTNormalization", False, {"mean": 1})


@pytest.mark.parametrize(
    ("spacing", "target", "separate"),
    [((1.0, 1.0, 1.2), [1.7, 1.4, 1.4], False), ((1.0, 1.0, 5.0), [3.0, 1.4, 0.8], True)],
)
def test_resampling_is_scikit_images(tmp_path, spacing, target, separate):
    """nnU-Net resizes by scikit-image: cubic in all directions, or within thick slices and to the nearest of them."""
    transform = pytest.importorskip("skimage.transform")
    plan = plans()
    plan["configurations"]["3d_fullres"] |= {"spacing": target, "normalization_schemes": ["NoNormalization"]}
    folder = write(tmp_path / "f", plan, {0: peer_network(PLAIN).state_dict()})
    card = convert_nnunet(folder, tmp_path / "package").card
    volume = image(spacing=spacing)
    got = prepare(volume, card.inputs[0], Context("cpu")).array[0]
    cut = volume.array[2:, 3:, :36]
    shape = [round(n * s / t) for n, s, t in zip(cut.shape, spacing[::-1], target)]
    if separate:
        flat = np.stack([transform.resize(s, shape[1:], 3, mode="edge", anti_aliasing=False) for s in cut])
        rows = np.rint((np.arange(shape[0]) + 0.5) * len(cut) / shape[0] - 0.5).clip(0, len(cut) - 1).astype(int)
        wanted = flat[rows]
    else:
        wanted = transform.resize(cut, shape, 3, mode="edge", anti_aliasing=False)
    assert got.shape == wanted.shape
    inner = tuple(slice(3, -3) for _ in range(3)) if not separate else (slice(None), slice(3, -3), slice(3, -3))
    # At the borders the splines are continued differently.
    np.testing.assert_allclose(got[inner], wanted[inner], atol=0.02 * np.ptp(wanted))
    assert np.abs(got - wanted).mean() < 0.005 * np.ptp(wanted)


def test_ways_of_resampling():
    assert interpolation({}) == "cubic_in_plane"
    assert interpolation({"resampling_fn_data_kwargs": {"order": 1}}) == "linear"
    assert interpolation({"resampling_fn_data_kwargs": {"order": 3, "force_separate_z": False}}) == "cubic"
    with pytest.raises(ModelError, match="'mine'"):
        interpolation({"resampling_fn_data": "mine"})


# Refused


class Bomb:
    """Runs code when it is unpickled by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "run")


def test_checkpoint_that_runs_code(tmp_path):
    folder = write(
        tmp_path / "f", plans(), {0: peer_network(PLAIN).state_dict()}, extra={"evil": Bomb(tmp_path / "ran.txt")}
    )
    with pytest.raises(ModelError, match="not plain tensors") as caught:
        convert_nnunet(folder, tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_numpy_objects_in_a_checkpoint_are_refused(tmp_path):
    torch.save({"network_weights": {}, "x": np.array([Bomb(tmp_path / "ran.txt")], object)}, tmp_path / "c.pth")
    with pytest.raises(ModelError, match="not plain tensors"):
        read_checkpoint(tmp_path / "c.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.pth"]


BAD = {
    "other network": (
        lambda p, d: p["configurations"]["3d_fullres"]["architecture"].update(network_class_name="os.system"),
        "'os.system'",
    ),
    "other library": (
        lambda p, d: p["configurations"]["3d_fullres"]["architecture"].update(network_class_name="evil.PlainConvUNet"),
        "evil.PlainConvUNet",
    ),
    "other layer": (
        lambda p, d: p["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(nonlin="os.system"),
        "nonlin 'system'",
    ),
    "other weights": (
        lambda p, d: p["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"].update(
            features_per_stage=[4, 8, 16]
        ),
        "has the shape",
    ),
    "cascade": (lambda p, d: p["configurations"]["3d_fullres"].update(previous_stage="3d_lowres"), "cascades"),
    "missing number": (lambda p, d: p["configurations"]["3d_fullres"].pop("patch_size"), "damaged"),
    "no labels": (lambda p, d: d.pop("labels"), "names no labels"),
    "labels with a gap": (lambda p, d: d.update(labels={"background": 0, "x": 2}), "not numbered"),
    "inherits itself": (
        lambda p, d: p["configurations"]["3d_fullres"].update(inherits_from="3d_fullres"), "no configuration",
    ),
    "inherits nothing": (
        lambda p, d: p["configurations"]["3d_fullres"].update(inherits_from="absent"), "no configuration 'absent'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_results_are_refused(name, tmp_path):
    plan, dataset = plans(), json.loads(json.dumps(DATASET))
    change, match = BAD[name]
    change(plan, dataset)
    write(tmp_path / "f", plan, {0: peer_network(PLAIN).state_dict()}, dataset)
    with pytest.raises(ModelError, match=match) as caught:
        convert_nnunet(tmp_path / "f", tmp_path / "package")
    assert "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f"]


def test_what_is_no_result(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds 0 results"):
        convert_nnunet(tmp_path / "empty", tmp_path / "package")
    for name in ("a__3d_fullres", "a__3d_lowres"):
        write(tmp_path / f"two/{name}", plans(), {0: {}})
    with pytest.raises(ModelError, match="choose one of a__3d_fullres, a__3d_lowres"):
        convert_nnunet(tmp_path / "two", tmp_path / "package")
    with pytest.raises(ModelError, match="does not name three axes"):
        convert_nnunet(tmp_path / "two", tmp_path / "package", orientation="RRS")
