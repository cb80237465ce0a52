"""Node selectors that follow the scene: qMRMLNodeComboBox and its checkable kind."""

from __future__ import annotations

import weakref

import shiboken6
import vtk
from PySide6.QtCore import Property, Qt, Signal
from PySide6.QtGui import QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QSizePolicy, QWidget

from .state import STATE
from .widget_base import ForeignEnum, slicer_class, stored

_NODE_ROLE = Qt.UserRole + 1


class SceneObserver:
    """Calls back on scene changes without keeping the widget alive."""

    def __init__(self, scene, events: dict[int, str], widget):
        self.scene, self.tags = scene, []
        reference = weakref.ref(widget)
        for event, method in events.items():
            self.tags.append(scene.AddObserver(event, self._callback(reference, method)))

    @staticmethod
    def _callback(reference, method):
        @vtk.calldata_type(vtk.VTK_OBJECT)
        def observed(_caller, _event, node=None):
            widget = reference()
            if widget is not None and shiboken6.isValid(widget):
                getattr(widget, method)(node)

        return observed

    def remove(self):
        for tag in self.tags:
            self.scene.RemoveObserver(tag)


@slicer_class
class qMRMLNodeComboBox(QWidget):
    """Lists the scene's nodes of ``nodeTypes``; the current node follows additions, removals and scene closing."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)
    slicer_signals = (
        "currentNodeChanged(vtkMRMLNode*)",
        "currentNodeChanged(bool)",
        "currentNodeIDChanged(QString)",
        "nodeActivated(vtkMRMLNode*)",
        "nodeAdded(vtkMRMLNode*)",
        "nodeAddedByUser(vtkMRMLNode*)",
        "nodeAddedByUserAction(vtkMRMLNode*)",
        "nodeAboutToBeRemoved(vtkMRMLNode*)",
        "nodeAboutToBeEdited(vtkMRMLNode*)",
        "currentNodeRenamed(QString)",
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._combo = QComboBox(self)
        self._combo.setModel(QStandardItemModel(self._combo))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._combo)
        self.setSizePolicy(QSizePolicy.Expanding, QSizePolicy.Fixed)
        self._scene, self._observer, self._attributes = None, None, []
        self._node_observers: dict[str, tuple] = {}
        self._current_id = ""
        self._combo.activated.connect(self._on_activated)

    # --- the scene

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        """List the nodes of a scene; None empties the selector."""
        if scene is self._scene:
            return
        if self._observer:
            self._observer.remove()
        self._scene, self._observer = scene, None
        if scene is not None:
            events = {
                scene.NodeAddedEvent: "_on_node_added",
                scene.NodeAboutToBeRemovedEvent: "_on_node_removing",
                scene.NodeRemovedEvent: "_on_scene_changed",
                scene.EndBatchProcessEvent: "_on_scene_changed",
                scene.EndCloseEvent: "_on_listed_anew",
                scene.EndImportEvent: "_on_listed_anew",
            }
            self._observer = SceneObserver(scene, events, self)
        self.setEnabled(scene is not None)
        self._rebuild()

    def _nodes(self) -> list:
        if self._scene is None:
            return []
        found = []
        for index in range(self._scene.GetNumberOfNodes()):
            node = self._scene.GetNthNode(index)
            if self._accepts(node):
                found.append(node)
        return found

    def _accepts(self, node) -> bool:
        types = self.nodeTypes
        kind = next((kind for kind in types if node.IsA(kind)), None)
        if kind is None or (node.GetHideFromEditors() and not self.showHidden):
            return False
        if not self.showChildNodeTypes and node.GetClassName() not in types:
            return False
        if any(node.IsA(hidden) for hidden in self.hideChildNodeTypes):
            return False
        for node_type, attribute, value in self._attributes:
            if node.IsA(node_type) and (
                node.GetAttribute(attribute) is None or (value is not None and node.GetAttribute(attribute) != value)
            ):
                return False
        return True

    def _on_node_added(self, node):
        if node is None or not self._accepts(node):
            return
        self._rebuild()
        self.nodeAdded.emit(node)

    def _on_node_removing(self, node):
        if node is not None and self._accepts(node):
            self.nodeAboutToBeRemoved.emit(node)

    def _on_scene_changed(self, _node):
        self._rebuild()

    def _on_listed_anew(self, _node):
        """Slicer's model takes all rows away and lists the scene anew: what was selected is not selected again."""
        self._select("")
        self._rebuild()

    def _observe_names(self, nodes):
        wanted = {node.GetID(): node for node in nodes}
        for node_id in [key for key in self._node_observers if key not in wanted]:
            node, tag = self._node_observers.pop(node_id)
            node.RemoveObserver(tag)
        reference = weakref.ref(self)
        for node_id, node in wanted.items():
            if node_id not in self._node_observers:

                def renamed(caller, _event):
                    if reference() is not None and shiboken6.isValid(reference()):
                        reference()._on_node_modified(caller)

                self._node_observers[node_id] = (node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, renamed))

    def _on_node_modified(self, node):
        row = self._combo.findData(node.GetID(), _NODE_ROLE)
        if row >= 0 and self._combo.itemText(row) != (node.GetName() or ""):
            self._combo.setItemText(row, node.GetName() or "")
            if node.GetID() == self._current_id:
                self.currentNodeRenamed.emit(node.GetName() or "")

    def _rebuild(self):
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        self._observe_names(nodes)
        self._combo.blockSignals(True)
        model = self._combo.model()
        model.clear()
        if self.noneEnabled or not nodes:
            self._append(self.noneDisplay, "")
        for node in nodes:
            self._append(node.GetName() or "", node.GetID())
        for label, enabled in self._actions():
            if enabled:
                self._append(label, "action:" + label)
        self._combo.blockSignals(False)
        ids = [node.GetID() for node in nodes]
        if self._current_id not in ids:
            # Slicer's combo box takes the first node there is, unless "none" may be chosen
            fallback = "" if self.noneEnabled or not ids else ids[0]
            self._select(fallback)
        else:
            self._show_current()

    def _append(self, text, data):
        item = QStandardItem(text)
        item.setData(data, _NODE_ROLE)
        self._combo.model().appendRow(item)

    def _actions(self):
        kind = self.nodeTypeLabel(self.nodeTypes[0]) if self.nodeTypes else "node"
        return (
            (f"Create new {kind}", self.addEnabled),
            ("Rename current node", self.renameEnabled),
            ("Edit current node", self.editEnabled),
            ("Delete current node", self.removeEnabled),
        )

    def _show_current(self):
        self._combo.blockSignals(True)
        self._combo.setCurrentIndex(max(self._combo.findData(self._current_id, _NODE_ROLE), 0))
        self._combo.blockSignals(False)

    def _select(self, node_id):
        changed = node_id != self._current_id
        self._current_id = node_id
        self._show_current()
        if changed:
            self.currentNodeIDChanged.emit(node_id)
            self.currentNodeChanged.emit(self.currentNode())

    def _on_activated(self, row):
        data = self._combo.itemData(row, _NODE_ROLE) or ""
        if not data.startswith("action:"):
            self._select(data)
            self.nodeActivated.emit(self.currentNode())
            return
        self._show_current()
        if data.startswith("action:Create"):
            self.nodeAddedByUser.emit(self.addNode())
        elif data.startswith("action:Delete"):
            self.removeCurrentNode()
        elif data.startswith("action:Rename"):
            self.renameCurrentNode()
        else:
            self.editCurrentNode()

    # --- nodes

    def currentNode(self):
        return self._scene.GetNodeByID(self._current_id) if self._scene is not None and self._current_id else None

    def setCurrentNode(self, node):
        """Select a node (or its ID); one that is not listed, or None, selects nothing."""
        node_id = node if isinstance(node, str) else (node.GetID() if node is not None else "")
        self._select(node_id if any(n.GetID() == node_id for n in self._nodes()) else "")

    def setCurrentNodeID(self, node_id):
        self.setCurrentNode(node_id or "")

    def setCurrentNodeIndex(self, index):
        nodes = self._nodes()
        self.setCurrentNode(nodes[index] if 0 <= index < len(nodes) else None)

    def nodeCount(self) -> int:
        return len(self._nodes())

    def nodeFromIndex(self, index):
        nodes = self._nodes()
        return nodes[index] if 0 <= index < len(nodes) else None

    def addNode(self, node_type=""):
        """Add a node of the first type, named from ``baseName``, and select it if ``selectNodeUponCreation``."""
        node_type = node_type or self.nodeTypes[0]
        base = self.baseName or self.nodeTypeLabel(node_type)
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(base))
        for kind, attribute, value in self._attributes:
            if node.IsA(kind):
                node.SetAttribute(attribute, value or "")
        self._rebuild()
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUserAction.emit(node)
        return node

    def removeCurrentNode(self):
        if self.currentNode() is not None:
            self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self):
        node = self.currentNode()
        if node is not None:
            node.SetName(STATE.ask("rename", node.GetName(), node.GetName()))

    def editCurrentNode(self):
        self.nodeAboutToBeEdited.emit(self.currentNode())

    def addAttribute(self, node_type, attribute, value=None):
        self._attributes.append((node_type, attribute, None if value is None else str(value)))
        self._rebuild()

    def removeAttribute(self, node_type, attribute):
        self._attributes = [entry for entry in self._attributes if entry[:2] != (node_type, attribute)]
        self._rebuild()

    def nodeTypeLabel(self, node_type) -> str:
        labels = self.__dict__.get("_labels", {})
        return labels.get(node_type) or node_type.removeprefix("vtkMRML").removesuffix("Node")

    def setNodeTypeLabel(self, label, node_type):
        self.__dict__.setdefault("_labels", {})[node_type] = label

    def _set_types(self, types):
        self._types = tuple(types)
        self._rebuild()

    sizeAdjustPolicy = ForeignEnum("sizeAdjustPolicy", "QComboBox::SizeAdjustPolicy")
    nodeTypes = Property("QStringList", lambda s: s.__dict__.get("_types", ()), _set_types)
    hideChildNodeTypes = stored("QStringList", "hideChildNodeTypes", (), "_rebuild")
    showHidden = stored(bool, "showHidden", False, "_rebuild")
    showChildNodeTypes = stored(bool, "showChildNodeTypes", True, "_rebuild")
    noneEnabled = stored(bool, "noneEnabled", False, "_rebuild")
    noneDisplay = stored(str, "noneDisplay", "None", "_rebuild")
    addEnabled = stored(bool, "addEnabled", True, "_rebuild")
    removeEnabled = stored(bool, "removeEnabled", True, "_rebuild")
    editEnabled = stored(bool, "editEnabled", False, "_rebuild")
    renameEnabled = stored(bool, "renameEnabled", False, "_rebuild")
    baseName = stored(str, "baseName", "")
    selectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    interactionNodeSingletonTag = stored(str, "interactionNodeSingletonTag", "")
    currentNodeID = Property(str, lambda self: self._current_id, setCurrentNodeID)
    currentNodeId = Property(str, lambda self: self._current_id, setCurrentNodeID)


