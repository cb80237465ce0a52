"""The names that Slicer 5.12 offers to Python, as read off a running Slicer.

The full list lies outside the project (``$MEDIMGAI_SLICER_API`` or ``../shared/slicer-api/slicer-5.12.json``);
``Testing/slicer_names.json`` is a copy of only what the project uses, in the same form, so that the checks never
fall silent.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TRIMMED = REPOSITORY / "Testing" / "slicer_names.json"
CLASS_SECTIONS = ("qt", "ctk", "slicer_widgets")

# PythonQt gives every QObject these, whether or not dir() shows them.
PYTHONQT_OBJECT_NAMES = {"className", "connect", "disconnect", "delete", "help", "inherits"}


def full_path() -> Path | None:
    """Where the full list lies on this machine, or None."""
    path = Path(os.environ.get("MEDIMGAI_SLICER_API", REPOSITORY.parent / "shared/slicer-api/slicer-5.12.json"))
    return path if path.is_file() else None


class Surface:
    """Look-ups in one list of names."""

    def __init__(self, data: dict):
        self.data = data
        self.names = {key: set(value) for key, value in data.items() if isinstance(value, list)}

    @classmethod
    def load(cls, path: Path) -> Surface:
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def section_of(self, class_name: str) -> str | None:
        """Which of qt, ctk, slicer_widgets holds the class."""
        return next((section for section in CLASS_SECTIONS if class_name in self.data.get(section, {})), None)

    def entry(self, class_name: str) -> dict | None:
        section = self.section_of(class_name)
        return self.data[section][class_name] if section else None

    @functools.cache  # noqa: B019 - one Surface lives as long as the process
    def members(self, class_name: str) -> frozenset[str]:
        """Every name an instance of the class answers to, inherited ones included."""
        entry = self.entry(class_name)
        if entry is None:
            return frozenset()
        own = set(entry["members"]) | set(entry.get("properties", ()))
        own |= {signature.split("(")[0] for signature in entry.get("signals", ())}
        base = entry.get("as")
        if base:
            own |= self.members(base) | PYTHONQT_OBJECT_NAMES
        return frozenset(own)

    def has_member(self, class_name: str, name: str) -> bool:
        """Whether an instance answers to the name; PythonQt strips the underscore that keywords need (``exec_``)."""
        members = self.members(class_name)
        return name in members or (name.endswith("_") and name[:-1] in members)

    @functools.cache  # noqa: B019
    def properties(self, class_name: str) -> frozenset[str]:
        """Qt properties: Python attributes, never called. Empty when the class could not be instantiated to ask it."""
        entry = self.entry(class_name)
        if entry is None:
            return frozenset()
        inherited = self.properties(entry["as"]) if entry.get("as") else frozenset()
        return frozenset(entry.get("properties", ())) | inherited

    @functools.cache  # noqa: B019
    def signals(self, class_name: str) -> frozenset[str]:
        """Signal signatures, ``clicked(bool)``; empty when the class could not be instantiated to ask it."""
        entry = self.entry(class_name)
        if entry is None:
            return frozenset()
        inherited = self.signals(entry["as"]) if entry.get("as") else frozenset()
        return frozenset(entry.get("signals", ())) | inherited


@functools.lru_cache(maxsize=1)
def full() -> Surface | None:
    """The full surface, or None where the list is absent."""
    path = full_path()
    return Surface.load(path) if path else None
