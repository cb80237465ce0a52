"""The public weights that MedImgAI can convert: which network, how images are prepared, what it finds."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from ..core.model_card import ModelCard, ModelInput, ModelOutput
from ..core.model_inference import Inference
from ..core.model_intensity import Intensity
from . import anatomy
from .anatomy import SUBCORTICAL
from .formats import organ_names
from .public_models import PublicModel, WeightFile

_NAMES = Path(__file__).with_name("label_names.json")
_WHOLE = Inference(mode="whole")
_QUANTILES = Intensity("percentiles", lower=2, upper=98)
_T1 = ModelInput("T1", "MR", 1, (1.0, 1.0, 1.0), "AIL", _QUANTILES, size=(256, 256, 256))
_T1_MIN_MAX = replace(_T1, intensity=Intensity("min_max"))
"""This network alone was trained on the whole range of values: with quantiles its Dice is a tenth lower."""
_FUNDUS = ModelInput(
    "fundus", "OP", 3, None, "LPS", Intensity("range", lower=0, upper=255), crop_above=15, size=(512, 512, 1),
    fit="stretch", interpolation="averaged",
)  # fmt: skip
_RISING_FALLING = [1, 2, 4, 8, 16, 8, 4, 2, 1]
_BRAINCHOP = {
    "inputs": (_T1,),
    "inference": _WHOLE,
    "license": "MIT",
    "training_data": "Not stated beside the weights; see the authors' publication.",
    "intended_use": "Research on T1-weighted images of adult heads.",
    "limits": "Measured here on one template only; lesions, children and other contrasts were not tried.",
    "citation": "Masoud M, Hu F, Plis S. Brainchop: in-browser MRI volumetric segmentation and rendering. "
    "J Open Source Softw 2023; 8(83):5098.",
}
_LWNET = {
    "license": "MIT",
    "citation": "Galdran A, Anjos A, Dolz J, et al. State-of-the-art retinal vessel segmentation with minimalistic "
    "models. Sci Rep 2022; 12:6174.",
    "intended_use": "Research on colour fundus photographs.",
    "limits": "Trained on a few images of one camera; other fields of view and pathologies lower its accuracy.",
}
_AUTOMORPH = {
    "license": "Apache-2.0",
    "citation": "Zhou Y, Wagner SK, Chia MA, et al. AutoMorph: automated retinal vascular morphology quantification "
    "via a deep learning pipeline. Transl Vis Sci Technol 2022; 11(7):12.",
    "intended_use": "Research on colour fundus photographs of 45°.",
    "limits": "Poor on photographs of 30° about the optic disc.",
}


def _card(name: str, title: str, segments, architecture: str, arguments: dict, **facts) -> ModelCard:
    output = ModelOutput("segmentation", "segmentation", segments)
    return ModelCard(
        id=name, version="1.0.0", title=title, task="segmentation", outputs=(output,), architecture=architecture,
        arguments=arguments, **facts,
    )  # fmt: skip


def _listed(name: str):
    """Segments of a list of names that is kept in a file for its length."""
    names = json.loads(_NAMES.read_text(encoding="utf-8"))[name]
    return organ_names.segments(dict(enumerate(names, start=1)))


def _mesh(
    name, title, file, found, dilations, rename=lambda k: k.removeprefix("model."), image=_T1, **network
):  # fmt: skip
    segments = anatomy.segments(*found) if found else _listed(name)
    arguments = {"classes": len(segments) + 1, "dilations": dilations} | network
    facts = _BRAINCHOP | {"inputs": (image,)}
    return PublicModel(
        _card(name, title, segments, "medimgai.MeshNet", arguments, **facts), (WeightFile(*file),), rename
    )


def _mindgrab_name(name: str) -> str:
    """``model.N.0.weight`` of layer N, which is convolution, normalisation and activation; ``model.25.…`` the last."""
    layer, rest = re.fullmatch(r"model\.(\d+)\.(?:0\.)?(weight|bias)", name).groups()
    return f"{3 * int(layer)}.{rest}"


def _autoencoder(name, title, file, found, features):
    segments = anatomy.segments(*found)
    facts = _BRAINCHOP | {
        "license": "Not stated beside the weights; the authors' program that loads them is MIT.",
    }  # fmt: skip
    arguments = {"classes": len(segments) + 1, "features": features}
    return PublicModel(_card(name, title, segments, "public.SAENet", arguments, **facts), (WeightFile(*file),))


def _retina(name, title, file, found, channels, classes, data, facts=_LWNET, size=512, **inference):
    inputs = (_FUNDUS if size == 512 else ModelInput(**(vars(_FUNDUS) | {"size": (size, size, 1)})),)
    card = _card(
        name, title, anatomy.segments(*found), "medimgai.WNet", {"classes": classes, "channels": channels},
        inputs=inputs, training_data=data, inference=Inference(mode="whole", dimensions=2, **inference), **facts,
    )  # fmt: skip
    return PublicModel(card, (WeightFile(*file, key="model_state_dict"),), _wnet_name)


def _wnet_name(name: str) -> str:
    for pattern, ours in (
        (r"^unet1\.", "coarse."), (r"^unet2\.", "fine."), (r"\.down_path\.", ".down."), (r"\.up_path\.", ".up."),
        (r"\.up_layer\.block\.0\.", ".up."), (r"\.conv_layer\.", ".block."),
        (r"\.conv_bridge_layer\.block\.", ".bridge."), (r"\.final\.", ".last."),
    ):  # fmt: skip
        name = re.sub(pattern, ours, name)
    return name


def _hd_bet_name(name: str) -> str | None:
    """Statistics that the publisher's program does not use, and outputs for its training, are left out."""
    unused = name.endswith(("running_mean", "running_var", "num_batches_tracked")) or name.startswith("loc2_seg.")
    return None if unused or name.startswith("loc3_seg.") else name


