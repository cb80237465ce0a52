"""``slicer.parameterNodeWrapper``: typed access to a parameter node, and its connection to widgets."""

from __future__ import annotations

import enum
import sys
import types
import typing
import weakref

import slicer
import slicer.util
import vtk

from . import parameter_values
from .parameter_values import Default, value_for

SlicerParameterNamePropertyName = "SlicerParameterName"

# How each widget class shows a value: property, and the signal that tells of a change.
_WIDGETS = (
    ("qMRMLNodeComboBox", "", "currentNodeChanged"),
    ("QCheckBox", "checked", "toggled"),
    ("QAbstractButton", "checked", "toggled"),
    ("QSpinBox", "value", "valueChanged"),
    ("QSlider", "value", "valueChanged"),
    ("QDoubleSpinBox", "value", "valueChanged"),
    ("ctkDoubleSpinBox", "value", "valueChanged"),
    ("ctkSliderWidget", "value", "valueChanged"),
    ("QComboBox", "", "currentIndexChanged"),
    ("QLineEdit", "text", "textChanged"),
    ("QPlainTextEdit", "plainText", "textChanged"),
    ("QTextEdit", "plainText", "textChanged"),
    ("QLabel", "text", ""),
    ("ctkPathLineEdit", "currentPath", "currentPathChanged"),
    ("ctkDirectoryButton", "directory", "directoryChanged"),
)


class _Connector:
    """One parameter and one widget."""

    def __init__(self, widget, kind):
        names = {cls.__name__ for cls in type(widget).__mro__}
        match = next((entry for entry in _WIDGETS if entry[0] in names), None)
        if match is None:
            raise RuntimeError(f"Unable to create GUI connector from {kind} to {type(widget).__name__}")
        self.widget, (_, self.property, self.signal) = widget, match
        annotations = kind.__metadata__ if typing.get_origin(kind) is typing.Annotated else ()
        self.kind = typing.get_args(kind)[0] if annotations else kind
        self._prepare(match[0], annotations)

    def _prepare(self, widget_class, annotations):
        for entry in annotations:
            if isinstance(entry, parameter_values.WithinRange) and self.property == "value":
                self.widget.minimum, self.widget.maximum = entry.minimum, entry.maximum
            elif isinstance(entry, parameter_values.SingleStep):
                self.widget.singleStep = entry.value
            elif isinstance(entry, parameter_values.Decimals):
                self.widget.decimals = entry.value
        if widget_class == "qMRMLNodeComboBox":
            plain = [part for part in (typing.get_args(self.kind) or [self.kind]) if part is not type(None)]
            self.widget.nodeTypes = [part.__name__ for part in plain]
        self.choices = None
        if widget_class == "QComboBox":
            if isinstance(self.kind, type) and issubclass(self.kind, enum.Enum):
                self.choices = list(self.kind)
                labels = [choice.label() if hasattr(choice, "label") else choice.name for choice in self.choices]
            else:
                self.choices = next(list(e.choices) for e in annotations if isinstance(e, parameter_values.Choice))
                labels = [str(choice) for choice in self.choices]
            self.widget.clear()
            self.widget.addItems(labels)

    def connect(self, changed):
        self.changed = lambda *_arguments: changed()
        if self.signal:
            getattr(self.widget, self.signal).connect(self.changed)

    def disconnect(self):
        if self.signal:
            getattr(self.widget, self.signal).disconnect(self.changed)

    def read(self):
        if self.choices is not None:
            return self.choices[self.widget.currentIndex]
        if self.property == "":
            return self.widget.currentNode()
        if self.property == "plainText":
            return self.widget.toPlainText()
        value = getattr(self.widget, self.property)
        return value if self.kind in (str, bool) or not callable(self.kind) else self.kind(value)

    def write(self, value):
        if self.choices is not None:
            self.widget.currentIndex = self.choices.index(value)
        elif self.property == "":
            self.widget.setCurrentNode(value)
        elif self.property == "plainText":
            if self.widget.toPlainText() != value:
                self.widget.setPlainText(value)
        else:
            value = value if isinstance(value, bool | int | float) else str(value)
            if getattr(self.widget, self.property) != value:
                setattr(self.widget, self.property, value)


