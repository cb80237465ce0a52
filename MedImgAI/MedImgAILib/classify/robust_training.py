"""A small ensemble for pictures that shall keep its accuracy on other devices; see :mod:`.robust_task`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from ..core import Context, InputError
from ..core.errors import listed
from ..core.model_inference import Inference
from ..core.model_intensity import Intensity
from .calibration import fit_temperature, softmax, threshold_for_sensitivity, worst_group_threshold
from .conformal import nonconformity
from .diagnosis import Diagnosis
from .shift import disturbed, shifted_folds

INTENSITY = Intensity("percentiles", lower=0.5, upper=99.5)
_SMALLEST_CLASS = 10


@dataclass(frozen=True)
class Recipe:
    """How the ensemble is trained.

    Parameters
    ----------
    members : int
        Networks; each is trained without one fold of :func:`.shift.shifted_folds` and judged on it.
    epochs, batch : int
        Passes over the data of each member; images of an update, as many of each class.
    rate, weight_decay, smoothing, mixing : float
        Learning rate, AdamW's decay, label smoothing, and the parameter of MixUp's beta distribution (0: none).
    strength : float
        Of :func:`.shift.disturbed`.
    network : dict
        Arguments of ``CompactResNet`` besides channels and classes.
    seed : int
    """

    members: int = 4
    epochs: int = 40
    batch: int = 128
    rate: float = 4e-3
    weight_decay: float = 0.02
    smoothing: float = 0.05
    mixing: float = 0.0
    strength: float = 1.0
    network: dict = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Pictures:
    """Prepared pictures of one size.

    Parameters
    ----------
    images : (n, J, I) float32 ndarray
    truth : (n,) int ndarray
    classes, names : tuple of str
    patients : tuple of str
        Whose they are; empty where each is of another patient.
    """

    images: np.ndarray
    truth: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    patients: tuple[str, ...] = ()

    def part(self, chosen) -> Pictures:
        chosen = np.asarray(chosen, int)
        names, patients = (tuple(texts[n] for n in chosen) if texts else () for texts in (self.names, self.patients))
        return Pictures(self.images[chosen], self.truth[chosen], self.classes, names, patients)

    @property
    def whose(self) -> np.ndarray:
        """(n,) int: patients, numbered as they come."""
        owners = self.patients or range(len(self.truth))
        place = {name: n for n, name in enumerate(dict.fromkeys(owners))}
        return np.array([place[name] for name in owners], int)

    def digest(self) -> str:
        """SHA-256 of content, classes and, where some are of the same patient, of who is."""
        content = hashlib.sha256(np.ascontiguousarray(self.images).tobytes() + self.truth.astype(np.int64).tobytes())
        if len(set(self.patients)) < len(self.patients):
            content.update(self.whose.tobytes())
        return hashlib.sha256(content.digest() + "\0".join(self.classes).encode()).hexdigest()


def load_pictures(cases, classes, size: tuple[int, int], context: Context) -> Pictures:
    """The images of the cases as a network of this input size gets them.

    Parameters
    ----------
    cases : sequence of training.cases.Case
    classes : tuple of str
    size : (columns, rows)

    Raises
    ------
    InputError
        If an image is no single grey slice.
    """
    from ..training.reading import read_image
    from .classifier import prepared_images

    images = np.zeros((len(cases), size[1], size[0]), np.float32)
    wanted = picture_input(size)
    for number, case in enumerate(cases):
        if number % 50 == 0:
            context.progress(number / len(cases), f"Reading {case.id}")
        if len(case.images) != 1:
            raise InputError(f"Case '{case.id}' has {len(case.images)} images; one picture is needed.")
        volume = read_image(case.images[0])
        if min(volume.geometry.shape) > 1 or volume.is_vector:
            raise InputError(f"Case '{case.id}' is no single grey slice; use 'Train a classification network'.")
        images[number] = prepared_images([volume], [wanted], context)[0].array[0, 0]
    place = {name: n for n, name in enumerate(classes)}
    truth = np.array([place[case.target] for case in cases])
    names, patients = (tuple(getattr(case, part) for case in cases) for part in ("id", "patient"))
    return Pictures(images, truth, tuple(classes), names, patients)


def picture_input(size: tuple[int, int], modality: str = "DX"):
    """The card's description of the input."""
    from ..core.model_card import ModelInput

    return ModelInput("image", modality, 1, None, "LPS", INTENSITY, None, (*size, 1), "stretch")


