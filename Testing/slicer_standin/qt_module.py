"""The modules ``qt`` and ``ctk`` as Slicer offers them."""

from __future__ import annotations

import types

from . import ctk_numbers, ctk_widgets, pythonqt, surface
from .ui_loader import SlicerUiLoader


class QtModule(types.ModuleType):
    """Hands out PySide6's classes under Slicer's names; a name that Slicer has not raises AttributeError."""

    QUiLoader = SlicerUiLoader

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        listing = surface.full()
        if listing and name not in listing.data["qt"]:
            raise AttributeError(f"qt.{name} does not exist in Slicer 5.12")
        for module in pythonqt.QT_MODULES:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"qt.{name} is not in the stand-in (PySide6 has no {name})")


def ctk_module() -> types.ModuleType:
    """The module ``ctk``."""
    module = types.ModuleType("ctk", "ctk as far as the stand-in has it")
    for source in (ctk_numbers, ctk_widgets):
        for name, value in vars(source).items():
            if name.startswith("ctk"):
                setattr(module, name, value)
    return module
