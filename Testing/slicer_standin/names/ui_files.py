"""The names that a ``.ui`` file uses: widget classes, properties, enumerators, signals and slots."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from .record import Record

# Written by Designer for layouts and items rather than set as Qt properties.
_DESIGNER_PROPERTIES = {
    "leftMargin", "topMargin", "rightMargin", "bottomMargin", "margin", "spacing", "horizontalSpacing",
    "verticalSpacing", "sizeConstraint", "fieldGrowthPolicy", "labelAlignment", "formAlignment", "rowWrapPolicy",
}  # fmt: skip


def children(path: Path) -> dict[str, set[str]]:
    """Classes of the widgets, layouts and actions of a file by name."""
    found: dict[str, set[str]] = {}
    for element in ElementTree.parse(path).iter():
        if element.tag in ("widget", "layout") and element.get("name"):
            found.setdefault(element.get("name"), set()).add(element.get("class"))
        elif element.tag == "action":
            found.setdefault(element.get("name"), set()).add("QAction")
    return found


class UiFile:
    """Checks one file; findings and names go to the record."""

    def __init__(self, path: Path, record: Record):
        self.path, self.record = path, record
        self.lines = path.read_text(encoding="utf-8").splitlines()
        self.root = ElementTree.parse(path).getroot()
        self.classes = children(path)

    def check(self) -> None:
        for element in self.root.iter():
            if element.tag in ("widget", "layout") and element.get("class"):
                self._element(element)
        for connection in self.root.iter("connection"):
            self._connection(connection)

    def _line(self, text: str) -> int:
        return next((number for number, line in enumerate(self.lines, 1) if text in line), 1)

    def _element(self, element):
        class_name = element.get("class")
        line = self._line(f'name="{element.get("name")}"')
        if not self.record.is_class(class_name):
            self.record.fail(self.path, line, f"there is no widget class {class_name}")
            return
        for prop in element.findall("property"):
            name = prop.get("name")
            designer = name in _DESIGNER_PROPERTIES and element.tag == "layout"
            if prop.get("stdset") != "0" and not designer:
                known = self.record.has_member(class_name, name)
                if known and self.record.knows_properties(class_name):
                    known = self.record.is_property(class_name, name)
                if not known:
                    self.record.fail(self.path, line, f"{class_name} has no property {name}")
            for value in [*prop.iter("enum"), *prop.iter("set")]:
                self._enumerators(value.text or "", line)

    def _enumerators(self, text: str, line: int):
        for word in re.split(r"\|", text):
            class_name, _, enumerator = word.strip().rpartition("::")
            if not class_name:
                continue
            if not self.record.is_class(class_name) or not self.record.has_member(class_name, enumerator):
                self.record.fail(self.path, line, f"{word.strip()} does not exist in Slicer 5.12 (Qt 5 spelling?)")

    def _connection(self, connection):
        sender, signal, receiver, slot = (
            connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")
        )
        line = self._line(f"<signal>{signal}</signal>")
        for name in (sender, receiver):
            if name not in self.classes:
                self.record.fail(self.path, line, f"the connection names {name}, which the file does not contain")
                return
        for class_name in self.classes[sender]:
            if not self.record.has_signal(class_name, signal.replace(" ", "")):
                self.record.fail(self.path, line, f"{class_name} has no signal {signal}")
        for class_name in self.classes[receiver]:
            if not self.record.has_member(class_name, slot.split("(")[0]):
                self.record.fail(self.path, line, f"{class_name} has no slot {slot}")
