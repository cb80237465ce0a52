"""Qt's own loader of ``.ui`` files, taught Slicer's widget classes and connections."""

from __future__ import annotations

import logging
import xml.etree.ElementTree as ElementTree

from PySide6.QtCore import QBuffer, QByteArray, QFile
from PySide6.QtUiTools import QUiLoader
from PySide6.QtWidgets import QWidget

from .signals import connect

CUSTOM_CLASSES: dict[str, type] = {}


def register(*modules) -> None:
    """Make the Slicer and ctk widget classes of the modules loadable."""
    for module in modules:
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, QWidget) and name.startswith(("ctk", "qMRML", "qSlicer")):
                CUSTOM_CLASSES[name] = value


class SlicerUiLoader(QUiLoader):
    """``qt.QUiLoader``: an unknown class becomes a plain widget and a line in the log, as in Slicer."""

    def createWidget(self, class_name, parent=None, name=""):
        if class_name in CUSTOM_CLASSES:
            widget = CUSTOM_CLASSES[class_name](parent) if parent is not None else CUSTOM_CLASSES[class_name]()
            widget.setObjectName(name)
            self._made.append(widget)
            return widget
        if class_name not in self.availableWidgets():
            logging.getLogger("slicer_standin").error("no widget class %s for %s; a plain widget", class_name, name)
            class_name = "QWidget"
        return super().createWidget(class_name, parent, name)

    def load(self, device, parent=None):
        """Load a ``.ui`` file from an open QFile."""
        self._made = []
        text = bytes(device.readAll()) if isinstance(device, QFile | QBuffer) else device
        root = ElementTree.fromstring(text)
        connections = root.find("connections")
        wanted = [] if connections is None else [_connection(element) for element in connections]
        if connections is not None:
            root.remove(connections)
        custom = root.find("customwidgets")
        if custom is not None:  # Qt would make a placeholder of the base class instead of asking for the class
            root.remove(custom)
        buffer = QBuffer()
        buffer.setData(QByteArray(ElementTree.tostring(root)))
        buffer.open(QBuffer.ReadOnly)
        widget = super().load(buffer, parent)
        for sender, signal, receiver, slot in wanted:
            connect(_named(widget, sender), signal, _named(widget, receiver), slot)
        return widget


def _connection(element) -> tuple[str, str, str, str]:
    return tuple(element.findtext(part) for part in ("sender", "signal", "receiver", "slot"))


def _named(root, name):
    found = root if root.objectName == name else root.findChild("QObject", name)
    if found is None:
        raise RuntimeError(f"the .ui file connects {name}, which it does not contain")
    return found
