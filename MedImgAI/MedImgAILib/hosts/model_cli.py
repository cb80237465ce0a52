"""``medimgai models``: list, fetch, import and remove models."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..core import Context, ModelError
from ..networks.catalogue import Entry, choices, find, read_catalogue
from ..runners import Log, Progress
from .model_store import ModelStore

_DESCRIPTION = """Models on this machine and in the catalogue.

list and show look only; get downloads (through the proxy of HTTPS_PROXY, from the mirror in MEDIMGAI_MIRROR first) and
converts to MedImgAI's own format, in which nothing can run code; import does the same with a file or folder of this
machine: a model package, a MONAI bundle, an nnU-Net v2 result, public weights, or an ONNX or TorchScript file with its
card beside it. A model's id is then what --model of the tasks takes. Models lie in MEDIMGAI_MODELS or the user's cache
folder."""


class _Reporting(Context):
    """Passes progress and warnings on to the command's reporter."""

    def __init__(self, reporter):
        super().__init__("cpu")
        self._reporter = reporter

    def on_progress(self, fraction, message):
        self._reporter.event(Progress(fraction, message))

    def on_log(self, level, message):
        self._reporter.event(Log(level, message))


def models_command(argv: list[str], reporter) -> int:
    """Run ``medimgai models …``; returns the exit code.

    Parameters
    ----------
    argv : list of str
        What follows "models"; "list" if empty.
    reporter : Reporter

    Raises
    ------
    MedImgAIError
        With a sentence.
    """
    try:
        arguments = _parser().parse_args(argv or ["list"])
    except SystemExit as end:  # argparse has said why
        return end.code
    try:
        return arguments.run(arguments, ModelStore(), _Reporting(reporter))
    finally:
        reporter.end()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medimgai models", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    offered = choices(read_catalogue())

    one = commands.add_parser("list", help="the catalogue and what is installed")
    one.add_argument("words", nargs="*", help="words that all must occur")
    for name in offered:
        option = f"--{name.replace('_', '-')}"
        one.add_argument(option, default="", help=f"one of {', '.join(offered[name])}".replace("%", "%%"))
    one.add_argument("--installed", action="store_true", help="only models on this machine")
    one.add_argument("--json", action="store_true", help="everything the catalogue says, as JSON")
    one.set_defaults(run=_list)

    one = commands.add_parser("show", help="what is known of a model")
    one.add_argument("id")
    one.set_defaults(run=_show)

    one = commands.add_parser("get", help="download and convert a model")
    one.add_argument("id")
    one.add_argument("--accept-license", action="store_true", help="agree to the licence that 'show' tells")
    one.set_defaults(run=_get)

    one = commands.add_parser("import", help="take in a model from a file or folder")
    one.add_argument("source", type=Path)
    one.add_argument("--orientation", help="how the images lay that an nnU-Net or MONAI model learned from, as LPS")
    one.add_argument("--folds", help="folds of an nnU-Net result, as 0,1,2; all by default")
    one.set_defaults(run=_import)

    one = commands.add_parser("card", help="write a card to fill in beside an ONNX or TorchScript file")
    one.add_argument("source", type=Path)
    one.set_defaults(run=_card)

    one = commands.add_parser("remove", help="delete a model of this machine")
    one.add_argument("id")
    one.set_defaults(run=lambda arguments, store, context: store.remove(arguments.id) or 0)

    one = commands.add_parser("clear", help="delete all models and begun downloads of this machine")
    one.set_defaults(run=_clear)
    return parser


