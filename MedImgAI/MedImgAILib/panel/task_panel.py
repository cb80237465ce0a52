"""The panel that the three modules share: choose a task, its nodes and parameters, run it, see the result."""

import functools

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from ..core import InputError, registry
from ..core.registry import LIBRARIES
from ..hosts.mrml import tidy
from . import layouts
from .chooser import TaskChooser
from .model_section import ModelSection
from .results import ResultArea, show_in_slice_views
from .rows import TaskRows
from .run_choices import RunChoices, runner_name
from .run_section import RunSection, guarded
from .scene_job import SceneJob
from .state import PanelState

_FIRST = 100.0
"""Priority of observers that must hear of a change before the node selectors do."""


def user_action(method):
    """For slots of the selectors and the form: heard only while the panel is attached and shows what it has."""

    @guarded
    @functools.wraps(method)
    def wrapper(self, *args):
        if self.state is not None and not self._is_refreshing:
            method(self, *args)

    return wrapper


class TaskPanel(VTKObservationMixin):
    """Fills the static frame of a module's ``.ui`` file with the tasks of one library.

    Parameters
    ----------
    widget : qMRMLWidget
        What ``slicer.util.loadUI`` gave.
    logic : ScriptedLoadableModuleLogic
        Its ``getParameterNode`` gives a :class:`.state.TaskPanelParameterNode`.
    library : str
        Package whose tasks are offered, such as "MedImgAILib"; the first also offers the user's own tasks.
    first_task : str
        Id of the task that is chosen at first.
    """

    def __init__(self, widget, logic, library: str, first_task: str = ""):
        VTKObservationMixin.__init__(self)
        self.ui = slicer.util.childWidgetVariables(widget)
        self.logic = logic
        self.tasks = {task.id: task for task in registry() if _is_offered(task, library)}
        self._first_task = first_task if first_task in self.tasks else next(iter(self.tasks), "")
        self.state = None
        self.task = None
        self.rows = TaskRows(
            self.ui,
            on_nodes=self._nodes_chosen,
            on_file=self._file_chosen,
            on_value=self._value_changed,
            on_target=self._target_chosen,
            on_switch=self._output_switched,
        )
        self._entered = False
        self._is_refreshing = False
        self._is_writing = False
        self._refresh_is_due = False
        self._are_selectors_moving = False
        self._is_closed = False
        self.chooser = TaskChooser(
            self.ui.searchBox, self.ui.taskList, self.ui.descriptionLabel, self.tasks.values(), self._task_chosen
        )
        self.results = ResultArea(self.ui.resultsCollapsibleButton, self.ui.resultsCollapsibleButton.layout())
        self.run = RunSection(self.ui, self._make_job, self._show_result, self._busy)
        self.run_choices = RunChoices(self.ui, self._device_chosen, self._runner_chosen)
        self.models = self._add_models(widget) if library == LIBRARIES[0] else None
        self.ui.resetButton.connect("clicked()", self._reset_clicked)
        self._observe_scene()

    def _add_models(self, widget) -> ModelSection:
        """The section of the model catalogue, below the parameters."""
        section = ModelSection(self._use_model)
        layout = widget.layout()
        layout.insertWidget(layout.indexOf(self.ui.parametersCollapsibleButton) + 1, section.button)
        return section

    def show_status(self, sentence: str, kind: str = "info"):
        """Show one sentence; see :meth:`RunSection.show_status`."""
        self.run.show_status(sentence, kind)

    # Life cycle; the module's widget calls these

    @guarded
    def enter(self):
        """The module is shown: the parameter node is there and displayed."""
        self._entered = True
        self._attach()

    @guarded
    def exit(self):
        """Another module is shown; a run under way goes on."""
        self._entered = False

    def cleanup(self):
        """The module is unloaded, or Slicer ends."""
        self._is_closed = True
        self.run.discard()
        self._detach()
        self.removeObservers()
        self.rows.detach()
        self.results.clear()
        if self.models is not None:
            self.models.discard()

    def _observe_scene(self):
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._scene_closing)
        self.addObserver(scene, scene.EndCloseEvent, self._scene_closed)
        for event in (scene.NodeAboutToBeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent):
            self.addObserver(scene, event, self._selectors_moving, priority=_FIRST)
        for event in (
            scene.NodeAddedEvent,
            scene.NodeRemovedEvent,
            scene.EndCloseEvent,
            scene.EndImportEvent,
            scene.EndBatchProcessEvent,
        ):
            self.addObserver(scene, event, self._scene_changed)

    @guarded
    def _scene_closing(self, caller, event):
        self.run.discard()
        self.results.clear()
        self._detach()

    @guarded
    def _scene_closed(self, caller, event):
        if self._entered:
            self._attach()

    def _selectors_moving(self, caller, event):
        """A selector moves on to a neighbour when its node is deleted, and to none when it lists a scene anew.

        That is not the user's choice.
        """
        self._are_selectors_moving = True

    def _scene_changed(self, caller, event):
        """Nodes come and go in bursts, and are not complete yet: look once, when the event loop is back."""
        if not self._refresh_is_due:
            self._refresh_is_due = True
            qt.QTimer.singleShot(0, self._refresh_later)

    @guarded
    def _refresh_later(self):
        if self._is_closed:
            return  # its widgets may be gone
        self._refresh_is_due = self._are_selectors_moving = False
        self.results.forget_deleted_nodes()
        self._tidy_folders()
        if self._entered:
            self.refresh()

    def _tidy_folders(self):
        scene = slicer.mrmlScene
        if not (scene.IsBatchProcessing() or scene.IsImporting() or scene.IsClosing()):
            tidy(scene)

    def _attach(self):
        """Use the scene's parameter node."""
        wrapper = self.logic.getParameterNode()
        if self.state is None or self.state.node is not wrapper.parameterNode:
            self._detach()
            self.state = PanelState(wrapper)
            self.addObserver(self.state.node, vtk.vtkCommand.ModifiedEvent, self._node_modified)
        self.refresh()

    def _detach(self):
        if self.state is not None:
            self.removeObserver(self.state.node, vtk.vtkCommand.ModifiedEvent, self._node_modified)
            self.state = None

    @guarded
    def _node_modified(self, caller, event):
        if self._entered and not self._is_writing and not self._is_refreshing:
            self.refresh()

    # Display

    def refresh(self):
        """Display what the parameter node and the scene hold; while a scene is read or closed it is put off.

        In between, the parameter node may refer to nodes that are not there yet.
        """
        scene = slicer.mrmlScene
        if self.state is None or self._is_refreshing:
            return
        if scene.IsBatchProcessing() or scene.IsImporting() or scene.IsClosing():
            return
        self._is_refreshing = True
        try:
            self._refresh()
        finally:
            self._is_refreshing = False

    def _refresh(self):
        if not self.state.wrapper.taskId:
            self.state.wrapper.taskId = self._first_task
        task = self.tasks.get(self.state.wrapper.taskId)
        if task is not self.task:
            self.task = task
            self.rows.build(task)
            if not self.run.is_running:
                self.show_status("")
        self.chooser.show(task)
        if task is not None:
            self.rows.pick_missing_inputs(self.state)
            self.rows.pick_proposed_inputs(self.state)
            self.rows.show(self.state)
        self.run_choices.show(task, self.state.wrapper)
        self._validate()

    def _validate(self):
        problems = self.state.parameters(self.task)[1] if self.task is not None else []
        if self.task is not None:
            given = [port.name for port in self.task.inputs if self.state.choice(self.task, port)]
            problems = [*problems, self.task.notice(given)]
        self.run.show_problem(self._problem(), " ".join(problems).strip())

    def _problem(self) -> str:
        """Why Apply is not possible, as far as that shows without looking at voxels; empty if it is."""
        if self.task is None:
            if self.state.wrapper.taskId:
                return _("There is no task '{task}' here; choose another one.").format(task=self.state.wrapper.taskId)
            return _("Choose a task.")
        for port in self.task.inputs:
            chosen = len(self.state.choice(self.task, port))
            if not chosen and not port.optional:
                return _("{input}: select a {kind}.").format(input=port.title, kind=port.kind)
            if chosen and port.multiple and chosen < port.minimum_count:
                return _("{input}: select at least {count}.").format(input=port.title, count=port.minimum_count)
        if not any(self.state.is_output_on(self.task, port) for port in self.task.outputs):
            return _("Switch at least one output on.")
        return ""

    # What the user does

    def _write(self, action, *args):
        """Change the parameter node without displaying everything again."""
        self._is_writing = True
        try:
            action(*args)
        finally:
            self._is_writing = False
        if self.task is not None and not self.run.is_running:
            self.show_status("")
        self._validate()

    @user_action
    def _task_chosen(self, task):
        self._write(setattr, self.state.wrapper, "taskId", task.id)
        self.results.clear()
        self.run.clear_curves()
        self.refresh()

    @user_action
    def _nodes_chosen(self, port, nodes):
        if self._are_selectors_moving:
            return
        self._write(self.state.set_nodes, self.task, port, nodes)
        self.rows.show_values(self.state)

    @user_action
    def _file_chosen(self, port, path):
        self._write(self.state.set_file, self.task, port, path)

    @user_action
    def _target_chosen(self, port, node):
        if self._are_selectors_moving:
            return
        self._write(self.state.set_nodes, self.task, port, [node] if node is not None else [])

    @user_action
    def _output_switched(self, port, on):
        self._write(self.state.set_output_on, self.task, port, on)
        self.rows.show_output(self.state, port)

    @user_action
    def _value_changed(self, name, value):
        try:
            self._write(self.state.set_parameter, self.task, name, value)
        finally:
            self.rows.show_values(self.state)

    @user_action
    def _use_model(self, task_id, model):
        """Choose a task, and the model in it unless that is empty."""
        self.state.wrapper.taskId = task_id
        if model:
            self.state.set_parameter(self.tasks[task_id], "model", model)
        self.refresh()

    @user_action
    def _reset_clicked(self):
        self._write(self.state.reset_parameters, self.task)
        self.refresh()

    @user_action
    def _device_chosen(self, name):
        self._write(setattr, self.state.wrapper, "device", name)

    @user_action
    def _runner_chosen(self, name):
        self._write(setattr, self.state.wrapper, "runner", name)

    # Runs

    def _make_job(self):
        task, state = self.task, self.state
        if state is None:  # while packages were installed
            raise InputError(_("The scene was closed meanwhile; choose the inputs again."))
        values = state.parameters(task)[0]
        inputs = {port.name: state.choice(task, port) for port in task.inputs}
        targets = {port.name: (state.nodes(task, port) or [None])[0] for port in task.outputs}
        off = [port.name for port in task.outputs if not state.is_output_on(task, port)]
        job = SceneJob(slicer.mrmlScene, task, inputs, values, targets, off, device=state.wrapper.device)
        return job, runner_name(task, state.wrapper)

    def _show_result(self, scene_job, nodes, warnings):
        if not layouts.show_groups(scene_job.groups(nodes)):
            show_in_slice_views(nodes.values(), scene_job.reference_node)
        titled = {scene_job.task.port(name).title: node for name, node in nodes.items()}
        self.results.show(titled, warnings, scene_job.input_nodes)

    def _busy(self, is_running):
        """A run holds all it needs, so the panel stays free; when it has ended, what is missing may have changed."""
        if not is_running and self.state is not None:
            self._validate()


def _is_offered(task, library: str) -> bool:
    return task.library == library or (library == LIBRARIES[0] and task.library not in LIBRARIES)
