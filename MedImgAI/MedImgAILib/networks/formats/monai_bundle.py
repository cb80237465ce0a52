"""Model packages made of MONAI bundles: a configuration, metadata and weights; nothing of the bundle is run.

The bundle's layout: https://docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

from ...core import ModelError
from ...core.model_card import ModelCard, ModelInput, ModelOutput
from ...core.model_inference import Inference
from ...core.model_networks import NETWORKS, check_network
from ...core.model_package import ModelPackage
from .checkpoints import read_checkpoint
from .monai_config import Config
from .monai_transforms import read_postprocessing, read_preparation
from .organ_names import segments
from .packing import fitted, identifier, license_name
from .sources import as_folder, inside

_CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
_MODALITIES = {"MRI": "MR", "MR": "MR", "CT": "CT", "PET": "PT", "PT": "PT", "US": "US", "XRAY": "DX"}
_DROPPED = ("img_size", "use_checkpoint")
"""Arguments that newer versions of MONAI no longer take, and that do not change the result."""


def is_bundle(folder: Path) -> bool:
    """Whether a folder looks like a MONAI bundle."""
    return (folder / "configs/metadata.json").exists() and any((folder / "configs" / n).exists() for n in _CONFIGS)


def convert_bundle(
    source: Path | str, folder: Path | str, model_id: str = "", changes: dict | None = None, orientation: str = ""
) -> ModelPackage:
    """Make a package of a bundle.

    Parameters
    ----------
    source : Path
        The bundle's folder or ZIP file.
    folder : Path
        For the package; must not exist, or be empty.
    model_id : str
        Made from the bundle's name if empty.
    changes : dict, optional
        Entries of the configuration that are replaced, by their name.
    orientation : str
        How images lie, as "LPS", where the bundle does not say; else RAS.

    Raises
    ------
    ModelError
        If it is no bundle for segmentation, names a network or a transform that MedImgAI does not have, or its
        weights are damaged, hold anything but tensors, or do not fit.
    """
    with as_folder(Path(source)) as bundle:
        card, weights = _read(bundle, model_id, changes or {}, orientation)
        state = fitted(card, read_checkpoint(weights))
        text = next((p for p in (bundle / "LICENSE", bundle / "LICENSE.txt") if p.is_file()), None)
        files = {"LICENSE.txt": text.read_text("utf-8", "replace")} if text else {}
        return ModelPackage.create(folder, card, state, files)


def _read(bundle: Path, model_id: str, changes: dict, orientation: str) -> tuple[ModelCard, Path]:
    name = next((n for n in _CONFIGS if (bundle / "configs" / n).is_file()), _CONFIGS[0])
    config = Config.read(inside(bundle, f"configs/{name}"))
    config.content = config.content | changes
    metadata = Config.read(inside(bundle, "configs/metadata.json")).content
    architecture, arguments = _network(config)
    formats = metadata.get("network_data_format")
    formats = formats if isinstance(formats, dict) else {}
    pred = _first(formats.get("outputs"))
    channels = int(pred.get("num_channels") or arguments.get("out_channels") or 2)
    rules, inference = _inference(config, arguments)
    transforms = _listed(config, "preprocessing")
    preparation = read_preparation(transforms, config, rules["mode"] == "sliding_window")
    if orientation and not preparation.says_orientation:
        preparation.axcodes = orientation
    reading, _ = read_postprocessing(_listed(config, "postprocessing"), config, channels)
    inference = Inference(
        **rules, activation=reading.activation, threshold=reading.threshold, channels=reading.channels,
        largest=reading.largest,
    )  # fmt: skip
    weights = _weights(config, bundle)
    title = str(metadata.get("name") or bundle.name)
    references = [str(r) for r in metadata.get("references") or ()]
    limits = str(metadata.get("intended_use") or "See the bundle's documentation.")
    if not preparation.says_orientation:
        limits += f" The bundle does not say how its images must lie; {preparation.axcodes} is used."
    card = ModelCard(
        id=model_id or identifier("monai", title),
        version=re.sub(r"[^0-9A-Za-z.+-]", "", str(metadata.get("version") or "1.0.0"))[:40] or "1.0.0",
        title=title,
        task="segmentation",
        inputs=_inputs(formats, preparation, arguments, inference.dimensions),
        outputs=(ModelOutput("segmentation", "segmentation", _segments(pred, channels, inference)),),
        architecture=architecture,
        arguments=arguments,
        license=license_name(bundle),
        citation=" ".join(references) or str(metadata.get("authors") or "Not stated in the bundle."),
        training_data=str(metadata.get("data_source") or "Not stated in the bundle."),
        metrics=_metrics(metadata.get("eval_metrics")),
        inference=inference,
        intended_use=str(metadata.get("description") or metadata.get("task") or title),
        limits=limits,
    )
    return card, weights


def _network(config: Config) -> tuple[str, dict]:
    given = config.content.get("network_def", config.content.get("network"))
    while isinstance(given, str) and re.fullmatch(r"@\w+", given):
        given = config.content.get(given[1:])
    if isinstance(given, str):
        config.value(given)  # says what it does not run
    if not isinstance(given, dict) or "_target_" not in given:
        raise ModelError("The bundle does not say which network it has.")
    target = str(given["_target_"])
    module, _, name = target.rpartition(".")
    allowed = f"monai.{name}"
    if module not in ("", "monai.networks.nets") and not module.startswith("monai.networks.nets."):
        allowed = target
    arguments = {k: config.value(v) for k, v in given.items() if not k.startswith("_") or k == "_mode_"}
    check_network(allowed, arguments)
    source, attribute, _ = NETWORKS[allowed]
    try:
        taken = inspect.signature(getattr(importlib.import_module(source), attribute).__init__).parameters
    except (ImportError, AttributeError):
        return allowed, arguments  # building it says what is missing
    return allowed, {k: v for k, v in arguments.items() if k in taken or k not in _DROPPED}


def _inference(config: Config, arguments: dict) -> tuple[dict, str]:
    """Fields of :class:`Inference` from the bundle's inferer."""
    given = config.content.get("inferer") or {"_target_": "SimpleInferer"}
    if isinstance(given, str):
        given = config.content.get(given.lstrip("@"), {})
    name = str(given.get("_target_", "")).rpartition(".")
    is_ours = name[0] in ("", "monai.inferers") or name[0].startswith("monai.inferers.")
    flat = arguments.get("spatial_dims") == 2 or arguments.get("dimensions") == 2
    dimensions = 2 if flat else 3
    if is_ours and name[2] == "SimpleInferer":
        return {"mode": "whole", "dimensions": dimensions}, name[2]
    if not is_ours or name[2] not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer"):
        raise ModelError(f"The bundle applies its network by '{str(given.get('_target_'))[:80]}', which is not known.")
    size = config.value(given.get("roi_size", [96] * dimensions))
    size = [size] * dimensions if isinstance(size, int) else [n for n in size if n not in (1, -1) or not flat]
    if len(size) != dimensions or not all(isinstance(n, int) and n > 0 for n in size):
        raise ModelError(f"The bundle's windows have the size {str(size)[:60]}, which cannot be used.")
    if name[2] == "SliceInferer" and config.value(given.get("spatial_dim", 0)) != 2:
        raise ModelError("The bundle takes slices along another axis than the third, which MedImgAI does not have.")
    overlap = config.value(given.get("overlap", 0.25))
    overlap = max(overlap) if isinstance(overlap, list) else overlap
    if not isinstance(overlap, (int, float)) or not 0 <= overlap < 1:
        raise ModelError(f"The bundle's windows overlap by {str(overlap)[:40]}, which is not a share.")
    window = (size[1], size[0], 1) if flat else tuple(size[::-1])
    return {"mode": "sliding_window", "window": window, "overlap": overlap, "dimensions": dimensions}, name[2]