def _property(name, stored):
    return property(lambda self: stored.read(self.parameterNode, name), lambda self, value: self.setValue(name, value))


class _Methods:
    """What the decorator adds to a class."""

    def __init__(self, parameterNode, prefix=None):
        if prefix:
            raise NotImplementedError("the stand-in has no parameter prefixes")
        self.parameterNode = parameterNode
        self._guis, self._next_tag, self._updating = {}, 0, False
        for name, (stored, default, _kind) in self._parameters.items():
            if not stored.is_in(parameterNode, name):
                stored.write(parameterNode, name, default.value)

    def getValue(self, name):
        self._check(name)
        return getattr(self, name)

    def setValue(self, name, value):
        self._check(name)
        with slicer.util.NodeModify(self.parameterNode):
            self._parameters[name][0].write(self.parameterNode, name, value)

    def _check(self, name):
        if name not in self._parameters:
            raise ValueError(f"Cannot find a param with the given name: {name}")

    def default(self, name):
        self._check(name)
        return self._parameters[name][1]

    @classmethod
    def dataType(cls, name):
        return cls._parameters[name][2]

    def isCached(self, name):
        self._check(name)
        return False

    def connectGui(self, gui):
        """Connect every widget that has a ``SlicerParameterName``; returns a tag for disconnectGui."""
        widgets = gui.findChildren("QWidget") if hasattr(gui, "findChildren") else list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping):
        for name in mapping:
            self._check(name)
        connectors = {name: _Connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._next_tag = self._next_tag, self._next_tag + 1
        reference = weakref.ref(self)
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(lambda name=name, connector=connector: self._from_gui(name, connector))
        observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: reference() and reference()._to_gui())
        self._guis[tag] = (connectors, observer)
        return tag

    def disconnectGui(self, tag):
        connectors, observer = self._guis.pop(tag, ({}, None))
        for connector in connectors.values():
            connector.disconnect()
        if observer is not None:
            self.RemoveObserver(observer)

    def _from_gui(self, name, connector):
        if not self._updating:
            self.setValue(name, connector.read())

    def _to_gui(self):
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                for connectors, _observer in self._guis.values():
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating = False

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        self.parameterNode.Modified()


def parameterNodeWrapper(classtype=None):
    """Class decorator: annotated members become parameters of a vtkMRMLScriptedModuleNode."""
    return _wrap if classtype is None else _wrap(classtype)


def _wrap(classtype):
    parameters = {}
    for name, kind in typing.get_type_hints(classtype, include_extras=True).items():
        stored = value_for(kind)
        annotated = getattr(kind, "__metadata__", ())
        default = next((entry for entry in annotated if isinstance(entry, Default)), Default(stored.default))
        if name in vars(classtype):
            default = Default(vars(classtype)[name])
        parameters[name] = (stored, default, kind)
        setattr(classtype, name, _property(name, stored))
    for name, member in vars(_Methods).items():
        if name.startswith("__") and name != "__init__":
            continue
        if name in vars(classtype) and name != "__init__":
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        setattr(classtype, name, member)
    classtype._parameters = classtype.allParameters = parameters
    classtype._is_parameter_node_wrapper = True
    return classtype


def isParameterNodeWrapper(classOrObj) -> bool:
    """Whether a class or object was made by the decorator."""
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget, parameter):
    """The child whose ``SlicerParameterName`` is the parameter, or None."""
    children = widget.findChildren("QWidget")
    return next((child for child in children if child.property(SlicerParameterNamePropertyName) == parameter), None)


def publish() -> None:
    """Put the module ``slicer.parameterNodeWrapper`` in place."""
    module = types.ModuleType("slicer.parameterNodeWrapper")
    names = "Default Decimals SingleStep Label Validator NotNone IsInstance WithinRange Minimum Maximum Choice Exclude"
    for name in names.split():
        setattr(module, name, getattr(parameter_values, name))
    for member in (parameterNodeWrapper, isParameterNodeWrapper, findChildWidgetForParameter):
        setattr(module, member.__name__, member)
    module.SlicerParameterNamePropertyName = SlicerParameterNamePropertyName
    sys.modules["slicer.parameterNodeWrapper"] = slicer.parameterNodeWrapper = module
