"""Tensors out of training programs' checkpoints, without running what a pickle may hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import MissingPackageError, ModelError

_WRAPPINGS = ("model", "state_dict", "network", "net", "network_weights", "model_state_dict")
_PREFIXES = ("_orig_mod.", "module.")
"""What compiled and distributed networks put before their names."""


def load_plain(path: Path):
    """The content of a file in torch's format, read with ``weights_only=True``: tensors, numbers, texts, containers.

    NumPy's numbers, which logs in checkpoints are made of, are allowed too.

    Raises
    ------
    ModelError
        If the file is missing or damaged, or would build anything else.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingPackageError("Weights need torch, which is not installed.", ("torch>=2.2",)) from error
    if not path.is_file():
        raise ModelError(f"There is no weight file {path}.")
    try:
        with torch.serialization.safe_globals(_numpy_numbers()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0][:120].rstrip(".")
        raise ModelError(
            f"The weight file {path} is damaged or is not plain tensors, and is not loaded ({reason})."
        ) from error


def read_checkpoint(path: Path, keys: tuple[str, ...] = _WRAPPINGS) -> dict:
    """``{name: tensor}`` of a network in a checkpoint.

    Parameters
    ----------
    path : Path
    keys : tuple of str
        Entries that may hold the tensors.

    Raises
    ------
    ModelError
        As :func:`load_plain`, or if it holds no network's tensors.
    """
    return state_of(load_plain(path), path, keys)


def state_of(content, path: Path, keys: tuple[str, ...] = _WRAPPINGS) -> dict:
    """The tensors of a network in a checkpoint's content; see :func:`read_checkpoint`."""
    import torch

    while isinstance(content, dict) and not _is_state(content, torch):
        content = next((content[k] for k in keys if isinstance(content.get(k), dict)), None)
    if not isinstance(content, dict):
        raise ModelError(f"The weight file {path} does not hold the tensors of a network.")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in content):
            content = {name.removeprefix(prefix): value for name, value in content.items()}
    return dict(content)


def _is_state(content: dict, torch) -> bool:
    return bool(content) and all(isinstance(k, str) and torch.is_tensor(v) for k, v in content.items())


def _numpy_numbers() -> list:
    """What NumPy's scalars are pickled as, by its old and its new name."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?", "u1")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
