"""What ``slicer.util`` of slicer-core cannot do without an application: dialogs, views, exit."""

from __future__ import annotations

import logging

import slicer
import slicer.util

from . import packages
from .state import STATE

_KINDS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}


def _message_display(level, text, testing_answer, mainWindowNeeded=False, parent=None, windowTitle=None, **details):
    """Every ``…Display`` function of slicer.util ends here; record it instead of showing it."""
    logging.getLogger("slicer_standin").info("%s dialog: %s", _KINDS.get(level), text)
    if testing_answer is None:
        return STATE.ask(_KINDS.get(level, "info"), text, None, title=windowTitle, **details)
    buttons = details.get("standardButtons", 0)
    answer = STATE.ask("question", text, testing_answer, title=windowTitle, **details)
    return _button(answer, int(buttons)) if isinstance(answer, bool) else answer


def _button(answer: bool, buttons: int):
    import qt

    pairs = ((qt.QMessageBox.Ok, qt.QMessageBox.Cancel), (qt.QMessageBox.Yes, qt.QMessageBox.No))
    for positive, negative in (*pairs, (qt.QMessageBox.Retry, qt.QMessageBox.Close)):
        if buttons & int(positive):
            return positive if answer else negative
    return qt.QMessageBox.Ok if answer else qt.QMessageBox.Cancel


def _message_box(text, parent=None, **details):
    import qt

    return STATE.ask("question", text, qt.QMessageBox.Ok, **details)


def _recorder(name, answer=None):
    def record(*arguments, **keywords):
        STATE.view_calls.append((name, arguments, keywords))
        return answer

    return record


def _status(message, duration=0):
    STATE.status_messages.append(message)
    window = slicer.util.mainWindow()
    if window:
        window.statusBar().showMessage(message, duration)
    return window is not None


def _exit(status=0):
    STATE.exit_codes.append(status)


def _settings_value(key, default, converter=lambda value: value, settings=None):
    """PySide hands values over as PythonQt does except that a missing key needs the default."""
    import qt

    settings = qt.QSettings() if settings is None else settings
    return converter(settings.value(key)) if settings.contains(key) else default


def install() -> None:
    """Put the recording functions into slicer.util."""
    util = slicer.util
    util._messageDisplay = _message_display
    util.messageBox = _message_box
    util.showStatusMessage = _status
    util.exit = _exit
    util.settingsValue = _settings_value
    for name in ("setSliceViewerLayers", "resetSliceViews", "resetThreeDViews", "forceRenderAllViews", "selectModule"):
        setattr(util, name, _recorder(name))
    util.plot = _recorder("plot")
    util.pip_install, util.pip_uninstall = packages.pip_install, packages.pip_uninstall
