"""What nnU-Net's ``plans.json`` says about network and preparation, as fields of a model card.

Isensee et al. 2021, Nat Methods 18:203; the file format is that of nnU-Net 2.0 to 2.8.
"""

from __future__ import annotations

from ...core import ModelError
from ...core.model_intensity import Intensity

_ARCHITECTURES = {"PlainConvUNet": "nnunet.PlainConvUNet", "ResidualEncoderUNet": "nnunet.ResidualEncoderUNet"}
_NORMS = {"InstanceNorm": "instance", "BatchNorm": "batch"}
_ACTIVATIONS = {"LeakyReLU": "leaky_relu", "ReLU": "relu"}


def configuration(plans: dict, name: str) -> dict:
    """A configuration with what it inherits.

    Raises
    ------
    ModelError
        If there is none of this name, or it inherits from itself.
    """
    everything, seen, chain = plans.get("configurations"), set(), []
    while name:
        if not isinstance(everything, dict) or not isinstance(everything.get(name), dict) or name in seen:
            known = ", ".join(everything) if isinstance(everything, dict) else "none"
            raise ModelError(f"nnU-Net's plans have no configuration '{name[:60]}' (they have: {known[:120]}).")
        seen.add(name)
        chain.append(everything[name])
        name = str(everything[name].get("inherits_from") or "")
    result = {}
    for part in reversed(chain):
        result |= part
    return result


def architecture(plans: dict, settings: dict, inputs: int, classes: int) -> tuple[str, dict]:
    """``(class, arguments)`` of a card's network.

    Raises
    ------
    ModelError
        If the plans name a network that MedImgAI does not have.
    """
    given = settings.get("architecture")
    if not isinstance(given, dict):
        return _old_architecture(settings, inputs, classes)
    name = str(given.get("network_class_name", "")).rpartition(".")
    values = given.get("arch_kwargs")
    if name[2] not in _ARCHITECTURES or not name[0].startswith("dynamic_network_architectures"):
        raise ModelError(f"nnU-Net's plans ask for '{str(given.get('network_class_name'))[:80]}', which is not known.")
    if not isinstance(values, dict):
        raise ModelError("nnU-Net's plans do not say how the network is built.")
    dimensions = 2 if str(values.get("conv_op")).endswith("Conv2d") else 3
    norm = str(values.get("norm_op") or "").rpartition(".")[2].rstrip("23d")
    activation = str(values.get("nonlin") or "").rpartition(".")[2]
    for what, found, known in (("norm_op", norm, _NORMS), ("nonlin", activation, _ACTIVATIONS)):
        if found not in known:
            raise ModelError(f"nnU-Net's plans ask for {what} '{found[:60]}', which is not known.")
    if values.get("nonlin_first") or values.get("bottleneck_channels") or values.get("squeeze_excitation"):
        raise ModelError("nnU-Net's plans ask for a variant of the network that MedImgAI does not have.")
    stages = int(values["n_stages"])
    norm_values = values.get("norm_op_kwargs") or {}
    blocks = values.get("n_blocks_per_stage", values.get("n_conv_per_stage", 2))
    arguments = {
        "dimensions": dimensions, "in_channels": inputs, "classes": classes,
        "features": _per_stage(values["features_per_stage"], stages),
        "kernels": _extents(values["kernel_sizes"], stages, dimensions),
        "strides": _extents(values["strides"], stages, dimensions),
        "blocks": _per_stage(blocks, stages),
        "decoder_blocks": _per_stage(values.get("n_conv_per_stage_decoder", 2), stages - 1),
        "conv_bias": bool(values.get("conv_bias", False)), "norm": _NORMS[norm],
        "norm_eps": float(norm_values.get("eps", 1e-5)),
        # What the layers themselves take where nothing is said: instance norm learns no scale, batch norm does.
        "norm_affine": bool(norm_values.get("affine", norm == "BatchNorm")),
        "activation": _ACTIVATIONS[activation],
        "slope": float((values.get("nonlin_kwargs") or {}).get("negative_slope", 0.01)),
    }  # fmt: skip
    if name[2] == "ResidualEncoderUNet" and values.get("stem_channels"):
        arguments["stem_channels"] = int(values["stem_channels"])
    return _ARCHITECTURES[name[2]], arguments