@slicer_class
class qMRMLCheckableNodeComboBox(qMRMLNodeComboBox):
    """A node selector where several nodes can be checked."""

    checkedNodesChanged = Signal()
    slicer_signals = ("checkedNodesChanged()",)

    def _checked(self) -> set[str]:
        return self.__dict__.setdefault("_checked_ids", set())

    def checkedNodes(self):
        return tuple(node for node in self._nodes() if node.GetID() in self._checked())

    def uncheckedNodes(self):
        return tuple(node for node in self._nodes() if node.GetID() not in self._checked())

    def checkState(self, node) -> int:
        return Qt.Checked if node.GetID() in self._checked() else Qt.Unchecked

    def setCheckState(self, node, state):
        before = node.GetID() in self._checked()
        (self._checked().add if state in (Qt.Checked, 2) else self._checked().discard)(node.GetID())
        if before != (node.GetID() in self._checked()):
            self._mark()
            self.checkedNodesChanged.emit()

    def check(self, node):
        self.setCheckState(node, Qt.Checked)

    def uncheck(self, node):
        self.setCheckState(node, Qt.Unchecked)

    def allChecked(self) -> bool:
        return not self.uncheckedNodes()

    def noneChecked(self) -> bool:
        return not self.checkedNodes()

    def setUserCheckable(self, node, checkable):
        self.__dict__.setdefault("_fixed", {})[node.GetID()] = not checkable

    def _on_listed_anew(self, _node):
        checked = bool(self._checked())
        self._checked().clear()
        super()._on_listed_anew(_node)
        if checked:
            self.checkedNodesChanged.emit()

    def _rebuild(self):
        super()._rebuild()
        present = {node.GetID() for node in self._nodes()}
        gone = self._checked() - present
        self._checked().difference_update(gone)
        self._mark()
        if gone:
            self.checkedNodesChanged.emit()

    def _mark(self):
        model = self._combo.model()
        for row in range(model.rowCount()):
            item = model.item(row)
            if str(item.data(_NODE_ROLE)).startswith("vtk"):
                checked = item.data(_NODE_ROLE) in self._checked()
                item.setData(Qt.Checked if checked else Qt.Unchecked, Qt.CheckStateRole)
