"""Slicer's other widgets: scene-aware containers, numbers with units, segments, tables, plots, markups."""

from __future__ import annotations

from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QTableView,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from .ctk_numbers import ctkDoubleSpinBox, ctkRangeWidget, ctkSliderWidget
from .ctk_widgets import ctkCollapsibleButton
from .module_widgets import SceneHolder
from .mrml_selectors import qMRMLNodeComboBox
from .tables import TableNodeModel
from .widget_base import slicer_class, stored


@slicer_class
class qMRMLWidget(SceneHolder, QWidget):
    """The usual root of a module's ``.ui`` file."""

    mrmlSceneChanged = Signal(object)


@slicer_class
class qSlicerWidget(SceneHolder, QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)


@slicer_class
class qMRMLCollapsibleButton(SceneHolder, ctkCollapsibleButton):
    """A collapsible button that passes the scene on."""

    mrmlSceneChanged = Signal(object)


def _held_scene(self):
    return self.__dict__.get("_scene")


def _hold_scene(self, scene):
    self.__dict__["_scene"] = scene


@slicer_class
class qMRMLSliderWidget(ctkSliderWidget):
    """A slider with the scene's units."""

    mrmlScene, setMRMLScene = _held_scene, _hold_scene
    quantity = stored(str, "quantity", "")
    unitAwareProperties = stored(int, "unitAwareProperties", 0)


@slicer_class
class qMRMLSpinBox(ctkDoubleSpinBox):
    """A spin box with the scene's units."""

    mrmlScene, setMRMLScene = _held_scene, _hold_scene
    quantity = stored(str, "quantity", "")
    unitAwareProperties = stored(int, "unitAwareProperties", 0)


@slicer_class
class qMRMLRangeWidget(ctkRangeWidget):
    """A range with the scene's units."""

    setMRMLScene = _hold_scene
    quantity = stored(str, "quantity", "")


@slicer_class
class qMRMLTableView(SceneHolder, QTableView):
    """Shows a table node."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node = None

    def setMRMLTableNode(self, node):
        """Show the table of the node; None shows nothing."""
        self._node = node
        self.setModel(TableNodeModel(node, self) if node is not None else None)

    def mrmlTableNode(self):
        return self._node


@slicer_class
class qMRMLPlotView(SceneHolder, QWidget):
    """Remembers the plot view node; nothing is drawn without OpenGL."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view_node = None
        self.setMinimumHeight(120)

    def setMRMLPlotViewNode(self, node):
        self._view_node = node

    def mrmlPlotViewNode(self):
        return self._view_node

    def fitToContent(self):
        self.update()


