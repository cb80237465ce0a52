"""ctk's containers, buttons and selectors, as far as panels need them."""

from __future__ import annotations

from PySide6.QtCore import Property as QtCoreProperty
from PySide6.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from PySide6.QtGui import QColor, QIcon, QPainter, QPixmap, QStandardItemModel
from PySide6.QtWidgets import (
    QAbstractButton,
    QComboBox,
    QFileDialog,
    QFrame,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionButton,
    QTextBrowser,
    QToolButton,
    QTreeView,
    QWidget,
)

from .state import STATE
from .widget_base import slicer_class, stored

_HIDDEN = "_standin_hidden_by_collapse"


def _show_children(container: QWidget, shown: bool) -> None:
    """Hide the direct children, or show again those that were shown before."""
    for child in container.children():
        if not child.isWidgetType():
            continue
        if not shown and not child.isHidden():
            child.setProperty(_HIDDEN, True)
            child.hide()
        elif shown and child.property(_HIDDEN):
            child.setProperty(_HIDDEN, None)
            child.show()


@slicer_class
class ctkCollapsibleButton(QAbstractButton):
    """A header that shows and hides the widgets laid out on it."""

    contentsCollapsed = Signal(bool)
    slicer_signals = ("contentsCollapsed(bool)",)

    def __init__(self, *arguments):
        texts = [value for value in arguments if isinstance(value, str)]
        super().__init__(next((value for value in arguments if isinstance(value, QWidget)), None))
        self.text = texts[0] if texts else ""
        self.checkable = True
        self.checked = True
        self.setSizePolicy(QSizePolicy.Preferred, QSizePolicy.Minimum)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(self._on_toggled)

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 8

    def _on_toggled(self, expanded):
        _show_children(self, expanded)
        self.setMaximumHeight(16777215 if expanded else self._header_height() + self.collapsedHeight)
        self.updateGeometry()
        self.contentsCollapsed.emit(not expanded)

    def childEvent(self, event):
        super().childEvent(event)
        if event.type() == QEvent.ChildPolished and not self.checked:
            _show_children(self, False)

    def sizeHint(self):
        header = QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._header_height())
        if self.layout() is None or not self.checked:
            return header
        return self.layout().totalSizeHint().expandedTo(header)

    def minimumSizeHint(self):
        header = QSize(self.fontMetrics().horizontalAdvance(self.text) + 40, self._header_height())
        if self.layout() is None or not self.checked:
            return header
        return self.layout().totalMinimumSize().expandedTo(header)

    def hitButton(self, position: QPoint) -> bool:
        return position.y() <= self._header_height()

    def paintEvent(self, _event):
        painter, option = QPainter(self), QStyleOptionButton()
        option.initFrom(self)
        option.rect = QRect(0, 0, self.width, self._header_height())
        option.state |= QStyle.State_Sunken if self.down else QStyle.State_Raised
        self.style().drawControl(QStyle.CE_PushButtonBevel, option, painter, self)
        arrow = QStyleOptionButton()
        arrow.initFrom(self)
        arrow.rect = QRect(8, (self._header_height() - 10) // 2, 10, 10)
        kind = QStyle.PE_IndicatorArrowDown if self.checked else QStyle.PE_IndicatorArrowRight
        self.style().drawPrimitive(kind, arrow, painter, self)
        text = QRect(26, 0, self.width - 32, self._header_height())
        self.style().drawItemText(painter, text, Qt.AlignVCenter | Qt.AlignLeft, self.palette, self.enabled, self.text)
        painter.end()

    def _set_collapsed(self, value):
        self.checked = not value

    collapsed = QtCoreProperty(bool, lambda self: not self.checked, _set_collapsed)
    collapsedHeight = stored(int, "collapsedHeight", 0)


@slicer_class
class ctkCollapsibleGroupBox(QGroupBox):
    """A group box whose check mark shows and hides its contents."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.checkable = True
        self.checked = True
        self.toggled.connect(self._on_toggled)

    def _on_toggled(self, expanded):
        _show_children(self, expanded)
        self.setMaximumHeight(16777215 if expanded else self.fontMetrics().height() + 12)

    def _set_collapsed(self, value):
        self.checked = not value

    collapsed = QtCoreProperty(bool, lambda self: not self.checked, _set_collapsed)
    collapsedHeight = stored(int, "collapsedHeight", 14)


@slicer_class
class ctkExpandableWidget(QFrame):
    """A frame the user may resize."""


@slicer_class
class ctkMenuButton(QPushButton):
    """A button with a menu beside it."""


@slicer_class
class ctkCheckablePushButton(QPushButton):
    """A push button with a check box in it."""

    checkBoxToggled = Signal(bool)
    slicer_signals = ("checkBoxToggled(bool)",)
    checkState = stored(int, "checkState", 0)
    checkBoxControlsButton = stored(bool, "checkBoxControlsButton", True)
    checkBoxControlsButtonToggleState = stored(bool, "checkBoxControlsButtonToggleState", True)


@slicer_class
class ctkSearchBox(QLineEdit):
    """A line edit with a magnifying glass."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.placeholderText = "Search..."
        self.clearButtonEnabled = True

    showSearchIcon = stored(bool, "showSearchIcon", False)


@slicer_class
class ctkFittedTextBrowser(QTextBrowser):
    """A text browser as high as its text."""

    collapsed = stored(bool, "collapsed", True)
    collapsibleText = stored(str, "collapsibleText", "")


@slicer_class
class ctkComboBox(QComboBox):
    """A combo box with a default text."""

    returnRelease = Signal()
    slicer_signals = ("returnRelease()",)

    def setCurrentUserDataAsString(self, value):
        self.setCurrentIndex(self.findData(value))

    defaultText = stored(str, "defaultText", "")
    forceDefault = stored(bool, "forceDefault", False)
    currentUserDataAsString = QtCoreProperty(str, lambda s: str(s.currentData or ""), setCurrentUserDataAsString)


@slicer_class
class ctkTreeComboBox(QComboBox):
    """A combo box that pops up a tree."""

    popupShow = Signal()
    popupHide = Signal()
    slicer_signals = ("popupShow()", "popupHide()")

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setModel(QStandardItemModel(self))
        self.setView(QTreeView(self))
        self.view().setHeaderHidden(True)


@slicer_class
class ctkCheckableComboBox(QComboBox):
    """A combo box whose entries have check marks."""

    checkedIndexesChanged = Signal()
    returnRelease = Signal()
    slicer_signals = ("checkedIndexesChanged()", "returnRelease()")

    def checkState(self, index) -> int:
        return int(index.data(Qt.CheckStateRole) or 0)

    def setCheckState(self, index, state):
        self.model().setData(index, state, Qt.CheckStateRole)
        self.checkedIndexesChanged.emit()

    def checkedIndexes(self):
        indexes = [self.model().index(row, 0) for row in range(self.count)]
        return tuple(index for index in indexes if self.checkState(index) == Qt.Checked)

    def allChecked(self) -> bool:
        return len(self.checkedIndexes()) == self.count

    def noneChecked(self) -> bool:
        return not self.checkedIndexes()


@slicer_class
class ctkPathLineEdit(QWidget):
    """A path with a browse button."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    slicer_signals = ("currentPathChanged(QString)", "validInputChanged(bool)")

    # QDir::Filter, as ctk's own enumeration repeats them
    Dirs, Files, Drives, Readable, Writable, Executable, NoDot, NoDotDot = 1, 2, 4, 16, 32, 64, 8192, 16384

    def __init__(self, *arguments):
        super().__init__(next((value for value in arguments if isinstance(value, QWidget)), None))
        self._combo, self._browse = QComboBox(self), QToolButton(self)
        self._combo.editable = True
        self._combo.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._browse.text = "..."
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        layout.addWidget(self._browse)
        self._combo.editTextChanged.connect(lambda text: self.currentPathChanged.emit(text))
        self._browse.clicked.connect(lambda: self.browse())

    def setCurrentPath(self, path):
        self._combo.setEditText(str(path))

    def browse(self):
        if int(self.filters) & self.Files:
            ask = QFileDialog.getSaveFileName if int(self.filters) & self.Writable else QFileDialog.getOpenFileName
            path = ask(self, self.label, self.currentPath, ";;".join(self.nameFilters))
        else:
            path = QFileDialog.getExistingDirectory(self, self.label, self.currentPath)
        if path:
            self.setCurrentPath(path)

    def addCurrentPathToHistory(self):
        if self.currentPath and self._combo.findText(self.currentPath) < 0:
            self._combo.addItem(self.currentPath)

    def comboBox(self):
        return self._combo

    label = stored(str, "label", "")
    filters = stored(int, "filters", 1 | 2)
    nameFilters = stored(list, "nameFilters", ())
    settingKey = stored(str, "settingKey", "")
    currentPath = QtCoreProperty(str, lambda self: self._combo.currentText, setCurrentPath)
    showBrowseButton = QtCoreProperty(bool, lambda s: not s._browse.isHidden(), lambda s, v: s._browse.setVisible(v))
    showHistoryButton = stored(bool, "showHistoryButton", True)


@slicer_class
class ctkDirectoryButton(QWidget):
    """A button that names a folder."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)
    slicer_signals = ("directoryChanged(QString)", "directorySelected(QString)")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._button = QPushButton(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._button)
        self._button.clicked.connect(lambda: self.browse())
        self._directory = ""

    def _set_directory(self, path):
        if path != self._directory:
            self._directory = self._button.text = str(path)
            self.directoryChanged.emit(self._directory)

    def browse(self):
        path = QFileDialog.getExistingDirectory(self, self.caption, self._directory)
        if path:
            self._set_directory(path)
            self.directorySelected.emit(path)

    directory = QtCoreProperty(str, lambda self: self._directory, _set_directory)
    caption = stored(str, "caption", "")


@slicer_class
class ctkColorPickerButton(QPushButton):
    """A button that shows a colour."""

    colorChanged = Signal(QColor)
    colorNameChanged = Signal(str)
    slicer_signals = ("colorChanged(QColor)", "colorNameChanged(QString)")

    def _set_color(self, color):
        self._color = QColor(color)
        swatch = QPixmap(16, 16)
        swatch.fill(self._color)
        self.icon = QIcon(swatch)
        self.text = self._color.name() if self.displayColorName else ""
        self.colorChanged.emit(self._color)

    color = QtCoreProperty(QColor, lambda s: getattr(s, "_color", QColor(Qt.black)), _set_color)
    displayColorName = stored(bool, "displayColorName", True)


@slicer_class
class ctkMessageBox(QMessageBox):
    """A message box; shown, it only records itself and takes the next programmed answer."""

    def exec_(self):
        buttons = int(self.standardButtons)
        positive = (QMessageBox.Ok, QMessageBox.Yes, QMessageBox.Retry)
        default = next((button for button in positive if buttons & int(button)), QMessageBox.Ok)
        return STATE.ask("question", self.text, default, title=self.windowTitle)

    exec = exec_
    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)