def _listed(config: Config, name: str) -> list[dict]:
    """The transforms of ``preprocessing`` or ``postprocessing``, as they stand there."""
    given = config.content.get(name, {})
    given = given.get("transforms", []) if isinstance(given, dict) else given
    if isinstance(given, str):
        match = re.fullmatch(r"\$?@(\w+)\s*", given)
        given = config.content.get(match.group(1)) if match else config.value(given)
    if not isinstance(given, list) or not all(isinstance(t, dict) for t in given):
        raise ModelError(f"The bundle's {name} is not a list of transforms.")
    return given


def _weights(config: Config, bundle: Path) -> Path:
    """The file that the bundle's loader reads; it must lie within the bundle."""
    loaders = [config.content.get("checkpointloader"), *_handlers(config)]
    for loader in loaders:
        if isinstance(loader, dict) and str(loader.get("_target_", "")).endswith("CheckpointLoader"):
            path = str(config.value(loader.get("load_path", "models/model.pt")))
            root = str(config.get("bundle_root", "."))
            relative = path.removeprefix(root).lstrip("/") if root not in ("", ".") else path
            return inside(bundle, relative)
    return inside(bundle, "models/model.pt")


def _handlers(config: Config) -> list:
    handlers = config.content.get("handlers") or []
    return handlers if isinstance(handlers, list) else []


