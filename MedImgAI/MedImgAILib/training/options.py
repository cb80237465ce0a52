"""What the user may choose for a training; the parameters of both tasks and their values together."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from ..core import BooleanParameter, ChoiceParameter, FloatParameter, IntegerParameter, ParameterError, TextParameter
from ..core.model_package import ModelPackage
from .experiment import Start
from .loop import Settings

DATA = (
    TextParameter(
        "data", "Data folder", "", "Folder with the cases; leave empty for a table or the scene's data.", kind="folder",
    ),
    TextParameter(
        "table", "Data table", "", "A table of paths, labels, patients and splits (.csv, .tsv), or arrays (.npz).",
        kind="file", suffixes=(".csv", ".tsv", ".npz"),
    ),
)  # fmt: skip
PLACE = (
    TextParameter(
        "folder", "Training folder", "", "For checkpoints, prepared cases and, in 'model', the model package.",
        kind="folder",
    ),
    ChoiceParameter(
        "existing", "If the folder holds a training", "resume",
        "Go on with the same training, or delete what is there and begin anew.",
        choices={"resume": "Go on", "replace": "Begin anew"},
    ),
    TextParameter("name", "Name of the model", "Trained model", "Title of the model package."),
)  # fmt: skip
MODALITY = ChoiceParameter(
    "modality", "Modality", "auto", "Decides how intensities are made alike; from the values if automatic.",
    choices={"auto": "From the values", "CT": "CT (HU)", "MR": "MR", "OT": "Pictures and others"}, advanced=True,
)  # fmt: skip
ORIGIN = (
    TextParameter(
        "patient_pattern", "Patient in the path", "",
        "Regular expression whose group is the patient, where neither table nor DICOM says it.", advanced=True,
    ),
    TextParameter(
        "label_column", "Label column", "", "Column of the table that holds the label, if it is called otherwise.",
        advanced=True,
    ),
)  # fmt: skip
FINE_TUNING = (
    TextParameter(
        "start", "Start from", "", "Folder of a model package whose weights are taken over; empty for none.",
        kind="folder",
    ),
    ChoiceParameter(
        "tuning", "Train", "all", "What of the network is trained further, if it starts from a model.",
        choices={
            "all": "Everything", "head": "Last layer only", "frozen_encoder": "All but the encoder",
            "lora": "Low-rank additions (LoRA)",
        },
    ),
    IntegerParameter(
        "rank", "Rank of LoRA", 8, "More learns more from more cases.", minimum=1, maximum=256, advanced=True,
        enabled_when=("tuning", ("lora",)),
    ),
)  # fmt: skip

TEACHING = (
    TextParameter(
        "teacher", "Learn from a model", "", "Folder of a model package whose answers are learnt beside the labels; "
        "cases without labels then count too. Empty for none.", kind="folder", advanced=True,
    ),
    FloatParameter(
        "teacher_share", "Share of that model", 0.5, "Share of its answers in the loss of labelled cases.",
        minimum=0.0, maximum=1.0, advanced=True,
    ),
)  # fmt: skip


def optimisation(steps: int, rate: float, schedule: str, steps_help: str) -> tuple:
    """The parameters of the loop, with a task's own defaults."""
    return (
        IntegerParameter("steps", "Steps", steps, steps_help, minimum=0, maximum=10_000_000),
        IntegerParameter(
            "batch", "Batch", 0, "Samples of one step; 0 lets the data and the device decide.", minimum=0, maximum=4096,
        ),
        IntegerParameter(
            "portions", "Portions", 1, "In how many portions a batch is computed, to save memory.", minimum=1,
            maximum=256, advanced=True,
        ),
        FloatParameter(
            "rate", "Learning rate", rate, "Highest learning rate.", minimum=1e-7, maximum=10.0, decimals=6,
        ),
        ChoiceParameter(
            "optimizer", "Optimizer", "adamw", "SGD is with Nesterov's momentum and wants a higher learning rate.",
            choices={"adamw": "AdamW", "sgd": "SGD"}, advanced=True,
        ),
        FloatParameter(
            "weight_decay", "Weight decay", 0.01, "Pulls weights to 0.", minimum=0.0, maximum=1.0, decimals=5,
            advanced=True,
        ),
        ChoiceParameter(
            "schedule", "Learning rate over time", schedule, "How the learning rate changes.",
            choices={
                "one_cycle": "Up and down (one cycle)", "poly": "Down, polynomial", "cosine": "Down, cosine",
                "constant": "Constant",
            },
        ),
        FloatParameter(
            "average", "Averaging", 0.99, "Decay of the running mean of the weights that is kept; 0 for none.",
            minimum=0.0, maximum=0.99999, decimals=5, advanced=True,
        ),
        ChoiceParameter(
            "precision", "Precision", "auto", "Half is faster where the device can.",
            choices={"auto": "Automatic", "full": "Full", "half": "Half"}, advanced=True,
        ),
        IntegerParameter(
            "validate_every", "Steps between validations", 0, "0 for ten validations in all.", minimum=0,
            maximum=1_000_000, advanced=True,
        ),
        IntegerParameter(
            "patience", "Patience", 0, "Validations without gain after which training ends, and the best weights are "
            "kept; 0 trains to the end.", minimum=0, maximum=10_000,
        ),
        BooleanParameter(
            "multi_scale", "Several scales", False, "Whether batches come in three resolutions.", advanced=True,
        ),
        IntegerParameter(
            "workers", "Loading threads", 1, "Threads that prepare batches in the background.", minimum=0, maximum=64,
            advanced=True,
        ),
        ChoiceParameter(
            "on_error", "A case that cannot be read", "stop", "End with a message that names it, or leave it out.",
            choices={"stop": "Stop", "skip": "Leave out"},
        ),
    )  # fmt: skip


