"""Model packages: a folder with a card and weights, which is data and never code.

``model.json`` is the card (:mod:`.model_card` says what stands in it) and ``weights.safetensors`` the weights.
Texts (.md, .txt) and pictures (.png, .jpg) may lie beside them; anything else is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import MissingPackageError, ModelError, OutputError
from .model_card import ModelCard
from .model_json import check_plain
from .model_networks import build, check_network
from .model_safetensors import check_safetensors

CARD = "model.json"
WEIGHTS = "weights.safetensors"
_BESIDE = (".md", ".txt", ".png", ".jpg", ".jpeg")
_IGNORED = (".DS_Store", "Thumbs.db", "desktop.ini")
_LARGEST_CARD = 1 << 20


@dataclass(frozen=True)
class ModelPackage:
    """A checked package.

    Parameters
    ----------
    card : ModelCard
    folder : Path
        Where it lies.
    """

    card: ModelCard
    folder: Path

    @classmethod
    def load(cls, folder: Path | str) -> ModelPackage:
        """Check a folder: its files, card, hash and the header of its weights. Nothing is imported or run.

        Raises
        ------
        ModelError
            In one sentence, if anything about it is wrong.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise ModelError(f"There is no model package at {folder}.")
        _check_files(folder)
        card = ModelCard.from_json(_read_card(folder / CARD))
        check_network(card.architecture, card.arguments)
        check_safetensors(folder / WEIGHTS, card.weights_sha256)
        return cls(card, folder)

    @classmethod
    def create(cls, folder: Path | str, card: ModelCard, state: dict) -> ModelPackage:
        """Write a new package; the folder appears when it is complete, or not at all.

        Parameters
        ----------
        folder : Path
            Must not exist, or be empty.
        card : ModelCard
            Its hash is filled in.
        state : dict
            ``{name: torch.Tensor}``, as from ``Module.state_dict()``.

        Raises
        ------
        ModelError
            If the card is not valid.
        OutputError
            If the folder is in use or cannot be written.
        """
        folder = Path(folder)
        check_network(card.architecture, card.arguments)
        check_plain(card.arguments, "network.arguments")

        def fill(draft: Path):
            _safetensors().save_file(
                {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}, draft / WEIGHTS
            )
            with open(draft / WEIGHTS, "rb") as file:
                final = replace(card, weights_sha256=hashlib.file_digest(file, "sha256").hexdigest())
            (draft / CARD).write_text(json.dumps(final.to_json(), indent=2) + "\n", encoding="utf-8")
            cls.load(draft)

        _write_folder(folder, fill)
        return cls.load(folder)

    def save(self, folder: Path | str) -> ModelPackage:
        """Copy the package; the folder appears when it is complete, or not at all.

        Raises
        ------
        OutputError
            If the folder is in use or cannot be written.
        """
        _write_folder(Path(folder), lambda draft: shutil.copytree(self.folder, draft, dirs_exist_ok=True))
        return type(self).load(folder)

    def network(self, device: str = "cpu"):
        """The network with its weights, in evaluation mode.

        Parameters
        ----------
        device : str
            As :attr:`Context.device` gives it.

        Raises
        ------
        ModelError
            If the weights are not exactly those that the network needs, or changed since :meth:`load`.
        MissingPackageError
            If torch, MONAI or safetensors is not installed.
        """
        network = build(self.card.architecture, self.card.arguments)
        library = _safetensors()
        tensors = check_safetensors(self.folder / WEIGHTS, self.card.weights_sha256)
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        given = {name: shape for name, (_, shape) in tensors.items()}
        if wanted != given:
            name = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))[0]
            raise ModelError(
                f"The weights of '{self.card.id}' do not fit its network: '{name[:80]}' has the shape "
                f"{given.get(name, 'of nothing')} where {wanted.get(name, 'nothing')} is needed."
            )
        network.load_state_dict(library.load_file(self.folder / WEIGHTS, device="cpu"), strict=True)
        return network.to(device).eval()


def _safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        needed = ("torch>=2.2", "safetensors>=0.4")
        raise MissingPackageError(
            "Model packages need torch and safetensors, which are not installed.", needed
        ) from error
    return safetensors.torch


def _check_files(folder: Path):
    inside = folder.resolve()
    for name in (CARD, WEIGHTS):
        if not (folder / name).exists():
            raise ModelError(f"The model package {folder} has no {name}.")
    for path in folder.iterdir():
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ModelError(f"The model package {folder} links to a file outside of it ('{path.name}').")
        if path.name in _IGNORED:
            continue
        if not path.is_file() or not (path.name in (CARD, WEIGHTS) or path.suffix.lower() in _BESIDE):
            raise ModelError(f"The model package {folder} contains '{path.name}', which is not data; remove it.")


def _read_card(path: Path):
    if path.stat().st_size > _LARGEST_CARD:
        raise ModelError(f"The model card {path} is larger than 1 MB.")
    try:
        return json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The model card {path} is not JSON ({error}).") from error


def _write_folder(folder: Path, fill):
    """Let ``fill`` write into a draft beside ``folder`` and rename it when that has worked."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already; choose another folder.")
    draft = None
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        fill(draft)
        draft.chmod(0o755)
        if os.name == "nt" and folder.exists():
            folder.rmdir()  # Windows does not replace even an empty folder
        os.replace(draft, folder)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be written: {error.strerror or error}.") from error
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)  # gone already where all went well
