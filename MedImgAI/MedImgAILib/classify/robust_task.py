"""Training of a picture classifier that shall keep its accuracy on other devices."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core import (
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    OutputError,
    ParameterError,
    Segment,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
)
from ..core.model_package import DIAGNOSIS, ModelPackage
from ..training.cards import identifier
from ..training.exclusive import LOCK, alone_in
from . import robust_training as recipe_of
from .known import KNOWN, chosen, with_known
from .model_task import DATA, GUO
from .robust_report import figures_table, limits_text, predictions_table, report_text

_MODALITIES = {"DX": "Radiograph", "MG": "Mammogram", "US": "Ultrasound", "OP": "Fundus photograph", "SM": "Microscopy"}


class TrainRobust(Task):
    """An ensemble of small networks, each trained without the cases that would mislead it, and judged on those.

    The folds are made by what images look like as a whole (exposure, borders), so that the figures, the calibration
    and the threshold come from cases unlike those learnt from. Images are disturbed strongly while learning, classes
    count alike, and the weights are averaged.
    """

    id = "classify.train_robust"
    title = "Train a robust picture classifier"
    group = "Classification"
    summary = (
        "Trains an ensemble of small networks on labelled pictures so that it holds up on other devices' pictures."
    )
    references = (
        GUO,
        "Zech JR, Badgeley MA, Liu M, et al. Variable generalization performance of a deep learning model to detect "
        "pneumonia in chest radiographs. PLoS Med 2018; 15:e1002683.",
        "Lakshminarayanan B, Pritzel A, Blundell C. Simple and scalable predictive uncertainty estimation using deep "
        "ensembles. NeurIPS 2017: 6402-6413.",
    )
    keywords = ("domain shift", "ensemble", "calibration", "radiograph", "pneumonia", "MedMNIST", "training")

    inputs = (
        TextPort("notes", "Notes", "Text for the model's card: where the data come from and their licence.",
                 optional=True),
    )  # fmt: skip
    parameters = (
        DATA,
        TextParameter(
            "folder", "Folder", "", "An empty folder for the result, or one of the same training, which then goes on.",
            kind="folder",
        ),
        TextParameter("name", "Name", "Picture classifier", "Title of the model."),
        TextParameter(
            "class_names", "Names of the classes", "", "With commas, in the order of the data; empty: as they are."
        ),
        TextParameter(
            "license", "Licence", "", "Of the model, for its card; empty: not stated, that of the data applies."
        ),
        ChoiceParameter("modality", "Modality", "DX", "What made the pictures.", choices=_MODALITIES),
        IntegerParameter("size", "Size", 28, "Rows and columns that the network sees.", minimum=16, maximum=256),
        IntegerParameter("members", "Members", 4, "Networks of the ensemble.", minimum=2, maximum=20),
        IntegerParameter("epochs", "Epochs", 25, "Passes over the data of each.", minimum=1, maximum=10_000),
        IntegerParameter(
            "width", "Width", 24, "Features of the first stage; more learn more and take longer.",
            minimum=4, maximum=128, advanced=True,
        ),
        FloatParameter(
            "strength", "Disturbance", 0.4, "How strongly the pictures are changed while learning; 0: not at all.",
            minimum=0.0, maximum=2.0, step=0.1, advanced=True,
        ),
        FloatParameter(
            "sensitivity", "Sensitivity", 0.0,
            "Of two classes: sensitivity that the threshold shall reach; 0 takes the best balance with specificity.",
            minimum=0.0, maximum=1.0, step=0.01, advanced=True,
        ),
        KNOWN,
    )  # fmt: skip
    outputs = (
        TablePort("figures", "Figures", "On the held-out folds, in the mean and on the most misleading one, and on the "
                  "data set's own validation part."),
        TablePort("predictions", "Held-out predictions", "For 'Evaluate a classifier': of networks that had not seen "
                  "the case."),
        TextPort("report", "Report", "Where the model lies and what it is good for."),
    )  # fmt: skip

    requirements = ("torch>=2.2", "safetensors>=0.4", "scikit-learn>=1.3", "filelock>=3.12")
    can_finish_early = True

    def validate(self, inputs, parameters):
        for name in ("data", "folder"):
            if not getattr(parameters, name).strip():
                title = next(p.title for p in self.parameters if p.name == name)
                raise ParameterError(f"{title}: no path was given; choose one.")
        if not parameters.name.strip():
            raise ParameterError("Name: the model needs one; give it a title.")

    def example(self):
        return {}, {
            "data": str(_example_data()), "folder": str(_fresh_folder()), "epochs": 1, "members": 2, "width": 4,
            "size": 16,
        }  # fmt: skip

    def run(self, inputs, parameters, context):
        from ..training.cases import known_classes
        from ..training.sources import read_collection
        from ..training.splits import given_parts

        collection = read_collection(parameters.data.strip(), "classification")
        given_parts(collection.cases)  # refuses a patient on both sides
        cases = collection.labelled
        classes = collection.classes or known_classes(cases)
        names = _names(parameters.class_names, classes)
        with context.part(0.0, 0.05) as part:
            pictures = recipe_of.load_pictures(cases, classes, (parameters.size, parameters.size), part)
        splits = np.array([case.split for case in cases])
        learnt, judged = pictures.part(np.flatnonzero(splits != "validation")), None
        if (splits == "test").any():
            context.warn("The test part of the data is left aside.")
            learnt = pictures.part(np.flatnonzero((splits != "validation") & (splits != "test")))
        if (splits == "validation").any():
            judged = pictures.part(np.flatnonzero(splits == "validation"))
        recipe_of.check_classes(learnt, parameters.members)
        recipe = recipe_of.Recipe(
            parameters.members, parameters.epochs, recipe_of.batch_for(len(learnt.truth), len(classes)),
            strength=parameters.strength, seed=context.seed,
            network={"width": parameters.width, "first_stride": 2, "first_kernel": 5, "local_contrast": True},
        )  # fmt: skip
        folds = recipe_of.folds_of(learnt, recipe)
        folder = Path(parameters.folder.strip())
        check_folder(folder, learnt.digest())
        with alone_in(folder):
            return self._trained(learnt, judged, names, folds, recipe, folder, inputs, parameters, context)

    def _trained(self, learnt, judged, names, folds, recipe, folder, inputs, parameters, context) -> dict:
        """The outputs of :meth:`run`, from checked data in a folder of its own."""
        named = replace(learnt, classes=names)
        states, scores = _members(learnt, folds, recipe, folder, context)
        whole, folds = len(states) == len(folds), folds[: len(states)]
        if not whole:
            context.warn(f"Ended early: {len(states)} of {recipe.members} networks were trained and are kept.")
        # Ended early, the cases of the other folds were judged by no network.
        seen = np.sort(np.concatenate(folds))
        unseen, scores = named.part(seen), scores[seen]
        folds = [np.searchsorted(seen, fold) for fold in folds]
        context.progress(0.9, "Calibrating")
        diagnosis = recipe_of.calibrated_on_shift(unseen, scores, folds, parameters.sensitivity)
        rows = {"held-out folds": recipe_of.figures_of(unseen, scores, diagnosis)}
        if whole:
            worst = recipe_of.figures_of(unseen.part(folds[-1]), scores[folds[-1]], diagnosis)
            rows["most misleading fold"] = worst
        networks = [recipe_of.network_of(learnt, recipe, state) for state in states]
        if judged is not None and len(judged.truth):
            mean = np.mean([recipe_of.outputs(n, judged.images) for n in networks], axis=0)
            rows["validation part of the data"] = recipe_of.figures_of(judged, mean, diagnosis)
        figures = figures_table(rows)
        package = self._package(
            named, learnt.digest(), recipe, states, diagnosis, rows, inputs, parameters, folder, context
        )
        predictions = predictions_table(unseen, diagnosis.calibrated(scores), folds)
        report = report_text(package, figures, diagnosis)
        return {"figures": figures, "predictions": predictions, "report": Text(report, parameters.name)}

    @staticmethod
    def _package(learnt, digest, recipe, states, diagnosis, rows, inputs, parameters, folder, context) -> ModelPackage:
        import shutil

        from ..core.model_card import ModelCard, ModelOutput
        from .classifier import Classifier

        notes = inputs.notes.text.strip() if inputs.notes is not None else ""
        counts = ", ".join(f"{n} of {c}" for c, n in zip(learnt.classes, np.bincount(learnt.truth)))
        metrics = {
            re.sub(r"\W+", "_", f"{figure} on {where}"): round(value, 4)
            for where, found in rows.items() for figure, value in found.items() if np.isfinite(value)
        }  # fmt: skip
        card = ModelCard(
            id=identifier(parameters.name),
            version="1.0.0",
            title=parameters.name,
            task="classification",
            inputs=(recipe_of.picture_input((parameters.size, parameters.size), parameters.modality),),
            outputs=(
                ModelOutput("class", "classes", tuple(Segment(c, n) for n, c in enumerate(learnt.classes, start=1))),
            ),
            architecture="medimgai.CompactResNet",
            arguments=recipe_of.arguments(learnt, recipe),
            metrics=metrics,
            inference=recipe_of.INFERENCE,
            license=parameters.license.strip() or "Not stated; the licence of the training data applies.",
            citation="Trained with MedImgAI.",
            training_data=f"{len(learnt.truth)} pictures ({counts}). {notes} Hash: {digest}.",
            intended_use="Research on pictures like those it was trained on; not for diagnosis.",
            limits=limits_text("most misleading fold" in rows),
        )
        result = folder / "model"
        draft = folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        half = [{k: v.half() if v.is_floating_point() else v for k, v in state.items()} for state in states]
        ModelPackage.create(draft, card, half)
        kept = chosen(learnt.truth, len(learnt.classes), context.seed)
        _, seen = Classifier(ModelPackage.load(draft)).scores(list(learnt.images[kept][:, None]))
        names = [learnt.names[n] for n in kept]
        known = with_known(diagnosis, seen, learnt.truth[kept], names, parameters.known_cases)
        shutil.rmtree(draft)
        if result.exists():
            shutil.rmtree(result)
        package = ModelPackage.create(result, card, half, {DIAGNOSIS: known.to_bytes()})
        for number in range(recipe.members):
            shutil.rmtree(folder / f"member_{number + 1}", ignore_errors=True)
        return package


def _members(learnt, folds, recipe, folder: Path, context) -> tuple[list, np.ndarray]:
    """Weights of the networks, and the scores that each gives the fold it had not seen; fewer if ended early."""
    states, scores = [], np.zeros((len(learnt.truth), len(learnt.classes)))
    for number, held_out in enumerate(folds):
        with context.part(0.05 + 0.85 * number / len(folds), 0.05 + 0.85 * (number + 1) / len(folds)) as part:
            place = folder / f"member_{number + 1}"
            state, stopped = recipe_of.train_member(learnt, held_out, number, recipe, place, part)
        if stopped and states:
            break  # half a training beside whole ones does harm
        states.append(state)
        scores[held_out] = recipe_of.outputs(recipe_of.network_of(learnt, recipe, state), learnt.images[held_out])
        if stopped:
            break
    return states, scores


def check_folder(folder: Path, digest: str):
    """Refuse a folder that holds anything but this training; make it where there is none.

    Raises
    ------
    OutputError
    """
    if folder.is_file():
        raise OutputError(f"{folder} is a file; give a folder for the training.")
    held = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
    others = [name for name in held if not re.fullmatch(rf"member_\d+|model|draft|{re.escape(LOCK)}", name)]
    if others:
        raise OutputError(f"The folder {folder} holds '{others[0]}'; give an empty folder for the training.")
    if (folder / "model").exists() and digest not in ModelPackage.load(folder / "model").card.training_data:
        raise OutputError(f"The folder {folder} holds a model of other data; give an empty folder for the training.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {folder} cannot be made: {error.strerror or error}.") from error


def _names(text: str, classes) -> tuple[str, ...]:
    names = tuple(n.strip() for n in text.split(",") if n.strip()) or tuple(classes)
    if len(names) != len(classes) or len(set(names)) < len(names):
        raise ParameterError(f"Names of the classes: {len(classes)} different ones are needed, not '{text[:60]}'.")
    return names


_example_folder = None
_example_runs = 0


def _example_data() -> Path:
    global _example_folder
    if _example_folder is None:
        import tempfile

        _example_folder = tempfile.TemporaryDirectory(prefix="medimgai-example-")
        rng = np.random.default_rng(0)
        truth = np.arange(48) % 2
        images = rng.normal(100, 20, (48, 16, 16)) + 60 * truth[:, None, None] * (np.arange(16) > 7)
        path = Path(_example_folder.name) / "pictures.npz"
        np.savez(path, train_images=np.clip(images, 0, 255).astype(np.uint8), train_labels=truth[:, None])
    return Path(_example_folder.name) / "pictures.npz"


def _fresh_folder() -> Path:
    global _example_runs
    _example_runs += 1
    return Path(_example_folder.name) / f"run {_example_runs}"
