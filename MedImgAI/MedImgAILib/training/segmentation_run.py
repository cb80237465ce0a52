"""The whole of a segmentation training: plan, prepare, one network for each fold, judge, write the package."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from ..core import InputError, ParameterError, Table
from ..core.model_networks import build
from ..core.model_package import ModelPackage
from . import segmentation as parts
from .cache import Preparation
from .cards import Summary, model_card, origin_name, report
from .decision import background_bias, best_shift, shifted
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
from .losses import effective_number_weights, segmentation_loss
from .networks import patch_for, segmentation_network
from .options import choices_of
from .planning import plan_patches
from .teaching import Teacher, taught
from .transfer import as_prepared

_DECIDING = (
    "network", "size", "modality", "folds", "networks", "correct_size", "held_out_percent", "loss", "class_weights",
    "balance", "foreground_percent", "augmentation", "teacher_share", "mirror", "multi_scale", "start", "tuning",
    "rank", "on_error",
)  # fmt: skip
"""Parameters beside the loop's settings that decide the weights."""


def train_segmentation(collection, parameters, context, steps: int, cache=None) -> SimpleNamespace:
    """Run a training; returns ``metrics``, ``histories``, ``report`` and ``package``.

    Parameters
    ----------
    collection : Collection
    parameters : namespace
        As :class:`.segmentation_task.TrainSegmentation` declares them.
    context : Context
    steps : int
        Where the parameters leave it open.
    cache : Path, optional
        Folder of prepared cases that several trainings share; by default a training has its own.
    """
    with team(context.device) as (members, device):
        run = _Run(collection, parameters, context, steps, members, device, cache)
        with run.folder.held(members.leads):
            return members.agreed(run.result())


