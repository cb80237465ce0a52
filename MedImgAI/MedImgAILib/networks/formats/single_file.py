"""Model packages made of a network in one file with its own graph, ONNX or TorchScript, and a card beside it.

Such a file does not say how images must be prepared nor what its channels mean. That stands in ``<file>.json`` or
``model.json`` beside it; :func:`write_template` makes one to fill in.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from ...core import ModelError, OutputError
from ...core.model_card import ModelCard, ModelInput, ModelOutput
from ...core.model_files import ONNX, TORCHSCRIPT, OnnxNetwork
from ...core.model_inference import Inference
from ...core.model_onnx import check_onnx
from ...core.model_package import ModelPackage
from .organ_names import segments
from .packing import identifier

SUFFIXES = {".onnx": ONNX, ".ts": TORCHSCRIPT, ".torchscript": TORCHSCRIPT}
_TO_FILL_IN = "FILL IN"
_NO_HASH = "0" * 64


def card_path(source: Path) -> Path:
    """Where the card of a network's file lies, or would."""
    own = source.with_suffix(".json")
    return own if own.exists() or not (source.parent / "model.json").exists() else source.parent / "model.json"


def convert_file(source: Path | str, folder: Path | str, model_id: str = "") -> ModelPackage:
    """Make a package of a network's file and the card beside it.

    Parameters
    ----------
    source : Path
        ``.onnx``, ``.ts`` or ``.torchscript``. TorchScript is copied, not loaded.
    folder : Path
        For the package; must not exist, or be empty.
    model_id : str
        Instead of the card's.

    Raises
    ------
    ModelError
        If the card is missing or not filled in, or an ONNX graph refers to files outside of its folder, uses
        operators that are not allowed or does not fit the card.
    """
    source = Path(source)
    kind = SUFFIXES.get(source.suffix.lower())
    if kind is None or not source.is_file():
        raise ModelError(f"{source} is no file of a network (.onnx, .ts or .torchscript).")
    if kind == ONNX:
        check_onnx(source)
    path = card_path(source)
    if not path.exists():
        raise ModelError(
            f"{source.name} does not say how images must be prepared; 'medimgai models card {source.name}' writes "
            f"{path.name} to fill in beside it."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The model card {path} is not JSON ({error}).") from error
    if _TO_FILL_IN in json.dumps(content):
        raise ModelError(f"The model card {path} still says '{_TO_FILL_IN}'; fill it in.")
    if isinstance(content, dict):
        content = content | {"network": {"class": kind}, "weights_sha256": _NO_HASH}
        content |= {"id": model_id} if model_id else {}
    card = ModelCard.from_json(content)
    if kind == ONNX:
        _check_shape(OnnxNetwork(source), card)
    return ModelPackage.create(folder, replace(card, arguments={}), source)


def _check_shape(network: OnnxNetwork, card: ModelCard):
    channels = sum(i.channels for i in card.inputs)
    taken = network.shape[1]
    if isinstance(taken, int) and taken != channels:
        raise ModelError(f"The network takes {taken} channels, but its card names inputs with {channels}.")
    if len(network.shape) - 2 != card.inference.dimensions:
        raise ModelError(f"The network has {len(network.shape) - 2} dimensions, its card {card.inference.dimensions}.")


def write_template(source: Path | str) -> Path:
    """Write a card to fill in beside a network's file; what an ONNX graph tells stands in it already.

    Raises
    ------
    ModelError
        If there is no such file, or its graph is not allowed.
    OutputError
        If there is a card already, or the folder cannot be written.
    """
    source = Path(source)
    kind = SUFFIXES.get(source.suffix.lower())
    if kind is None or not source.is_file():
        raise ModelError(f"{source} is no file of a network (.onnx, .ts or .torchscript).")
    path = source.with_suffix(".json")
    if path.exists():
        raise OutputError(f"{path} exists already.")
    dimensions, channels, window = 3, 1, None
    if kind == ONNX:
        check_onnx(source)
        shape = OnnxNetwork(source).shape
        dimensions = len(shape) - 2
        channels = shape[1] if isinstance(shape[1], int) else 1
        if all(isinstance(n, int) for n in shape[2:]):
            window = tuple(shape[:1:-1]) + (1,) * (3 - dimensions)
    name = re.sub(r"[^\w.-]", "_", source.stem)
    card = ModelCard(
        id=identifier("own", name), version="1.0.0", title=source.stem, task="segmentation",
        inputs=tuple(ModelInput(f"image {n + 1}", _TO_FILL_IN, 1, (1.0, 1.0, 1.0), "RAS") for n in range(channels)),
        outputs=(ModelOutput("segmentation", "segmentation", segments({1: _TO_FILL_IN})),),
        architecture=kind, license=_TO_FILL_IN, citation=_TO_FILL_IN, training_data=_TO_FILL_IN,
        intended_use=_TO_FILL_IN, limits=_TO_FILL_IN, inference=Inference(window=window, dimensions=dimensions),
    )  # fmt: skip
    content = card.to_json()
    del content["network"], content["weights_sha256"]
    try:
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    return path
