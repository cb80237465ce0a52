"""Pictures of the three panels for the documentation: ``python Testing/screenshots.py docs/images``.

Each panel is opened in the stand-in for Slicer, a task is chosen and run on a small image, and the panel is saved as
``panel-<module>.png``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 460


def finish(panel, timeout=180.0):
    """Click Apply and wait for the result."""
    from slicer_standin.application import flush

    flush()
    if not panel.ui.applyButton.enabled:
        raise RuntimeError(panel.ui.applyButton.toolTip)
    panel.ui.applyButton.click()
    end = time.monotonic() + timeout
    while panel.run.is_running:
        if time.monotonic() > end:
            raise TimeoutError(panel.task.id)
        flush(20)
    flush(50)


def choose(panel, task_id: str, **values):
    """Choose a task and set parameters."""
    panel.state.wrapper.taskId = task_id
    for name, value in values.items():
        panel.state.set_parameter(panel.tasks[task_id], name, value)


def segment(loaded):
    """A brain-like volume, thresholded by Otsu's method."""
    import slicer
    from MedImgAILib.core.examples import example_volume
    from MedImgAILib.hosts import mrml

    mrml.write_node(example_volume(), slicer.mrmlScene, name="MRHead")
    choose(loaded.widget.panel, "segment.threshold", method="otsu")
    finish(loaded.widget.panel)


def reconstruct(loaded):
    """The simulated sinogram of the Sample Data module, reconstructed."""
    loaded.python.simulateSinogram()
    panel = loaded.widget.panel
    choose(panel, "reconstruct.fbp")
    import slicer

    panel.rows.inputs["sinogram"].widget.setCurrentNode(slicer.util.getNode("Sinogram"))
    finish(panel)


def fuse(loaded):
    """Two volumes, one moved, registered."""
    import numpy as np
    import slicer
    from MedImgAILib.core.examples import example_volume
    from MedImgAILib.hosts import mrml

    move = np.eye(4)
    move[:3, 3] = (2.0, -1.5, 1.0)
    mrml.write_node(example_volume(seed=1), slicer.mrmlScene, name="CTBrain")
    mrml.write_node(example_volume(seed=2).transformed(move), slicer.mrmlScene, name="MRBrainT1")
    choose(loaded.widget.panel, "fusion.rigid_registration", search="header")
    finish(loaded.widget.panel)


SCENES = {"MedImgAI": segment, "MedImgAIReconstruct": reconstruct, "MedImgAIFusion": fuse}


class Views:
    """Stands for the layout manager, so that the buttons that need views can be clicked."""

    threeDViewCount = 0


def take(name: str, path: Path) -> Path:
    """Open the panel of a module in an empty scene, use it, and save its picture."""
    from slicer_standin import loading
    from slicer_standin.application import application, new_scene

    application().useScene(new_scene())
    loaded = loading.load_module(name)
    loaded.open()
    SCENES[name](loaded)
    loading.screenshot(loaded.container, path, width=WIDTH)
    loaded.close()
    return path


def main():
    parser = argparse.ArgumentParser(description="Save a picture of each panel.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    sys.path[:0] = [str(ROOT / "Testing"), *(str(ROOT / name) for name in SCENES)]
    import slicer_standin

    slicer_standin.install()
    import slicer

    type(slicer.app).layoutManager = lambda app: Views()
    folder.mkdir(parents=True, exist_ok=True)
    for name in SCENES:
        print(take(name, folder / f"panel-{name}.png"))
    from MedImgAILib import runners

    for runner in runners.runners().values():
        runner.close()


if __name__ == "__main__":
    main()
