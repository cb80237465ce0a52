"""Signals with PythonQt's manners: attribute and string connections, argument truncation, swallowed exceptions."""

from __future__ import annotations

import functools
import inspect
import re

from .state import STATE

# A later overload of a signal that this stand-in emits once, by its most telling argument.
_CONVERSIONS = {"bool": bool}


def positional_count(slot) -> int | None:
    """How many arguments PythonQt passes: the declared ones of a Python function, None for all.

    PythonQt cuts the arguments only for functions and bound methods without ``*args``; a ``functools.partial``, a
    class or a method of Qt gets all of them.
    """
    function = slot.__func__ if inspect.ismethod(slot) else slot
    if not inspect.isfunction(function):
        return None
    if function.__code__.co_flags & inspect.CO_VARARGS:
        return None
    return function.__code__.co_argcount - (1 if inspect.ismethod(slot) else 0)


def guarded(slot, argument_count: int | None = None, conversions=()):
    """A function for Qt that calls ``slot`` as PythonQt does and keeps its exception from Qt."""
    accepted = positional_count(slot)

    def call(*args):
        if argument_count is not None:
            args = args[:argument_count]
        args = [convert(value) if convert else value for value, convert in zip(args, conversions)] or args
        if accepted is not None:
            args = args[:accepted]
        try:
            slot(*args)
        except Exception:
            STATE.caught()

    return call


def split_signature(signature: str) -> tuple[str, list[str]]:
    """``"a(int, QString)"`` -> ``("a", ["int", "QString"])``; ValueError if it is not a signature."""
    match = re.fullmatch(r"\s*2?(\w+)\s*\((.*)\)\s*", signature)
    if not match:
        raise ValueError(f"not a signal signature: {signature!r}")
    types = [re.sub(r"^const\s+|\s*&$|\s+(?=\*)", "", part.strip()) for part in match[2].split(",") if part.strip()]
    return match[1], types


@functools.cache
def _class_signatures(cls: type) -> dict[str, set[str]]:
    result: dict[str, set[str]] = {}
    meta = cls.staticMetaObject
    for index in range(meta.methodCount()):
        method = meta.method(index)
        if method.methodType() == method.MethodType.Signal:
            signature = bytes(method.methodSignature()).decode()
            result.setdefault(signature.split("(")[0], set()).add(signature)
    return result


def _meta_signatures(owner) -> dict[str, set[str]]:
    return _class_signatures(type(owner))


def known_signatures(owner) -> dict[str, set[str]]:
    """Signatures of the object's signals by name: those of Qt and those declared for Slicer's own classes."""
    result = {name: set(signatures) for name, signatures in _meta_signatures(owner).items()}
    for cls in type(owner).__mro__:
        for signature in vars(cls).get("slicer_signals", ()):
            name, types = split_signature(signature)
            result.setdefault(name, set()).add(f"{name}({','.join(types)})")
    return result


class BoundSignal:
    """``button.clicked``: connect, disconnect, emit."""

    def __init__(self, owner, name: str, instance):
        self._owner, self._name, self._instance = owner, name, instance

    def connect(self, slot, _type=None) -> bool:
        self._connect(slot, f"{self._name}", None, ())
        return True

    def _connect(self, slot, key, argument_count, conversions):
        if isinstance(slot, BoundSignal):
            slot = slot.emit
        elif not callable(slot):
            raise ValueError(f"{self._name}: the slot is not callable: {slot!r}")
        call = guarded(slot, argument_count, conversions)
        connection = self._instance.connect(call)
        connections = self._owner.__dict__.setdefault("_standin_connections", [])
        connections.append((key.split("(")[0], key, slot, connection))

    def disconnect(self, slot=None) -> bool:
        return _disconnect(self._owner, self._name, slot, by_name=True)

    def emit(self, *args):
        self._instance.emit(*args)

    def __call__(self, *args):
        self._instance.emit(*args)

    def __repr__(self):
        return f"<signal {self._name} of {self._owner!r}>"


def _disconnect(owner, key, slot, by_name: bool) -> bool:
    from PySide6.QtCore import QObject

    connections = owner.__dict__.get("_standin_connections", [])
    position = 0 if by_name else 1
    found = [entry for entry in connections if entry[position] == key and (slot is None or entry[2] == slot)]
    for entry in found:
        _qt_disconnect(QObject, entry[3])
        connections.remove(entry)
    return bool(found)


def _qt_disconnect(qobject, connection):
    qobject._standin_disconnect(connection)


class SignalProperty:
    """Stands where PySide has its Signal on a class and hands out a BoundSignal."""

    def __init__(self, name: str, signal):
        self.name, self.signal = name, signal

    def __get__(self, owner, cls=None):
        if owner is None:
            return self.signal.__get__(None, cls)
        instance = self.signal.__get__(owner, cls)
        owner.__dict__.pop(self.name, None)  # PySide keeps it there and would answer with it next time
        signatures = _meta_signatures(owner).get(self.name, ())
        if len(signatures) > 1:  # clicked() and clicked(bool) are one signal with a default argument
            types = max((split_signature(signature)[1] for signature in signatures), key=len)
            instance = instance[tuple(types) if len(types) > 1 else types[0]]
        return BoundSignal(owner, self.name, instance)


def connect(owner, signal, *target) -> bool:
    """``obj.connect("clicked(bool)", slot)`` and ``obj.connect("clicked()", receiver, "click()")``.

    Raises
    ------
    ValueError
        The object has no signal of exactly that signature; PythonQt only logs it, and the slot never runs.
    """
    name, types = split_signature(signal)
    wanted = f"{name}({','.join(types)})"
    known = known_signatures(owner).get(name, set())
    if wanted not in known:
        raise ValueError(
            f"{type(owner).__name__} has no signal {wanted}; it has {sorted(known) or 'none of that name'}"
        )
    slot = target[0]
    if len(target) == 2:
        slot = getattr(slot, split_signature(target[1])[0])
        types = types[: len(split_signature(target[1])[1])]
    bound = getattr(owner, name)
    main = next(
        (s for cls in type(owner).__mro__ for s in vars(cls).get("slicer_signals", ()) if s.startswith(name + "(")),
        None,
    )
    overloaded = main is not None and split_signature(main)[1] != types
    conversions = [_CONVERSIONS.get(kind) for kind in types] if overloaded else ()
    bound._connect(slot, wanted, len(types), conversions)
    return True


def disconnect(owner, signal=None, slot=None) -> bool:
    """``obj.disconnect("clicked()", slot)``, ``obj.disconnect("clicked()")``."""
    if signal is None:
        keys = {entry[1] for entry in owner.__dict__.get("_standin_connections", [])}
        return sum(_disconnect(owner, key, None, by_name=False) for key in keys) > 0
    name, types = split_signature(signal)
    return _disconnect(owner, f"{name}({','.join(types)})", slot, by_name=False)
