"""The parameter form: one editor for each parameter, made from its declaration."""

import ctk
import qt
from slicer.i18n import tr as _

from ..core.parameters import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    RangeParameter,
    TextParameter,
)

_LARGEST_INTEGER = 2**31 - 1
_LARGEST_FLOAT = 1e9
_SLIDER_STEPS = 100_000
"""A slider with more steps than this is no help; a plain box is shown instead."""


class Editor:
    """A widget for one parameter. ``on_change(name, value)`` is called when the user changes it, and only then."""

    def __init__(self, parameter, on_change):
        self.parameter = parameter
        self._on_change = on_change
        self._is_updating = False
        self.widget = self._make()
        self.widget.objectName = f"parameter_{parameter.name}"
        self.widget.toolTip = tool_tip(parameter)

    def show_value(self, value):
        """Display a value without reporting it as the user's.

        What is shown already stays untouched: a box would tidy up its text in the middle of the user's typing.
        """
        self._is_updating = True
        try:
            self._adapt(value)
            if self.value() != value:
                self._display(value)
        finally:
            self._is_updating = False

    def show_bounds(self, low: float, high: float):
        """Take limits from the input; only a range without limits of its own does."""

    def _adapt(self, value):
        """Make room for a value before it is shown."""

    def _changed(self, *_arguments):
        if not self._is_updating:
            self._on_change(self.parameter.name, self.value())

    def _make(self):
        raise NotImplementedError

    def _display(self, value):
        raise NotImplementedError

    def value(self):
        """What the widget shows."""
        raise NotImplementedError


class NumberEditor(Editor):
    """A slider with a box where both limits are known, a box elsewhere."""

    def _make(self):
        p = self.parameter
        decimals = p.decimals if isinstance(p, FloatParameter) else 0
        step = p.step or 10.0**-decimals
        bounded = p.minimum is not None and p.maximum is not None
        if bounded and (p.maximum - p.minimum) / step <= _SLIDER_STEPS:
            widget = ctk.ctkSliderWidget()
            widget.decimals = decimals
        elif isinstance(p, FloatParameter):
            widget = qt.QDoubleSpinBox()
            widget.decimals = decimals
        else:
            widget = qt.QSpinBox()
        largest = _LARGEST_FLOAT if isinstance(p, FloatParameter) else _LARGEST_INTEGER
        kind = int if isinstance(widget, qt.QSpinBox) else float
        widget.minimum = kind(-largest if p.minimum is None else p.minimum)
        widget.maximum = kind(largest if p.maximum is None else p.maximum)
        widget.singleStep = kind(step)
        widget.suffix = f" {p.unit}" if p.unit else ""
        signal = "valueChanged(int)" if isinstance(widget, qt.QSpinBox) else "valueChanged(double)"
        widget.connect(signal, self._changed)
        return widget

    def _display(self, value):
        self.widget.value = value

    def value(self):
        return self.widget.value if isinstance(self.parameter, FloatParameter) else round(self.widget.value)


class RangeEditor(Editor):
    """Two boxes with a double slider between them."""

    def _make(self):
        p = self.parameter
        widget = ctk.ctkRangeWidget()
        widget.decimals = p.decimals
        widget.suffix = f" {p.unit}" if p.unit else ""
        self._bounds = (p.minimum, p.maximum)
        self._set_limits(widget, p.default)
        widget.connect("valuesChanged(double,double)", self._changed)
        return widget

    def _set_limits(self, widget, values):
        """The limits known so far, widened so that they never change a value."""
        low, high = self._bounds
        low = values[0] if low is None else min(low, values[0])
        high = values[1] if high is None else max(high, values[1])
        if high <= low:
            high = low + 1.0
        if (widget.minimum, widget.maximum) == (low, high):
            return
        widget.setRange(low, high)
        widget.singleStep = self.parameter.step or max(10.0**-self.parameter.decimals, (high - low) / 1000)

    def show_bounds(self, low, high):
        p = self.parameter
        self._bounds = (low if p.minimum is None else p.minimum, high if p.maximum is None else p.maximum)

    def _adapt(self, value):
        self._set_limits(self.widget, value)

    def _display(self, value):
        self.widget.setValues(*value)

    def value(self):
        return (self.widget.minimumValue, self.widget.maximumValue)


class BooleanEditor(Editor):
    def _make(self):
        widget = qt.QCheckBox()
        widget.connect("toggled(bool)", self._changed)
        return widget

    def _display(self, value):
        self.widget.checked = value

    def value(self):
        return self.widget.checked


