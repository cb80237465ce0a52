"""Which settings suit a data set: trials with random settings, the better ones trained longer."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from ..core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    IntegerParameter,
    ParameterError,
    PlotPort,
    TablePort,
    Task,
    TextParameter,
    TextPort,
)
from . import options
from .classification_task import TrainClassification
from .segmentation_task import CPU_STEPS, GPU_STEPS, TrainSegmentation
from .sources import read_collection
from .task_parts import REQUIREMENTS, check_name

_TASKS = {"segmentation": TrainSegmentation(), "classification": TrainClassification()}
_SHARED = ("data", "table", "name", "modality", "held_out_percent", "patient_pattern", "label_column")
"""Parameters that each training gets as they are."""


class SearchSettings(Task):
    """Draws settings, trains each for a short time, and the best third of them three times as long, until one is left.

    All are judged by the same held-out patients; the trainings are those of the two tasks that train.
    """

    id = "train.search"
    title = "Search training settings"
    group = "Training"
    summary = "Tries learning rates, sizes, augmentations and losses on your data and says which train best."
    references = (
        "Jamieson K, Talwalkar A. Non-stochastic best arm identification and hyperparameter optimization. AISTATS "
        "2016, PMLR 51:240-248.",
        "Li L, Jamieson K, DeSalvo G, Rostamizadeh A, Talwalkar A. Hyperband: a novel bandit-based approach to "
        "hyperparameter optimization. J Mach Learn Res 2018; 18(185):1-52.",
        "Bergstra J, Bengio Y. Random search for hyper-parameter optimization. J Mach Learn Res 2012; 13:281-305.",
    )
    keywords = ("hyper-parameter", "hyperparameter", "tuning", "AutoML", "learning rate", "Hyperband", "halving")

    parameters = (
        ChoiceParameter(
            "kind", "For", "segmentation", "What shall be trained with the data.",
            choices={"segmentation": "Segmentation", "classification": "Classification"},
        ),
        *options.DATA,
        *options.PLACE,
        TextParameter(
            "segments", "Segments", "", "Names of labels 1, 2, … with commas, where the files have none.",
            enabled_when=("kind", ("segmentation",)),
        ),
        options.MODALITY,
        IntegerParameter(
            "trials", "Trials", 9, "Settings that are tried, the defaults first; the best third goes on to the next "
            "round, as long as there are three.", minimum=1, maximum=729,
        ),
        IntegerParameter(
            "steps", "Steps", 0, f"Updates of the weights in the last round; 0 for {CPU_STEPS} on a processor and "
            f"{GPU_STEPS} otherwise, or for classification to count in epochs.", minimum=0, maximum=10_000_000,
        ),
        FloatParameter(
            "epochs", "Epochs", 20.0, "How often each case is seen in the last round, if steps are 0.", minimum=0.01,
            maximum=100_000.0, enabled_when=("kind", ("classification",)),
        ),
        replace(options.HELD_OUT, enabled_when=None, help="Share of the patients that judge all trials."),
        *options.ORIGIN,
    )  # fmt: skip
    outputs = (
        TablePort("results", "Trials", "Score, settings and time of each trial in each round."),
        PlotPort("scores", "Scores", "Scores of the trials in each round.", optional=True),
        TextPort("report", "Report", "The best settings, and the command that trains with them."),
    )
    requirements = REQUIREMENTS
    uses_device = True
    can_finish_early = True

    def validate(self, inputs, parameters):
        if bool(parameters.data) == bool(parameters.table):
            raise InputError("Data: give either a data folder or a data table.")
        if not parameters.folder:
            raise ParameterError("Training folder: no folder was given; choose an empty one.")
        check_name(parameters)

    def example(self):
        import numpy as np

        global _example_folder
        if _example_folder is None:
            _example_folder = tempfile.TemporaryDirectory(prefix="medimgai-search-")
        place = Path(tempfile.mkdtemp(dir=_example_folder.name))
        numbers = np.arange(8) % 2
        images = np.random.default_rng(0).integers(0, 100, (8, 8, 8)) + 80 * numbers[:, None, None]
        np.savez(place / "set.npz", images=images.astype(np.uint8), labels=numbers)
        return {}, {
            "kind": "classification", "table": str(place / "set.npz"), "folder": str(place / "search"), "trials": 2,
            "steps": 2, "held_out_percent": 50.0,
        }  # fmt: skip

    def run(self, inputs, parameters, context):
        from .search import drawn, schedule, space
        from .search_report import outputs_of_search
        from .search_run import Search, check_data

        kind, task = parameters.kind, _TASKS[parameters.kind]
        segments = parameters.segments if kind == "segmentation" else ""
        names = tuple(n.strip() for n in segments.split(",") if n.strip())
        collection = read_collection(
            parameters.data or parameters.table, kind, parameters.label_column, parameters.patient_pattern, names,
        )  # fmt: skip
        on_processor = context.device == "cpu"
        if kind == "classification" and not parameters.steps:
            length, rounds = "epochs", schedule(parameters.trials, parameters.epochs, 0.01, 4)
        else:
            steps = parameters.steps or (CPU_STEPS if on_processor else GPU_STEPS)
            length, rounds = "steps", schedule(parameters.trials, steps)
        fixed = {name: getattr(parameters, name) for name in _SHARED} | ({"segments": segments} if segments else {})
        settings = drawn(space(kind, on_processor), task.defaults(), parameters.trials, context.seed)

        def train(values, cache, own):
            _, checked = task.check({}, values)
            if kind == "segmentation":
                from .segmentation_run import train_segmentation

                return train_segmentation(collection, checked, own, checked.steps, cache)
            from .classification_run import train_classification

            return train_classification(collection, checked, own, cache)

        search = Search(kind, train, fixed, settings, length, rounds, Path(parameters.folder))
        with context.part(0.0, 0.03) as part:
            hashes = check_data(collection, parameters.held_out_percent / 100, part)
        with context.part(0.03, 1.0):
            found = search.run(hashes, parameters.existing == "replace", context)
        card = found.package.card
        context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        return outputs_of_search(search, found, task, context.seed)


_example_folder: tempfile.TemporaryDirectory | None = None