_HD_BET = _card(
    "hd_bet", "Brain extraction (HD-BET 1)", anatomy.segments("Brain"), "public.HDBET",
    {"in_channels": 1, "classes": 2, "features": 21},
    inputs=(
        ModelInput(
            "image", "MR", 1, (1.5, 1.5, 1.5), "RAS", Intensity("z_score"), interpolation="cubic", align="box",
        ),
    ),
    inference=Inference(window=(128, 128, 128), largest=(1,)), license="Apache-2.0",
    citation="Isensee F, Schell M, Pflueger I, et al. Automated brain extraction of multisequence MRI using artificial "
    "neural networks. Hum Brain Mapp 2019; 40:4952-4964.",
    training_data="MR of adult patients with brain tumours from 37 institutions: T1, T1 with contrast, T2, FLAIR.",
    intended_use="Research on T1, T2 and FLAIR images of adult heads.",
    limits="Five networks one after another: minutes on a processor. Test-time mirroring is not applied.",
)  # fmt: skip
_FLAIR_GLIOMA = _card(
    "flair_glioma", "Lower-grade glioma in FLAIR (U-Net)", organ_names.segments({1: "Glioma, FLAIR abnormality"}),
    "public.FlairUNet", {"in_channels": 3, "classes": 1, "features": 32},
    inputs=tuple(
        ModelInput(
            name, "MR", 1, (1.0, 1.0, 0.0), "LPS", (Intensity("percentiles", lower=10, upper=99), Intensity("z_score"))
        )
        for name in ("T1", "FLAIR", "T1c")
    ),
    inference=Inference(window=(256, 256, 1), dimensions=2, activation="sigmoid"), license="MIT",
    citation="Buda M, Saha A, Mazurowski MA. Association of genomic subtypes of lower-grade gliomas with shape "
    "features automatically extracted by a deep learning algorithm. Comput Biol Med 2019; 109:218-225.",
    training_data="TCGA lower-grade glioma collection, 110 patients: slices of T1, FLAIR and T1 with contrast.",
    intended_use="Research on lower-grade gliomas.",
    limits="Not run here: its weights could not be had. Give the FLAIR image three times where T1 is missing.",
)  # fmt: skip
_HIPPODEEP = _card(
    "hippodeep", "Hippocampi (hippodeep)", organ_names.segments({1: "Left hippocampus", 2: "Right hippocampus"}),
    "public.Hippodeep", {}, inputs=(ModelInput("T1", "MR", 1, None, "SAL", Intensity("z_score")),),
    inference=_WHOLE, license="MIT",
    citation="Thyreau B, Sato K, Fukuda H, Taki Y. Segmentation of the hippocampus by transferring algorithmic "
    "knowledge for large cohort processing. Med Image Anal 2018; 43:214-228.",
    training_data="T1-weighted images of several large cohorts with hippocampi by FreeSurfer; see the publication.",
    intended_use="Research on T1-weighted images of whole adult heads.",
    limits="The head must be complete in the image, its skull included.",
)  # fmt: skip

