"""What the tasks of training share beside their parameters: the source, the outputs, the quick example."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ..core import InputError, ParameterError, Plot, PlotPort, Series, Table, TablePort, Text, TextPort

REQUIREMENTS = ("torch>=2.2", "monai>=1.4", "safetensors>=0.4", "einops>=0.7", "filelock>=3.12")


def outputs(metrics: str) -> tuple:
    """The ports that :func:`outputs_of` fills; ``metrics`` says what the table of figures holds."""
    return (
        TablePort("metrics", "Figures", metrics),
        TablePort("history", "Course", "Loss, learning rate and scores of each validation."),
        PlotPort("curves", "Curves", "Loss over the steps.", optional=True),
        TextPort("report", "Report", "The model card in words."),
    )


def check_source(parameters: SimpleNamespace, from_scene: bool, scene: str):
    """Refuse anything but one source of data and a folder; ``scene`` says what the scene can give.

    Raises
    ------
    InputError, ParameterError
    """
    if sum((bool(parameters.data), bool(parameters.table), from_scene)) != 1:
        raise InputError(f"Data: give exactly one of a data folder, a data table, or {scene}.")
    if not parameters.folder:
        raise ParameterError("Training folder: no folder was given; choose an empty one.")
    check_name(parameters)


def check_name(parameters: SimpleNamespace):
    """Refuse an empty title before anything is learnt.

    Raises
    ------
    ParameterError
    """
    if not parameters.name.strip():
        raise ParameterError("Name of the model: it is empty; give the model a title.")


def quick(name: str) -> dict:
    """Parameters of a training that only shows that it runs, in a temporary folder."""
    global _example_folder
    if _example_folder is None:
        _example_folder = tempfile.TemporaryDirectory(prefix="medimgai-training-")
    return {
        "folder": str(Path(_example_folder.name) / name), "existing": "replace", "steps": 2, "precision": "full",
        "held_out_percent": 50.0, "augmentation": "none", "workers": 0,
    }  # fmt: skip


def outputs_of(outcome: SimpleNamespace) -> dict:
    """Tables, plot and text of a finished training, for the ports of :func:`outputs`."""
    several = any(len(fold) > 1 for fold in outcome.histories)
    rows, courses = [], {}
    for n, fold in enumerate(outcome.histories, start=1):
        for m, course in enumerate(fold, start=1):
            at = {"fold": n, "network": m} if several else {"fold": n}
            rows += [at | row for row in course]
            courses[", ".join(f"{name} {number}" for name, number in at.items())] = course
    columns = list(dict.fromkeys(name for row in rows for name in row))
    history = Table({c: np.array([row.get(c, np.nan) for row in rows], float) for c in columns}, "Training")
    wide = {"step": np.array(sorted({row["step"] for row in rows}), float)}
    for name, course in courses.items():
        known = {row["step"]: row["loss"] for row in course}
        wide[name] = np.array([known.get(s, np.nan) for s in wide["step"]])
    series = tuple(Series(name, "step", name) for name in wide if name != "step")
    plot = Plot(Table(wide, "Loss"), series, "Loss", "Loss", "step", "loss")
    return {
        "metrics": outcome.metrics,
        "history": history,
        "curves": plot,
        "report": Text(outcome.report, "Model card"),
    }


_example_folder: tempfile.TemporaryDirectory | None = None
