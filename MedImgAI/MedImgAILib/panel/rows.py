"""The rows of a panel that depend on the task: inputs, parameters and outputs."""

import qt
import slicer

from ..core import MedImgAIError, Task
from ..core.parameters import RangeParameter
from ..hosts import mrml
from .form import ParameterForm
from .selectors import OutputSelector, make_input_selector


class TaskRows:
    """Makes the rows for a task and displays in them what a :class:`.state.PanelState` holds.

    Parameters
    ----------
    ui : object
        With the sections inputs-, parameters-, advanced- and outputsCollapsibleButton, and parametersFrame.
    on_nodes, on_file, on_value, on_target, on_switch : callable
        What the user did; see the selectors and the form.
    """

    def __init__(self, ui, on_nodes, on_file, on_value, on_target, on_switch):
        self._ui = ui
        self._on_nodes, self._on_file, self._on_value = on_nodes, on_file, on_value
        self._on_target, self._on_switch = on_target, on_switch
        self._containers = {}
        self.task = None
        self.inputs, self.outputs, self.form = {}, {}, None
        self._proposed = set()

    def build(self, task):
        """Replace the rows by those of ``task``; None leaves none."""
        self.detach()
        ui = self._ui
        self.task, self.inputs, self.outputs, self.form = task, {}, {}, None
        self._proposed = set()
        inputs = self._new_form("inputs", ui.inputsCollapsibleButton.layout())
        plain = self._new_form("parameters", ui.parametersFrame.layout())
        advanced = self._new_form("advanced", ui.advancedCollapsibleButton.layout())
        outputs = self._new_form("outputs", ui.outputsCollapsibleButton.layout())
        if task is None:
            return
        for port in task.inputs:
            self.inputs[port.name] = make_input_selector(port, self._on_nodes, self._on_file)
            inputs.addRow(_label(port), self.inputs[port.name].widget)
        self.form = ParameterForm(task.parameters, plain, advanced, self._on_value)
        for port in task.outputs:
            self.outputs[port.name] = OutputSelector(port, self._on_target, self._on_switch)
            outputs.addRow(_label(port), self.outputs[port.name].widget)
        ui.inputsCollapsibleButton.visible = bool(task.inputs)
        ui.parametersCollapsibleButton.visible = bool(task.parameters)
        ui.advancedCollapsibleButton.visible = any(p.advanced for p in task.parameters)

    def detach(self):
        """Let the selectors hear no more of the scene."""
        for selector in (*self.inputs.values(), *self.outputs.values()):
            selector.detach()

    def _new_form(self, name, layout):
        """An empty form layout in place of the one of the task before."""
        if old := self._containers.pop(name, None):
            layout.removeWidget(old)
            old.hide()
            old.deleteLater()
        container = self._containers[name] = qt.QWidget()
        form = qt.QFormLayout(container)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(qt.QFormLayout.AllNonFixedFieldsGrow)
        layout.insertWidget(0, container)
        return form

    def pick_missing_inputs(self, state):
        """Choose what is needed and not chosen yet, as far as the scene has it, to save clicks."""
        active = _active_volume_id()
        taken = [node for port in self.task.inputs for node in state.nodes(self.task, port)]
        for port in self.task.inputs:
            if port.optional or port.multiple or state.nodes(self.task, port):
                continue
            candidates = [node for node in self.inputs[port.name].candidates() if node not in taken]
            candidates.sort(key=lambda node: node.GetID() != active)
            if candidates:
                state.set_nodes(self.task, port, candidates[:1])
                taken.append(candidates[0])

    def pick_proposed_inputs(self, state):
        """Fill empty optional inputs as the task proposes; no node twice, so that the user can take it out again."""
        if type(self.task).proposed_inputs is Task.proposed_inputs:
            return
        empty = [p for p in self.task.inputs if not p.multiple and not state.nodes(self.task, p)]
        taken = {node.GetID() for port in self.task.inputs for node in state.nodes(self.task, port)}
        found = {}
        for port in empty:
            for node in self.inputs[port.name].candidates():
                if node.GetID() not in taken | self._proposed and _has_voxels(node):
                    found[node.GetID()] = node
        self._proposed.update(found)
        volumes = {id_: _read(node) for id_, node in found.items()}
        proposed = self.task.proposed_inputs({id_: volume for id_, volume in volumes.items() if volume is not None})
        for port in empty:
            if port.name in proposed:
                state.set_nodes(self.task, port, [found[proposed[port.name]]])

    def show(self, state):
        """Display all that is chosen."""
        for selector in self.inputs.values():
            selector.show(state.choice(self.task, selector.port))
        for selector in self.outputs.values():
            self.show_output(state, selector.port)
        self.show_values(state)

    def show_output(self, state, port):
        """Display where one output goes."""
        nodes = state.nodes(self.task, port)
        self.outputs[port.name].show(nodes[0] if nodes else None, state.is_output_on(self.task, port))

    def show_values(self, state):
        """Display the parameters; ranges without limits of their own get those of the chosen volume."""
        for parameter in self.task.parameters:
            if not isinstance(parameter, RangeParameter) or parameter.bounds_from not in self.inputs:
                continue
            for node in state.nodes(self.task, self.task.port(parameter.bounds_from))[:1]:
                if node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is not None:
                    self.form.show_bounds(parameter.bounds_from, *node.GetImageData().GetScalarRange())
        self.form.show(state.parameters(self.task)[0])


def _label(port):
    label = qt.QLabel(f"{port.title}:")
    label.toolTip = port.help
    return label


def _read(node):
    """The volume of a node; None if it cannot be taken as it is, which the user is told when it is chosen."""
    try:
        return mrml.read_node(node)
    except MedImgAIError:
        return None


def _has_voxels(node) -> bool:
    return node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is not None


def _active_volume_id() -> str:
    """Id of the volume that the slice views show, empty if none."""
    selection = slicer.mrmlScene.GetSingletonNode("Singleton", "vtkMRMLSelectionNode")
    return (selection.GetActiveVolumeID() if selection is not None else None) or ""
