"""ctk's number widgets: spin box, slider and range."""

from __future__ import annotations

from PySide6.QtCore import Property, QRectF, Qt, Signal
from PySide6.QtGui import QPainter, QPalette
from PySide6.QtWidgets import QDoubleSpinBox, QHBoxLayout, QSizePolicy, QSlider, QWidget

from .widget_base import forwarded, slicer_class, stored

_STEPS = 1000


@slicer_class
class ctkDoubleSpinBox(QWidget):
    """A double spin box; in ctk a widget around one, not a kind of one."""

    valueChanged = Signal(float)
    editingFinished = Signal()
    decimalsChanged = Signal(int)
    slicer_signals = ("valueChanged(double)", "editingFinished()", "decimalsChanged(int)")
    _spin_class = QDoubleSpinBox

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spin = self._spin_class(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._spin)
        self._spin.valueChanged.connect(lambda value: self.valueChanged.emit(value))
        self._spin.editingFinished.connect(lambda: self.editingFinished.emit())

    def _set_decimals(self, count):
        self._spin.decimals = count
        self.decimalsChanged.emit(count)

    value = forwarded(float, "_spin", "value")
    minimum = forwarded(float, "_spin", "minimum")
    maximum = forwarded(float, "_spin", "maximum")
    singleStep = forwarded(float, "_spin", "singleStep")
    prefix = forwarded(str, "_spin", "prefix")
    suffix = forwarded(str, "_spin", "suffix")
    readOnly = forwarded(bool, "_spin", "readOnly")
    cleanText = Property(str, lambda self: self._spin.cleanText)
    decimals = Property(int, lambda self: self._spin.decimals, _set_decimals)

    def stepUp(self):
        self._spin.stepUp()

    def stepDown(self):
        self._spin.stepDown()


