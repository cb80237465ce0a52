"""What the checks found: names used, and names that Slicer does not have."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..surface import REPOSITORY, Surface

# Reached through other names than dir() showed, or there only with an extension that is asked for before use.
_MODULES_OF_OTHERS = {"pytorchutils"}
_SLICER_SUBMODULES = {"util", "packaging", "ScriptedLoadableModule", "i18n", "parameterNodeWrapper"}
# Every QObject answers to these through PythonQt: ``name`` is the object name.
_EVERY_OBJECT = {"name", "delete", "className", "inherits", "connect", "disconnect"}


@dataclasses.dataclass(frozen=True, order=True)
class Finding:
    """A name that Slicer does not have, or a use of it that Slicer does not allow."""

    path: Path
    line: int
    message: str

    def __str__(self):
        path = self.path.relative_to(REPOSITORY) if self.path.is_relative_to(REPOSITORY) else self.path
        return f"{path}:{self.line}: {self.message}"


class Record:
    """Looks names up in a surface, and keeps what was asked for."""

    def __init__(self, surface: Surface, own_modules=()):
        self.surface = surface
        self.findings: list[Finding] = []
        self.own_modules = {name.lower() for name in own_modules}
        self._lists: dict[str, set[str]] = {}
        self._classes: dict[str, dict[str, dict[str, set[str]]]] = {}

    def fail(self, path: Path, line: int, message: str) -> None:
        finding = Finding(path, line, message)
        if finding not in self.findings:
            self.findings.append(finding)

    # --- plain names

    def _listed(self, section: str, name: str) -> bool:
        found = name in self.surface.names.get(section, ())
        if found:
            self._lists.setdefault(section, set()).add(name)
        return found

    def module_has(self, module: str, name: str) -> bool:
        """Whether ``module.name`` exists, for the modules that are lists of names."""
        if name.startswith("__"):
            return True
        if module == "slicer.modules":
            return name.lower() in self.own_modules | _MODULES_OF_OTHERS or self._listed("slicer_modules", name)
        if module == "slicer":
            return name in _SLICER_SUBMODULES or self.is_class(name) or self._listed("slicer_names", name)
        if module == "slicer.ScriptedLoadableModule":
            known = name in self.surface.data.get("ScriptedLoadableModule", {})
            if known:
                self._classes.setdefault("ScriptedLoadableModule", {}).setdefault(name, {})
            return known
        return self._listed(module.replace(".", "_"), name)

    # --- classes

    def is_class(self, name: str, section: str | None = None) -> bool:
        """Whether a Qt, ctk or Slicer widget class of the name exists, in one section or any."""
        found = self.surface.section_of(name)
        if found is None or (section and found != section):
            return False
        self._class(name)
        return True

    def _class(self, name: str) -> dict[str, set[str]]:
        section = self.surface.section_of(name)
        empty = {"members": set(), "properties": set(), "signals": set()}
        return self._classes.setdefault(section, {}).setdefault(name, empty)

    def has_member(self, class_name: str, name: str) -> bool:
        if name.startswith("__") or name in _EVERY_OBJECT:
            return True
        if not self.surface.has_member(class_name, name):
            return False
        kept = name if name in self.surface.members(class_name) else name[:-1]
        self._class(class_name)["members"].add(kept)
        if name in self.surface.properties(class_name):
            self._class(class_name)["properties"].add(name)
        return True

    def is_property(self, class_name: str, name: str) -> bool:
        alias = name == "name" and self.knows_properties(class_name)
        return alias or name in self.surface.properties(class_name)

    def knows_properties(self, class_name: str) -> bool:
        """Whether the list tells properties from methods for the class."""
        return "properties" in (self.surface.entry(class_name) or {})

    def has_signal(self, class_name: str, signature: str) -> bool:
        """Whether the class has the signal; by name alone where its signatures are not listed."""
        if "signals" in (self.surface.entry(class_name) or {}):
            if signature not in self.surface.signals(class_name):
                return False
            self._class(class_name)["signals"].add(signature)
            return True
        return self.has_member(class_name, signature.split("(")[0])

    def trimmed(self) -> dict:
        """The names used, in the form of the full list."""
        result: dict = {
            "about": {"note": "Only the names this project uses; written by slicer_standin/update_names.py"}
        }
        for section in ("qt", "ctk", "slicer_widgets"):
            result[section] = {}
            for name, used in sorted(self._classes.get(section, {}).items()):
                entry = {"members": sorted(used["members"])}
                full = self.surface.entry(name)
                for kind in ("signals", "properties"):
                    if kind in full:
                        entry[kind] = sorted(used[kind])
                result[section][name] = entry
        for section in sorted(self.surface.names):
            result[section] = sorted(self._lists.get(section, ()))
        result["ScriptedLoadableModule"] = {
            name: [] for name in sorted(self._classes.get("ScriptedLoadableModule", {}))
        }
        return result
