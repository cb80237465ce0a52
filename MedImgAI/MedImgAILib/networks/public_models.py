"""Public weights and how they become model packages; :mod:`.public_cards` lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core import Context, ModelError
from ..core.model_card import ModelCard
from ..core.model_package import ModelPackage
from .tensors import read_tensors, sha256_of


@dataclass(frozen=True)
class WeightFile:
    """A file as published.

    Parameters
    ----------
    name : str
    sha256 : str
        Of the file; where the publisher tells its beginning only, that.
    prefix : str
        Put before the names of its tensors, where several files make one network.
    key : str, optional
        See :func:`.tensors.read_tensors`.
    """

    name: str
    sha256: str
    prefix: str = ""
    key: str | None = None

    def matches(self, sha256: str) -> bool:
        """Whether a file of this hash is the published one."""
        return sha256.startswith(self.sha256)


@dataclass(frozen=True)
class PublicModel:
    """Weights of others that can be made a package.

    Parameters
    ----------
    card : ModelCard
    files : tuple of WeightFile
        All that it takes.
    rename : callable
        From the files' names of tensors to our network's; None leaves a tensor out.
    is_ensemble : bool
        Whether each file is a member of its own; else all together are one network.
    """

    card: ModelCard
    files: tuple[WeightFile, ...]
    rename: Callable[[str], str | None] = str
    is_ensemble: bool = False

    @property
    def sha256(self) -> str:
        """Hash of the first file."""
        return self.files[0].sha256


def convert(source: Path | str | Sequence, folder: Path | str, model_id: str | None = None) -> ModelPackage:
    """Make a model package of public weights.

    Parameters
    ----------
    source : Path or sequence of Path
        The files as published, in any order; recognised by their hashes. A folder stands for the files in it.
    folder : Path
        For the package; must not exist, or be empty.
    model_id : str, optional
        Key of :data:`.public_cards.PUBLIC_MODELS` that they must be.

    Raises
    ------
    ModelError
        If a file is unknown, damaged, missing or not the one wanted.
    OutputError
        If the folder is in use or cannot be written.
    """
    from .public_cards import PUBLIC_MODELS

    paths = [Path(source)] if isinstance(source, (str, Path)) else [Path(p) for p in source]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(p for p in paths[0].iterdir() if p.is_file())
    for path in paths:
        if not path.is_file():
            raise ModelError(f"There is no weight file {path}.")
    if model_id is not None and model_id not in PUBLIC_MODELS:
        raise ModelError(f"There is no public model '{model_id}'; there are {', '.join(PUBLIC_MODELS)}.")
    hashes = {path: sha256_of(path) for path in paths}
    name = model_id or recognised(hashes.values())
    if name is None:
        raise ModelError(f"The weight file {paths[0]} is none of those that MedImgAI can convert.")
    model = PUBLIC_MODELS[name]
    states = []
    for file in model.files:
        path = next((p for p, found in hashes.items() if file.matches(found)), None)
        if path is None and len(model.files) == len(paths) == 1:
            raise ModelError(f"The weight file {paths[0]} is not the published one; get it again.")
        if path is None:
            raise ModelError(f"'{model.card.title}' needs the published file {file.name} too, which is not here.")
        tensors = read_tensors(path, hashes[path], file.key)
        renamed = {model.rename(file.prefix + k): v for k, v in tensors.items()}
        states.append({k: v for k, v in renamed.items() if k is not None})
    if not model.is_ensemble:
        states = [{k: v for state in states for k, v in state.items()}]
    return ModelPackage.create(folder, model.card, states)


def recognised(hashes) -> str | None:
    """The public model that one of these files belongs to; of several the one with most files here."""
    from .public_cards import PUBLIC_MODELS

    hashes = list(hashes)
    found = {
        name: sum(any(file.matches(h) for h in hashes) for file in model.files) for name, model in PUBLIC_MODELS.items()
    }
    best = max(found, key=lambda name: found[name])
    return best if found[best] else None


def load_or_convert(path: Path | str, folder: Path | str, context: Context) -> ModelPackage:
    """The package at ``path``, or, if that is a public weight file, the package made of it in ``folder``."""
    path = Path(path)
    if path.is_file():
        context.log(f"Converting {path.name}.")
        return convert(path, folder)
    return ModelPackage.load(path)