@slicer_class
class qMRMLPlotWidget(SceneHolder, QWidget):
    """A plot view with its controller."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view = qMRMLPlotView(self)
        QVBoxLayout(self).addWidget(self._view)

    def plotView(self):
        return self._view

    def setMRMLPlotViewNode(self, node):
        self._view.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self):
        return self._view.mrmlPlotViewNode()


@slicer_class
class qMRMLSegmentSelectorWidget(SceneHolder, QWidget):
    """A segmentation selector over a list of its segments."""

    mrmlSceneChanged = Signal(object)
    currentNodeChanged = Signal(object)
    currentSegmentChanged = Signal(str)
    segmentSelectionChanged = Signal(list)
    slicer_signals = (
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeChanged(bool)",
        "currentSegmentChanged(QString)",
        "segmentSelectionChanged(QStringList)",
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector = qMRMLNodeComboBox(self)
        self._selector.nodeTypes = ["vtkMRMLSegmentationNode"]
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._selector)
        self._segment_id, self._selected = "", ()
        self._selector.currentNodeChanged.connect(lambda node: self.currentNodeChanged.emit(node))

    def setMRMLScene(self, scene):
        self._selector.setMRMLScene(scene)
        super().setMRMLScene(scene)

    def currentNode(self):
        return self._selector.currentNode()

    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    def setCurrentNodeID(self, node_id):
        self._selector.setCurrentNodeID(node_id)

    def currentNodeID(self):
        return self._selector.currentNodeID

    def segmentIDs(self):
        node = self.currentNode()
        return tuple(node.GetSegmentation().GetSegmentIDs()) if node is not None else ()

    def currentSegmentID(self):
        return self._segment_id

    def setCurrentSegmentID(self, segment_id):
        if segment_id != self._segment_id:
            self._segment_id = segment_id
            self.currentSegmentChanged.emit(segment_id)

    def selectedSegmentIDs(self):
        return self._selected

    def setSelectedSegmentIDs(self, segment_ids):
        self._selected = tuple(segment_ids)
        self.segmentSelectionChanged.emit(list(self._selected))

    def _set_none_enabled(self, value):
        self._selector.noneEnabled = value

    noneEnabled = Property(bool, lambda self: self._selector.noneEnabled, _set_none_enabled)
    multiSelection = stored(bool, "multiSelection", False)


@slicer_class
class qMRMLSegmentsTableView(SceneHolder, QWidget):
    """The segments of a segmentation: colour and name."""

    mrmlSceneChanged = Signal(object)
    selectionChanged = Signal(object, object)
    segmentAboutToBeModified = Signal(str)
    slicer_signals = ("selectionChanged(QItemSelection,QItemSelection)", "segmentAboutToBeModified(QString)")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._table, self._node = QTableWidget(0, 2, self), None
        self._table.setHorizontalHeaderLabels(["Color", "Name"])
        self._table.horizontalHeader().setSectionResizeMode(1, QHeaderView.Stretch)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._table)

    def setSegmentationNode(self, node):
        self._node = node
        self._table.setRowCount(0)
        for row, segment_id in enumerate(node.GetSegmentation().GetSegmentIDs() if node is not None else ()):
            segment = node.GetSegmentation().GetSegment(segment_id)
            self._table.insertRow(row)
            swatch = QTableWidgetItem("")
            swatch.setBackground(QColor.fromRgbF(*segment.GetColor()))
            self._table.setItem(row, 0, swatch)
            name = QTableWidgetItem(segment.GetName())
            name.setData(Qt.UserRole, segment_id)
            self._table.setItem(row, 1, name)

    def segmentationNode(self):
        return self._node

    def tableWidget(self):
        return self._table

    def selectedSegmentIDs(self):
        rows = sorted({index.row() for index in self._table.selectedIndexes()})
        return tuple(self._table.item(row, 1).data(Qt.UserRole) for row in rows)

    segmentCount = Property(int, lambda self: self._table.rowCount)
    readOnly = stored(bool, "readOnly", False)
    headerVisible = stored(bool, "headerVisible", True)
    visibilityColumnVisible = stored(bool, "visibilityColumnVisible", True)
    colorColumnVisible = stored(bool, "colorColumnVisible", True)
    opacityColumnVisible = stored(bool, "opacityColumnVisible", True)
    statusColumnVisible = stored(bool, "statusColumnVisible", False)
    filterBarVisible = stored(bool, "filterBarVisible", False)


@slicer_class
class qMRMLSegmentationShow3DButton(QPushButton):
    """Makes closed surfaces of a segmentation and shows them."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.text = "Show 3D"
        self.checkable = True
        self._node = None
        self.toggled.connect(self._on_toggled)

    def segmentationNode(self):
        return self._node

    def setSegmentationNode(self, node):
        self._node = node
        self.setEnabled(node is not None)

    def _on_toggled(self, shown):
        if self._node is None:
            return
        if shown:
            self._node.CreateClosedSurfaceRepresentation()
        else:
            self._node.RemoveClosedSurfaceRepresentation()

    locked = stored(bool, "locked", False)


@slicer_class
class qSlicerSimpleMarkupsWidget(SceneHolder, QWidget):
    """A markups selector with a list of its points."""

    mrmlSceneChanged = Signal(object)
    markupsNodeChanged = Signal()
    markupsFiducialNodeChanged = Signal()
    updateFinished = Signal()
    slicer_signals = ("markupsNodeChanged()", "markupsFiducialNodeChanged()", "updateFinished()")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._selector = qMRMLNodeComboBox(self)
        self._selector.nodeTypes = ["vtkMRMLMarkupsFiducialNode"]
        self._table = QTableWidget(0, 4, self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._selector)
        layout.addWidget(self._table)
        self._selector.currentNodeChanged.connect(lambda node: self.markupsNodeChanged.emit())

    def setMRMLScene(self, scene):
        self._selector.setMRMLScene(scene)
        super().setMRMLScene(scene)

    def currentNode(self):
        return self._selector.currentNode()

    getCurrentNode = currentNode

    def setCurrentNode(self, node):
        self._selector.setCurrentNode(node)

    def setNodeBaseName(self, name):
        self._selector.baseName = name

    def markupsSelectorComboBox(self):
        return self._selector

    def tableWidget(self):
        return self._table

    optionsVisible = stored(bool, "optionsVisible", True)
    nodeSelectorVisible = Property(
        bool, lambda self: not self._selector.isHidden(), lambda self, value: self._selector.setVisible(value)
    )
    enterPlaceModeOnNodeChange = stored(bool, "enterPlaceModeOnNodeChange", True)
    jumpToSliceEnabled = stored(bool, "jumpToSliceEnabled", False)
