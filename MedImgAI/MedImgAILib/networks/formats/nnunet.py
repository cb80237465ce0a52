"""Model packages made of nnU-Net v2's result folders; nothing of them is run.

A result folder holds ``dataset.json``, ``plans.json`` and ``fold_…/checkpoint_final.pth``; its folds become the members
of an ensemble.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from ...core import Context, ModelError
from ...core.model_card import ModelCard, ModelInput, ModelOutput
from ...core.model_inference import Inference
from ...core.model_package import ModelPackage
from .checkpoints import load_plain, state_of
from .nnunet_plans import architecture, configuration, intensity, interpolation, labels_of
from .organ_names import segments
from .packing import fitted, identifier
from .sources import as_folder

CITATION = (
    "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH. nnU-Net: a self-configuring method for deep learning-"
    "based biomedical image segmentation. Nat Methods 2021; 18:203-211."
)
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
_MOST_BYTES = 64 << 20
_LETTERS = {frozenset("RL"), frozenset("AP"), frozenset("SI")}


def is_result_folder(folder: Path) -> bool:
    """Whether a folder looks like one of nnU-Net's, or holds exactly such folders."""
    return bool(_found(folder))


def _found(folder: Path) -> list[Path]:
    def fits(path: Path) -> bool:
        return (path / "plans.json").is_file() and (path / "dataset.json").is_file() and bool(_folds(path))

    return [folder] if fits(folder) else sorted(p for p in folder.iterdir() if p.is_dir() and fits(p))


def _folds(folder: Path) -> dict[str, Path]:
    """``{"0": checkpoint, …}``"""
    result = {}
    for fold in sorted(folder.glob("fold_*")):
        path = next((fold / name for name in _CHECKPOINTS if (fold / name).is_file()), None)
        if path:
            result[fold.name.removeprefix("fold_")] = path
    return result


def convert_nnunet(
    source: Path | str, folder: Path | str, model_id: str = "", folds: tuple[str, ...] = (), orientation: str = "RAS",
    facts: dict | None = None, context: Context | None = None,
) -> ModelPackage:  # fmt: skip
    """Make a package of a result folder.

    Parameters
    ----------
    source : Path
        The folder (``…__3d_fullres``), one that holds it, or a ZIP file of it.
    folder : Path
        For the package; must not exist, or be empty.
    model_id : str
        Made from the data set's name if empty.
    folds : tuple of str
        Which folds are taken, as "0" or "all"; each that is there by default.
    orientation : str
        How the images lay in their files while the network was trained: nnU-Net takes them as they are stored and
        does not note it. Images are brought into this storage, whatever theirs is.
    facts : dict, optional
        Fields of the card that are known otherwise, such as ``license`` or ``citation``.
    context : Context, optional

    Raises
    ------
    ModelError
        If it is no such folder, asks for what MedImgAI does not have, or its weights are damaged, hold anything but
        plain data, or do not fit.
    """
    context = context or Context()
    if not re.fullmatch("[RLAPSI]{3}", orientation) or {frozenset(p) for p in ("RL", "AP", "SI")} != {
        next(pair for pair in _LETTERS if letter in pair) for letter in orientation
    }:
        raise ModelError(f"'{orientation[:20]}' does not name three axes; RAS or LPS is meant.")
    with as_folder(Path(source)) as given:
        results = _found(given)
        if len(results) != 1:
            names = ", ".join(p.name for p in results)
            raise ModelError(
                f"{source} holds {len(results)} results of nnU-Net"
                + (f"; choose one of {names[:200]}." if results else " (dataset.json, plans.json and fold_…).")
            )
        card, states = _read(results[0], model_id, folds, orientation, facts or {}, context)
        return ModelPackage.create(folder, card, states)


def _read(result: Path, model_id, folds, orientation, facts, context):
    dataset, plans = _json(result / "dataset.json"), _json(result / "plans.json")
    available = _folds(result)
    wanted = list(folds) or list(available)
    if missing := [f for f in wanted if f not in available]:
        raise ModelError(f"{result} has no fold '{missing[0][:20]}' (it has: {', '.join(available)}).")
    contents = []
    for number, name in enumerate(wanted):
        context.progress(number / len(wanted), f"Reading fold {name}")
        contents.append(load_plain(available[name]))
    settings = configuration(plans, _configuration_name(result, plans, contents[0]))
    if settings.get("previous_stage") or settings.get("previous_stage_name"):
        raise ModelError("This is the second stage of one of nnU-Net's cascades, which MedImgAI does not have.")
    try:
        card = _card(result, dataset, plans, settings, model_id, orientation, facts)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"nnU-Net's plans in {result} are damaged ({type(error).__name__}: {error}).") from error
    states = []
    for content, name in zip(contents, wanted):
        tensors = state_of(content, available[name], ("network_weights",))
        states.append(fitted(card, {k: v for k, v in tensors.items() if _is_own(k)}))
    return card, states