def _old_architecture(settings: dict, inputs: int, classes: int) -> tuple[str, dict]:
    """As nnU-Net 2.0 to 2.3 wrote it."""
    name = str(settings.get("UNet_class_name"))
    if name not in _ARCHITECTURES:
        raise ModelError(f"nnU-Net's plans ask for '{name[:80]}', which is not known.")
    kernels = settings["conv_kernel_sizes"]
    dimensions, stages = len(kernels[0]), len(kernels)
    base, most = int(settings["UNet_base_num_features"]), int(settings["unet_max_num_features"])
    arguments = {
        "dimensions": dimensions, "in_channels": inputs, "classes": classes,
        "features": [min(base << n, most) for n in range(stages)],
        "kernels": _extents(kernels, stages, dimensions),
        "strides": _extents(settings["pool_op_kernel_sizes"], stages, dimensions),
        "blocks": _per_stage(settings["n_conv_per_stage_encoder"], stages),
        "decoder_blocks": _per_stage(settings["n_conv_per_stage_decoder"], stages - 1),
    }  # fmt: skip
    return _ARCHITECTURES[name], arguments


def intensity(scheme: str, use_mask: bool, properties: dict | None):
    """Rules of :class:`.model_intensity.Intensity` for one of nnU-Net's normalisation schemes.

    Raises
    ------
    ModelError
        If it is not known or its numbers are missing.
    """
    if scheme == "CTNormalization":
        try:
            low, high, mean, std = (float(properties[k]) for k in ("percentile_00_5", "percentile_99_5", "mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError("nnU-Net's plans lack the intensities of the foreground.") from error
        return (Intensity("clip", lower=low, upper=high), Intensity("fixed_z_score", mean=mean, std=max(std, 1e-8)))
    known = {
        "ZScoreNormalization": Intensity("z_score", nonzero=use_mask, filled=use_mask),
        "NoNormalization": Intensity("none"),
        "RescaleTo01Normalization": Intensity("min_max"),
        "RGBTo01Normalization": Intensity("range", lower=0, upper=255),
    }
    if scheme not in known:
        raise ModelError(f"nnU-Net's plans normalise by '{scheme[:60]}', which MedImgAI does not have.")
    return known[scheme]


def interpolation(settings: dict) -> str:
    """How images are brought to the plans' spacing.

    Raises
    ------
    ModelError
        If it is in a way that MedImgAI does not have.
    """
    function = str(settings.get("resampling_fn_data", "resample_data_or_seg_to_shape"))
    values = settings.get("resampling_fn_data_kwargs") or {}
    order = values.get("order", 3)
    if function == "resample_data_or_seg_to_shape" and order in (1, 3):
        if order == 1:
            return "linear"
        return "cubic" if values.get("force_separate_z") is False else "cubic_in_plane"
    if function.startswith("resample_torch") and values.get("mode", "linear") == "linear":
        return "linear"
    raise ModelError(f"nnU-Net's plans resample by '{function[:60]}', which MedImgAI does not have.")


def labels_of(dataset: dict) -> tuple[dict[int, str], bool]:
    """``({label: name}, whether they are regions within one another)``.

    Raises
    ------
    ModelError
        If ``dataset.json`` does not say which labels there are.
    """
    given = dataset.get("labels")
    if not isinstance(given, dict) or not given:
        raise ModelError("nnU-Net's dataset.json names no labels.")
    named = {str(k): v for k, v in given.items() if str(k) != "ignore"}
    if any(isinstance(v, list) for v in named.values()) or dataset.get("regions_class_order"):
        regions = [k for k, v in named.items() if v not in (0, [0])]
        return dict(enumerate(regions, start=1)), True
    try:
        values = {int(v): k for k, v in named.items()}
    except (TypeError, ValueError) as error:
        raise ModelError("nnU-Net's dataset.json names labels that are no numbers.") from error
    if sorted(values) != list(range(len(values))):
        raise ModelError("The labels in nnU-Net's dataset.json are not numbered from 0 on.")
    return {v: name for v, name in values.items() if v}, False


def _per_stage(value, stages: int) -> list[int]:
    result = [int(v) for v in value] if isinstance(value, list) else [int(value)] * stages
    if len(result) != stages:
        raise ModelError(f"nnU-Net's plans give {len(result)} numbers for {stages} stages.")
    return result


def _extents(value, stages: int, dimensions: int) -> list[list[int]]:
    stagewise = value if isinstance(value, list) else [value] * stages
    result = [[int(v)] * dimensions if isinstance(v, int) else [int(n) for n in v] for v in stagewise]
    if len(result) != stages or any(len(v) != dimensions for v in result):
        raise ModelError(f"nnU-Net's plans do not give {dimensions} extents for each of {stages} stages.")
    return result