def check_classes(pictures: Pictures, members: int):
    """Refuse data from which nothing can be learnt.

    Raises
    ------
    InputError
    """
    counts = np.bincount(pictures.truth, minlength=len(pictures.classes))
    if len(pictures.classes) < 2:
        raise InputError(f"All cases are '{listed(pictures.classes)}'; at least two classes are needed.")
    needed = max(_SMALLEST_CLASS, 2 * members)
    for name, count in zip(pictures.classes, counts):
        if count < needed:
            raise InputError(f"Class '{name}' has {count} cases; at least {needed} are needed.")


def train_member(pictures: Pictures, held_out: np.ndarray, number: int, recipe: Recipe, folder, context: Context):
    """One network, trained without the fold ``held_out``; goes on where a checkpoint in ``folder`` stopped.

    Returns
    -------
    state : dict of tensors
    stopped : bool
        Whether the user ended it early.
    """
    import torch

    from ..core.model_networks import build
    from ..training.loading import Batch
    from ..training.loop import Settings, train
    from ..training.losses import classification_loss

    kept = np.setdiff1d(np.arange(len(pictures.truth)), held_out)
    data = torch.from_numpy(pictures.images[kept])[:, None]
    classes = len(pictures.classes)
    places = [np.flatnonzero(pictures.truth[kept] == c) for c in range(classes)]
    seed = recipe.seed * 1009 + number
    torch.manual_seed(seed)
    network = build("medimgai.CompactResNet", arguments(pictures, recipe)).to(memory_format=torch.channels_last)

    def batch(samples):
        rng = np.random.default_rng((seed, samples[0]))
        drawn = np.array([places[n % classes][rng.integers(len(places[n % classes]))] for n in samples])
        generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
        images = disturbed(data[drawn], generator, recipe.strength)
        targets = torch.nn.functional.one_hot(torch.from_numpy(pictures.truth[kept][drawn]), classes).float()
        if recipe.mixing:
            share, order = float(rng.beta(recipe.mixing, recipe.mixing)), torch.from_numpy(rng.permutation(len(drawn)))
            images = share * images + (1 - share) * images[order]
            targets = share * targets + (1 - share) * targets[order]
        return Batch(images.contiguous(memory_format=torch.channels_last), targets)

    def validate(judged):
        scores = outputs(judged, pictures.images[held_out])
        return {"score": float((scores.argmax(axis=1) == pictures.truth[held_out]).mean())}

    steps = max(1, recipe.epochs * len(kept) // recipe.batch)
    settings = Settings(
        steps=steps, batch=recipe.batch, rate=recipe.rate, weight_decay=recipe.weight_decay, schedule="one_cycle",
        average=0.99, validate_every=max(1, steps // 8), workers=0, seed=seed, precision="full",
    )  # fmt: skip
    trained = train(
        network, batch, classification_loss(smoothing=recipe.smoothing), settings, validate, folder, context,
        f"{pictures.digest()} {number} {recipe}",
    )  # fmt: skip
    return trained.state, trained.ended == "user"


def batch_for(count: int, classes: int) -> int:
    """Images of an update: 128, or fewer where there are few, so that an epoch has several updates."""
    return classes * max(1, min(128, max(16, count // 8)) // classes)


def arguments(pictures: Pictures, recipe: Recipe) -> dict:
    """Of the network."""
    return {"dimensions": 2, "channels": 1, "classes": len(pictures.classes), **recipe.network}


def network_of(pictures: Pictures, recipe: Recipe, state: dict):
    """A trained member, in evaluation mode."""
    import torch

    from ..core.model_networks import build

    network = build("medimgai.CompactResNet", arguments(pictures, recipe))
    network.load_state_dict(state)
    return network.eval().to(memory_format=torch.channels_last)


def outputs(network, images: np.ndarray) -> np.ndarray:
    """(n, classes) scores of (n, J, I) pictures; the network is left in the mode it was in."""
    import torch

    device = next(network.parameters()).device
    found, training = [], network.training
    network.eval()
    with torch.no_grad():
        for start in range(0, len(images), 256):
            part = torch.from_numpy(images[start : start + 256])[:, None].to(device)
            found.append(network(part.contiguous(memory_format=torch.channels_last)).double().cpu().numpy())
    network.train(training)
    return np.concatenate(found)


def folds_of(pictures: Pictures, recipe: Recipe) -> list[np.ndarray]:
    """The folds: by appearance for the first class, by chance for the others; no patient is divided.

    Raises
    ------
    InputError
        If there are too few patients for each fold to have one of each class.
    """
    classes, whose = len(pictures.classes), pictures.whose
    if whose.max() + 1 >= recipe.members:
        folds = shifted_folds(pictures.images, pictures.truth, classes, recipe.members, recipe.seed, whose=whose)
        if all(len(np.unique(pictures.truth[fold])) == classes for fold in folds):
            return folds
    raise InputError(
        f"Members: {recipe.members} networks need as many parts of the data with patients of each class; choose fewer, "
        "or add patients."
    )


def calibrated_on_shift(pictures: Pictures, held_out_scores: np.ndarray, folds, sensitivity: float = 0.0) -> Diagnosis:
    """Calibration, threshold and calibration cases from the scores of the networks that had not seen the case.

    All classes count alike, so that the probabilities assume equal prevalence; the threshold is the one with the best
    balance of sensitivity and specificity, where the worst fold counts as much as all together, or the highest that
    reaches a wanted ``sensitivity``.
    """
    classes, truth = len(pictures.classes), pictures.truth
    counts = np.bincount(truth, minlength=classes)
    rng = np.random.default_rng(0)
    # Every class as often as the largest, by repetition.
    repeated = np.concatenate(
        [np.resize(rng.permutation(np.flatnonzero(truth == c)), counts.max()) for c in range(classes)]
    )
    temperature = fit_temperature(held_out_scores[repeated], truth[repeated])
    probabilities = softmax(held_out_scores / temperature)
    threshold = 0.5
    if classes == 2 and sensitivity:
        threshold = threshold_for_sensitivity(truth == 1, probabilities[:, 1], sensitivity)
    elif classes == 2:
        threshold = worst_group_threshold(truth == 1, probabilities[:, 1], folds)
    equal = np.full(classes, 1 / classes)
    return Diagnosis(
        pictures.classes, "temperature", temperature, (), threshold, sensitivity or float("nan"), equal,
        nonconformity(probabilities, truth), truth,
    )  # fmt: skip


def figures_of(pictures: Pictures, scores: np.ndarray, diagnosis: Diagnosis) -> dict[str, float]:
    """Accuracy, sensitivity, specificity, area and calibration error of scores."""
    from ..evaluate.metrics import Ranking, calibration_error, counts, threshold_figures

    probabilities, truth = diagnosis.calibrated(scores), pictures.truth
    called = diagnosis.called(probabilities)
    found = {"accuracy": float((called == truth).mean())}
    if len(pictures.classes) == 2:
        figures = threshold_figures(*counts(truth == 1, called == 1))
        found |= {k: figures[k] for k in ("sensitivity", "specificity", "balanced accuracy")}
        found["AUC"] = Ranking(truth == 1, probabilities[:, 1]).auc()
    found["expected calibration error"] = calibration_error(truth, probabilities)
    return found


INFERENCE = Inference(mode="whole", dimensions=2)
