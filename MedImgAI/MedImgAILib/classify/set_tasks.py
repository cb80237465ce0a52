"""Classification of a whole data set, deep features of images, and calibration from predictions."""

from __future__ import annotations

import numpy as np

from ..core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    ParameterError,
    Plot,
    PlotPort,
    Series,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)
from ..core.errors import listed
from ..evaluate.classification import COLUMNS
from ..evaluate.metrics import calibration_curve, calibration_error
from ..evaluate.predictions import read_predictions
from .calibration import log_probabilities
from .diagnosis import Diagnosis
from .model_task import CALIBRATION, DATA, DECISION, GUO, MODEL, ModelTask
from .pooling import POOLINGS, pooled


class ClassifySet(ModelTask):
    """Every case of a folder, table or array file, with its true class where it is known."""

    id = "classify.apply_set"
    title = "Classify a data set"
    group = "Classification"
    summary = "Classifies every case of a data set and gives a table for 'Evaluate a classifier'."
    references = ("Yang J, Shi R, Wei D, et al. MedMNIST v2. Sci Data 2023; 10:41.",)
    keywords = ("batch", "folder", "MedMNIST", "npz", "predictions")

    inputs = (CALIBRATION,)
    parameters = (
        DATA,
        MODEL,
        TextParameter("part", "Part", "", "Only cases of this part, as 'test' or 'validation'; empty: all."),
        ChoiceParameter("pooling", "Pooling", "mean", "How slices become one answer.", choices=POOLINGS),
        *DECISION,
    )  # fmt: skip
    outputs = (
        TablePort("predictions", "Predictions", "Truth, probabilities, called and possible classes of each case."),
    )

    def validate(self, inputs, parameters):
        super().validate(inputs, parameters)
        if not parameters.data.strip():
            raise ParameterError("Data: no path was given; choose a file or folder.")

    def example(self):
        from .example_package import example_package
        from .robust_task import _example_data

        return {}, {"data": str(_example_data()), "model": str(example_package())}

    def run(self, inputs, parameters, context):
        from ..training.cases import split_name
        from ..training.reading import read_image
        from ..training.sources import read_collection

        classifier, diagnosis = self.opened(inputs, parameters, context)
        collection = read_collection(parameters.data.strip(), "classification")
        wanted = split_name(parameters.part) if parameters.part.strip() else None
        cases = [c for c in collection.cases if wanted is None or c.split == wanted]
        if not cases:
            raise InputError(f"Data: there is no case of the part '{parameters.part}'.")
        truth = [true_class(c.target, classifier.classes) for c in cases]
        samples, owner = [], []
        for number, case in enumerate(cases):
            if number % 10 == 0:
                context.progress(0.6 * number / len(cases), f"Preparing {case.id}")
            instances, _ = classifier.seen([read_image(image) for image in case.images], context, quiet=True)
            samples += [i.sample for i in instances]
            owner += [number] * len(instances)
        with context.part(0.6, 0.95) as part:
            scores, _ = classifier.scores(samples, part.progress)
        each = log_probabilities(diagnosis.calibrated(scores))
        owner = np.array(owner)
        whole = np.stack([pooled(each[owner == n], parameters.pooling) for n in range(len(cases))])
        if parameters.prevalence:
            diagnosis, whole = diagnosis.at_prevalence(parameters.prevalence, whole)
        columns = {"case": tuple(c.id for c in cases)}
        if all(t is not None for t in truth):
            columns["truth"] = tuple(truth)
        columns |= diagnosis.columns(whole, parameters.coverage)
        return {"predictions": Table(columns, f"Predictions of {classifier.card.title}")}


def true_class(target, classes) -> str | None:
    """The model's name of a case's class, which may be its number in the data set; None where it is not known.

    Raises
    ------
    InputError
        If the class is neither a name nor a number of the model's classes.
    """
    if not isinstance(target, str) or target in classes:
        return target if isinstance(target, str) else None
    if target.isdigit() and int(target) < len(classes):
        return classes[int(target)]
    raise InputError(f"Data: a case has the class '{target[:60]}'; the model tells {listed(classes)} apart.")


class DeepFeatures(ModelTask):
    """What a network's last layers see of an image, as numbers for 'Train on features'."""

    id = "classify.deep_features"
    title = "Deep features"
    group = "Classification"
    summary = "Gives a network's inner description of each image or slice as a table row, for training on features."
    references = (
        "Sharif Razavian A, Azizpour H, Sullivan J, et al. CNN features off-the-shelf. CVPR Workshops 2014: 512-519.",
    )
    keywords = ("embedding", "transfer learning", "retrieval", "representation")

    inputs = (
        VolumePort("images", "Images", "Each gives a row, or a row for each slice.", components=(), multiple=True),
    )
    parameters = (MODEL,)
    outputs = (TablePort("features", "Features", "A row for each image or slice; the image's name is the case."),)

    def run(self, inputs, parameters, context):
        classifier, _ = self.opened(inputs, parameters, context)
        with context.part(0.0, 0.5) as part:
            instances, cases = classifier.seen(inputs.images, part)
        with context.part(0.5, 0.95) as part:
            _, embeddings = classifier.scores([i.sample for i in instances], part.progress)
        columns = {"case": tuple(cases)}
        if len(instances) > len(classifier.cases(inputs.images)):
            columns["part"] = tuple(i.name for i in instances)
        columns |= {f"deep {n + 1}": embeddings[:, n] for n in range(embeddings.shape[1])}
        return {"features": Table(columns, f"Features of {classifier.card.title}")}


