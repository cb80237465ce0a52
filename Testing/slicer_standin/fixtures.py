"""pytest fixtures; a conftest.py or test file imports ``slicer_app`` from here."""

from __future__ import annotations

import pytest

from . import install, loading
from .application import application, flush, new_scene
from .packages import PACKAGES, provide_pytorch_extension
from .signals import disconnect
from .state import STATE

install()  # so that a test file may import qt, ctk and slicer at its top, after these fixtures


class SlicerApp:
    """What a test holds: the application, its state and short-cuts."""

    def __init__(self, app):
        self.app, self.state, self.packages = app, STATE, PACKAGES
        self.flush, self.screenshot = flush, loading.screenshot
        self.provide_pytorch_extension = provide_pytorch_extension
        self._loaded = []

    errors = property(lambda self: self.state.errors)
    dialogs = property(lambda self: self.state.dialogs)
    answers = property(lambda self: self.state.answers)
    view_calls = property(lambda self: self.state.view_calls)

    @property
    def scene(self):
        import slicer

        return slicer.mrmlScene

    def load_module(self, name):
        loaded = loading.load_module(name)
        self._loaded.append(loaded)
        return loaded

    def wait_until(self, condition, timeout: float = 10.0) -> bool:
        """Run the event loop until ``condition()`` holds; False after ``timeout`` seconds."""
        import time

        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            flush(5)
        return True

    def new_scene(self):
        """Replace the scene, as at the start of the application."""
        self.app.useScene(new_scene())
        return self.scene


@pytest.fixture
def slicer_app():
    """The stand-in with an empty scene; fails the test if a slot raised and the test left it in ``errors``."""
    import sys

    from PySide6.QtCore import QSettings

    hook = sys.excepthook
    app = application()
    STATE.clear()
    STATE.install_hooks()
    PACKAGES.reset()
    QSettings().clear()
    app.setTestingEnabled(True)
    provide_pytorch_extension(False)
    handle = SlicerApp(app)
    handle.new_scene()
    yield handle
    for loaded in handle._loaded:
        loaded.close()
    disconnect(app)
    for widget in app.topLevelWidgets():
        widget.close()
        widget.deleteLater()
    flush()
    sys.excepthook = hook
    STATE.raise_leftover_errors()
