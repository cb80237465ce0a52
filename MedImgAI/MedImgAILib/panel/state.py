"""What a panel remembers, kept in the module's parameter node so that it is saved with the scene and comes back."""

import json
import logging

from slicer.parameterNodeWrapper import parameterNodeWrapper

from ..core.errors import ParameterError

logger = logging.getLogger("MedImgAI")


@parameterNodeWrapper
class TaskPanelParameterNode:
    """
    The choices made in a task panel.

    taskId - Id of the chosen task.
    values - JSON: for each task id the parameters that differ from their defaults.
    outputsOff - JSON: for each task id the names of the optional outputs that are switched off.
    files - JSON: for each task id the paths of the inputs that come from files.
    device - Device to compute on.
    runner - Where tasks run.
    """

    taskId: str
    values: str
    outputsOff: str
    files: str
    device: str = "auto"
    runner: str = "worker"


class PanelState:
    """Reads and writes the choices of each task in a parameter node.

    Nodes are remembered as MRML node references with the role ``MedImgAI.<task id>.<port name>``, so they stay
    right when a scene is saved, loaded, merged into another, or when a node is deleted.

    Parameters
    ----------
    wrapper : TaskPanelParameterNode
    """

    def __init__(self, wrapper):
        self.wrapper = wrapper
        self.node = wrapper.parameterNode

    def parameters(self, task) -> tuple[dict, list[str]]:
        """Every parameter's value, and a sentence for each stored value that had to give way to its default."""
        stored = self._read("values").get(task.id, {})
        values, problems = {}, []
        for parameter in task.parameters:
            try:
                values[parameter.name] = parameter.check(stored.get(parameter.name, parameter.default))
            except ParameterError as error:
                values[parameter.name] = parameter.default
                problems.append(f"{error} The default is used.")
        return values, problems

    def set_parameter(self, task, name: str, value):
        """Remember one value.

        Raises
        ------
        ParameterError
            If the parameter does not allow it; nothing is stored then.
        """
        parameter = next(p for p in task.parameters if p.name == name)
        value = parameter.check(value)
        everything = self._read("values")
        stored = everything.setdefault(task.id, {})
        if value == parameter.default:
            stored.pop(name, None)
        else:
            stored[name] = value
        self._write("values", everything)

    def reset_parameters(self, task):
        """Forget the values of one task, so that its defaults count."""
        everything = self._read("values")
        everything.pop(task.id, None)
        self._write("values", everything)

    def nodes(self, task, port) -> list:
        """The nodes referred to for a port; those that are gone are left out."""
        role = self._role(task, port)
        found = (self.node.GetNthNodeReference(role, n) for n in range(self.node.GetNumberOfNodeReferences(role)))
        return [node for node in found if node is not None]

    def set_nodes(self, task, port, nodes):
        """Refer to ``nodes`` for a port; None and an empty list forget it."""
        role = self._role(task, port)
        wanted = [node.GetID() for node in nodes or ()]
        known = [
            self.node.GetNthNodeReferenceID(role, n) for n in range(self.node.GetNumberOfNodeReferences(role))
        ]  # fmt: skip
        if wanted == known:
            return
        was_modifying = self.node.StartModify()
        self.node.RemoveNodeReferenceIDs(role)
        for node_id in wanted:
            self.node.AddNodeReferenceID(role, node_id)
        self.node.EndModify(was_modifying)

    def is_output_on(self, task, port) -> bool:
        """Whether an output is wanted; only an optional one can be switched off."""
        return not port.optional or port.name not in self._read("outputsOff").get(task.id, _off_at_first(task))

    def set_output_on(self, task, port, on: bool):
        """Switch an optional output on or off."""
        everything = self._read("outputsOff")
        off = set(everything.get(task.id, _off_at_first(task)))
        off = off - {port.name} if on else off | {port.name}
        everything[task.id] = sorted(off)
        self._write("outputsOff", everything)

    def file(self, task, port) -> str:
        """The path chosen for an input that comes from a file, empty if none."""
        return str(self._read("files").get(task.id, {}).get(port.name, ""))

    def set_file(self, task, port, path: str):
        """Remember the path for an input that comes from a file."""
        everything = self._read("files")
        everything.setdefault(task.id, {})[port.name] = path
        self._write("files", everything)

    def choice(self, task, port) -> list:
        """What was chosen for an input: nodes, or the path of a file; empty if nothing."""
        return self.nodes(task, port) or [path for path in [self.file(task, port)] if path]

    @staticmethod
    def _role(task, port) -> str:
        return f"MedImgAI.{task.id}.{port.name}"

    def _read(self, name: str) -> dict:
        text = getattr(self.wrapper, name)
        if not text:
            return {}
        try:
            content = json.loads(text)
        except ValueError:
            logger.warning("The stored %s of the panel cannot be read; the defaults are used.", name)
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, name: str, content: dict):
        setattr(self.wrapper, name, json.dumps(content, sort_keys=True))


def _off_at_first(task) -> list[str]:
    return [port.name for port in task.outputs if port.optional and not port.wanted]
