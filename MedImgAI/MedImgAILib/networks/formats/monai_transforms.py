"""A MONAI bundle's transforms as fields of a model card; what has no counterpart is refused by name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...core import ModelError
from ...core.model_intensity import Intensity

_READING = {
    "LoadImage", "EnsureChannelFirst", "AddChannel", "EnsureType", "CastToType", "ToTensor", "ToDevice", "Identity",
    "SqueezeDim",
}  # fmt: skip
"""They change how an image is held, not what it is."""
_PADDING = {"DivisiblePad", "SpatialPad"}
"""Needless where windows slide: an image that is too small is padded anyway."""
_WRITING = {"Invert", "SaveImage", "EnsureType", "CastToType", "ToTensor", "ToDevice", "ToNumpy"}
_PAINTED = re.compile(r"torch\.where\(x\[\[(\d+)\]\] ?> ?0, ?(\d+), ?")


@dataclass
class Preparation:
    """What the transforms before the network do."""

    axcodes: str = "RAS"
    says_orientation: bool = False
    pixdim: list[float] | None = None
    interpolation: str = "linear"
    intensity: list[Intensity] = field(default_factory=list)
    intensity_first: bool = False
    crop_above: float | None = None
    size: list[int] | None = None
    keys: tuple[str, ...] = ("image",)


@dataclass
class Reading:
    """What the transforms after the network do: as in :class:`.model_inference.Inference`."""

    activation: str = "softmax"
    threshold: float = 0.5
    channels: tuple[int, ...] | None = None
    largest: tuple[int, ...] = ()


def named(transform: dict) -> str:
    """The class of a transform, without module and without the ``d`` of those that work on dictionaries."""
    target = str(transform.get("_target_", ""))
    module, _, name = target.rpartition(".")
    if module and not module.startswith("monai.transforms"):
        return target
    for end in ("Dict", "D", "d"):
        if name.endswith(end) and len(name) > len(end):
            return name.removesuffix(end)
    return name


def read_preparation(transforms: list, config, slides: bool) -> Preparation:
    """What the bundle's preprocessing asks for.

    Parameters
    ----------
    transforms : list of dict
        As they stand in the configuration.
    config : Config
        Gives their arguments' values.
    slides : bool
        Whether windows slide over the image.

    Raises
    ------
    ModelError
        If a transform or one of its options has no counterpart.
    """
    result = Preparation()
    for given in transforms:
        name = named(given)
        if given.get("_disabled_") is True or name in _READING or (name in _PADDING and slides):
            result.keys = _keys(given, config, result.keys)
            continue
        maker = _STEPS.get(name)
        if maker is None:
            raise ModelError(f"The bundle prepares its images by '{name[:80]}', which MedImgAI does not have.")
        values = {k: config.value(v) for k, v in given.items() if k not in ("_target_", "_desc_", "_requires_")}
        maker(result, values, name)
    return result


def _keys(given: dict, config, known: tuple[str, ...]) -> tuple[str, ...]:
    if named(given) != "LoadImage" or "keys" not in given:
        return known
    keys = config.value(given["keys"])
    keys = (keys,) if isinstance(keys, str) else tuple(str(k) for k in keys)
    return tuple(k for k in keys if k not in ("label", "labels", "mask")) or known


def _orientation(result: Preparation, values: dict, name: str):
    axcodes = values.get("axcodes")
    if values.get("as_closest_canonical") or not re.fullmatch("[RLAPSI]{3}", str(axcodes)):
        axcodes = "RAS" if values.get("as_closest_canonical") else _refuse(name, "axcodes", axcodes)
    result.axcodes, result.says_orientation = axcodes, True


def _spacing(result: Preparation, values: dict, name: str):
    pixdim = values.get("pixdim")
    pixdim = [pixdim] * 3 if isinstance(pixdim, (int, float)) else pixdim
    plain = isinstance(pixdim, list) and all(isinstance(p, (int, float)) for p in pixdim)
    if not plain or len(pixdim) not in (2, 3):
        _refuse(name, "pixdim", pixdim)
    mode = values.get("mode", "bilinear")
    mode = mode[0] if isinstance(mode, list) and mode else mode
    known = {"bilinear": "linear", "trilinear": "linear", 1: "linear", 3: "cubic"}
    if mode not in known:
        _refuse(name, "mode", mode)
    result.pixdim = [float(p) if p > 0 else 0.0 for p in pixdim] + [0.0] * (3 - len(pixdim))
    result.interpolation = known[mode]
    result.intensity_first = bool(result.intensity)


def _range(result: Preparation, values: dict, name: str):
    result.intensity.append(
        Intensity(
            "range", lower=_number(values, "a_min", name), upper=_number(values, "a_max", name),
            target=_target(values, "b_min", "b_max", name), open=not values.get("clip", False),
        )
    )  # fmt: skip


def _percentiles(result: Preparation, values: dict, name: str):
    if values.get("relative"):
        _refuse(name, "relative", True)
    result.intensity.append(
        Intensity(
            "percentiles", lower=_number(values, "lower", name), upper=_number(values, "upper", name),
            target=_target(values, "b_min", "b_max", name), open=not values.get("clip", False),
        )
    )  # fmt: skip


def _min_max(result: Preparation, values: dict, name: str):
    if values.get("factor") is not None:
        _refuse(name, "factor", values["factor"])
    result.intensity.append(Intensity("min_max", target=_target(values, "minv", "maxv", name)))


def _normalize(result: Preparation, values: dict, name: str):
    mean, deviation = values.get("subtrahend"), values.get("divisor")
    if (mean is None) != (deviation is None):
        _refuse(name, "subtrahend", mean)
    if mean is not None:
        result.intensity.append(
            Intensity("fixed_z_score", mean=_number(values, "subtrahend", name), std=_number(values, "divisor", name))
        )
        return
    nonzero = values.get("nonzero", False) in (True, "True")
    result.intensity.append(Intensity("z_score", nonzero=nonzero))


def _crop(result: Preparation, values: dict, name: str):
    if values.get("select_fn") is not None:
        _refuse(name, "select_fn", values["select_fn"])
    if values.get("margin"):
        return  # the margin may hold anything: the whole image is taken, which includes it
    rules = result.intensity
    if not rules:
        result.crop_above = 0.0
    elif len(rules) == 1 and rules[0].rule == "range" and (rules[0].target or (0.0,))[0] == 0.0:
        result.crop_above = rules[0].lower
    else:
        _refuse(name, "source_key", "an image of other values")


def _resize(result: Preparation, values: dict, name: str):
    size = values.get("spatial_size")
    if not isinstance(size, list) or len(size) not in (2, 3) or not all(type(n) is int and n > 0 for n in size):
        _refuse(name, "spatial_size", size)
    result.size = size


def _concatenate(result: Preparation, values: dict, name: str):
    keys = values.get("keys")
    result.keys = tuple(keys) if isinstance(keys, list) else result.keys


_STEPS = {
    "Orientation": _orientation, "Spacing": _spacing, "ScaleIntensityRange": _range,
    "ScaleIntensityRangePercentiles": _percentiles, "ScaleIntensity": _min_max, "NormalizeIntensity": _normalize,
    "CropForeground": _crop, "Resize": _resize, "ConcatItems": _concatenate,
}  # fmt: skip


def _number(values: dict, key: str, name: str) -> float:
    value = values.get(key)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        _refuse(name, key, value)
    return float(value)


def _target(values: dict, low: str, high: str, name: str) -> tuple[float, float] | None:
    if values.get(low) is None and values.get(high) is None:
        return None if low == "minv" else _refuse(name, low, None)
    target = (_number(values, low, name), _number(values, high, name))
    return None if target == (0.0, 1.0) else target


def _refuse(name: str, option: str, value):
    raise ModelError(f"The bundle's '{name[:60]}' has {option} {str(value)[:60]!r}, which MedImgAI does not have.")


def read_postprocessing(transforms: list, config, channels: int) -> tuple[Reading, dict[int, int]]:
    """What is made of the scores, and for painted regions the label in the publisher's files of each channel.

    Raises
    ------
    ModelError
        If a transform has no counterpart.
    """
    result, painted = Reading(), {}
    for given in transforms:
        name = named(given)
        if given.get("_disabled_") is True or name in _WRITING:
            continue
        values = {k: v for k, v in given.items() if k not in ("_target_", "func")}
        values = {k: config.value(v) for k, v in values.items() if k not in ("transform", "keys", "meta_keys")} if (
            name in ("Activations", "AsDiscrete", "KeepLargestConnectedComponent")
        ) else values  # fmt: skip
        if name == "Activations":
            result.activation = "sigmoid" if values.get("sigmoid") else result.activation
        elif name == "AsDiscrete":
            if values.get("threshold") is not None and not values.get("argmax"):
                result.activation, result.threshold = "sigmoid", float(values["threshold"])
        elif name == "KeepLargestConnectedComponent":
            labels = values.get("applied_labels")
            labels = [labels] if isinstance(labels, int) else labels or list(range(1, channels))
            result.largest = tuple(int(n) for n in labels)
        elif name == "Lambda" and (found := _PAINTED.findall(str(given.get("func")))):
            order = [int(channel) for channel, _ in found]
            result.activation, result.channels = "regions", tuple(reversed(order))
            painted = {int(channel): int(label) for channel, label in found}
        else:
            raise ModelError(f"The bundle handles its result by '{name[:80]}', which MedImgAI does not have.")
    if result.activation == "sigmoid" and channels > 1:
        result.activation = "regions"
    return result, painted
