"""Models that come as one file: graphs in ONNX, which is data, TorchScript, which can run code, and plain numbers.

A package of such a network has the class ``file.onnx`` or ``file.torchscript`` and the file :data:`FILES` instead of
``weights.safetensors``. A classifier of features (``file.features``) is JSON of names and numbers, which the task that
measures the features reads by itself (classify/feature_model.py). Further files of an ONNX network stand in the card's
arguments, ``{"data": {name: SHA-256}}``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
from pathlib import Path

from .errors import MissingPackageError, ModelError, ResourceError
from .model_onnx import check_onnx

ONNX, TORCHSCRIPT, FEATURES = "file.onnx", "file.torchscript", "file.features"
FILES = {ONNX: "network.onnx", TORCHSCRIPT: "network.ts", FEATURES: "features.json"}
REQUIREMENTS = {ONNX: ("onnxruntime>=1.17",), TORCHSCRIPT: ("torch>=2.2",), FEATURES: ()}


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def data_files(card) -> dict[str, str]:
    """``{name: SHA-256}`` of the further files of a network's file, by its card.

    Raises
    ------
    ModelError
        If the card's arguments are anything else.
    """
    arguments = dict(card.arguments)
    data = arguments.pop("data", {})
    plain = isinstance(data, dict) and all(
        re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", name) and re.fullmatch("[0-9a-f]{64}", str(value))
        for name, value in data.items()
    )
    if arguments or not plain or (data and card.architecture != ONNX):
        raise ModelError(f"The model card of '{card.id}' is wrong at 'network.arguments': only 'data' is possible.")
    return data


def check_file(card, folder: Path):
    """Check the hashes of a network's file and of those beside it; an ONNX graph is looked through.

    Raises
    ------
    ModelError
    """
    wanted = {FILES[card.architecture]: card.weights_sha256} | data_files(card)
    for name, sha256 in wanted.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"The model package {folder} has no {name}.")
        if sha256_of(path) != sha256:
            raise ModelError(f"The file {path} is not the one that the model card names; get the package again.")
    if card.architecture == ONNX:
        facts = check_onnx(folder / FILES[ONNX])
        if facts.files != set(data_files(card)):
            raise ModelError(f"The network in {folder} refers to other files than its card names.")


def load_file(card, folder: Path, device: str, trusted: bool):
    """The network of a checked package: a callable from tensors to tensors.

    Raises
    ------
    ResourceError
        If it could run code and is not ``trusted``.
    ModelError
        If it changed meanwhile, cannot be loaded or takes no images.
    MissingPackageError
    """
    check_file(card, folder)
    if card.architecture == FEATURES:
        raise ModelError(
            f"The model '{card.title}' takes measured features, not images; use it in the task that its card names."
        )
    missing = [r for r in REQUIREMENTS[card.architecture] if importlib.util.find_spec(r.partition(">")[0]) is None]
    if missing:
        raise MissingPackageError(
            f"The network '{card.title}' needs packages that are not installed: {', '.join(missing)}.", tuple(missing)
        )
    path = folder / FILES[card.architecture]
    if card.architecture == ONNX:
        return OnnxNetwork(path, device)
    if not trusted:
        raise ResourceError(
            f"The model '{card.title}' is TorchScript, which can run code; use the task "
            "'Network from TorchScript', which asks whether you trust it."
        )
    import torch

    content = path.read_bytes()  # read once, so that what was checked is what runs
    if hashlib.sha256(content).hexdigest() != card.weights_sha256:
        raise ModelError(f"The file {path} was changed; get the package again.")
    try:
        return torch.jit.load(io.BytesIO(content), map_location=device).eval()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0][:160]
        raise ModelError(f"The file {path} is not TorchScript that can be loaded ({reason}).") from error


class OnnxNetwork:
    """A graph in onnxruntime, called with a (B, C, …) tensor.

    Parameters
    ----------
    path : Path
        Checked by :func:`check_file`.
    device : str
        "cuda" is used where the runtime has it; else the processor.

    Raises
    ------
    ModelError
        If the runtime does not take the graph, or it has not one input of four or five dimensions.
    """

    def __init__(self, path: Path, device: str = "cpu"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        wanted = ["CUDAExecutionProvider"] if device == "cuda" else []
        providers = [p for p in (*wanted, "CPUExecutionProvider") if p in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][-160:]
            raise ModelError(f"The network {path} cannot be loaded by onnxruntime ({reason}).") from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) not in (4, 5) or inputs[0].type not in _TYPES:
            raise ModelError(f"The network {path} must have one input of numbers with 4 or 5 dimensions.")
        self.name, self.dtype = inputs[0].name, _TYPES[inputs[0].type]
        self.shape = inputs[0].shape
        self.output = self.session.get_outputs()[0].name

    def __call__(self, windows):
        import torch

        given = windows.detach().cpu().numpy().astype(self.dtype, copy=False)
        try:
            (scores,) = self.session.run([self.output], {self.name: given})
        except Exception as error:
            reason = str(error).strip().partition("\n")[0][-160:]
            raise ModelError(f"The ONNX network cannot compute a window of {given.shape} ({reason}).") from error
        return torch.from_numpy(scores).to(windows.device)


_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