class _Run:
    def __init__(self, collection, parameters, context, steps, members, device, cache):
        self.parameters, self.context, self.team, self.device = parameters, context, members, device
        with context.part(0.0, 0.04) as part:
            cases, facts, self.segments = parts.gather(collection, part, parameters.on_error)
        names = [f"image {n}" if len(facts[0]) > 1 else "image" for n in range(1, len(facts[0]) + 1)]
        modality = "" if parameters.modality == "auto" else parameters.modality
        self.plan = plan_patches(facts, names, [modality] * len(names), device)
        self.collection = collection
        self.channels = sum(i.channels for i in self.plan.inputs)
        self.patch = patch_for(parameters.network, self.plan)
        self.names = [s.name for s in self.segments]
        architecture = segmentation_network(
            parameters.network, self.plan, self.channels, len(self.names) + 1, parameters.size
        )
        self.flips = parts.flips_allowed(self.segments, self.plan.dimensions, parameters.mirror)
        axes = "kji"[3 - self.plan.dimensions :]
        self.mirrored = tuple(a for a, may in zip(axes, self.flips) if may and parameters.ask_mirrored)
        self.choices = choices_of(parameters, context.seed, self.plan.batch, steps)
        if self.choices.start.package is not None:
            self._like(self.choices.start.package.card)
            architecture = _as_package(self.choices.start.package, architecture)
        self.teacher, self.unlabelled = None, ()
        if parameters.teacher:
            self._learn_from(ModelPackage.load(parameters.teacher))
        self.architecture, self.arguments = architecture
        build(self.architecture, self.arguments)  # fails before anything is written
        self.divided = parts_of(
            cases, [""] * len(cases), parameters.folds, parameters.held_out_percent / 100, context.seed
        )
        self.identity = identity_of(
            [c.content_hash() for c in (*cases, *self.unlabelled)], repr(self.plan), self.names, self.architecture,
            self.arguments, settings_record(self.choices.settings), {n: getattr(parameters, n) for n in _DECIDING},
            self.choices.start.package and self.choices.start.package.card.weights_sha256,
            self.teacher and self.teacher.digests,
        )  # fmt: skip
        self.folder = Folder(parameters.folder, self.identity, parameters.existing == "replace")
        cache = cache or self.folder / "cache"
        self.preparation = Preparation(self.plan.inputs, self.names, cache, collection.segments)
        self.cases = cases
        self.shift = 0.0

    def _like(self, card):
        """Prepare the images and cut patches as the package does that the training starts from."""
        self.plan = as_prepared(self.plan, card)
        if card.inference.window is not None:
            self.patch = tuple(card.inference.window[::-1])

    def _learn_from(self, package):
        """Take a teacher and the cases without labels, prepared as the teacher wants them."""
        card = package.card
        plan = as_prepared(self.plan, card)
        if self.choices.start.package is not None and plan.inputs != self.plan.inputs:
            raise ParameterError(
                f"Learn from a model: '{card.title}' wants its images prepared otherwise than the model to start from."
            )
        self.plan = plan
        self.teacher = Teacher(package, self.names, self.patch, plan.dimensions, self.device)
        self.unlabelled = tuple(
            c for c in self.collection.cases if c.target is None and c.split not in ("validation", "test")
        )
        self.context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        self.context.log(f"{len(self.unlabelled)} cases without labels are learnt from '{card.title}'.")

    def result(self) -> SimpleNamespace:
        context = self.context
        if self.team.leads:
            self.folder.open({"plan": repr(self.plan), "seed": context.seed})
        self.team.agreed(None)
        with context.part(0.04, 0.1) as part:
            cases = (*self.cases, *self.unlabelled)
            ready = {c.case.id: c for c in self.preparation.all(cases, part, self.parameters.on_error)}
        outcome = Outcome()
        rounds = self.divided.rounds
        count = len(rounds) + (self.parameters.keep == "all")
        for number, (kept, out) in enumerate(rounds):
            with context.part(0.1 + 0.87 * number / count, 0.1 + 0.87 * (number + 1) / count):
                self._round(f"fold_{number + 1}", self._of(ready, kept), self._of(ready, out), outcome, ready)
            if outcome.stopped:
                break
        if self.parameters.keep == "all" and not outcome.stopped:
            with context.part(0.1 + 0.87 * (count - 1) / count, 0.97):
                everything = self._of(ready, np.unique(np.concatenate([np.r_[k, o] for k, o in rounds])))
                final = Outcome()
                self._round("all", everything, [], final, ready)
            outcome.states, outcome.trained = final.states, outcome.trained + final.trained
        self._judge(outcome)
        return self._package(outcome, ready)

    def _of(self, ready, places):
        return [ready[self.cases[n].id] for n in places if self.cases[n].id in ready]

    def _round(self, name, kept, out, outcome: Outcome, ready):
        """Train the networks of a round."""
        parameters, context = self.parameters, self.context
        if not any(case.places for case in kept):
            raise InputError("No case to learn from has a labelled voxel; correct the label images or the split.")
        # Of patients that judge the network it sees nothing, not even without labels.
        judges = {self.cases[n].patient for n in self.divided.test} | {c.case.patient for c in out}
        further = [ready[c.id] for c in self.unlabelled if c.id in ready and c.patient not in judges]
        loss = segmentation_loss(parameters.loss, class_weights=self._class_weights(kept))
        if self.teacher is not None:
            loss = taught(loss, parameters.teacher_share)

        def batches(seed):
            return parts.batches(
                kept + further, parameters.network, self.plan, self.patch, parameters, context, self.flips,
                self.preparation.loaded, seed,
            )  # fmt: skip

        validate = None
        if out:
            validate = parts.validation(
                out, self.preparation, self.plan, self.patch, self.names, self.device, self.mirrored,
                reduced=parameters.precision != "full",
            )  # fmt: skip
        trained = run_round(
            self.architecture, self.arguments, self.choices.start, batches, loss, self.choices.settings, validate,
            self.folder / name, context, f"{self.identity} {name}", self.team, self.device, self.teacher,
            parameters.networks,
        )  # fmt: skip
        states = [one.state for one in trained]
        outcome.states += states
        outcome.trained.append(trained)
        if out:
            outcome.unseen.append((states, out))

    def _judge(self, outcome: Outcome):
        """Judge the networks of each round together, with the background favoured as the other rounds want it."""
        found = None
        if self.team.leads:
            with self.context.part(0.97, 0.985) as part:
                bias, shifts, self.shift = self._shifts(outcome.unseen, part)
            found = []
            for number, ((states, out), shift) in enumerate(zip(outcome.unseen, shifts), start=1):
                network = self._network([shifted(state, bias, shift) for state in states])
                with self.context.part(
                    0.985 + 0.015 * (number - 1) / len(shifts), 0.985 + 0.015 * number / len(shifts)
                ) as part:
                    judged = parts.judge(
                        network, out, self.preparation, self.plan, self.patch, self.device, part, self.mirrored
                    )
                found.append((judged.cases, judged.dice))
            outcome.states = [shifted(state, bias, self.shift) for state in outcome.states]
        outcome.judged = self.team.agreed(found)

    def _shifts(self, unseen, context):
        """The bias to change, the shift for each round, chosen on the others, and the one for the package."""
        import torch

        plain = None, [0.0] * len(unseen), 0.0
        if len(unseen) < 2 or not self.parameters.correct_size:
            return plain
        window = self.patch[3 - self.plan.dimensions :]
        example = torch.zeros((1, self.channels, *window), device=self.device)
        bias = background_bias(self._network(unseen[0][0][:1]), example)
        if bias is None:
            self.context.log("This network ends without a bias; the size of what it finds is not corrected.")
            return plain
        overlaps = []
        for number, (states, out) in enumerate(unseen):
            with context.part(number / len(unseen), (number + 1) / len(unseen)) as part:
                overlaps.append(
                    parts.shift_overlaps(
                        self._network(states),
                        out,
                        self.preparation,
                        self.plan,
                        self.patch,
                        self.device,
                        part,
                        self.mirrored,
                    )  # fmt: skip
                )
        others = [np.concatenate(overlaps[:n] + overlaps[n + 1 :]) for n in range(len(overlaps))]
        return (
            bias, [best_shift(o, parts.mean_dice) for o in others],
            best_shift(np.concatenate(overlaps), parts.mean_dice),
        )  # fmt: skip

    def _network(self, states):
        return network_of(self.architecture, self.arguments, states, self.device)

    def _class_weights(self, cases):
        """Of the cross-entropy, if they are wanted."""
        if not self.parameters.class_weights:
            return None
        classes = len(self.names) + 1
        counts = sum(np.bincount(self.preparation.loaded(c).labels.ravel(), minlength=classes) for c in cases)
        # The effective number saturates; scaled so that the most frequent class counts as a few thousand.
        scale = max(1.0, counts.max() / 5000)
        return effective_number_weights(counts / scale)

    def _package(self, outcome: Outcome, ready) -> SimpleNamespace:
        test = self._of(ready, self.divided.test)
        states = outcome.states
        summary, metrics = self._summary(outcome, ready)
        card = model_card(
            self.parameters.name, "segmentation", self.plan, self.patch, self.architecture, self.arguments,
            self.segments, summary, self.mirrored,
        )  # fmt: skip
        path = self.folder / "model"
        if self.team.leads and not path.exists():
            ModelPackage.create(path, card, states if len(states) > 1 else states[0])
        self.team.agreed(None)
        package = ModelPackage.load(path)
        if test and self.team.leads:
            network = package.network(self.device)
            judged = parts.judge(
                network, test, self.preparation, self.plan, self.patch, self.device, self.context, self.mirrored
            )
            self.context.log(f"Mean Dice of the {len(test)} cases of the test part: {parts.mean_dice(judged.dice):.4f}")
        self.context.used_model(f"{card.id} {card.version}", package.card.weights_sha256)
        return SimpleNamespace(
            metrics=metrics, histories=outcome.histories, report=report(package.card, summary), package=path
        )  # fmt: skip

    def _summary(self, outcome: Outcome, ready) -> tuple[Summary, Table]:
        figures, by_round, rows = {}, {}, []
        judged_cases = [c for cases, _ in outcome.judged for c in cases]
        if judged_cases:
            dice = np.concatenate([d for _, d in outcome.judged])
            patients = [c.patient for c in judged_cases]
            figures["mean Dice"] = with_interval(lambda w: parts.mean_dice(dice, w), patients, self.context)
            by_round["mean Dice"] = [parts.mean_dice(d) for _, d in outcome.judged]
            for n, name in enumerate(self.names):
                column = dice[:, n : n + 1]
                figures[f"Dice of {name}"] = with_interval(
                    lambda w, c=column: parts.mean_dice(c, w), patients, self.context
                )
                by_round[f"Dice of {name}"] = [parts.mean_dice(d[:, n : n + 1]) for _, d in outcome.judged]
            for fold, (cases, values) in enumerate(outcome.judged, start=1):
                rows += [(fold, c.id, *v) for c, v in zip(cases, values)]
        columns = {"fold": np.array([r[0] for r in rows], float), "case": tuple(r[1] for r in rows)}
        for n, name in enumerate(self.names):
            columns[f"Dice {name}"] = np.array([r[2 + n] for r in rows], float)
        used = [c for c in ready.values() if c.case.target is not None]
        selected = ", and chose when to stop" if self.choices.settings.keep_best else ""
        judged_on = (
            f"{len(judged_cases)} cases that the network judged had not seen{selected}" if judged_cases else "no case"
        )
        shape = "×".join(str(n) for n in self.patch[::-1])
        summary = Summary(
            origin_name(self.collection), len(used), len({c.case.patient for c in used}),
            data_hash(c.case.content_hash(False) for c in used),
            f"Segments: {', '.join(self.names)}; patches of {shape} voxels.{self._taught_by(ready)}{self._corrected()}",
            figures, by_round, judged_on, _limits(self.plan, used, judged_cases, self.teacher is not None),
        )  # fmt: skip
        return summary, Table(columns, "Dice")

    def _corrected(self) -> str:
        if not self.shift:
            return ""
        return (
            f" {self.shift:+g} is added to the background's score, chosen on all folds' unseen cases; for the figures "
            "of a fold it was chosen on those of the others."
        )

    def _taught_by(self, ready) -> str:
        if self.teacher is None:
            return ""
        further = sum(c.case.target is None for c in ready.values())
        return f" Taught by '{self.teacher.title}', also on {further} cases without labels."


def _as_package(package, planned):
    """The package's own architecture with the planned number of channels, so that its weights fit."""
    name, arguments = package.card.architecture, dict(package.card.arguments)
    wanted = planned[1]
    for argument in ("in_channels", "out_channels"):
        if argument in arguments and argument in wanted:
            arguments[argument] = wanted[argument]
    if "classes" in arguments and "out_channels" in wanted:
        arguments["classes"] = wanted["out_channels"]
    return name, arguments


def _limits(plan, cases, judged, taught: bool) -> str:
    modality = plan.inputs[0].modality
    text = f"Only images of the kind it was trained on ({modality}"
    spacing = plan.inputs[0].spacing_mm
    text += f", about {' × '.join(f'{s:g}' for s in spacing)} mm)." if spacing and all(spacing) else ")."
    if len(cases) < 100:
        text += f" Few cases ({len(cases)}): other scanners, ages and diseases were hardly seen."
    if not judged:
        text += " Nothing was held out, so how good it is on new cases is unknown."
    if taught and judged:
        text += " If its teacher has learnt from cases that judged it, the figures are too good."
    return text
