"""Runs jobs for a panel: the Apply button that becomes Cancel, progress, status sentence and log."""

import functools
import logging
import time

import slicer
from slicer.i18n import tr as _

from .. import runners
from ..core.errors import InputError, MedImgAIError, ParameterError
from ..hosts import slicer_packages
from ..runners.base import Failed, Finished
from .curves import CurvesView
from .job import JobMonitor, duration_text

logger = logging.getLogger("MedImgAI")

RUNNER_TITLES = {"worker": _("Separate process"), "in_process": _("This process")}
_STYLES = {"info": "", "hint": "color: gray;", "warning": "color: #b06000;", "error": "color: #c0392b;"}
_UNEXPECTED = _("Something unexpected went wrong; details are in the application log.")


def guarded(method):
    """For slots, where an exception would be printed and the panel left half done.

    A :class:`MedImgAIError` becomes the status sentence; anything else goes to the log with its traceback. What the
    user can put right, a wrong input or parameter, is no fault of the program and leaves no traceback.
    The object needs ``show_status(sentence, kind)``.
    """

    @functools.wraps(method)
    def wrapper(self, *args):
        try:
            return method(self, *args)
        except (InputError, ParameterError) as error:
            logger.info("%s (%r)", error, error.__cause__)
            self.show_status(str(error), "error")
        except MedImgAIError as error:
            if error.__cause__ is not None:
                logger.error("%s", error, exc_info=error.__cause__)
            self.show_status(str(error), "error")
        except Exception:
            logger.exception("The panel failed in %s.", method.__name__)
            self.show_status(_UNEXPECTED, "error")

    return wrapper


