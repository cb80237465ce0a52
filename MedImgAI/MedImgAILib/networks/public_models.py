"""Public weights and how they become model packages: which network, how the image is prepared, what it finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core import Context, ModelError
from ..core.model_card import ModelCard, ModelInput, ModelOutput
from ..core.model_inference import Inference
from ..core.model_intensity import Intensity
from ..core.model_package import ModelPackage
from .anatomy import SUBCORTICAL, segments
from .tensors import read_tensors

_WHOLE = Inference(mode="whole")
_T1 = ModelInput(
    "T1", "MR", 1, (1.0, 1.0, 1.0), "AIL", Intensity("percentiles", lower=2, upper=98), size=(256, 256, 256)
)
_FUNDUS = ModelInput(
    "fundus", "OP", 3, None, "LPS", Intensity("range", lower=0, upper=255), crop_above=15, size=(512, 512, 1),
    fit="stretch",
)  # fmt: skip
_RISING_FALLING = [1, 2, 4, 8, 16, 8, 4, 2, 1]
_BRAINCHOP = {
    "inputs": (_T1,),
    "inference": _WHOLE,
    "architecture": "medimgai.MeshNet",
    "license": "MIT",
    "training_data": "Not stated beside the weights; see the authors' publication.",
    "intended_use": "Research on T1-weighted images of adult heads.",
    "limits": "Measured here on one template only; lesions, children and other contrasts were not tried.",
    "citation": "Masoud M, Hu F, Plis S. Brainchop: in-browser MRI volumetric segmentation and rendering. "
    "J Open Source Softw 2023; 8(83):5098.",
}
_LWNET = {
    "inputs": (_FUNDUS,),
    "architecture": "medimgai.WNet",
    "license": "MIT",
    "citation": "Galdran A, Anjos A, Dolz J, et al. State-of-the-art retinal vessel segmentation with minimalistic "
    "models. Sci Rep 2022; 12:6174.",
    "intended_use": "Research on colour fundus photographs.",
    "limits": "Trained on a few images of one camera; other fields of view and pathologies lower its accuracy.",
}


@dataclass(frozen=True)
class PublicModel:
    """A weight file of others that can be made a package.

    Parameters
    ----------
    card : ModelCard
    sha256 : str
        Of the weight file.
    rename : callable
        From the file's names of tensors to our network's.
    key : str, optional
        See :func:`.tensors.read_tensors`.
    """

    card: ModelCard
    sha256: str
    rename: Callable[[str], str]
    key: str | None = None


def convert(source: Path | str, folder: Path | str, model_id: str | None = None) -> ModelPackage:
    """Make a model package of a public weight file.

    Parameters
    ----------
    source : Path
        The file as published; recognised by its hash.
    folder : Path
        For the package; must not exist, or be empty.
    model_id : str, optional
        Key of :data:`PUBLIC_MODELS` that the file must be.

    Raises
    ------
    ModelError
        If the file is unknown, damaged or not the one wanted.
    OutputError
        If the folder is in use or cannot be written.
    """
    from .tensors import sha256_of

    source = Path(source)
    if not source.is_file():
        raise ModelError(f"There is no weight file {source}.")
    found = sha256_of(source)
    known = {m.sha256: name for name, m in PUBLIC_MODELS.items()}
    name = model_id or known.get(found)
    if name is None:
        raise ModelError(f"The weight file {source} is none of those that MedImgAI can convert.")
    if name not in PUBLIC_MODELS:
        raise ModelError(f"There is no public model '{name}'; there are {', '.join(PUBLIC_MODELS)}.")
    model = PUBLIC_MODELS[name]
    tensors = read_tensors(source, model.sha256, model.key)
    return ModelPackage.create(folder, model.card, {model.rename(k): v for k, v in tensors.items()})


def load_or_convert(path: Path | str, folder: Path | str, context: Context) -> ModelPackage:
    """The package at ``path``, or, if that is a public weight file, the package made of it in ``folder``."""
    path = Path(path)
    if path.is_file():
        context.log(f"Converting {path.name}.")
        return convert(path, folder)
    return ModelPackage.load(path)


def _mesh(name, title, sha256, found, dilations, rename=lambda k: k.removeprefix("model."), **network):
    card = ModelCard(
        id=name, version="1.0.0", title=title, task="segmentation",
        outputs=(ModelOutput("segmentation", "segmentation", segments(*found)),),
        arguments={"classes": len(found) + 1, "dilations": dilations} | network, **_BRAINCHOP,
    )  # fmt: skip
    return PublicModel(card, sha256, rename)


def _mindgrab_name(name: str) -> str:
    """``model.N.0.weight`` of layer N, which is convolution, normalisation and activation; ``model.25.…`` the last."""
    layer, rest = re.fullmatch(r"model\.(\d+)\.(?:0\.)?(weight|bias)", name).groups()
    return f"{3 * int(layer)}.{rest}"


def _retina(name, title, sha256, found, channels, classes, data, **inference):
    card = ModelCard(
        id=name, version="1.0.0", title=title, task="segmentation", training_data=data,
        outputs=(ModelOutput("segmentation", "segmentation", segments(*found)),),
        arguments={"classes": classes, "channels": channels},
        inference=Inference(mode="whole", dimensions=2, **inference), **_LWNET,
    )  # fmt: skip
    return PublicModel(card, sha256, _wnet_name, "model_state_dict")


def _wnet_name(name: str) -> str:
    for pattern, ours in (
        (r"^unet1\.", "coarse."), (r"^unet2\.", "fine."), (r"\.down_path\.", ".down."), (r"\.up_path\.", ".up."),
        (r"\.up_layer\.block\.0\.", ".up."), (r"\.conv_layer\.", ".block."),
        (r"\.conv_bridge_layer\.block\.", ".bridge."), (r"\.final\.", ".last."),
    ):  # fmt: skip
        name = re.sub(pattern, ours, name)
    return name


PUBLIC_MODELS: dict[str, PublicModel] = {
    "brainchop.grey_white": _mesh(
        "brainchop.grey_white", "Grey and white matter (MeshNet, 5 channels)",
        "8b83b35b971305b9baeef9f927a5f0d4432c7beea60743f54e8d960031298ba3", ("White matter", "Grey matter"),
        _RISING_FALLING, channels=5,
    ),
    "brainchop.subcortical": _mesh(
        "brainchop.subcortical", "Cortex and subcortical structures (MeshNet, 30 channels)",
        "aa5235ab3a034135277c47f8e7c32849895c6e31ee6c4e942d63a6aec5ff4ee4", SUBCORTICAL,
        _RISING_FALLING, channels=30, activation="elu",
    ),
    "brainchop.subcortical_small": _mesh(
        "brainchop.subcortical_small", "Cortex and subcortical structures (MeshNet, 21 channels)",
        "0798b61d58626010708284cab719f2674c817c789acb84e8eec5265a46e8fbbc", SUBCORTICAL,
        _RISING_FALLING, channels=21, activation="elu",
    ),
    "brainchop.mindgrab": _mesh(
        "brainchop.mindgrab", "Brain extraction (mindgrab)",
        "31f1bda17b8d3eee17a54cf3f199899763a6615a049f05ab2a05f18eb98ec23a", ("Brain",), [16, 8, 4, 2, 1] * 5,
        _mindgrab_name, channels=15, activation="gelu", instance_norm=True, bias=False,
    ),
    "lwnet.vessels": _retina(
        "lwnet.vessels", "Retinal vessels (W-Net, DRIVE)",
        "91f0cada4b26ece63464b05be60f9b3a51f1bcd1f764081d07d3a35961118de1", ("Retinal vessels",), [8, 16, 32], 1,
        "DRIVE: 20 colour fundus photographs.", activation="sigmoid", threshold=0.4196,
    ),
    "lwnet.arteries_veins": _retina(
        "lwnet.arteries_veins", "Retinal arteries and veins (big W-Net, DRIVE)",
        "3ef72c572c436d758b7d266ed2719e82b69ae472ea1a16e0b60ba847c920bfb5",
        ("Crossing or uncertain vessel", "Retinal arteries", "Retinal veins"), [8, 16, 32, 64], 4,
        "DRIVE: 20 colour fundus photographs.",
    ),
}  # fmt: skip