def _inputs(formats: dict, preparation, arguments: dict, dimensions: int) -> tuple[ModelInput, ...]:
    given = _first(formats.get("inputs"))
    count = int(arguments.get("in_channels", given.get("num_channels") or 1))
    names = given.get("channel_def") if isinstance(given.get("channel_def"), dict) else {}
    names = [str(names.get(str(n)) or names.get(n) or "") for n in range(count)]
    if count > 1 and len(preparation.keys) == count:
        names = list(preparation.keys)
    elif count == 1:
        names = [names[0] or "image"]
    modality = str(given.get("modality") or "")
    modality = _MODALITIES.get(modality.upper(), modality.upper()[:16] or "OT")
    rules = preparation.intensity
    # MONAI's arrays run along (0, 1, 2), ours along (k, j, i); slices are taken along the last of its axes.
    order = (1, 0, 2) if dimensions == 2 else (2, 1, 0)
    size = None
    if preparation.size:
        whole = [*preparation.size, 1] if len(preparation.size) == 2 else preparation.size
        size = tuple(whole[n] for n in order)
    common = {
        "orientation": "".join(preparation.axcodes[n] for n in order),
        "spacing_mm": tuple(preparation.pixdim[n] for n in order) if preparation.pixdim else None,
        "intensity": tuple(rules) if len(rules) != 1 else rules[0],
        "crop_above": preparation.crop_above,
        "intensity_first": preparation.intensity_first,
        "interpolation": preparation.interpolation,
        "align": "first_voxel",
        "size": size,
        "fit": "stretch" if size else "pad",
    }
    if not rules:
        del common["intensity"]
    if "RGB" in "".join(names) or names == ["R", "G", "B"]:
        return (ModelInput("image", modality, count, **common),)
    return tuple(ModelInput(name or f"image {n + 1}", modality, **common) for n, name in enumerate(names))


def _segments(pred: dict, channels: int, inference: Inference):
    names = pred.get("channel_def") if isinstance(pred.get("channel_def"), dict) else {}
    names = {int(k): str(v) for k, v in names.items() if str(k).isdigit()}
    if inference.activation == "softmax":
        return segments({n: names.get(n) or f"Label {n}" for n in range(1, channels)})
    order = inference.channels or tuple(range(channels))
    found = segments({n + 1: names.get(c) or f"Label {c + 1}" for n, c in enumerate(order)})
    return found


def _first(formats) -> dict:
    """The description of the first image of ``inputs`` or ``outputs``."""
    values = [v for v in formats.values() if isinstance(v, dict)] if isinstance(formats, dict) else []
    return values[0] if values else {}


def _metrics(given) -> dict[str, float]:
    if not isinstance(given, dict):
        return {}
    flat = {}
    for name, value in given.items():
        inner = value if isinstance(value, dict) else {"": value}
        for part, number in inner.items():
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                flat[f"{name} {part}".strip()[:80].lstrip("_")] = float(number)
    return flat
