"""The models that MedImgAI knows of: ``catalogue.json`` beside this file and the user's own in the same form.

``catalogue_schema.json`` is the form's JSON Schema; :func:`read_catalogue` checks it without a further package.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..core import ModelError
from ..core.model_json import Node

BUILT_IN = Path(__file__).with_name("catalogue.json")
LOADERS = ("package", "public_weights", "monai_bundle", "nnunet_v2", "torchscript", "onnx", "pypi_package")


@dataclass(frozen=True)
class ModelFile:
    """A file to download: ``sha256`` is empty and ``bytes`` 0 where the publisher tells none."""

    name: str
    urls: tuple[str, ...]
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue; ``labels`` are (name, "SCT^code" or empty)."""

    id: str
    title: str
    loader: str
    modality: tuple[str, ...]
    body_part: str
    inputs: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    license: str
    citation: str
    files: tuple[ModelFile, ...] = ()
    spacing_mm: tuple[float, float, float] | None = None
    note: str = ""
    memory_mb: float | None = None

    @property
    def bytes(self) -> int:
        """Size of the download, 0 if unknown."""
        return sum(f.bytes for f in self.files)

    @property
    def is_ready(self) -> bool:
        """Whether its files can be fetched and made a model package here."""
        from .public_models import PUBLIC_MODELS

        return bool(self.files) and (self.loader == "package" or self.id in PUBLIC_MODELS)

    @classmethod
    def read(cls, node: Node) -> Entry:
        """Check and read one entry; :class:`ModelError` names the place of the first problem."""
        labels = []
        for label in node.take("labels", list):
            child = Node(label, "labels")
            labels.append((child.text("name"), child.text("code", r"SCT\^[0-9]+", "")))
            child.end()
        files = []
        for file in node.take("files", list):
            child = Node(file, "files")
            name = child.text("name", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
            urls = _texts(child, "urls")
            if not all(re.match("https?://", url) for url in urls):
                child.fail("urls", "addresses begin with https:// or http://")
            sizes = child.integer("bytes", 1, 0) if "bytes" in file else 0
            files.append(ModelFile(name, urls, sizes, child.text("sha256", "[0-9a-f]{64}", "")))
            child.end()
        entry = cls(
            node.text("id", r"[a-z][a-z0-9_.-]{0,79}"), node.text("title"), node.text("loader", "|".join(LOADERS)),
            _texts(node, "modality"), node.text("body_part"), _texts(node, "inputs"), tuple(labels),
            node.text("license"), node.text("citation"), tuple(files), node.numbers("spacing_mm", 3, None),
            node.text("note", default=""), node.take("memory_mb", (int, float), None),
        )  # fmt: skip
        node.end()
        return entry


def _texts(node: Node, name: str) -> tuple[str, ...]:
    values = node.take(name, list)
    if not values or not all(isinstance(v, str) and v for v in values):
        node.fail(name, "a list of texts is needed")
    return tuple(values)


def read_catalogue(path: Path | str = BUILT_IN) -> list[Entry]:
    """The entries of a catalogue file.

    Raises
    ------
    ModelError
        If the file cannot be read, an entry is wrong, or two have the same id.
    """
    try:
        top = Node(json.loads(Path(path).read_text(encoding="utf-8")), "")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The model catalogue {path} cannot be read ({error}).") from error
    if top.integer("schema_version", 1) > 1:
        raise ModelError(f"The model catalogue {path} is of a newer version; update MedImgAI to use it.")
    entries = [Entry.read(node) for node in top.children("models")]
    top.end()
    ids = [e.id for e in entries]
    if len(set(ids)) < len(ids):
        raise ModelError(f"The model catalogue {path} names '{next(i for i in ids if ids.count(i) > 1)}' twice.")
    return entries


def find(entries, text: str = "", modality: str = "", body_part: str = "", ready: bool = False) -> list[Entry]:
    """The entries in which every word of ``text`` occurs, of this modality and body part, in the catalogue's order."""
    found = []
    for entry in entries:
        names = (*entry.inputs, *entry.modality, *(name for name, _ in entry.labels))
        words = " ".join((entry.id, entry.title, entry.body_part, entry.license, *names)).lower()
        if (
            all(word in words for word in text.lower().split())
            and (not modality or modality in entry.modality)
            and (not body_part or body_part.lower() == entry.body_part.lower())
            and (entry.is_ready or not ready)
        ):
            found.append(entry)
    return found
