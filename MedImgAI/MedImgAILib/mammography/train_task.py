"""Training of the breast-cancer screening exam on a folder or table of labelled mammograms."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ..classify.attention import check_torch
from ..classify.feature_training import CLASSIFIERS, POOLINGS
from ..core import (
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    ParameterError,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
)
from ..core.model_package import check_new
from ..training.classification_task import TrainClassification
from ..training.options import ORIGIN
from .exams import check_folds, positive_classes, read_exams
from .screening import PIXEL

_NETWORK = ("learner", ("network",))


class TrainBreastScreening(Task):
    """Measures every picture as the screening exam does, and learns to tell diseased breasts, patient by patient."""

    id = "cases.breast_screening_train"
    title = "Train breast-cancer screening"
    group = "Case studies"
    summary = "Learns from labelled mammograms to tell diseased breasts, and says how well on patients it had not seen."
    references = (
        "Varma S, Simon R. Bias in error estimation when using cross-validation for model selection. BMC "
        "Bioinformatics 2006; 7:91.",
        "te Brake GM, Karssemeijer N. Single and multiscale detection of masses in digital mammograms. IEEE Trans Med "
        "Imaging 1999; 18:628-639.",
        "Sadinle M, Lei J, Wasserman L. Least ambiguous set-valued classifiers with bounded error levels. J Am Stat "
        "Assoc 2019; 114:223-234.",
    )
    keywords = ("mammography", "breast cancer", "CC", "MLO", "cross-validation", "learning", "folder")

    parameters = (
        TextParameter(
            "data", "Data folder", "", "A folder with one folder for each class; empty for a table.", kind="folder"
        ),
        TextParameter(
            "table", "Data table", "",
            "A row for each picture: image, label, patient and, as far as known, exam, side, view, split.",
            kind="file", suffixes=(".csv", ".tsv"),
        ),
        TextParameter("model", "Model package", "", "New folder for what was learnt; empty keeps none.", kind="save"),
        TextParameter("name", "Name of the model", "Breast screening", "Title of the model package."),
        TextParameter(
            "positive", "Positive", "", "Labels that count as diseased, with commas; empty finds words like cancer."
        ),
        ChoiceParameter(
            "learner", "Learns from", "features", "Measures of the views suit small data sets; pictures want hundreds "
            "of patients and torch.", choices={"features": "Measures", "network": "Pictures (network)"},
        ),
        ChoiceParameter(
            "classifier", "Classifier", "logistic", "What learns from measures.", choices=CLASSIFIERS,
            enabled_when=("learner", ("features",)),
        ),
        ChoiceParameter(
            "pooling", "Pooling of views", "mean", "How the views of a breast become one; attention learns which "
            "count and replaces the classifier (needs torch).", choices=POOLINGS,
            enabled_when=("learner", ("features",)),
        ),
        TextParameter(
            "folder", "Training folder", "", "For checkpoints of the network; a killed training goes on from there.",
            kind="folder", enabled_when=_NETWORK,
        ),
        FloatParameter(
            "epochs", "Epochs", 30.0, "How often the network sees each picture.", minimum=0.01, maximum=10000.0,
            enabled_when=_NETWORK,
        ),
        FloatParameter(
            "resolution_mm", "Resolution", 1.0, "Size of a pixel that the network sees.", "mm", minimum=0.1,
            maximum=4.0, advanced=True, enabled_when=_NETWORK,
        ),
        IntegerParameter("folds", "Folds", 5, "Of the cross-validation that judges.", minimum=2, maximum=100),
        FloatParameter(
            "sensitivity", "Sensitivity", 0.9, "That the operating point shall reach; 0 calls what is likelier.",
            minimum=0.0, maximum=1.0, step=0.01,
        ),
        IntegerParameter(
            "inner_folds", "Inner folds", 3, "Of the cross-validation that chooses, within each of the others.",
            minimum=2, maximum=20, advanced=True,
        ),
        ChoiceParameter(
            "on_error", "A picture that cannot be used", "stop", "End with a message that names it, or leave it out.",
            choices={"stop": "End", "skip": "Leave out"}, advanced=True,
        ),
        PIXEL,
        *ORIGIN,
    )  # fmt: skip
    outputs = (
        TablePort("figures", "Figures", "On patients that were not learnt from, with 95 % intervals."),
        TablePort("predictions", "Held-out predictions", "Of every breast, for 'Evaluate a classifier'."),
        TablePort("measures", "Measures", "Of every picture, for 'Train on features'."),
        TextPort("report", "Report", "What was learnt from what, what it is worth, and its limits."),
    )
    requirements = ("scikit-learn>=1.3",)

    def validate(self, inputs, parameters):
        if bool(parameters.data) == bool(parameters.table):
            raise ParameterError("Data: give either a folder with a folder for each class, or a table.")
        if parameters.learner == "network" and not parameters.folder:
            raise ParameterError("Training folder: no folder was given; choose an empty one.")
        if parameters.model:
            check_new(parameters.model)
            if not parameters.name.strip():
                raise ParameterError("Name of the model: there is none; give it a title.")
        if parameters.learner == "network":
            TrainClassification().require_packages()
        elif parameters.pooling == "attention":
            check_torch()

    def example(self):
        import tempfile

        from .phantom import write_exams

        global _example_folder
        if _example_folder is None:
            _example_folder = tempfile.TemporaryDirectory(prefix="medimgai-breasts-")
            write_exams(Path(_example_folder.name), 4, seed=3, shape=(160, 90), pixel_mm=1.0)
        table = Path(_example_folder.name) / "exams.csv"
        return {}, {"table": str(table), "pixel_mm": 1.0, "folds": 2, "inner_folds": 2}

    def run(self, inputs, parameters, context):
        from .cards import card_of, report_of
        from .training import breasts_of, figures, measured

        entries, notes = read_exams(
            parameters.data or parameters.table, parameters.patient_pattern, parameters.label_column,
            parameters.on_error == "skip",
        )  # fmt: skip
        positive = positive_classes([e.label for e in entries], parameters.positive)
        check_folds(entries, positive, parameters.folds)
        for note in notes:
            context.warn(note)
        share = 0.3 if parameters.learner == "network" else 0.7
        with context.part(0.0, share) as part:
            pictures, more = measured(entries, parameters.pixel_mm, parameters.on_error == "skip", part)
        for note in more:
            context.warn(note)
        breasts = breasts_of(pictures, positive)
        classes = _class_names(sorted({e.label for e in entries}), positive)
        with context.part(share, 0.95) as part:
            part.progress(0.0, "Learning")
            learnt = _learnt(pictures, breasts, classes, parameters, part)
        context.progress(0.95, "Judging")
        table = figures(breasts, classes, learnt.found, learnt.diagnosis.threshold, context)
        card = card_of(parameters, pictures, breasts, classes, table, learnt.diagnosis)
        if parameters.model:
            learnt.store(Path(parameters.model), card)
        return {
            "figures": table,
            "predictions": _predictions(breasts, classes, learnt.found, learnt.fold),
            "measures": _measures(pictures, breasts),
            "report": Text(report_of(card, table, [*notes, *more]), "Training report"),
        }


def _learnt(pictures, breasts, classes, parameters, context) -> SimpleNamespace:
    """Diagnosis, probabilities and folds of the breasts, and what stores the package."""
    if parameters.learner == "network":
        from .network import learn_network, store_network

        package, diagnosis, found, fold = learn_network(pictures, breasts, classes, parameters, context)

        def store(folder, card):
            return store_network(folder, card, package, diagnosis, parameters.resolution_mm)

        return SimpleNamespace(diagnosis=diagnosis, found=found, fold=fold, store=store)
    from .model import store_features
    from .training import learn_features

    model, found, fold = learn_features(breasts, classes, parameters, context)
    return SimpleNamespace(
        diagnosis=model.diagnosis, found=found, fold=fold,
        store=lambda folder, card: store_features(folder, card, model),
    )  # fmt: skip


def _class_names(labels, positive) -> tuple[str, str]:
    """Names of both classes, the diseased last."""
    rest = [label for label in labels if label not in positive]
    return " or ".join(rest), " or ".join(positive)


def _predictions(breasts, classes, found, fold) -> Table:
    columns = {
        "case": breasts.names, "patient": tuple(f"{n}" for n in breasts.patients),
        "truth": tuple(classes[n] for n in breasts.truth), "fold": fold,
    }  # fmt: skip
    columns |= {f"probability {name}": found[:, n] for n, name in enumerate(classes)}
    return Table(columns, "Held-out predictions")


def _measures(pictures, breasts) -> Table:
    """One row a picture; ``case`` is its breast."""
    case: list = [""] * len(pictures)
    truth, rows = list(case), [np.zeros(0)] * len(pictures)
    for name, label, places, bag in zip(breasts.names, breasts.truth, breasts.members, breasts.bags):
        for place, row in zip(places, bag):
            case[place], truth[place], rows[place] = name, ("negative", "positive")[label], row
    columns = {
        "image": tuple(p.entry.path.name for p in pictures), "case": tuple(case),
        "patient": tuple(p.entry.patient for p in pictures), "view": tuple(p.result.name for p in pictures),
        "truth": tuple(truth),
    }  # fmt: skip
    return Table(columns | dict(zip(breasts.features, np.array(rows).T)), "Measures")


_example_folder = None
