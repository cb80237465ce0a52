"""Where a task runs: the device and the process."""

from slicer.i18n import tr as _

from ..core.context import DEVICES
from .run_section import RUNNER_TITLES

DEVICE_TITLES = {"auto": _("Automatic"), "cpu": _("CPU"), "cuda": _("CUDA (NVIDIA)"), "mps": _("MPS (Apple)")}


class RunChoices:
    """The widgets of the "Run" section.

    Parameters
    ----------
    ui : object
        With the widgets deviceLabel, deviceComboBox and runnerComboBox.
    on_device, on_runner : callable
        Get the name that the user chose.
    """

    def __init__(self, ui, on_device, on_runner):
        self._ui = ui
        for name in DEVICES:
            ui.deviceComboBox.addItem(DEVICE_TITLES[name], name)
        for name, title in RUNNER_TITLES.items():
            ui.runnerComboBox.addItem(title, name)
        ui.deviceComboBox.connect("currentIndexChanged(int)", lambda row: on_device(ui.deviceComboBox.itemData(row)))
        ui.runnerComboBox.connect("currentIndexChanged(int)", lambda row: on_runner(ui.runnerComboBox.itemData(row)))

    def show(self, task, wrapper):
        """Display what the parameter node holds, as far as it matters for the task."""
        ui = self._ui
        uses_device = task is not None and task.uses_device
        ui.deviceLabel.visible = uses_device
        ui.deviceComboBox.visible = uses_device
        ui.deviceComboBox.currentIndex = max(0, ui.deviceComboBox.findData(wrapper.device))
        ui.runnerComboBox.currentIndex = ui.runnerComboBox.findData(runner_name(task, wrapper))
        ui.runnerComboBox.enabled = task is None or not task.isolated


def runner_name(task, wrapper) -> str:
    """Where the task will run: what was chosen, or the worker process where nothing else will do."""
    if wrapper.runner not in RUNNER_TITLES or (task is not None and task.isolated):
        return "worker"
    return wrapper.runner
