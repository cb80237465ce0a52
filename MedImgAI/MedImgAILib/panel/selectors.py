"""Node selectors for the inputs and outputs of a task."""

import ctk
import qt
import slicer
from slicer.i18n import tr as _

from ..hosts import mrml

_LEAST_WIDTH = 120


def make_input_selector(port, on_nodes, on_file):
    """The selector for an input: of nodes, or of a file for k-space, which no node holds."""
    return NodeSelector(port, on_nodes) if mrml.node_classes(port) else FileSelector(port, on_file)


def _let_shrink(widget):
    """Let a long node name not widen the panel.

    PythonQt refuses to set the ``sizeAdjustPolicy`` of a node selector, whose type belongs to another class.
    """
    widget.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
    widget.setMinimumWidth(_LEAST_WIDTH)


class FileSelector:
    """Choice of the file for an input that no node can hold; ``on_change(port, path)`` reports the user's choice."""

    def __init__(self, port, on_change):
        from ..hosts import files

        self.port = port
        self._on_change = on_change
        self._is_updating = False
        suffixes = files.supported_suffixes(port)
        self.widget = ctk.ctkPathLineEdit()
        self.widget.objectName = f"input_{port.name}"
        self.widget.filters = ctk.ctkPathLineEdit.Files
        self.widget.nameFilters = [f"{port.kind} ({' '.join('*' + suffix for suffix in suffixes)})"]
        self.widget.toolTip = f"{port.help}\nFrom a file: {', '.join(suffixes)}.".strip()
        self.widget.connect("currentPathChanged(QString)", self._changed)

    def show(self, choice):
        """Display a choice without reporting it."""
        self._is_updating = True
        try:
            self.widget.currentPath = choice[0] if choice else ""
        finally:
            self._is_updating = False

    def candidates(self) -> list:
        """Nodes of the scene that this input takes: none."""
        return []

    def detach(self):
        """Nothing of the scene is observed."""

    def _changed(self, *_arguments):
        if not self._is_updating:
            self._on_change(self.port, self.widget.currentPath)


class NodeSelector:
    """Choice of the node, or nodes, for one input.

    ``on_change(port, nodes)`` is called when the choice changes by the user or because a node was deleted.
    """

    def __init__(self, port, on_change):
        self.port = port
        self._on_change = on_change
        self._is_updating = False
        self.widget = slicer.qMRMLCheckableNodeComboBox() if port.multiple else slicer.qMRMLNodeComboBox()
        self.widget.objectName = f"input_{port.name}"
        self.widget.toolTip = port.help
        self.widget.nodeTypes = list(mrml.node_classes(port))
        self._attribute = mrml.node_attribute(port)
        for node_type in self.widget.nodeTypes if self._attribute else ():
            self.widget.addAttribute(node_type, self._attribute)
        self.widget.showChildNodeTypes = False
        self.widget.addEnabled = False
        self.widget.removeEnabled = False
        _let_shrink(self.widget)
        if not port.multiple:
            self.widget.noneEnabled = True
            self.widget.noneDisplay = _("None") if port.optional else _("Select a {kind}").format(kind=port.kind)
        self.widget.setMRMLScene(slicer.mrmlScene)
        signal = "checkedNodesChanged()" if port.multiple else "currentNodeChanged(vtkMRMLNode*)"
        self.widget.connect(signal, self._changed)

    def nodes(self) -> list:
        """The chosen nodes."""
        if self.port.multiple:
            return list(self.widget.checkedNodes())
        node = self.widget.currentNode()
        return [] if node is None else [node]

    def show(self, nodes):
        """Display a choice without reporting it."""
        self._is_updating = True
        try:
            if self.port.multiple:
                for node in self.widget.uncheckedNodes():
                    if node in nodes:
                        self.widget.check(node)
                for node in self.widget.checkedNodes():
                    if node not in nodes:
                        self.widget.uncheck(node)
            elif self.widget.currentNode() is not (nodes[0] if nodes else None):
                self.widget.setCurrentNode(nodes[0] if nodes else None)
        finally:
            self._is_updating = False

    def candidates(self) -> list:
        """The nodes of the scene that this input takes."""
        names = self.widget.nodeTypes
        found = []
        for name in names:
            for node in slicer.util.getNodesByClass(name):
                if node.GetClassName() != name or node.GetHideFromEditors() or node in found:
                    continue
                if not self._attribute or node.GetAttribute(self._attribute):
                    found.append(node)
        return found

    def detach(self):
        """Hear no more of the scene."""
        self._is_updating = True
        self.widget.setMRMLScene(None)

    def _changed(self, *_arguments):
        if not self._is_updating:
            self._on_change(self.port, self.nodes())


class OutputSelector:
    """Choice of where one output goes: a new node or an existing one; an optional output can be switched off.

    ``on_target(port, node or None)`` and ``on_switch(port, on)`` report the user's choice.
    """

    def __init__(self, port, on_target, on_switch):
        self.port = port
        self._on_target, self._on_switch = on_target, on_switch
        self._is_updating = False
        self.combo_box = slicer.qMRMLNodeComboBox()
        self.combo_box.objectName = f"output_{port.name}"
        self.combo_box.nodeTypes = [mrml.output_class(port)]
        self.combo_box.showChildNodeTypes = False
        self.combo_box.addEnabled = False
        self.combo_box.removeEnabled = False
        _let_shrink(self.combo_box)
        self.combo_box.noneEnabled = True
        self.combo_box.noneDisplay = _("Create new {kind} on Apply").format(kind=port.kind)
        self.combo_box.toolTip = f"{port.help}\nChoose an existing {port.kind} to overwrite it.".strip()
        self.combo_box.setMRMLScene(slicer.mrmlScene)
        self.combo_box.connect("currentNodeChanged(vtkMRMLNode*)", self._target_changed)
        self.check_box = None
        self.widget = self.combo_box
        if port.optional:
            self.widget = self._with_check_box()

    def _with_check_box(self):
        widget = qt.QWidget()
        layout = qt.QHBoxLayout(widget)
        layout.setContentsMargins(0, 0, 0, 0)
        self.check_box = qt.QCheckBox()
        self.check_box.objectName = f"outputOn_{self.port.name}"
        self.check_box.checked = True
        self.check_box.toolTip = _("Whether this result is wanted.")
        self.check_box.connect("toggled(bool)", self._switched)
        layout.addWidget(self.check_box)
        layout.addWidget(self.combo_box, 1)
        return widget

    def show(self, node, on: bool):
        """Display a choice without reporting it."""
        self._is_updating = True
        try:
            if self.combo_box.currentNode() is not node:
                self.combo_box.setCurrentNode(node)
            self.combo_box.enabled = on
            if self.check_box is not None:
                self.check_box.checked = on
        finally:
            self._is_updating = False

    def detach(self):
        """Hear no more of the scene."""
        self._is_updating = True
        self.combo_box.setMRMLScene(None)

    def _target_changed(self, *_arguments):
        if not self._is_updating:
            self._on_target(self.port, self.combo_box.currentNode())

    def _switched(self, on):
        if not self._is_updating:
            self._on_switch(self.port, bool(on))
