"""Gives PySide6's classes, in place, the manners they have in Slicer through PythonQt.

Qt properties become Python attributes, signals become :class:`~slicer_standin.signals.BoundSignal`, static functions
return what PythonQt returns, and names that Slicer's Qt does not have raise AttributeError when the project's own
code asks for them. The classes are changed in place, so that objects made by Qt itself (a combo box's line edit, a
widget of a ``.ui`` file) behave alike. A process that has done this cannot use PySide6 in the usual way any more.
"""

from __future__ import annotations

import os
import sys
import types

# Enumerators are integers in PythonQt, and stand on the class: 0x02 int enums, 0x04 and 0x08 shortcuts.
os.environ["PYSIDE6_OPTION_PYTHON_ENUM"] = "0x0e"
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6  # noqa: E402
from PySide6 import QtCore, QtGui, QtNetwork, QtSvg, QtUiTools, QtWidgets, QtXml  # noqa: E402

from . import surface  # noqa: E402
from .signals import SignalProperty, connect, disconnect, guarded  # noqa: E402
from .state import STATE  # noqa: E402

QT_MODULES = (QtCore, QtGui, QtWidgets, QtNetwork, QtSvg, QtUiTools, QtXml)
_TESTING = str(surface.REPOSITORY / "Testing")
_patched: set[type] = set()


class QtProperty:
    """A Qt property as an attribute; on the class, the method that PySide has under the name."""

    def __init__(self, name: str, cls: type, writable: bool):
        self.name, self.writable = name, writable
        capital = name[0].upper() + name[1:]
        self.original = _raw(cls, name)
        self.getter = self.original or _raw(cls, "is" + capital) or _raw(cls, "has" + capital)
        self.setter = _raw(cls, "set" + capital)

    def __get__(self, owner, cls=None):
        if owner is None:
            return self.original.__get__(None, cls) if self.original is not None else self
        if self.getter is not None:
            return self.getter.__get__(owner, cls)()
        return owner.property(self.name)

    def __set__(self, owner, value):
        if not self.writable:
            raise AttributeError(f"{type(owner).__name__}.{self.name} is read-only")
        if self.setter is not None:
            self.setter.__get__(owner, type(owner))(value)
        else:
            owner.setProperty(self.name, value)


class Absent:
    """A name that PySide has and Slicer has not: the project's code gets AttributeError, Qt itself the member."""

    def __init__(self, name: str, original):
        self.name, self.original = name, original

    def __get__(self, owner, cls=None):
        frame = sys._getframe(1)
        while frame.f_code.co_filename == __file__:  # the attribute look-up of _route_connections
            frame = frame.f_back
        code = frame.f_code
        in_project = code.co_filename.startswith(str(surface.REPOSITORY)) and not (
            code.co_filename.startswith((_TESTING, sys.prefix)) or "/Testing/" in code.co_filename
        )
        if in_project and self.name in code.co_names:
            raise AttributeError(f"{cls.__name__}.{self.name} does not exist in Slicer 5.12")
        return self.original.__get__(owner, cls) if hasattr(self.original, "__get__") else self.original


def _raw(cls: type, name: str):
    """The member as PySide defined it, whatever was put in its place."""
    for base in cls.__mro__:
        value = vars(base).get(name)
        if isinstance(value, QtProperty):
            if value.original is not None:
                return value.original
        elif isinstance(value, Absent):
            return value.original
        elif value is not None and type(value) not in (SignalProperty, QtCore.Signal):
            return value
    return None


def patch_class(cls: type) -> None:
    """Give one QObject class, and its bases first, PythonQt's properties and signals."""
    if cls in _patched or not issubclass(cls, QtCore.QObject):
        return
    for base in cls.__bases__:
        if isinstance(base, type) and issubclass(base, QtCore.QObject):
            patch_class(base)
    _patched.add(cls)
    own = vars(cls)
    meta = cls.staticMetaObject
    listed = _listed_properties(cls)
    for index in range(meta.propertyCount()):
        meta_property = meta.property(index)
        name = meta_property.name()
        declared_here = index >= meta.propertyOffset() or name in own
        if not declared_here or type(own.get(name)) is QtCore.Property or (listed and name not in listed):
            continue
        setattr(cls, name, QtProperty(name, cls, meta_property.isWritable()))
    for name, value in list(own.items()):
        # isinstance() with Signal gives away a reference of False each time (PySide 6.12) and ends the process
        if type(value) is QtCore.Signal:
            setattr(cls, name, SignalProperty(name, value))
    _hide_absent(cls)


def _listed_properties(cls: type) -> frozenset[str]:
    """Properties that Slicer's Qt 5 has; Qt 6 made properties of a few methods. Empty where the list has none."""
    entry = surface.full().entry(cls.__name__) if surface.full() else None
    return surface.full().properties(cls.__name__) if entry and "properties" in entry else frozenset()