@slicer_class
class ctkSliderWidget(QWidget):
    """A slider with a spin box; the spin box holds the value."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)
    slicer_signals = ("valueChanged(double)", "valueIsChanging(double)", "decimalsChanged(int)")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QSlider(Qt.Horizontal, self)
        self._slider.setRange(0, _STEPS)
        self._spin = QDoubleSpinBox(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._spin)
        self._spin.setRange(0, 100)
        self._spin.valueChanged.connect(self._on_value)
        self._slider.valueChanged.connect(self._on_slider)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)

    def _span(self):
        return self._spin.maximum - self._spin.minimum or 1.0

    def _on_value(self, value):
        self._slider.blockSignals(True)
        self._slider.setValue(round((value - self._spin.minimum) / self._span() * _STEPS))
        self._slider.blockSignals(False)
        self.valueIsChanging.emit(value)
        self.valueChanged.emit(value)

    def _on_slider(self, position):
        self._spin.setValue(self._spin.minimum + position / _STEPS * self._span())

    def _set_minimum(self, value):
        self._spin.minimum = value
        self._place()

    def _set_maximum(self, value):
        self._spin.maximum = value
        self._place()

    def _place(self):
        self._slider.blockSignals(True)
        self._slider.setValue(round((self._spin.value - self._spin.minimum) / self._span() * _STEPS))
        self._slider.blockSignals(False)

    def _set_decimals(self, count):
        self._spin.decimals = count
        self.decimalsChanged.emit(count)

    def reset(self):
        self._spin.setValue(0.0)

    value = forwarded(float, "_spin", "value")
    minimum = Property(float, lambda self: self._spin.minimum, _set_minimum)
    maximum = Property(float, lambda self: self._spin.maximum, _set_maximum)
    decimals = Property(int, lambda self: self._spin.decimals, _set_decimals)
    singleStep = forwarded(float, "_spin", "singleStep")
    pageStep = stored(float, "pageStep", 10.0)
    prefix = forwarded(str, "_spin", "prefix")
    suffix = forwarded(str, "_spin", "suffix")
    spinBoxVisible = forwarded(bool, "_spin", "visible")
    tracking = forwarded(bool, "_slider", "tracking")


class _RangeBar(QWidget):
    """The bar between two handles."""

    def __init__(self, parent):
        super().__init__(parent)
        self.low, self.high = 0.0, 1.0
        self.setMinimumHeight(18)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)

    def show_fractions(self, low, high):
        self.low, self.high = low, high
        self.update()

    def paintEvent(self, _event):
        painter = QPainter(self)
        painter.setRenderHint(QPainter.Antialiasing)
        width, middle = self.width - 12, self.height / 2
        painter.setPen(Qt.NoPen)
        painter.setBrush(self.palette.color(QPalette.Mid))
        painter.drawRoundedRect(QRectF(6, middle - 2, width, 4), 2, 2)
        painter.setBrush(self.palette.color(QPalette.Highlight))
        painter.drawRect(QRectF(6 + width * self.low, middle - 2, width * max(self.high - self.low, 0), 4))
        painter.setBrush(self.palette.color(QPalette.Button))
        painter.setPen(self.palette.color(QPalette.Dark))
        for fraction in (self.low, self.high):
            painter.drawRoundedRect(QRectF(1 + width * fraction, middle - 7, 10, 14), 2, 2)
        painter.end()


@slicer_class
class ctkRangeWidget(QWidget):
    """Two spin boxes with a bar between; the lower value never passes the upper."""

    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)
    minimumValueIsChanging = Signal(float)
    maximumValueIsChanging = Signal(float)
    valuesChanged = Signal(float, float)
    rangeChanged = Signal(float, float)
    slicer_signals = (
        "minimumValueChanged(double)",
        "maximumValueChanged(double)",
        "minimumValueIsChanging(double)",
        "maximumValueIsChanging(double)",
        "valuesChanged(double,double)",
        "rangeChanged(double,double)",
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._bar, self._high = QDoubleSpinBox(self), _RangeBar(self), QDoubleSpinBox(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._low)
        layout.addWidget(self._bar, 1)
        layout.addWidget(self._high)
        self._limits = (0.0, 99.0)
        self._quiet = False
        self.setRange(*self._limits)
        self.setValues(0.0, 99.0)
        self._low.valueChanged.connect(lambda value: self.setValues(value, max(value, self._high.value)))
        self._high.valueChanged.connect(lambda value: self.setValues(min(value, self._low.value), value))
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)

    def setRange(self, minimum, maximum):
        """Set the limits; values outside move to them."""
        self._limits = (float(minimum), max(float(minimum), float(maximum)))
        values = getattr(self, "_values", self._limits)
        self._quiet = True
        for spin in (self._low, self._high):
            spin.setRange(*self._limits)
        self._quiet = False
        self.setValues(*values)
        self.rangeChanged.emit(*self._limits)

    def setValues(self, low, high):
        if self._quiet:
            return
        low = min(max(float(low), self._limits[0]), self._limits[1])
        high = min(max(float(high), low), self._limits[1])
        self._quiet = True
        self._low.setValue(low)
        self._high.setValue(high)
        self._quiet = False
        before, self._values = getattr(self, "_values", None), (self._low.value, self._high.value)
        span = (self._limits[1] - self._limits[0]) or 1.0
        self._bar.show_fractions(*((value - self._limits[0]) / span for value in self._values))
        if before is None or before == self._values:
            return
        if before[0] != self._values[0]:
            self.minimumValueIsChanging.emit(self._values[0])
            self.minimumValueChanged.emit(self._values[0])
        if before[1] != self._values[1]:
            self.maximumValueIsChanging.emit(self._values[1])
            self.maximumValueChanged.emit(self._values[1])
        self.valuesChanged.emit(*self._values)

    def _set_both(self, name, value):
        self._quiet = True
        for spin in (self._low, self._high):
            setattr(spin, name, value)
        self._quiet = False

    def setDecimals(self, count):
        self._set_both("decimals", count)

    def reset(self):
        self.setValues(*self._limits)

    minimum = Property(float, lambda s: s._limits[0], lambda s, v: s.setRange(v, max(v, s._limits[1])))
    maximum = Property(float, lambda s: s._limits[1], lambda s, v: s.setRange(min(v, s._limits[0]), v))
    minimumValue = Property(float, lambda s: s._values[0], lambda s, v: s.setValues(v, max(v, s._values[1])))
    maximumValue = Property(float, lambda s: s._values[1], lambda s, v: s.setValues(min(v, s._values[0]), v))
    decimals = Property(int, lambda s: s._low.decimals, lambda s, v: s.setDecimals(v))
    singleStep = Property(float, lambda s: s._low.singleStep, lambda s, v: s._set_both("singleStep", v))
    prefix = Property(str, lambda s: s._low.prefix, lambda s, v: s._set_both("prefix", v))
    suffix = Property(str, lambda s: s._low.suffix, lambda s, v: s._set_both("suffix", v))
    tracking = stored(bool, "tracking", True)
