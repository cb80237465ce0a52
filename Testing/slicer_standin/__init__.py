"""A stand-in for the Slicer application: real Qt (PySide6) with PythonQt's manners, real MRML (slicer-core).

``install()`` puts ``qt``, ``ctk``, ``slicer.ScriptedLoadableModule``, ``slicer.parameterNodeWrapper``,
``slicer.packaging``, ``slicer.i18n`` and ``SampleData`` into ``sys.modules`` and completes ``slicer`` and
``slicer.util``. A test file needs only::

    from slicer_standin.fixtures import slicer_app  # noqa: F401

    def test_panel(slicer_app):
        loaded = slicer_app.load_module("MedImgAI")   # module object: loaded.module.title, loaded.instance
        widget = loaded.open()                        # Widget.setup() and enter(); loaded.leave(), loaded.close()
        widget.ui.applyButton.click()
        assert slicer_app.wait_until(lambda: not widget.running, timeout=10)
        slicer_app.screenshot(loaded.container, "panel.png", width=420)

``slicer_app`` (a fresh scene for each test) offers

- ``errors``: tracebacks of exceptions in slots, timers and MRML observers, which Slicer prints and
  swallows; a test that leaves one there fails (``slicer_app.errors.clear()`` if it was meant);
- ``dialogs``: what errorDisplay, confirmOkCancelDisplay, QFileDialog.getOpenFileName, QMessageBox.question … would
  have shown (``kind``, ``text``, ``details``, ``answer``); ``answers.append(False)`` programs the next answer (for
  questions a bool, for file dialogs a path; without one a question is confirmed and a file dialog returns "");
- ``state.view_calls``: calls of setSliceViewerLayers, resetSliceViews, selectModule, restart; ``state.opened_urls``,
  ``state.status_messages``, ``state.exit_codes``;
- ``packages``: ``outcome`` ("accepted", "declined", "failed", "restart"), ``missing``, ``present``, ``installed``,
  ``in_progress``, ``torch_installed``; ``provide_pytorch_extension(True)`` makes ``import PyTorchUtils`` work;
- ``app`` (``slicer.app``): ``setTestingEnabled(False)`` lets pip_ensure ask and install; ``flush(milliseconds)`` runs
  the event loop; ``wait_until(condition, timeout)``; ``new_scene()``; ``scene``.

What differs from PySide: Qt properties are attributes and are not called; ``obj.connect("clicked()", f)`` and
``obj.clicked.connect(f)`` work (a Python function gets as many arguments as it declares); static file dialogs return
only the path; names that Slicer 5.12 lacks raise AttributeError when the project's code uses them, as long as the full
list of names is on the machine (see :mod:`slicer_standin.surface`). A signal signature that does not exist raises
ValueError in ``connect`` where Slicer only logs it; an exception in an overridden event handler reaches the caller.
"""

from __future__ import annotations

import sys
import types

_installed = False


def install() -> None:
    """Make the stand-in importable as Slicer; does nothing the second time."""
    global _installed
    if _installed:
        return
    _installed = True
    from . import (
        fonts,
        i18n,
        module_widgets,
        mrml_selectors,
        mrml_widgets,
        packages,
        qt_module,
        sample_data,
        ui_loader,
        utilities,
    )

    sys.modules["qt"] = qt_module.QtModule("qt")
    sys.modules["ctk"] = qt_module.ctk_module()
    import slicer

    for source in (module_widgets, mrml_selectors, mrml_widgets):
        for name, value in vars(source).items():
            if name.startswith(("qMRML", "qSlicer")) and isinstance(value, type):
                setattr(slicer, name, value)
    ui_loader.register(qt_module.ctk_numbers, qt_module.ctk_widgets, module_widgets, mrml_selectors, mrml_widgets)
    slicer.modules = types.SimpleNamespace(sampleDataSources={}, dicomPlugins={})
    slicer.moduleNames = types.SimpleNamespace()
    slicer.selfTests = {}
    slicer.dicomDatabase = None
    utilities.install()
    sys.modules["slicer.i18n"] = slicer.i18n = i18n
    sys.modules["slicer.packaging"] = slicer.packaging = packages.packaging_module()
    sys.modules["SampleData"] = sample_data
    from .application import application, new_scene

    slicer.app = application()
    fonts.ensure()
    slicer.app.useScene(new_scene())
    from . import parameter_node, scripted_module

    sys.modules["slicer.ScriptedLoadableModule"] = slicer.ScriptedLoadableModule = scripted_module
    parameter_node.publish()