PUBLIC_MODELS: dict[str, PublicModel] = {
    "brainchop.grey_white": _mesh(
        "brainchop.grey_white", "Grey and white matter (MeshNet, 5 channels)",
        ("model5_gw_ae.pth", "8b83b35b971305b9baeef9f927a5f0d4432c7beea60743f54e8d960031298ba3"),
        ("White matter", "Grey matter"), _RISING_FALLING, image=_T1_MIN_MAX, channels=5,
    ),
    "brainchop.subcortical": _mesh(
        "brainchop.subcortical", "Cortex and subcortical structures (MeshNet, 30 channels)",
        ("subcortical.pth", "aa5235ab3a034135277c47f8e7c32849895c6e31ee6c4e942d63a6aec5ff4ee4"), SUBCORTICAL,
        _RISING_FALLING, channels=30, activation="elu",
    ),
    "brainchop.subcortical_small": _mesh(
        "brainchop.subcortical_small", "Cortex and subcortical structures (MeshNet, 21 channels)",
        ("model18cls.pth", "0798b61d58626010708284cab719f2674c817c789acb84e8eec5265a46e8fbbc"), SUBCORTICAL,
        _RISING_FALLING, channels=21, activation="elu",
    ),
    "brainchop.structures_50": _mesh(
        "brainchop.structures_50", "Cortical regions and subcortical structures (MeshNet, 50 classes)",
        ("model30chan50cls.pth", "4e411f33ad72148bda65e75ba5780bf95039dd29a8227165078e8f84fc407085"), (),
        _RISING_FALLING, channels=30, activation="elu",
    ),
    "brainchop.atlas_104": _mesh(
        "brainchop.atlas_104", "Cortical regions and structures, left and right (MeshNet, 104 classes)",
        ("model21_104class.pth", "09e80b88aac5069cf536114c9082a30e574c2ef12fbd396cd7c02e8ccb025622"), (),
        [1, 2, 2, 4, 4, 8, 8, 16], channels=21,
    ),
    "brainchop.mindgrab": _mesh(
        "brainchop.mindgrab", "Brain extraction (mindgrab)",
        ("mindgrab.pth", "31f1bda17b8d3eee17a54cf3f199899763a6615a049f05ab2a05f18eb98ec23a"), ("Brain",),
        [16, 8, 4, 2, 1] * 5, _mindgrab_name, channels=15, activation="gelu", instance_norm=True, bias=False,
    ),
    "brainchop.sae_tissue": _autoencoder(
        "brainchop.sae_tissue", "Grey and white matter (spatial autoencoder)",
        ("sae_robust_tissue.pth", "66f11f80a0990320fe78559cdd4ce9b8c74b3bd6220919814310d7fffd608842"),
        ("Grey matter", "White matter"), [16, 32, 16],
    ),
    "brainchop.sae_structures": _autoencoder(
        "brainchop.sae_structures", "Cortex and subcortical structures (spatial autoencoder)",
        ("sae_big_robust_tissue.pth", "51de83ed740b74c50ce2e1848391142906249c06a4b7f7a31415e834a7da86ae"),
        SUBCORTICAL, [32, 64, 32],
    ),
    "lwnet.vessels": _retina(
        "lwnet.vessels", "Retinal vessels (W-Net, DRIVE)",
        ("wnet_drive.pth", "91f0cada4b26ece63464b05be60f9b3a51f1bcd1f764081d07d3a35961118de1"), ("Retinal vessels",),
        [8, 16, 32], 1, "DRIVE: 20 colour fundus photographs.", activation="sigmoid", threshold=0.4196,
    ),
    "lwnet.arteries_veins": _retina(
        "lwnet.arteries_veins", "Retinal arteries and veins (big W-Net, DRIVE)",
        ("big_wnet_drive_av.pth", "3ef72c572c436d758b7d266ed2719e82b69ae472ea1a16e0b60ba847c920bfb5"),
        ("Crossing or uncertain vessel", "Retinal arteries", "Retinal veins"), [8, 16, 32, 64], 4,
        "DRIVE: 20 colour fundus photographs.",
    ),
    "lwnet.arteries_veins_hrf": _retina(
        "lwnet.arteries_veins_hrf", "Retinal arteries and veins (big W-Net, HRF)",
        ("big_wnet_hrf_av_1024.pth", "c533b8e6549c875240da492d641f03e9bd91f784d6cfc819fbfd2af19574b170"),
        ("Crossing or uncertain vessel", "Retinal arteries", "Retinal veins"), [8, 16, 32, 64], 4,
        "HRF: colour fundus photographs of high resolution.", size=1024,
    ),
    "automorph.disc_cup": _retina(
        "automorph.disc_cup", "Optic disc and cup (W-Net, AutoMorph)",
        ("wnet_disc_cup_seed28.pth", "6022098f7fa5494b60e673685a7baab350d4d3f71a221bd79106658f23d555c2"),
        ("Optic disc rim", "Optic cup"), [8, 16, 32], 3, "REFUGE, GAMMA and IDRID; see the publication.", _AUTOMORPH,
    ),
    "hippodeep": PublicModel(
        _HIPPODEEP,
        (
            WeightFile(
                "hippodeep.pt", "38d9340ad960958618fd6235385a9a20f8d7c1840696e6180dac7598847e1846", "hippocampus."
            ),
            WeightFile(
                "params_head_00075_00000.pt", "f50ada0f3e6011955f00a05e6da070b1528adde30a80b802f8a73ea9d918cff9",
                "head.",
            ),
            WeightFile(
                "paramsaffineta_00079_00000.pt", "070fce2921a3d333eb85560c0873c65c91cc4c41ac99c219e4f3172cc43333b7",
                "affine.",
            ),
        ),
    ),
    "flair_glioma": PublicModel(_FLAIR_GLIOMA, (WeightFile("unet-e012d006.pt", "e012d006"),)),
    "hd_bet": PublicModel(
        _HD_BET,
        tuple(
            WeightFile(f"{number}.model", sha256)
            for number, sha256 in enumerate((
                "6f75233753c4750672815e2b7a86db754995ae44b8f1cd77bccfc37becd2d83c",
                "5fcd430c271bb5e13ea8d44f3d303b2dfafa4d0845c1aec6c5a7375f6d727189",
                "558ede4acb35537585219ece9c6b4b627dd3c019c6865daed0dfc80781dd94e9",
                "57bf67a58c9e925b13d5b9ae6d6bb648deaf759f6d0af2ccad67651d7a2a93db",
                "567689e4dff87debe357b30e4414c412485207657d1e99c33bf0bf587d28bf32",
            ))
        ),
        _hd_bet_name, is_ensemble=True,
    ),
}  # fmt: skip