def _hide_absent(cls: type) -> None:
    listing = surface.full()
    if listing is None or not listing.section_of(cls.__name__):
        return
    keep = {"exec", "exec_", "raise_", "staticMetaObject", "delete", "name", "slicer_signals"}
    for name, value in list(vars(cls).items()):
        known = name.startswith("_") or name in keep or listing.has_member(cls.__name__, name)
        if not known and not isinstance(value, type | QtProperty):
            setattr(cls, name, Absent(name, value))


def _type_named(kind):
    if isinstance(kind, str):
        return next((getattr(module, kind) for module in QT_MODULES if hasattr(module, kind)), None)
    return kind


def _find_children(self, kind=QtCore.QObject, name=None):
    found = QtCore.QObject._standin_findChildren(self, _type_named(kind) or QtCore.QObject)
    if _type_named(kind) is None:
        found = [child for child in found if child.inherits(kind) or type(child).__name__ == kind]
    return [child for child in found if name in (None, "") or child.objectName == name]


def _find_child(self, kind=QtCore.QObject, name=None):
    return next(iter(_find_children(self, kind, name)), None)


def _file_dialog(kind: str, default):
    def ask(parent=None, caption="", directory="", name_filter="", *_rest):
        return STATE.ask(kind, caption, default, directory=directory, filter=name_filter)

    return staticmethod(ask)


def _message_box(kind: str, default):
    def ask(parent=None, title="", text="", buttons=default, *_rest):
        return STATE.ask(kind, text, default, title=title, buttons=buttons)

    return staticmethod(ask)


def _single_shot(milliseconds, *target):
    QtCore.QTimer._standin_single_shot(milliseconds, guarded(target[-1]))


def _open_url(url) -> bool:
    STATE.opened_urls.append(url.toString() if hasattr(url, "toString") else str(url))
    return True


def _route_connections(cls: type) -> None:
    """PySide answers ``obj.connect`` before it looks at the class; put the class's functions first."""
    original = cls.__getattribute__
    routed = {"connect": connect, "disconnect": disconnect}

    def getattribute(self, name):
        if name in routed:
            return types.MethodType(routed[name], self)
        return original(self, name)

    cls.__getattribute__ = getattribute


def _patch_functions() -> None:
    qobject = QtCore.QObject
    qobject._standin_disconnect = staticmethod(qobject.disconnect)
    qobject._standin_findChildren = qobject.findChildren
    qobject.connect, qobject.disconnect = connect, disconnect
    own_lookup = [cls for cls in _patched if cls is not qobject and "__getattribute__" in vars(cls)]
    for cls in [qobject, *own_lookup]:
        _route_connections(cls)
    qobject.findChild, qobject.findChildren = _find_child, _find_children
    qobject.name = property(lambda self: self.objectName, lambda self, value: self.setObjectName(value))
    qobject.className = lambda self: next(c for c in type(self).__mro__ if c.__name__[0] != "_").__name__
    qobject.delete = lambda self: shiboken6.delete(self)
    for cls in (QtWidgets.QDialog, QtWidgets.QMenu, QtCore.QEventLoop, QtCore.QCoreApplication, QtCore.QThread):
        cls.exec_ = cls.exec
    dialog = QtWidgets.QFileDialog
    for name, default in (("getOpenFileName", ""), ("getSaveFileName", ""), ("getExistingDirectory", "")):
        setattr(dialog, name, _file_dialog(name, default))
    dialog.getOpenFileNames = _file_dialog("getOpenFileNames", ())
    box = QtWidgets.QMessageBox
    for kind in ("information", "warning", "critical"):
        setattr(box, kind, _message_box(kind, box.Ok))
    box.question = _message_box("question", box.Yes)
    QtGui.QDesktopServices.openUrl = staticmethod(_open_url)
    QtCore.QTimer._standin_single_shot = staticmethod(_raw(QtCore.QTimer, "singleShot"))
    timer_property = vars(QtCore.QTimer)["singleShot"]
    timer_property.original = staticmethod(_single_shot)
    timer_property.getter = _raw(QtCore.QTimer, "isSingleShot")


def patch_all() -> None:
    """Patch every QObject class of the Qt modules that Slicer's ``qt`` shows."""
    for module in QT_MODULES:
        for name in dir(module):
            value = getattr(module, name, None) if name.startswith("Q") else None
            if isinstance(value, type) and issubclass(value, QtCore.QObject):
                patch_class(value)
    _patch_functions()
    _keep_none()


def _keep_none() -> None:
    """Give None references to spare where it can run out of them.

    PySide6 6.12 gives up one too many with each method that returns nothing. From Python 3.12 on that is harmless;
    before, a long test session ends in "deallocating None".
    """
    if sys.version_info < (3, 12):
        import ctypes

        ctypes.c_ssize_t.from_address(id(None)).value += 1 << 40


patch_all()
