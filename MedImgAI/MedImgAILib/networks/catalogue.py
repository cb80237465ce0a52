"""The models that MedImgAI knows of: ``catalogue.json`` beside this file and the user's own in the same form.

``catalogue_schema.json`` is the form's JSON Schema; :func:`read_catalogue` checks it without a further package.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..core import ModelError
from ..core.model_json import Node, check_plain
from ..core.model_package import ModelPackage
from .installed import SHIPPED

BUILT_IN = Path(__file__).with_name("catalogue.json")
FORMATS = {
    "package": "Model package",
    "public_weights": "Public weights",
    "monai_bundle": "MONAI bundle",
    "nnunet_v2": "nnU-Net v2",
    "torchscript": "TorchScript",
    "onnx": "ONNX",
    "pypi_package": "Weights in a Python package",
}
"""What an entry's files are → how it is shown."""
LOADERS = tuple(FORMATS)
_NAME = r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/)?[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
"""A file's name, perhaps in one folder."""
_DIGITS = {"sha256": 64, "sha1": 40, "md5": 32}


@dataclass(frozen=True)
class ModelFile:
    """A file to download: hashes are empty and ``bytes`` 0 where the publisher tells none.

    ``sha256`` may be the beginning that the publisher tells.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int = 0
    sha256: str = ""
    sha1: str = ""
    md5: str = ""

    @property
    def has_hash(self) -> bool:
        """Whether what comes can be compared with what the publisher gave."""
        return bool(self.sha256 or self.sha1 or self.md5)

    @classmethod
    def read(cls, node: Node, given: dict) -> ModelFile:
        """Check and read one file of an entry."""
        name, urls = node.text("name", _NAME), _texts(node, "urls")
        if not all(re.match("https?://", url) for url in urls):
            node.fail("urls", "addresses begin with https:// or http://")
        size = node.integer("bytes", 1, 0) if "bytes" in given else 0
        hashes = {k: node.text(k, f"[0-9a-f]{{{8 if k == 'sha256' else n},{n}}}", "") for k, n in _DIGITS.items()}
        node.end()
        return cls(name, urls, size, **hashes)


@dataclass(frozen=True)
class Entry:
    """A model of the catalogue; ``labels`` are (name, "SCT^code" or empty).

    ``options`` go to the loader; ``requirement`` is the Python package that brings the weights; ``seconds`` of
    processor time and ``memory_mb`` of the whole program were measured as ``measured_on`` says.
    """

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
    seconds: float | None = None
    measured_on: str = ""
    requirement: str = ""
    homepage: str = ""
    options: dict = field(default_factory=dict)
    task: str = "segment.network"

    @property
    def bytes(self) -> int:
        """Size of the download, 0 if unknown."""
        return sum(f.bytes for f in self.files)

    @property
    def format(self) -> str:
        """The format's name."""
        return FORMATS[self.loader]

    @property
    def has_hashes(self) -> bool:
        """Whether all its files can be compared with what the publisher gave."""
        return all(f.has_hash for f in self.files)

    @property
    def is_ready(self) -> bool:
        """Whether it can be fetched and made a model package here."""
        from .catalogue_install import can_install

        return can_install(self)

    @classmethod
    def read(cls, node: Node) -> Entry:
        """Check and read one entry; :class:`ModelError` names the place of the first problem."""
        labels = []
        for label in node.take("labels", list):
            child = Node(label, "labels")
            labels.append((child.text("name"), child.text("code", r"SCT\^[0-9]+", "")))
            child.end()
        files = tuple(ModelFile.read(Node(file, "files"), file) for file in node.take("files", list))
        if len({f.name for f in files}) < len(files):
            node.fail("files", "two have the same name")
        options = node.take("options", dict, {})
        check_plain(options, "options")
        entry = cls(
            node.text("id", r"[a-z][a-z0-9_.-]{0,79}"), node.text("title"), node.text("loader", "|".join(LOADERS)),
            _texts(node, "modality"), node.text("body_part"), _texts(node, "inputs"), tuple(labels),
            node.text("license"), node.text("citation"), files, node.numbers("spacing_mm", 3, None),
            note=node.text("note", default=""), memory_mb=node.take("memory_mb", (int, float), None),
            seconds=node.take("seconds", (int, float), None), measured_on=node.text("measured_on", default=""),
            requirement=node.text("requirement", r"[A-Za-z0-9._-]+(>=[0-9.]+)?", ""),
            homepage=node.text("homepage", "https://.+", ""), options=options,
            task=node.text("task", r"[a-z]+\.[a-z0-9_]+", "segment.network"),
        )  # fmt: skip
        node.end()
        return entry


def _texts(node: Node, name: str) -> tuple[str, ...]:
    values = node.take(name, list)
    if not values or not all(isinstance(v, str) and v for v in values):
        node.fail(name, "a list of texts is needed")
    return tuple(values)


def read_catalogue(path: Path | str = BUILT_IN) -> list[Entry]:
    """The entries of a catalogue file; of the built-in one those of the models that come with the product go before.

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
    if path == BUILT_IN:
        entries = [*shipped_entries(), *entries]
    if len(set(ids)) < len(ids):
        raise ModelError(f"The model catalogue {path} names '{next(i for i in ids if ids.count(i) > 1)}' twice.")
    return entries


def shipped_entries() -> list[Entry]:
    """What the cards of the segmentation models say that come with the product, which need no download."""
    entries = []
    for folder in sorted(SHIPPED.glob("*/model.json")):
        card = ModelPackage.load(folder.parent).card
        if card.task != "segmentation" or card.id not in _BODY_PARTS:
            continue
        segments = card.outputs[0].segments
        codes = [s.terminology.type for s in segments]
        labels = tuple((s.name, f"SCT^{c.value}" if c.scheme == "SCT" else "") for s, c in zip(segments, codes))
        entries.append(
            Entry(
                card.id, card.title, "package", tuple(dict.fromkeys(i.modality for i in card.inputs)),
                _BODY_PARTS[card.id], tuple(i.name for i in card.inputs), labels, card.license, card.citation,
                spacing_mm=card.inputs[0].spacing_mm, note="Comes with MedImgAI; nothing is downloaded.",
            )
        )  # fmt: skip
    return entries


_BODY_PARTS = {
    "hippocampus": "Brain", "retinal_vessels": "Eye", "brain_tissue": "Brain", "brain_extraction": "Brain",
}  # fmt: skip


def find(
    entries, text: str = "", modality: str = "", body_part: str = "", ready: bool = False, license: str = "",
    format: str = "",
) -> list[Entry]:  # fmt: skip
    """The entries in which every word of ``text`` occurs, with these properties, in the catalogue's order.

    Parameters
    ----------
    entries : iterable of Entry
    text : str
    modality, body_part, license, format : str
        As the entries say it; empty for any.
    ready : bool
        Only those that can be fetched and converted here.
    """
    found = []
    for entry in entries:
        names = (*entry.inputs, *entry.modality, *(name for name, _ in entry.labels))
        words = " ".join((entry.id, entry.title, entry.body_part, entry.license, entry.format, *names)).lower()
        if (
            all(word in words for word in text.lower().split())
            and (not modality or modality in entry.modality)
            and (not body_part or body_part.lower() == entry.body_part.lower())
            and (not license or license == entry.license)
            and (not format or format in (entry.loader, entry.format))
            and (entry.is_ready or not ready)
        ):
            found.append(entry)
    return found


def choices(entries) -> dict[str, list[str]]:
    """What there is to filter by: sorted values of modality, body_part, license and format."""
    entries = list(entries)
    return {
        "modality": sorted({m for e in entries for m in e.modality}),
        "body_part": sorted({e.body_part for e in entries}),
        "license": sorted({e.license for e in entries}),
        "format": sorted({e.format for e in entries}),
    }