def _is_own(name: str) -> bool:
    """Whether a tensor is not a second name of another: nnU-Net's modules list their parts twice."""
    return not name.startswith("decoder.encoder.") and ".all_modules." not in name


def _configuration_name(result: Path, plans: dict, checkpoint) -> str:
    known = plans.get("configurations") or {}
    noted = checkpoint.get("init_args") if isinstance(checkpoint, dict) else None
    noted = str((noted or {}).get("configuration", ""))
    for name in (noted, result.name.rpartition("__")[2], *(known if len(known) == 1 else ())):
        if name in known:
            return name
    raise ModelError(f"{result} does not say which of the configurations {', '.join(known)[:200]} it has.")


def _card(result, dataset, plans, settings, model_id, orientation, facts) -> ModelCard:
    names = dataset.get("channel_names", dataset.get("modality")) or {}
    names = [str(name) for _, name in sorted(names.items(), key=lambda item: int(item[0]))]
    labels, are_regions = labels_of(dataset)
    classes = len(labels) + (0 if are_regions else 1)
    network, arguments = architecture(plans, settings, len(names), classes)
    dimensions = arguments["dimensions"]
    forward = [int(n) for n in plans.get("transpose_forward", (0, 1, 2))]
    if str(plans.get("image_reader_writer")).endswith("WithReorient"):
        orientation = "RAS"
    stored = orientation[::-1]  # letters of the array's axes (k, j, i)
    letters = "".join(stored[n] for n in forward)[::-1]
    spacing = [float(n) for n in settings["spacing"]]
    window = [int(n) for n in settings["patch_size"]]
    title = str(dataset.get("name") or plans.get("dataset_name") or result.name)
    properties = plans.get("foreground_intensity_properties_per_channel") or {}
    schemes = settings["normalization_schemes"]
    masks = settings.get("use_mask_for_norm") or [False] * len(names)
    inputs = tuple(
        ModelInput(
            name, _modality(name), spacing_mm=tuple(spacing[::-1] + [0.0] * (3 - len(spacing))), orientation=letters,
            intensity=intensity(str(schemes[n]), bool(masks[n]), properties.get(str(n))), crop_nonzero=True,
            intensity_first=True, interpolation=interpolation(settings), align="box",
        )
        for n, name in enumerate(_distinct(names))
    )  # fmt: skip
    known = {
        "license": str(dataset.get("licence") or dataset.get("license") or "Not stated; ask the publisher."),
        "citation": str(dataset.get("reference") or CITATION),
        "training_data": str(dataset.get("description") or title),
        "title": title,
        "version": "1.0.0",
        "intended_use": f"Research on images like those of {title}.",
        "limits": f"Images are taken as if stored {orientation}; nnU-Net does not note how those lay that it learned "
        "from. Test-time mirroring is not applied.",
    }  # fmt: skip
    return ModelCard(
        id=model_id or identifier("nnunet", title),
        task="segmentation",
        inputs=inputs,
        outputs=(ModelOutput("segmentation", "segmentation", segments(labels)),),
        architecture=network,
        arguments=arguments,
        inference=Inference(
            window=tuple(window[::-1] + [1] * (3 - len(window))), overlap=0.5, dimensions=dimensions,
            activation="regions" if are_regions else "softmax",
        ),
        **(known | facts),
    )  # fmt: skip


def _modality(name: str) -> str:
    known = {"ct": "CT", "pet": "PT", "us": "US"}
    words = re.split(r"[\W_]+", name.lower())
    return next((known[w] for w in words if w in known), "MR")


def _distinct(names: list[str]) -> list[str]:
    return [n if names.count(n) == 1 else f"{n} {k + 1}" for k, n in enumerate(names)]


def _json(path: Path) -> dict:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelError(f"{path} is larger than 64 MB.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read ({str(error)[:120]}).") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} is not an object.")
    return content
