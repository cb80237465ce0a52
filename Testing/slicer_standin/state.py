"""What a test can look at and steer: errors in slots, dialogs shown and their answers, calls to views, packages."""

from __future__ import annotations

import dataclasses
import logging
import sys
import traceback


@dataclasses.dataclass
class Dialog:
    """One dialog the application would have shown: ``kind`` is error, warning, info, question or a file dialog."""

    kind: str
    text: str
    details: dict = dataclasses.field(default_factory=dict)
    answer: object = None


class State:
    """The stand-in's memory; one for the process, emptied before each test."""

    def __init__(self):
        self.clear()

    def clear(self):
        #: tracebacks of exceptions in slots, timers, event handlers and observers, which Slicer prints and swallows
        self.errors: list[str] = []
        #: every dialog in order
        self.dialogs: list[Dialog] = []
        #: answers handed out first in, first out to questions and file dialogs; without one, the testing-mode answer
        self.answers: list = []
        #: (function name, args, kwargs) of calls that only a main window could show
        self.view_calls: list[tuple] = []
        #: URLs handed to QDesktopServices
        self.opened_urls: list[str] = []
        #: status bar messages
        self.status_messages: list[str] = []
        #: exit codes asked for by slicer.util.exit
        self.exit_codes: list[int] = []

    def ask(self, kind: str, text: str, default, **details):
        """Record a dialog and return the programmed answer, or ``default``."""
        answer = self.answers.pop(0) if self.answers else default
        self.dialogs.append(Dialog(kind, text, details, answer))
        return answer

    def texts(self, kind: str | None = None) -> list[str]:
        """Texts of the dialogs shown so far, of one kind or all."""
        return [dialog.text for dialog in self.dialogs if kind in (None, dialog.kind)]

    def caught(self):
        """Record the exception being handled, as Slicer prints it to its log."""
        self.errors.append(traceback.format_exc())
        logging.getLogger("slicer_standin").error("Exception in a slot\n%s", self.errors[-1])

    def excepthook(self, kind, value, trace):
        """Qt and VTK send exceptions of event handlers and observers here."""
        self.errors.append("".join(traceback.format_exception(kind, value, trace)))
        logging.getLogger("slicer_standin").error("Exception in an event handler\n%s", self.errors[-1])

    def raise_leftover_errors(self):
        """Fail with what slots raised and no test expected."""
        errors = list(self.errors)
        self.clear()
        if errors:
            raise AssertionError("exceptions in slots:\n" + "\n".join(errors))

    def install_hooks(self):
        sys.excepthook = self.excepthook


STATE = State()
