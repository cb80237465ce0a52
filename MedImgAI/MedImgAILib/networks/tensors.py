"""Read tensors from weight files of others without running what they may contain."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..core import MissingPackageError, ModelError

_MOST_BYTES = 8 << 30


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_tensors(path: Path | str, sha256: str | None = None, key: str | None = None) -> dict:
    """``{name: tensor}`` of a file in safetensors' or torch's format, on the CPU.

    Torch's files are pickles; they are read with ``weights_only=True``, which builds tensors and plain containers and
    refuses everything else.

    Parameters
    ----------
    path : Path
    sha256 : str, optional
        Hash that the file must have.
    key : str, optional
        Entry of the file's dictionary that holds the tensors.

    Raises
    ------
    ModelError
        If the file is missing, is not the expected one, is damaged or contains anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no weight file {path}.")
    if path.stat().st_size > _MOST_BYTES:
        raise ModelError(f"The weight file {path} is larger than {_MOST_BYTES >> 30} GB.")
    if sha256 is not None and sha256_of(path) != sha256:
        raise ModelError(f"The weight file {path} is not the published one; get it again.")
    try:
        import torch
        from safetensors.torch import load_file
    except ImportError as error:
        needed = ("torch>=2.2", "safetensors>=0.4")
        raise MissingPackageError("Weights need torch and safetensors, which are not installed.", needed) from error
    with open(path, "rb") as file:
        start = file.read(9)
    try:
        if start[8:9] == b"{":
            from ..core.model_safetensors import check_safetensors

            check_safetensors(path, sha256_of(path))
            tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0][:120].rstrip(".")
        raise ModelError(
            f"The weight file {path} is damaged or is not plain tensors, and is not loaded ({reason})."
        ) from error
    if key is not None and isinstance(tensors, dict):
        tensors = tensors.get(key)
    if not isinstance(tensors, dict) or not tensors or not all(torch.is_tensor(t) for t in tensors.values()):
        raise ModelError(f"The weight file {path} does not hold the tensors of a network.")
    return tensors