class Calibrate(Task):
    """Learns from predictions for known cases how far a model's probabilities may be believed."""

    id = "classify.calibrate"
    title = "Calibrate a classifier"
    group = "Classification"
    summary = "Corrects probabilities by cases whose class is known, and sets a threshold and 'do not know'."
    references = (
        GUO,
        "Zadrozny B, Elkan C. Transforming classifier scores into accurate multiclass probability estimates. KDD 2002: "
        "694-699.",
        "Vovk V, Gammerman A, Shafer G. Algorithmic learning in a random world. Springer 2005.",
    )
    keywords = ("temperature scaling", "isotonic", "operating point", "conformal prediction")

    inputs = (
        TablePort("predictions", "Predictions", "Truth and probabilities of cases that the model did not learn from."),
    )
    parameters = (
        *COLUMNS[:3],
        ChoiceParameter(
            "method", "Method", "temperature",
            "Temperature changes how sure the model is and suits few cases; isotonic can mend anything, with hundreds.",
            choices={"temperature": "Temperature", "isotonic": "Isotonic regression", "none": "None"},
        ),
        FloatParameter(
            "sensitivity", "Sensitivity", 0.0,
            "Of two classes: sensitivity that the threshold shall reach; 0 calls what is likelier.",
            minimum=0.0, maximum=1.0, step=0.01,
        ),
    )  # fmt: skip
    outputs = (
        TextPort("calibration", "Calibration", "For 'Classify'; can be saved as .json."),
        TablePort("figures", "Before and after", "Calibration error and likelihood, by two-fold cross-validation."),
        PlotPort("curve", "Calibration curve", "Observed share against probability, before and after.", optional=True),
    )

    def example(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 2, 80)
        score = 1 / (1 + np.exp(-4 * (2 * truth - 1 + rng.normal(0, 1.5, 80))))
        return {"predictions": Table({"truth": truth, "probability": score}, "predictions")}, {}

    def run(self, inputs, parameters, context):
        given = read_predictions(
            inputs.predictions, parameters.truth_column, parameters.probability_columns, parameters.positive
        )
        count = len(given.truth)
        if count < 10 or any((given.truth == c).sum() < 2 for c in range(len(given.classes))):
            raise InputError(
                f"{inputs.predictions.label} has too few cases of a class to calibrate by; 2 are the least."
            )
        scores = log_probabilities(given.probabilities)
        sensitivity = parameters.sensitivity or None
        fitted = Diagnosis.fitted(scores, given.truth, given.classes, parameters.method, sensitivity)
        context.progress(0.4)
        half = np.zeros(count, int)
        for c in range(len(given.classes)):
            own = np.flatnonzero(given.truth == c)
            half[context.rng.permutation(own)[::2]] = 1
        after = np.zeros_like(given.probabilities)
        for side in (0, 1):
            learnt = half != side
            other = Diagnosis.fitted(scores[learnt], given.truth[learnt], given.classes, parameters.method)
            after[half == side] = other.calibrated(scores[half == side])
        context.progress(0.8)
        both = {"before": given.probabilities, "after": after}
        columns = {
            "probabilities": tuple(both),
            "expected calibration error": np.array([calibration_error(given.truth, p) for p in both.values()]),
            "log loss": np.array([_log_loss(given.truth, p) for p in both.values()]),
        }
        plot = _curve(given.truth, both) if given.is_binary else None
        text = Text(fitted.to_text(), "Calibration")
        return {"calibration": text, "figures": Table(columns, "Before and after"), "curve": plot}


def _log_loss(truth, probabilities) -> float:
    return float(-log_probabilities(probabilities)[np.arange(len(truth)), truth].mean())


def _curve(truth, both: dict) -> Plot:
    curves = {name: calibration_curve(truth == 1, p[:, 1]) for name, p in both.items()}
    longest = max(len(c["cases"]) for c in curves.values())
    columns = {}
    for name, curve in curves.items():
        for part in ("predicted", "observed"):
            columns[f"{part} {name}"] = np.r_[curve[part], np.full(longest - len(curve[part]), np.nan)]
    series = [Series(f"observed {name}", f"predicted {name}", name) for name in both]
    return Plot(Table(columns, "Calibration"), series, "Calibration", "Calibration", "predicted", "observed")