HELD_OUT = FloatParameter(
    "held_out_percent", "Held out", 20.0, "Share of the patients that judge the network if there is one fold.", "%",
    minimum=5.0, maximum=50.0, enabled_when=("folds", (1,)),
)  # fmt: skip
FOLDS = (
    IntegerParameter(
        "folds", "Folds", 1, "Networks in cross-validation, each judged on the patients it has not seen; 1 holds out a "
        "part once.", minimum=1, maximum=50,
    ),
    IntegerParameter(
        "networks", "Networks of each fold", 1, "Trained from different random numbers; the mean of their answers is "
        "more accurate, and each takes its time, in training and later.", minimum=1, maximum=20,
    ),
    HELD_OUT,
    ChoiceParameter(
        "keep", "Keep", "folds", "The networks of the folds together, or one trained once more on all cases.",
        choices={"folds": "The networks of the folds", "all": "One trained on all cases"},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Choices:
    """The checked values of the parameters that both tasks share."""

    settings: Settings
    start: Start


def choices_of(parameters: SimpleNamespace, seed: int, batch: int, steps: int) -> Choices:
    """Settings of the loop and the start; ``batch`` and ``steps`` are what was planned where the user left it open."""
    batch, steps = parameters.batch or batch, parameters.steps or steps
    if batch % parameters.portions:
        raise ParameterError(f"Portions: a batch of {batch} cannot be split into {parameters.portions} equal portions.")
    settings = Settings(
        steps=steps, batch=batch, portions=parameters.portions, rate=parameters.rate, optimizer=parameters.optimizer,
        weight_decay=parameters.weight_decay, schedule=parameters.schedule, average=parameters.average,
        precision=parameters.precision, validate_every=parameters.validate_every or max(1, steps // 10),
        patience=parameters.patience, keep_best=parameters.patience > 0, workers=parameters.workers, seed=seed,
    )  # fmt: skip
    package = ModelPackage.load(parameters.start) if parameters.start else None
    if package is None and parameters.tuning != "all":
        raise ParameterError("Train: a part of the network can be trained only if it starts from a model package.")
    return Choices(settings, Start(package, parameters.tuning, parameters.rank))
