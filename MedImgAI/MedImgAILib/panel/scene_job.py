"""What one run takes from the scene, and how its result gets back into it."""

import os

from ..core.errors import InputError
from ..hosts import mrml
from ..runners.base import Job


class SceneJob:
    """A task with the nodes it reads and writes, held from the start of a run to its end.

    Parameters
    ----------
    scene : vtkMRMLScene
    task : Task
    input_nodes : dict
        Input name to a node or the path of a file, or to a list of them where the input takes several; what is
        missing is not given.
    parameters : dict
    output_nodes : dict
        Output name to the node to overwrite; every other output gets a new node.
    outputs_off : collection of str
        Optional outputs that are not wanted.
    device : str
    seed : int

    Raises
    ------
    MedImgAIError
        If an input or parameter cannot be used; nothing has changed then.
    """

    def __init__(
        self, scene, task, input_nodes, parameters, output_nodes=None, outputs_off=(), device="auto", seed=0
    ):  # fmt: skip
        self.scene = scene
        self.task = task
        self._targets = {name: node for name, node in (output_nodes or {}).items() if node is not None}
        self._outputs_off = set(outputs_off)
        self._check_names("input", input_nodes, task.inputs)
        self._check_names("output", (*self._targets, *self._outputs_off), task.outputs)
        inputs, self._reference, self._inputs = {}, None, []
        self._chosen = {}
        for port in task.inputs:
            given = input_nodes.get(port.name)
            sources = [source for source in _as_list(given) if source is not None]
            if not sources:
                continue
            self._inputs += [source for source in sources if not _is_path(source)]
            self._chosen[port.name] = sources[0]
            if self._reference is None and not _is_path(sources[0]):
                self._reference = sources[0]
            values = [_read(source, port) for source in sources]
            inputs[port.name] = values if port.multiple else values[0]
        task.check(inputs, parameters)
        self.job = Job(task.id, inputs, task.checked_parameters(parameters), device, seed)

    def _check_names(self, what: str, names, ports):
        known = [port.name for port in ports]
        for name in names:
            if name not in known:
                raise InputError(f"'{self.task.id}' has no {what} '{name}' (it has: {', '.join(known) or 'none'}).")

    @property
    def reference_node(self):
        """The node that results belong to (the first input), None once it was deleted."""
        return self._reference if self._is_in_scene(self._reference) else None

    @property
    def input_nodes(self) -> list:
        """The input nodes in the order of the task's inputs, without those deleted meanwhile."""
        return [node for node in self._inputs if self._is_in_scene(node)]

    def groups(self, results: dict) -> list[list]:
        """The nodes that belong over one another, as the task says, its own image first; without an image none."""
        found = []
        for names in self.task.together:
            image, *rest = ({**self._chosen, **results}.get(name) for name in names)
            if not _is_path(image) and self._is_in_scene(image):
                found.append([image, *(node for node in rest if node is not None)])
        return found

    def lost_targets(self) -> list[str]:
        """Titles of the outputs whose node to overwrite was deleted meanwhile."""
        return [self.task.port(name).title for name, node in self._targets.items() if not self._is_in_scene(node)]

    def apply(self, outputs: dict) -> dict:
        """Put the result into the scene, all or nothing, and return ``{output name: node}``."""
        wanted = {name: value for name, value in outputs.items() if name not in self._outputs_off}
        targets = {name: node for name, node in self._targets.items() if name in wanted and self._is_in_scene(node)}
        return mrml.apply_results(self.scene, self.task, wanted, targets, self.reference_node)

    def _is_in_scene(self, node) -> bool:
        return node is not None and node.GetID() is not None and self.scene.GetNodeByID(node.GetID()) is node


def _is_path(source) -> bool:
    return isinstance(source, (str, os.PathLike))


def _read(source, port):
    if not _is_path(source):
        return mrml.read_node(source, port)
    from ..hosts import files

    return files.read_file(source, port)


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def process(
    scene, task_id, input_nodes, parameters=None, output_nodes=None, outputs_off=(), runner="in_process",
    device="auto", seed=0, on_event=None,
) -> dict:  # fmt: skip
    """Run a task on nodes and wait for the result; for scripts and tests.

    Parameters
    ----------
    scene : vtkMRMLScene
    task_id : str
    input_nodes, output_nodes, outputs_off, device, seed
        As for :class:`SceneJob`.
    parameters : dict, optional
        What is missing has its default.
    runner : str
        "in_process" or "worker".
    on_event : callable, optional
        Gets progress and log as they come.

    Returns
    -------
    dict
        ``{output name: node}``.

    Raises
    ------
    MedImgAIError
        With one sentence; the scene is unchanged then.
    """
    from .. import runners
    from ..core import registry

    task = registry()[task_id]
    scene_job = SceneJob(
        scene, task, input_nodes, parameters or {}, output_nodes, outputs_off, device=device, seed=seed
    )  # fmt: skip
    outputs = runners.runner(runner).submit(scene_job.job).wait(on_event)
    return scene_job.apply(outputs)
