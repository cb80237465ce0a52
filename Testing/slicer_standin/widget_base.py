"""How the stand-in's ctk and qMRML widget classes are declared."""

from __future__ import annotations

from PySide6.QtCore import Property

from . import pythonqt, surface


def stored(kind: type, name: str, default, changed: str | None = None) -> Property:
    """A Qt property that is only remembered; ``changed`` names a method called after a change."""

    def read(self):
        return self.__dict__.get("_" + name, default)

    def write(self, value):
        self.__dict__["_" + name] = value
        if changed:
            getattr(self, changed)()

    return Property(kind, read, write)


def forwarded(kind: type, child: str, name: str) -> Property:
    """A Qt property that a child widget holds."""

    def read(self):
        return getattr(getattr(self, child), name)

    def write(self, value):
        setattr(getattr(self, child), name, value)

    return Property(kind, read, write)


class _DynamicProperty:
    """A property that Slicer's class has and the stand-in only remembers."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, owner, cls=None):
        return self if owner is None else owner.property(self.name)

    def __set__(self, owner, value):
        owner.setProperty(self.name, value)


class ForeignEnum:
    """A property whose type is an enumeration of another class: PythonQt cannot set it."""

    def __init__(self, name: str, kind: str):
        self.name, self.kind = name, kind

    def __get__(self, owner, cls=None):
        return self if owner is None else 0

    def __set__(self, owner, value):
        raise AttributeError(
            f"Property '{self.name}' of type '{self.kind}' does not accept an object of type {type(value).__name__}"
        )


def slicer_class(cls: type) -> type:
    """Finish a widget class: PythonQt's manners, setters, and the remaining properties of Slicer's class."""
    pythonqt.patch_class(cls)
    listing = surface.full()
    for name, value in list(vars(cls).items()):
        setter = f"set{name[0].upper()}{name[1:]}"
        wanted = listing is None or listing.has_member(cls.__name__, setter)
        if type(value) is Property and value.fset and setter not in vars(cls) and wanted:
            setattr(cls, setter, _setter(value))
    if listing and listing.section_of(cls.__name__):
        for name in listing.properties(cls.__name__):
            if not any(name in vars(base) for base in cls.__mro__):
                setattr(cls, name, _DynamicProperty(name))
    return cls


def _setter(declared: Property):
    def set_value(self, value):
        declared.fset(self, value)

    return set_value
