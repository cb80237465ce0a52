"""The whole of a classification training: plan, prepare, one network for each fold, judge, calibrate, package."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ..core import InputError, Table
from ..core.model_networks import build
from ..core.model_package import ModelPackage
from . import classification as parts
from .cache import Preparation
from .cards import Summary, model_card, origin_name, report
from .distributed import team
from .experiment import (
    Folder,
    Outcome,
    data_hash,
    identity_of,
    network_of,
    parts_of,
    run_round,
    settings_record,
    with_interval,
)
from .losses import classification_loss
from .networks import classification_network, least_edge
from .options import choices_of
from .planning import plan_images
from .transfer import as_prepared

_DECIDING = (
    "network", "modality", "folds", "networks", "held_out_percent", "loss", "smoothing", "balance", "mixup",
    "augmentation", "mirror", "multi_scale", "start", "tuning", "rank", "on_error", "size_voxels",
)  # fmt: skip
"""Parameters beside the loop's settings that decide the weights."""


def train_classification(collection, parameters, context, cache=None) -> SimpleNamespace:
    """Run a training; returns ``metrics``, ``histories``, ``report``, ``package`` (its folder) and ``judged``.

    ``judged`` has the unseen cases of each fold with their logits.

    Parameters
    ----------
    collection : Collection
    parameters : namespace
        As :class:`.classification_task.TrainClassification` declares them.
    context : Context
    cache : Path, optional
        Folder of prepared cases that several trainings share; by default a training has its own.
    """
    with team(context.device) as (members, device):
        run = _Run(collection, parameters, context, members, device, cache)
        with run.folder.held(members.leads):
            return members.agreed(run.result())


