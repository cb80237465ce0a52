"""Model packages: a folder with a card and weights, which is data and never code.

``model.json`` is the card (:mod:`.model_card` says what stands in it) and ``weights.safetensors`` the weights; those
of the further members of an ensemble are ``weights_2.safetensors`` and so on. A network may also come as a file with
its own graph, see :mod:`.model_files`.
Texts (.md, .txt) and pictures (.png, .jpg) may lie beside them, and the arrays that a classification needs besides
its network (``diagnosis.safetensors``, see classify/diagnosis.py); anything else is refused.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import MissingPackageError, ModelError, OutputError, ParameterError
from .model_card import ModelCard
from .model_files import FILES, ONNX, TORCHSCRIPT, check_file, data_files, load_file, sha256_of
from .model_json import check_plain
from .model_networks import build, check_network, combined
from .model_onnx import check_onnx
from .model_safetensors import check_safetensors

CARD = "model.json"
WEIGHTS = "weights.safetensors"
DIAGNOSIS = "diagnosis.safetensors"
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
        if not (folder / CARD).exists():
            raise ModelError(f"The model package {folder} has no {CARD}.")
        card = ModelCard.from_json(_read_card(folder / CARD))
        check_network(card.architecture, card.arguments)
        if card.architecture in FILES:
            _check_files(folder, {CARD, FILES[card.architecture], *data_files(card)})
            check_file(card, folder)
        else:
            _check_files(folder, {CARD, *weight_names(card)})
            for name, sha256 in zip(weight_names(card), (card.weights_sha256, *card.members)):
                check_safetensors(folder / name, sha256)
        return cls(card, folder)

    @property
    def runs_code(self) -> bool:
        """Whether the network is TorchScript, which is loaded in the worker process and after consent only."""
        return self.card.architecture == TORCHSCRIPT

    @classmethod
    def create(cls, folder: Path | str, card: ModelCard, state, files: dict | None = None) -> ModelPackage:
        """Write a new package; the folder appears when it is complete, or not at all.

        Parameters
        ----------
        folder : Path
            Must not exist, or be empty.
        card : ModelCard
            Its hashes are filled in.
        state : dict or list of dict
            ``{name: torch.Tensor}``, as from ``Module.state_dict()``; several for an ensemble. With a network of
            :mod:`.model_files` the path of its file.
        files : {name: str or bytes}, optional
            What lies beside it, such as a licence.

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
            final = _store_file(draft, card, state) if card.architecture in FILES else _store(draft, card, state)
            (draft / CARD).write_text(json.dumps(final.to_json(), indent=2) + "\n", encoding="utf-8")
            for name, content in (files or {}).items():
                (draft / name).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
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

    def network(self, device: str = "cpu", trusted: bool = False):
        """The network with its weights, in evaluation mode; for an ensemble the mean of all.

        Parameters
        ----------
        device : str
            As :attr:`Context.device` gives it.
        trusted : bool
            Whether the user agreed to run the code that a TorchScript network may hold.

        Raises
        ------
        ModelError
            If the weights are not exactly those that the network needs, or changed since :meth:`load`.
        ResourceError
            If the network could run code and is not trusted.
        MissingPackageError
            If torch, MONAI, safetensors or onnxruntime is not installed.
        """
        return combined(self.networks(device, trusted), self.card.inference.channels)

    def networks(self, device: str = "cpu", trusted: bool = False) -> list:
        """The members of an ensemble one by one, in evaluation mode; a list of one where it is none."""
        if self.card.architecture in FILES:
            return [load_file(self.card, self.folder, device, trusted)]
        hashes = (self.card.weights_sha256, *self.card.members)
        return [self._member(name, sha, device) for name, sha in zip(weight_names(self.card), hashes)]

    def _member(self, name: str, sha256: str, device: str):
        network = build(self.card.architecture, self.card.arguments)
        library = _safetensors()
        tensors = check_safetensors(self.folder / name, sha256)
        wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
        given = {name: shape for name, (_, shape) in tensors.items()}
        if wanted != given:
            name = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))[0]
            raise ModelError(
                f"The weights of '{self.card.id}' do not fit its network: '{name[:80]}' has the shape "
                f"{given.get(name, 'of nothing')} where {wanted.get(name, 'nothing')} is needed."
            )
        network.load_state_dict(library.load_file(self.folder / name, device="cpu"), strict=True)
        return network.to(device).eval()


def check_new(folder: Path | str):
    """Refuse a place where :meth:`ModelPackage.create` could not write, before anything is learnt for it.

    Raises
    ------
    ParameterError
    """
    folder = Path(folder).absolute()
    if folder.exists():
        raise ParameterError(f"Model package: {folder} exists already; choose a new folder.")
    if not folder.parent.is_dir():
        raise ParameterError(f"Model package: {folder.parent} does not exist; make it first.")
    if not os.access(folder.parent, os.W_OK):
        raise ParameterError(f"Model package: {folder.parent} cannot be written to; choose another folder.")


def weight_names(card: ModelCard) -> list[str]:
    """The files of the weights of all members."""
    stem = WEIGHTS.removesuffix(".safetensors")
    return [WEIGHTS, *(f"{stem}_{number}.safetensors" for number in range(2, len(card.members) + 2))]


def _store(draft: Path, card: ModelCard, state) -> ModelCard:
    """Write the weights; the card with their hashes."""
    states = state if isinstance(state, list) else [state]
    hashes = []
    final = replace(card, members=("",) * (len(states) - 1))
    for name, tensors in zip(weight_names(final), states):
        plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        _safetensors().save_file(plain, draft / name)
        hashes.append(sha256_of(draft / name))
    return replace(final, weights_sha256=hashes[0], members=tuple(hashes[1:]))


def _store_file(draft: Path, card: ModelCard, source) -> ModelCard:
    """Copy a network's file and those it refers to; the card with their hashes."""
    source = Path(source)
    shutil.copyfile(source, draft / FILES[card.architecture])
    data = {}
    if card.architecture == ONNX:
        for name in sorted(check_onnx(source).files):
            shutil.copyfile(source.parent / name, draft / name)
            data[name] = sha256_of(draft / name)
    arguments = {"data": data} if data else {}
    return replace(card, arguments=arguments, weights_sha256=sha256_of(draft / FILES[card.architecture]))


def _safetensors():
    try:
        import safetensors.torch
    except ImportError as error:
        needed = ("torch>=2.2", "safetensors>=0.4")
        raise MissingPackageError(
            "Model packages need torch and safetensors, which are not installed.", needed
        ) from error
    return safetensors.torch


def _check_files(folder: Path, names: set[str]):
    inside = folder.resolve()
    for name in sorted(names):
        if not (folder / name).exists():
            raise ModelError(f"The model package {folder} has no {name}.")
    for path in folder.iterdir():
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise ModelError(f"The model package {folder} links to a file outside of it ('{path.name}').")
        if path.name in _IGNORED:
            continue
        if not path.is_file() or not (path.name in names or path.name == DIAGNOSIS or path.suffix.lower() in _BESIDE):
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
