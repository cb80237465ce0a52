"""The names that a Python file uses, with the classes of objects inferred as far as the source shows them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from .inference import UI, Inference, Type, assignments
from .record import Record

_MODULES = {
    "qt",
    "ctk",
    "slicer",
    "slicer.util",
    "slicer.app",
    "slicer.modules",
    "slicer.packaging",
    "slicer.parameterNodeWrapper",
    "slicer.ScriptedLoadableModule",
}
# What methods return, where the next name in a chain is worth checking.
_RETURNS = {
    ("QComboBox", "lineEdit"): "QLineEdit",
    ("QTableWidget", "horizontalHeader"): "QHeaderView",
    ("QTableWidget", "verticalHeader"): "QHeaderView",
    ("QTableWidget", "item"): "QTableWidgetItem",
    ("qMRMLTableView", "horizontalHeader"): "QHeaderView",
    ("qMRMLTableView", "verticalHeader"): "QHeaderView",
    ("QListWidget", "item"): "QListWidgetItem",
    ("QListWidget", "currentItem"): "QListWidgetItem",
    ("QListWidgetItem", "font"): "QFont",
    ("QTableWidgetItem", "font"): "QFont",
    ("QTreeWidget", "currentItem"): "QTreeWidgetItem",
    ("QMenu", "addAction"): "QAction",
    ("QMenu", "addMenu"): "QMenu",
    ("QPlainTextEdit", "document"): "QTextDocument",
    ("QPlainTextEdit", "verticalScrollBar"): "QScrollBar",
    ("QTextEdit", "document"): "QTextDocument",
    ("QTextBrowser", "document"): "QTextDocument",
}
_MRML_CLASS = re.compile(r"vtkMRML\w+Node")


class PythonFile:
    """Checks one file; findings and names go to the record.

    ``ui_children`` maps the names of widgets in the project's ``.ui`` files to their classes.
    """

    def __init__(self, path: Path, record: Record, ui_children: dict[str, set[str]]):
        self.path, self.record, self.ui_children = path, record, ui_children
        self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        self.imported: set[str] = set()
        self.globals: dict[str, Type] = {}
        known = record.surface.section_of
        self.inference = Inference(self.tree, self.globals, lambda name: known(name) is not None, self._quiet)

    def check(self) -> None:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._class_name_in_text(node)
        self._scope(self.tree.body, dict(self.globals), None)

    def _fail(self, node, message):
        self.record.fail(self.path, node.lineno, message)

    def _import(self, node):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.split(".")[0]
                if root in ("qt", "ctk", "slicer"):
                    self.imported.add(alias.name)
                    self.globals[alias.asname or root] = ("module", alias.name if alias.asname else root)
            return
        if node.level or node.module not in _MODULES:
            return
        self.imported.add(node.module)
        for alias in node.names:
            self.globals[alias.asname or alias.name] = self._member(node, ("module", node.module), alias.name)

    def _class_name_in_text(self, node):
        if _MRML_CLASS.fullmatch(node.value) and not self.record.module_has("slicer", node.value):
            self._fail(node, f"there is no class {node.value}")

    # --- statements

    def _scope(self, body, scope, class_name):
        for statement in body:
            self._statement(statement, scope, class_name)

    def _statement(self, node, scope, class_name):
        if isinstance(node, ast.ClassDef):
            for expression in [*node.bases, *node.decorator_list]:
                self._resolve(expression, scope, class_name)
            self._scope(node.body, dict(scope), node.name)
        elif isinstance(node, ast.FunctionDef):
            owner = next((n for n in ast.walk(self.tree) if isinstance(n, ast.ClassDef) and node in n.body), None)
            for expression in [*node.decorator_list, *node.args.defaults]:
                self._resolve(expression, scope, class_name)
            self._scope(node.body, {**scope, **self.inference.arguments(node, owner)}, class_name)
        elif isinstance(node, ast.Assign):
            kind = self._resolve(node.value, scope, class_name)
            for target, value in assignments(node):
                if value is not node.value:
                    kind = self._quiet(value, scope, class_name)
                self._assign(target, kind, scope, class_name)
        elif isinstance(node, ast.With | ast.For | ast.While | ast.If | ast.Try):
            self._compound(node, scope, class_name)
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._resolve(child, scope, class_name)

    def _compound(self, node, scope, class_name):
        for name, value in ast.iter_fields(node):
            parts = value if isinstance(value, list) else [value]
            for part in parts:
                if isinstance(part, ast.stmt):
                    self._statement(part, scope, class_name)
                elif isinstance(part, ast.ExceptHandler):
                    self._scope(part.body, scope, class_name)
                elif isinstance(part, ast.withitem):
                    self._resolve(part.context_expr, scope, class_name)
                elif isinstance(part, ast.expr) and not (name == "target" and isinstance(part, ast.Name)):
                    self._resolve(part, scope, class_name)

    def _assign(self, target, kind, scope, class_name):
        if isinstance(target, ast.Name):
            scope.pop(target.id, None)
            if kind:
                scope[target.id] = kind
        elif isinstance(target, ast.Attribute):
            owner = self._resolve(target.value, scope, class_name)
            for name in self._classes_of(owner):
                if not self.record.has_member(name, target.attr):
                    self._fail(target, f"{name} has no property {target.attr}; setting it does nothing")
                elif self.record.knows_properties(name) and not self.record.is_property(name, target.attr):
                    self._fail(target, f"{name}.{target.attr} is not a property; use its setter")
        elif isinstance(target, ast.expr):
            for child in ast.iter_child_nodes(target):
                if isinstance(child, ast.expr):
                    self._resolve(child, scope, class_name)

    # --- expressions

    def _quiet(self, node, scope, class_name):
        """The type of an expression whose names are checked elsewhere."""
        before = list(self.record.findings)
        kind = self._resolve(node, scope, class_name)
        self.record.findings[:] = before
        return kind

    def _resolve(self, node, scope, class_name) -> Type | None:
        if isinstance(node, ast.Name):
            return scope.get(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope, class_name)
        if isinstance(node, ast.Call):
            return self._call(node, scope, class_name)
        if isinstance(node, ast.IfExp):
            self._resolve(node.test, scope, class_name)
            kinds = {self._resolve(part, scope, class_name) for part in (node.body, node.orelse)}
            return kinds.pop() if len(kinds) == 1 else None
        if isinstance(node, ast.Lambda):
            names = {argument.arg for argument in node.args.args}
            self._resolve(node.body, {key: kind for key, kind in scope.items() if key not in names}, class_name)
            return None
        for child in ast.walk(node):
            if child is not node and isinstance(child, ast.Attribute | ast.Call) and isinstance(node, ast.expr):
                self._resolve(child, scope, class_name)
        return None

    def _attribute(self, node, scope, class_name):
        if isinstance(node.value, ast.Name) and node.value.id == "self" and class_name:
            return self.inference.attribute(class_name, node.attr)
        return self._member(node, self._resolve(node.value, scope, class_name), node.attr)

    def _member(self, node, owner: Type | None, name: str) -> Type | None:
        if owner is None:
            return None
        kind, what = owner
        if kind == "module":
            return self._module_member(node, what, name)
        if kind == "ui":
            if name not in self.ui_children:
                self._fail(node, f"no .ui file has a widget named {name}")
                return None
            classes = self.ui_children[name]
            return ("object", next(iter(classes))) if len(classes) == 1 else ("object", tuple(sorted(classes)))
        for class_name in self._classes_of(owner) or ([what] if kind == "class" else []):
            if not self.record.has_member(class_name, name):
                self._fail(node, f"{class_name} has no {name}")
        if kind == "object" and isinstance(what, str):
            return ("method", (what, name))
        if kind == "enumerator":
            self._fail(node, f"{what}.{name}: enumerators stand on the class in PythonQt")
        if kind == "class" and name[0].isupper():
            return ("enumerator", f"{what}.{name}")
        return None

    def _module_member(self, node, module, name):
        if module in ("qt", "ctk"):
            if not self.record.is_class(name, module):
                self._fail(node, f"{module}.{name} does not exist in Slicer 5.12")
                return None
            return ("class", name)
        if module == "slicer.packaging" and "slicer.packaging" not in self.imported:
            self._fail(node, "slicer.packaging must be imported before it is used")
        if module in _MODULES and not self.record.module_has(module, name):
            self._fail(node, f"{module}.{name} does not exist in Slicer 5.12")
            return None
        dotted = f"{module}.{name}"
        if dotted in _MODULES:
            return ("module", dotted)
        if module == "slicer" and self.record.surface.section_of(name):
            return ("class", name)
        return ("function", dotted)

    def _call(self, node, scope, class_name):
        function = self._resolve(node.func, scope, class_name)
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]:
            self._resolve(argument.value if isinstance(argument, ast.Starred) else argument, scope, class_name)
        if function is None:
            called = self._own_function(node.func, class_name)
            return self.inference.returned(called, class_name) if called else None
        kind, what = function
        if kind == "class":
            return ("object", what)
        if function == ("function", "slicer.util.childWidgetVariables"):
            return UI
        if kind == "method":
            owner, name = what
            if self.record.is_property(owner, name):
                self._fail(node, f"{owner}.{name} is a property in PythonQt and is not called")
            if name in ("connect", "disconnect") and node.args:
                self._connection(node, owner)
            returned = _RETURNS.get(what)
            return ("object", returned) if returned else None
        return None

    def _own_function(self, node, class_name):
        """The function of this file that is called, if it is one."""
        if isinstance(node, ast.Name):
            return self.inference.functions.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.inference.method(class_name, node.attr) if class_name else None
        return None

    def _connection(self, node, owner):
        signature = node.args[0]
        if isinstance(signature, ast.Constant) and isinstance(signature.value, str):
            text = re.sub(r"\s", "", signature.value)
            if not self.record.has_signal(owner, text):
                self._fail(node, f"{owner} has no signal {text}")

    def _classes_of(self, owner: Type | None) -> list[str]:
        if owner is None or owner[0] != "object":
            return []
        return [owner[1]] if isinstance(owner[1], str) else list(owner[1])