def _list(arguments, store: ModelStore, context) -> int:
    entries = find(
        read_catalogue(), " ".join(arguments.words), arguments.modality, arguments.body_part,
        license=arguments.license, format=arguments.format,
    )  # fmt: skip
    here = {package.card.id: package for package in store.installed()}
    if arguments.installed:
        entries = [e for e in entries if e.id in here]
    if arguments.json:
        print(json.dumps([vars(e) | {"installed": e.id in here} for e in entries], indent=1, default=vars))
        return 0
    width = max((len(e.id) for e in entries), default=0)
    for entry in entries:
        mark = "*" if entry.id in here else " " if entry.is_ready else "-"
        print(f"{mark} {entry.id:<{width}}  {entry.title}  [{entry.format}, {entry.license[:40]}, {size_text(entry)}]")
    known = {e.id for e in read_catalogue()}
    for own in sorted(here.keys() - known):
        if _fits(here[own].card, arguments):
            whose = "comes with MedImgAI" if here[own].folder.parent == store.shipped else "own"
            print(f"* {own:<{width}}  {here[own].card.title}  [{whose}]")
    print("* installed   - needs something that 'medimgai models show ID' tells", file=sys.stderr)
    return 0


def _fits(card, arguments) -> bool:
    """Whether a model that is not in the catalogue is meant by the words and filters, as far as its card tells."""
    segments = (s.name for output in card.outputs for s in output.segments)
    words = " ".join((card.id, card.title, card.license, *(i.name for i in card.inputs), *segments)).lower()
    return (
        all(word in words for text in arguments.words for word in text.lower().split())
        and (not arguments.modality or arguments.modality in {i.modality for i in card.inputs})
        and (not arguments.license or arguments.license == card.license)
        and not arguments.body_part
        and not arguments.format
    )


def size_text(entry: Entry) -> str:
    """The size of the download in words."""
    if not entry.files:
        return "with a Python package" if entry.requirement else "comes with MedImgAI"
    return f"{entry.bytes / 2**20:.1f} MB" if all(f.bytes for f in entry.files) else "size not told"


def entry_of(model_id: str) -> Entry:
    """The catalogue's entry of an id.

    Raises
    ------
    ModelError
        If there is none.
    """
    entry = next((e for e in read_catalogue() if e.id == model_id), None)
    if entry is None:
        raise ModelError(f"The catalogue has no model '{model_id[:80]}'; 'medimgai models list' shows it.")
    return entry


def _show(arguments, store: ModelStore, context) -> int:
    entry = entry_of(arguments.id)
    labels = ", ".join(name + (f" ({code})" if code else "") for name, code in entry.labels)
    lines = {
        "Title": entry.title, "Finds": labels, "Inputs": ", ".join(entry.inputs),
        "Modality": ", ".join(entry.modality), "Body part": entry.body_part,
        "Spacing": " × ".join(f"{s:g}" for s in entry.spacing_mm) + " mm" if entry.spacing_mm else "",
        "Format": entry.format, "Download": size_text(entry), "Python package": entry.requirement,
        "Checked by": "hashes of the publisher" if entry.files and entry.has_hashes else
        "the first download: its publisher gives no hash" if entry.files else "",
        "Memory": f"{entry.memory_mb:.0f} MB" if entry.memory_mb else "",
        "Time": f"{entry.seconds:.2g} s of processor time ({entry.measured_on})" if entry.seconds else "",
        "Licence": entry.license, "Cite": entry.citation, "Homepage": entry.homepage, "Note": entry.note,
        "Task": entry.task, "Installed": "yes" if store.is_installed(entry.id) else "no",
    }  # fmt: skip
    for name, text in lines.items():
        if text:
            print(f"{name + ':':<16}{text}")
    return 0


def _get(arguments, store: ModelStore, context) -> int:
    entry = entry_of(arguments.id)
    if arguments.accept_license:
        store.accept_license(entry)
    print(store.get(entry, context).folder)
    return 0


def _import(arguments, store: ModelStore, context) -> int:
    options = {"orientation": arguments.orientation} if arguments.orientation else {}
    if arguments.folds:
        options["folds"] = tuple(arguments.folds.split(","))
    package = store.import_model(arguments.source, context, options)
    print(f"{package.card.id}\t{package.folder}")
    return 0


def _card(arguments, store: ModelStore, context) -> int:
    from ..networks.formats.single_file import write_template

    print(write_template(arguments.source))
    return 0


def _clear(arguments, store: ModelStore, context) -> int:
    print(f"{store.clear() / 2**20:.1f} MB were freed.")
    return 0