class RunSection:
    """One run at a time, from Apply to its result in the scene.

    Parameters
    ----------
    ui : object
        With the widgets applyButton, keepButton, progressBar, curvesFrame, statusLabel and logText.
    make_job : callable
        ``make_job() -> (SceneJob, runner name)``; raises MedImgAIError if something cannot be used.
    on_result : callable
        ``on_result(scene_job, nodes, warnings)`` after the result was put into the scene.
    on_busy : callable
        ``on_busy(is_running)`` when a run starts and when it has ended.
    """

    def __init__(self, ui, make_job, on_result, on_busy):
        self._ui = ui
        self._make_job, self._on_result, self._on_busy = make_job, on_result, on_busy
        self._curves = CurvesView(ui.curvesFrame)
        self._monitor = JobMonitor(self._progressed, self._logged, self._curves.add, self._ended)
        self._scene_job = None
        self._warnings = []
        self._problem = ""
        self._is_starting = False
        self._shows_problem = False
        ui.progressBar.visible = False
        ui.applyButton.connect("clicked()", self._clicked)
        ui.keepButton.connect("clicked()", self._keep_clicked)
        ui.keepButton.visible = False
        self.show_status("")

    @property
    def is_running(self) -> bool:
        return self._monitor.is_running

    def show_status(self, sentence: str, kind: str = "info"):
        """Show one sentence under the button; ``kind``: info, hint, warning or error."""
        self._shows_problem = False
        self._ui.statusLabel.setStyleSheet(_STYLES[kind])
        self._ui.statusLabel.text = sentence
        self._ui.statusLabel.visible = bool(sentence)

    def show_problem(self, problem: str, notice: str = ""):
        """Say why Apply is not possible, or if it is a ``notice``, unless something else is said already."""
        self._problem = problem
        if self._shows_problem or not self._ui.statusLabel.text:
            if self.is_running:
                self.show_status("")
            else:
                self.show_status(problem or notice, "hint" if problem else "warning")
            self._shows_problem = True
        self._update_button()

    def log(self, line: str):
        """Add a line with the time of day to the panel's log."""
        self._ui.logText.appendPlainText(f"{time.strftime('%H:%M:%S')}  {line}")

    def clear_curves(self):
        """Take the curves of a run that is over away."""
        if not self.is_running:
            self._curves.clear()

    def discard(self):
        """End a run whose scene is going away; its result is dropped."""
        if self.is_running:
            self._monitor.discard()
            self.log(_("Stopped, because the scene was closed."))
            self._over()
            self.show_status("")
        self._curves.clear()

    @guarded
    def _clicked(self):
        if self._monitor.is_running:
            self._monitor.cancel()
            self.show_status(_("Cancelling…"))
            self._update_button()
        elif not self._is_starting:
            self._is_starting = True
            try:
                self._start()
            finally:
                self._is_starting = False

    @guarded
    def _keep_clicked(self):
        self._monitor.finish()
        self.show_status(_("Ending with the result so far…"))
        self._update_button()

    def _start(self):
        self.show_status("")
        with slicer.util.WaitCursor():
            scene_job, runner_name = self._make_job()
        task = scene_job.task
        if slicer_packages.ensure(task):
            self.log(_("Installed {packages}.").format(packages=", ".join(task.requirements)))
            # A worker that was started before does not see the new packages.
            runners.shared_worker().restart()
            scene_job, runner_name = self._make_job()
        handle = runners.runner(runner_name).submit(scene_job.job)
        self._scene_job, self._warnings = scene_job, []
        self._started = time.monotonic()
        self._curves.clear()
        self._ui.progressBar.value = 0
        self._ui.progressBar.format = "%p%"
        self._ui.progressBar.visible = True
        self.log(_("{task} started ({place}).").format(task=task.title, place=RUNNER_TITLES[runner_name].lower()))
        self.show_status(f"{task.title}…")
        self._monitor.start(handle)
        self._update_button()
        self._on_busy(True)

    def _update_button(self):
        button, keep = self._ui.applyButton, self._ui.keepButton
        monitor = self._monitor
        keep.visible = monitor.is_running and self._scene_job.task.can_finish_early
        keep.enabled = not (monitor.is_finishing or monitor.is_cancelling)
        if self._monitor.is_running:
            button.text = _("Cancel")
            button.enabled = not self._monitor.is_cancelling
            button.toolTip = _("Stop; nothing in the scene is changed.")
        else:
            button.text = _("Apply")
            button.enabled = not self._problem
            button.toolTip = self._problem or _("Run the task.")

    def _progressed(self, fraction, message, seconds_left):
        self._ui.progressBar.value = int(100 * fraction)
        text = "%p%"
        if seconds_left is not None and fraction < 1:
            text += " – " + _("about {time} left").format(time=duration_text(seconds_left))
        self._ui.progressBar.format = text
        if message and not (self._monitor.is_cancelling or self._monitor.is_finishing):
            self.show_status(message)

    def _logged(self, level, message):
        self.log(message)
        logger.log(level, message)
        if level >= logging.WARNING:
            self._warnings.append(message)

    def _ended(self, event):
        scene_job = self._scene_job
        try:
            self._conclude(scene_job, event)
        finally:
            self._over()

    @guarded
    def _conclude(self, scene_job, event):
        title = scene_job.task.title
        if isinstance(event, Finished):
            lost = scene_job.lost_targets()
            with slicer.util.WaitCursor():
                nodes = scene_job.apply(event.outputs)
            duration = duration_text(time.monotonic() - self._started)
            sentence = _("{task} finished in {time}.").format(task=title, time=duration)
            if lost:
                sentence += " " + _(
                    "The node chosen for {outputs} was deleted meanwhile, so a new one was made."
                ).format(outputs=", ".join(lost))
            self._ui.progressBar.value = 100
            self.show_status(sentence)
            self._on_result(scene_job, nodes, self._warnings)
        elif isinstance(event, Failed):
            if isinstance(event.error, (InputError, ParameterError)):
                logger.info("%s was refused: %s", scene_job.task.id, event.error)
            else:
                logger.error("%s failed: %s\n%s", scene_job.task.id, event.error, event.details)
            self.show_status(str(event.error), "error")
        else:
            self.show_status(_("Cancelled; nothing was changed."))

    def _over(self):
        self._scene_job = None
        self._ui.progressBar.visible = False
        if self._ui.statusLabel.text:
            self.log(self._ui.statusLabel.text)
        self._update_button()
        self._on_busy(False)
