"""What the source of one file shows about the classes of ``self.<name>``, of local names and of returned values."""

from __future__ import annotations

import ast
import re

Type = tuple[str, object]
"""("module", name), ("class", name), ("object", name or names), ("method", (class, name)), ("function", dotted name),
("enumerator", dotted name) or ("ui", None): the child widgets of a ``.ui`` file."""
UI: Type = ("ui", None)
_DOCUMENTED = re.compile(r"^\s*(\w+(?:, \w+)*) : (q?[A-Za-z]\w+)\s*$", re.MULTILINE)
_OF_THE_BASE = {"layout": ("object", "QVBoxLayout"), "parent": ("object", "qSlicerScriptedLoadableModuleWidget")}


def assignments(node: ast.Assign):
    """Pairs of target and value, tuples taken apart."""
    for target in node.targets:
        yield from _pairs(target, node.value)


def _pairs(target, value):
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        for part, part_value in zip(target.elts, value.elts):
            yield from _pairs(part, part_value)
    else:
        yield target, value


def documented_classes(node) -> dict[str, str]:
    """``name : QLineEdit`` lines of a docstring."""
    found = {}
    for names, class_name in _DOCUMENTED.findall(ast.get_docstring(node) or ""):
        for name in names.split(", "):
            found[name] = class_name
    return found


class Inference:
    """Infers types in one file; ``resolve(node, scope, class_name)`` gives the type of an expression."""

    def __init__(self, tree, global_types, is_known_class, resolve):
        self.globals, self._is_known, self._resolve = global_types, is_known_class, resolve
        self.classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
        self.functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        self._cache: dict[tuple, object] = {}

    def _once(self, key, compute, while_busy=None):
        """The cached value; ``while_busy`` where computing it leads back to itself."""
        if key not in self._cache:
            self._cache[key] = while_busy
            self._cache[key] = compute()
        return self._cache[key]

    def lineage(self, class_name: str) -> list[ast.ClassDef]:
        """The class and its bases, as far as they are in the file."""
        found, queue = [], [class_name]
        while queue:
            node = self.classes.get(queue.pop(0))
            if node is not None and node not in found:
                found.append(node)
                queue += [base.id for base in node.bases if isinstance(base, ast.Name)]
        return found

    def method(self, class_name: str, name: str) -> ast.FunctionDef | None:
        for node in self.lineage(class_name):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == name:
                    return member
        return None

    def attribute(self, class_name: str, name: str) -> Type | None:
        """The class of ``self.name``, if every assignment gives the same."""
        return self._once(("attribute", class_name, name), lambda: self._attribute(class_name, name))

    def _attribute(self, class_name, name):
        kinds = []
        for owner in self.lineage(class_name):
            if name in _OF_THE_BASE and "ScriptedLoadableModuleWidget" in map(ast.unparse, owner.bases):
                return _OF_THE_BASE[name]
            for function in owner.body:
                if not isinstance(function, ast.FunctionDef):
                    continue
                for node in ast.walk(function):
                    for target, value in assignments(node) if isinstance(node, ast.Assign) else ():
                        if ast.unparse(target) == f"self.{name}" and not _is_none(value):
                            kinds.append(self._resolve(value, self.scope(function, class_name, owner), class_name))
        if not kinds and name in ("ui", "_ui"):
            return UI
        return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None

    def returned(self, function: ast.FunctionDef, class_name: str | None) -> Type | None:
        """The class of what a function returns, if every return gives the same."""
        return self._once(("returned", function, class_name), lambda: self._returned(function, class_name))

    def _returned(self, function, class_name):
        values = [
            n.value for n in ast.walk(function) if isinstance(n, ast.Return) and n.value and not _is_none(n.value)
        ]
        scope = self.scope(function, class_name)
        kinds = [self._resolve(value, scope, class_name) for value in values]
        return kinds[0] if kinds and all(kind == kinds[0] for kind in kinds) else None

    def scope(self, function, class_name, owner=None) -> dict[str, Type]:
        """Types of the function's arguments and local names."""
        arguments = self.arguments(function, owner)
        return self._once(
            ("scope", function, class_name), lambda: self._scope(function, class_name, arguments), arguments
        )

    def _scope(self, function, class_name, scope):
        for node in ast.walk(function):
            for target, value in assignments(node) if isinstance(node, ast.Assign) else ():
                kind = self._resolve(value, scope, class_name) if isinstance(target, ast.Name) else None
                if kind:
                    scope[target.id] = kind
        return scope

    def arguments(self, function, owner=None) -> dict[str, Type]:
        """Types of arguments from annotations and docstrings, over the file's imports."""
        scope, documented = dict(self.globals), documented_classes(function)
        if owner is not None and function.name == "__init__":
            documented |= documented_classes(owner)
        for argument in function.args.args + function.args.kwonlyargs:
            scope.pop(argument.arg, None)
            if argument.annotation is not None:
                kind = self._resolve(argument.annotation, self.globals, None)
                if kind and kind[0] == "class":
                    scope[argument.arg] = ("object", kind[1])
            elif self._is_known(documented.get(argument.arg, "")):
                scope[argument.arg] = ("object", documented[argument.arg])
            elif argument.arg == "ui":
                scope[argument.arg] = UI
        return scope


def _is_none(value) -> bool:
    return isinstance(value, ast.Constant) and value.value is None