class ChoiceEditor(Editor):
    def _make(self):
        widget = qt.QComboBox()
        widget.sizeAdjustPolicy = qt.QComboBox.AdjustToMinimumContentsLengthWithIcon
        widget.minimumContentsLength = 12
        for value, text in self.parameter.choices.items():
            widget.addItem(text, value)
        widget.connect("currentIndexChanged(int)", self._changed)
        return widget

    def _display(self, value):
        self.widget.currentIndex = list(self.parameter.choices).index(value)

    def value(self):
        return list(self.parameter.choices)[self.widget.currentIndex]


class TextEditor(Editor):
    def _make(self):
        widget = qt.QLineEdit()
        widget.connect("textChanged(QString)", self._changed)
        return widget

    def _display(self, value):
        self.widget.text = value

    def value(self):
        return self.widget.text


class PathEditor(Editor):
    def _make(self):
        p = self.parameter
        widget = ctk.ctkPathLineEdit()
        if p.kind == "folder":
            widget.filters = ctk.ctkPathLineEdit.Dirs
        elif p.kind == "save":
            widget.filters = ctk.ctkPathLineEdit.Files | ctk.ctkPathLineEdit.Writable
        else:
            widget.filters = ctk.ctkPathLineEdit.Files
        if p.suffixes:
            widget.nameFilters = [f"*{suffix}" for suffix in p.suffixes]
        widget.connect("currentPathChanged(QString)", self._changed)
        return widget

    def _display(self, value):
        self.widget.currentPath = value

    def value(self):
        return self.widget.currentPath


def make_editor(parameter, on_change) -> Editor:
    """The editor for a parameter."""
    if isinstance(parameter, RangeParameter):
        return RangeEditor(parameter, on_change)
    if isinstance(parameter, (FloatParameter, IntegerParameter)):
        return NumberEditor(parameter, on_change)
    if isinstance(parameter, BooleanParameter):
        return BooleanEditor(parameter, on_change)
    if isinstance(parameter, ChoiceParameter):
        return ChoiceEditor(parameter, on_change)
    if isinstance(parameter, TextParameter):
        return (TextEditor if parameter.kind == "text" else PathEditor)(parameter, on_change)
    raise TypeError(f"There is no editor for a {type(parameter).__name__}.")


def tool_tip(parameter) -> str:
    """Help, allowed values and default, one to a line."""
    default = parameter.default
    if isinstance(parameter, ChoiceParameter):
        shown, allowed = parameter.choices[default], ""
    elif isinstance(parameter, BooleanParameter):
        shown, allowed = _("yes") if default else _("no"), ""
    elif isinstance(parameter, RangeParameter):
        shown, allowed = f"{default[0]:g} to {default[1]:g}", parameter.describe_range()
    else:
        shown, allowed = f"{default:g}" if isinstance(default, float) else str(default), parameter.describe_range()
    unit = f" {parameter.unit}" if parameter.unit else ""
    lines = [
        parameter.help,
        _("Allowed: {values}").format(values=allowed) if allowed else "",
        _("Default: {value}").format(value=f"{shown}{unit}") if shown else "",
    ]
    return "\n".join(line for line in lines if line)


class ParameterForm:
    """Editors for all parameters of a task in two form layouts, plain and advanced.

    Parameters
    ----------
    parameters : sequence of Parameter
    plain, advanced : QFormLayout
        Rows are added to them.
    on_change : callable
        ``on_change(name, value)`` after the user changed a value.
    """

    def __init__(self, parameters, plain, advanced, on_change):
        self.parameters = parameters
        self.editors = {p.name: make_editor(p, on_change) for p in parameters}
        self._labels = {}
        for p in parameters:
            label = qt.QLabel(f"{p.title}:")
            label.toolTip = tool_tip(p)
            (advanced if p.advanced else plain).addRow(label, self.editors[p.name].widget)
            self._labels[p.name] = label

    def show(self, values: dict):
        """Display ``values`` and grey what does not matter with them."""
        for p in self.parameters:
            editor = self.editors[p.name]
            editor.show_value(values[p.name])
            editor.widget.enabled = p.is_enabled(values)
            self._labels[p.name].enabled = p.is_enabled(values)

    def show_bounds(self, port_name: str, low: float, high: float):
        """Limit the ranges that take their limits from this input; call :meth:`show` afterwards."""
        for p in self.parameters:
            if isinstance(p, RangeParameter) and p.bounds_from == port_name:
                self.editors[p.name].show_bounds(low, high)