class _Run:
    def __init__(self, collection, parameters, context, members, device, cache):
        from ..classify.classifier import smoothed

        self.parameters, self.context, self.team, self.device = parameters, context, members, device
        with context.part(0.0, 0.03) as part:
            self.collection, facts = parts.gather(collection, part, parameters.on_error)
        self.cases, self.classes = self.collection.cases, self.collection.classes
        self.numbers = self.collection.class_numbers()
        names = [f"image {n}" if len(facts[0]) > 1 else "image" for n in range(1, len(facts[0]) + 1)]
        modality = "" if parameters.modality == "auto" else parameters.modality
        least = least_edge(parameters.network)
        self.plan = plan_images(facts, names, [modality] * len(names), size_of(parameters.size_voxels), least=least)
        start = choices_of(parameters, context.seed, self.plan.batch, 1).start
        channels = sum(i.channels for i in self.plan.inputs)
        architecture = classification_network(parameters.network, self.plan, channels, len(self.classes))
        if start.package is not None:
            self.plan = as_prepared(self.plan, start.package.card)
            architecture = self._as_package(start.package, channels)
        self.architecture, self.arguments = architecture
        build(self.architecture, self.arguments)  # fails before anything is written
        self.divided = parts_of(
            self.cases, self.numbers, parameters.folds, parameters.held_out_percent / 100, context.seed
        )
        smallest = min(len(kept) for kept, _ in self.divided.rounds)
        batch = parameters.batch or int(min(self.plan.batch, max(2, smallest // 4)))
        steps = max(1, round(parameters.epochs * smallest / batch))
        self.choices = choices_of(parameters, context.seed, batch, steps)
        self.identity = identity_of(
            [c.content_hash() for c in self.cases], self.classes, repr(self.plan), self.architecture, self.arguments,
            settings_record(self.choices.settings), {n: getattr(parameters, n) for n in _DECIDING},
            start.package and start.package.card.weights_sha256,
        )  # fmt: skip
        self.folder = Folder(parameters.folder, self.identity, parameters.existing == "replace")
        in_memory = all(not hasattr(s, "is_dir") for c in self.cases for s in c.images)
        cache = None if in_memory else cache or self.folder / "cache"
        self.preparation = Preparation(self.plan.inputs, (), cache, (), smoothed)
        for kept, _ in self.divided.rounds:
            parts.check_classes(self.numbers[kept], self.classes)

    def _as_package(self, package, channels):
        """The package's own architecture for these classes."""
        name, arguments = package.card.architecture, dict(package.card.arguments)
        for argument in ("out_channels", "num_classes", "classes"):
            if argument in arguments:
                arguments[argument] = len(self.classes)
        for argument in ("in_channels", "n_input_channels", "channels"):
            if argument in arguments:
                arguments[argument] = channels
        return name, arguments

    def result(self) -> SimpleNamespace:
        context = self.context
        if self.team.leads:
            self.folder.open({"plan": repr(self.plan), "classes": self.classes, "seed": context.seed})
        self.team.agreed(None)
        with context.part(0.03, 0.1) as part:
            ready = {c.case.id: c for c in self.preparation.all(self.cases, part, self.parameters.on_error)}
        outcome, rounds = Outcome(), self.divided.rounds
        count = len(rounds) + (self.parameters.keep == "all")
        for number, (kept, out) in enumerate(rounds):
            with context.part(0.1 + 0.88 * number / count, 0.1 + 0.88 * (number + 1) / count):
                self._round(f"fold_{number + 1}", ready, kept, out, outcome)
            if outcome.stopped:
                break
        if self.parameters.keep == "all" and not outcome.stopped:
            with context.part(0.1 + 0.88 * (count - 1) / count, 0.98):
                everything = np.unique(np.concatenate([np.r_[k, o] for k, o in rounds]))
                final = Outcome()
                self._round("all", ready, everything, np.zeros(0, np.int64), final)
            outcome.states, outcome.trained = final.states, outcome.trained + final.trained
        return self._package(outcome, ready)

    def _there(self, ready, places):
        places = np.array([n for n in places if self.cases[n].id in ready], np.int64)
        return [ready[self.cases[n].id] for n in places], self.numbers[places]

    def _round(self, name, ready, kept, out, outcome: Outcome):
        parameters, context = self.parameters, self.context
        cases, numbers = self._there(ready, kept)
        unseen, truth = self._there(ready, out)
        parts.check_classes(numbers, self.classes)

        def batches(seed):
            return parts.batches(
                cases, numbers, len(self.classes), self.plan, parameters, context, self.preparation.loaded, seed
            )

        counts = np.bincount(numbers, minlength=len(self.classes))
        loss = classification_loss(parameters.loss, counts, parameters.smoothing)
        dimensions = self.plan.dimensions
        validate = parts.validation(unseen, truth, self.preparation.loaded, dimensions, self.device) if unseen else None
        with context.part(0.0, 0.97) as part:
            trained = run_round(
                self.architecture, self.arguments, self.choices.start, batches, loss, self.choices.settings, validate,
                self.folder / name, part, f"{self.identity} {name}", self.team, self.device,
                count=parameters.networks,
            )  # fmt: skip
        states = [one.state for one in trained]
        outcome.states += states
        outcome.trained.append(trained)
        if unseen:
            logits = None
            if self.team.leads:
                network = network_of(self.architecture, self.arguments, states, self.device)
                with context.part(0.97, 1.0) as part:
                    logits = parts.logits_of(network, unseen, self.preparation.loaded, dimensions, self.device, part)
            logits = self.team.agreed(logits)
            outcome.judged.append(parts.Judged(tuple(c.case for c in unseen), logits, truth))

    def _package(self, outcome: Outcome, ready) -> SimpleNamespace:
        from ..classify.diagnosis import Diagnosis
        from ..core.model_package import DIAGNOSIS

        diagnosis = Diagnosis(self.classes)
        if outcome.judged:
            logits = np.concatenate([j.logits for j in outcome.judged])
            truth = np.concatenate([j.truth for j in outcome.judged])
            if len(np.unique(truth)) == len(self.classes):
                # Scores of cases that their network had not seen: what a new case will be like.
                diagnosis = Diagnosis.fitted(logits, truth, self.classes, "temperature")
        tested = self._tested(outcome, ready)
        summary, metrics = self._summary(outcome, ready, tested)
        card = model_card(
            self.parameters.name, "classification", self.plan, self.plan.patch, self.architecture, self.arguments,
            self.classes, summary,
        )  # fmt: skip
        path, states = self.folder / "model", outcome.states
        if self.team.leads and not path.exists():
            files = {DIAGNOSIS: self._with_known(diagnosis, states, ready).to_bytes()}
            ModelPackage.create(path, card, states if len(states) > 1 else states[0], files)
        self.team.agreed(None)
        package = ModelPackage.load(path)
        self.context.used_model(f"{card.id} {card.version}", package.card.weights_sha256)
        return SimpleNamespace(
            metrics=metrics, histories=outcome.histories, report=report(package.card, summary), package=path,
            judged=outcome.judged,
        )  # fmt: skip

    def _with_known(self, diagnosis, states, ready):
        """The diagnosis with what the networks see of cases that they learnt from, as evidence for later answers."""
        from ..classify.classifier import with_embedding
        from ..classify.known import chosen, with_known

        if self.parameters.known_cases == "none":
            return diagnosis
        learnt = np.unique(np.concatenate([np.r_[kept, out] for kept, out in self.divided.rounds]))
        cases, truth = self._there(ready, learnt)
        picked = chosen(truth, len(self.classes), self.context.seed)
        cases, truth = [cases[n] for n in picked], truth[picked]
        seen = []
        for number, state in enumerate(states):
            network = network_of(self.architecture, self.arguments, [state], self.device)
            with self.context.part(
                0.98 + 0.02 * number / len(states), 0.98 + 0.02 * (number + 1) / len(states)
            ) as part:
                batches = parts.image_batches(
                    cases, self.preparation.loaded, self.plan.dimensions, self.device, part
                )  # fmt: skip
                seen.append(np.concatenate([with_embedding(network, batch)[1] for batch in batches]))
        names = [c.case.id for c in cases]
        return with_known(diagnosis, np.concatenate(seen, axis=1), truth, names, self.parameters.known_cases)

    def _tested(self, outcome, ready):
        """The test part of the data set, judged by all networks that are kept."""
        cases, truth = self._there(ready, self.divided.test)
        if not cases:
            return None
        network = network_of(self.architecture, self.arguments, outcome.states, self.device)
        logits = parts.logits_of(network, cases, self.preparation.loaded, self.plan.dimensions, self.device)
        return parts.Judged(tuple(c.case for c in cases), logits, truth)

    def _summary(self, outcome: Outcome, ready, tested) -> tuple[Summary, Table]:
        found, by_round, rows = {}, {}, {"figure": [], "part": [], "value": [], "from": [], "to": []}
        for label, group in (("held out", outcome.judged), ("test", [tested] if tested else [])):
            if not group:
                continue
            p = parts.probabilities(np.concatenate([j.logits for j in group]))
            truth = np.concatenate([j.truth for j in group])
            patients = [c.patient for j in group for c in j.cases]
            for name in parts.FIGURES:
                value = with_interval(
                    lambda w, n=name, q=p, t=truth: parts.figures(q, t, w, (n,))[n], patients, self.context
                )
                found[name if label == "held out" else f"{name}, test part"] = value
                _add(rows, name, label, value)
        for number, judged in enumerate(outcome.judged, start=1):
            each = parts.figures(parts.probabilities(judged.logits), judged.truth)
            for name, value in each.items():
                by_round.setdefault(name, []).append(value)
                _add(rows, name, f"fold {number}", (value, np.nan, np.nan))
        used = list(ready.values())
        numbers = self._there(ready, range(len(self.cases)))[1]
        counts = ", ".join(f"{name} {int((numbers == n).sum())}" for n, name in enumerate(self.classes))
        shape = "×".join(str(n) for n in self.plan.patch[::-1])
        count = sum(len(j.cases) for j in outcome.judged)
        chosen = ", and chose when to stop" if self.choices.settings.keep_best else ""
        limits = f"Only images of the kind it was trained on ({self.plan.inputs[0].modality})."
        if len(used) < 1000:
            limits += f" Few cases ({len(used)}): other scanners, ages and diseases were hardly seen."
        if not count:
            limits += " Nothing was held out, so how good it is on new cases is unknown."
        summary = Summary(
            origin_name(self.collection), len(used), len({c.case.patient for c in used}),
            data_hash(c.case.content_hash(False) for c in used),
            f"Classes: {counts}; images of {shape} voxels.", found, by_round,
            f"{count} cases that the network judged had not seen{chosen}" if count else "no case", limits,
        )  # fmt: skip
        columns = {k: tuple(v) if k in ("figure", "part") else np.array(v, float) for k, v in rows.items()}
        return summary, Table(columns, "Figures")


def _add(rows, name, part, value):
    for key, item in zip(rows, (name, part, *value)):
        rows[key].append(item)


def size_of(text: str) -> tuple[int, int, int]:
    """(i, j, k) voxels from "224 224" or "96×96×64"; zeros for an empty text.

    Raises
    ------
    InputError
        If it is anything else.
    """
    words = text.replace("×", " ").replace("x", " ").replace(",", " ").split()
    try:
        numbers = [int(w) for w in words]
    except ValueError:
        numbers = [-1]
    if not words:
        return (0, 0, 0)
    if len(numbers) not in (2, 3) or min(numbers) < 1 or max(numbers) > 4096:
        raise InputError(f"Image size: '{text[:40]}' is not two or three numbers of voxels.")
    return tuple((*numbers, 1)[:3])
