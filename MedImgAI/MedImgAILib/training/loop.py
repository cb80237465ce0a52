"""The training loop of all networks.

Everything random is a function of the seed and the number of the step, and a checkpoint holds all that is not, so that
a training that was killed and resumed ends with the same weights, bit for bit on the CPU, as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from ..core import Context, OutputError
from .averaging import MovingAverage
from .checkpoints import LAST, NotFiniteError, TrainingError, load_state, save_state
from .curves import Curves
from .distributed import Team
from .loading import Batch, prefetched
from .optimization import half_precision, optimizer_for, trained_parameters, training_mode
from .schedules import rate_factor
from .settings import Settings

SCORE = "score"
"""Key of the number among those of a validation that shall be large."""


@dataclass(eq=False)
class Trained:
    """What :func:`train` gives.

    Parameters
    ----------
    state : dict
        ``{name: tensor}`` of the end, or with ``keep_best`` of the best validation.
    history : list of dict
        One entry for each validation: step, loss, rate and what the validation gave.
    best_step : int
        The step they are of.
    ended : "steps", "patience" or "user"
    """

    state: dict
    history: list = field(default_factory=list)
    best_step: int = 0
    ended: str = "steps"


def train(
    network,
    batch: Callable[[list[int]], Batch],
    loss: Callable,
    settings: Settings,
    validate: Callable | None = None,
    folder: Path | None = None,
    context: Context | None = None,
    identity: str = "",
    team: Team | None = None,
    device: str | None = None,
    teacher: Callable | None = None,
) -> Trained:
    """Train a network.

    Parameters
    ----------
    network : torch.nn.Module
        Parameters that require no gradient stay as they are.
    batch : callable
        Makes a :class:`Batch` of the sample numbers it is given, a pure function of them; called from threads.
    loss : callable
        ``loss(output, targets)`` gives a scalar tensor, a mean over the samples.
    settings : Settings
    validate : callable, optional
        ``validate(network)`` gives ``{name: number}`` with the key "score", of which more is better.
    folder : Path, optional
        For checkpoints. If it holds one of the same ``identity``, training goes on from there.
    context : Context, optional
        Told of progress and curves ("Loss/training", …), asked about cancel and early end.
    identity : str
        What distinguishes this training (data, settings, network).
    team, device
        As :func:`.distributed.team` gives them; default is this process alone, on the context's device.
    teacher : callable, optional
        ``teacher(inputs)``; its answers are the third argument of the loss.

    Returns
    -------
    Trained
        The network itself is left with the weights of the last step.

    Raises
    ------
    TrainingError
        If the loss or the weights are not finite, or the checkpoint is of another training.
    OutputError
        If a checkpoint cannot be written; the one before it is unchanged.
    """
    import torch

    context = context or Context()
    with torch.random.fork_rng(enabled=True):
        loop = _Loop(network, batch, loss, settings, validate, folder, context, identity, team or Team(), device)
        loop.teacher = teacher
        return loop.run()


class _Loop:
    def __init__(self, network, batch, loss, settings, validate, folder, context, identity, team, device):
        import torch

        self.settings, self.team, self.context, self.identity = settings, team, context, identity
        self.device = device or context.device
        self.network = network.to(self.device)
        self.batch, self.loss, self.validate = batch, loss, validate
        self.teacher = None
        self.folder = Path(folder) if folder is not None else None
        if settings.batch % (team.size * settings.portions):
            raise TrainingError(
                f"A batch of {settings.batch} cannot be shared evenly by {team.size} processes with "
                f"{settings.portions} portions each; choose another batch size."
            )
        self.optimizer = optimizer_for(network, settings)
        self.half, scaled = half_precision(settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.partition(":")[0], enabled=scaled)
        self.average = MovingAverage(network, settings.average) if settings.average else None
        self.step, self.loss_sum, self.loss_count = 0, 0.0, 0
        self.history: list[dict] = []
        self.best_score, self.best_step, self.waited = -math.inf, 0, 0
        self.ended = ""
        self._resume()
        self.wrapped = team.wrap(self.network, self.device)
        self.curves = Curves(self.folder if team.leads else None, self.step)
        self.saved_at = time.monotonic()

    def run(self) -> Trained:
        settings = self.settings
        batches = prefetched(self._batches, range(self.step, settings.steps), settings.workers)
        try:
            while self.step < settings.steps and not self.ended:
                self._update(next(batches))
                self._after_update()
        finally:
            batches.close()
            self.curves.close()
        state = self._best_state()
        return Trained(state, self.history, self.best_step, self.ended or "steps")

    # One step

    def _batches(self, step: int) -> list[Batch]:
        """This process's portions of a step."""
        settings = self.settings
        samples = list(range(step * settings.batch, (step + 1) * settings.batch))[self.team.rank :: self.team.size]
        size = len(samples) // settings.portions
        return [self.batch(samples[n : n + size]) for n in range(0, len(samples), size)]

    def _update(self, portions: list[Batch]):
        import torch

        settings = self.settings
        torch.manual_seed(((settings.seed * 1_000_003 + self.step) * 1009 + self.team.rank) % (1 << 63))
        training_mode(self.network)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate * rate_factor(settings.schedule, self.step, settings.steps, settings.warmup)
        total = 0.0
        for number, portion in enumerate(portions):
            last = number == len(portions) - 1
            with nullcontext() if last else self.team.without_exchange(self.wrapped):
                value = self._forward(portion) / len(portions)
                self.scaler.scale(value).backward()
            total += value.item()
        self._check_loss(total, portions)
        if settings.clip:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(trained_parameters(self.network), settings.clip, foreach=True)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.network)
        self.step += 1
        self.loss_sum, self.loss_count = self.loss_sum + total, self.loss_count + 1

    def _forward(self, portion: Batch):
        import torch

        inputs = portion.inputs.to(self.device, non_blocking=True)
        targets = portion.targets.to(self.device, non_blocking=True)
        kind = self.device.partition(":")[0]
        with torch.autocast(kind, self.half, enabled=self.half is not None):
            answers = (self.teacher(inputs),) if self.teacher is not None else ()
            output = self.wrapped(inputs)
        return self.loss(output, targets, *answers)

    def _check_loss(self, value: float, portions: list[Batch]):
        finite = math.isfinite(value)
        if self.team.size > 1:
            finite = math.isfinite(self.team.mean(value))
        if finite:
            return
        bad = [
            name
            for portion in portions
            for name, image in zip(portion.names, portion.inputs)
            if not bool(image.isfinite().all())
        ]
        why = f"the image of '{bad[0]}' is not finite" if bad else "try a lower learning rate or full precision"
        error = TrainingError if bad else NotFiniteError
        raise error(f"The loss is not a number at step {self.step + 1} ({why}){self._kept()}.")

    def _kept(self) -> str:
        path = self.folder / LAST if self.folder else None
        return f"; the last good checkpoint is kept in {path}" if path and path.exists() else ""

    # Between steps

    def _after_update(self):
        settings, context = self.settings, self.context
        done = self.step >= settings.steps
        wants_end, late = False, False
        if self.team.leads:
            context.progress(self.step / settings.steps, f"Step {self.step} of {settings.steps}")
            wants_end = context.finish_early
            late = time.monotonic() - self.saved_at > settings.save_every_s
        wants_end, late = self.team.agreed((wants_end, late))
        if wants_end:
            self.ended = "user"
        if done or wants_end or self.step % settings.validate_every == 0:
            self._validate()
            self._save()
        elif late:
            self._save()

    def _validate(self):
        mean = self.team.mean(self.loss_sum / max(self.loss_count, 1))
        self.loss_sum, self.loss_count = 0.0, 0
        row = {"step": self.step, "loss": mean, "rate": self.optimizer.param_groups[0]["lr"]}
        if self.validate is not None:
            row |= self.team.agreed(self._scores() if self.team.leads else None)
        self.history.append(row)
        score = row.get(SCORE, float(self.step))
        better = score > self.best_score
        self.waited = 0 if better else self.waited + 1
        self.best_score = max(score, self.best_score)
        if better or not self.settings.keep_best:
            self.best_step = self.step
        if self.settings.patience and self.waited >= self.settings.patience and not self.ended:
            self.ended = "patience"
        if self.team.leads:
            self.context.curve("Loss/training", self.step, mean)
            for name in row.keys() - {"step", "loss", "rate"}:
                self.context.curve(f"Validation/{name}", self.step, row[name])
            self.curves.add(row)

    def _scores(self) -> dict:
        import torch

        self.network.eval()
        own = None
        if self.average:
            own = {name: value.clone() for name, value in self.network.state_dict().items()}
            self.network.load_state_dict(self.average.state)
        try:
            with torch.inference_mode():
                scores = {name: float(value) for name, value in self.validate(self.network).items()}
        finally:
            if own is not None:
                self.network.load_state_dict(own)
        if not math.isfinite(scores[SCORE]):
            raise NotFiniteError(f"The score of the validation is not a number at step {self.step}{self._kept()}.")
        return scores

    # What is kept

    def _present_state(self) -> dict:
        state = self.average.state if self.average else self.network.state_dict()
        return {name: value.detach().cpu().clone() for name, value in state.items()}

    def _save(self):
        import torch

        state = self._present_state()
        for name, value in state.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NotFiniteError(f"The weights '{name}' are not finite at step {self.step}{self._kept()}.")
        if self.best_step == self.step:
            self.best = state
        if self.folder is None or not self.team.leads:
            return
        try:
            if self.best_step == self.step:
                save_state(self._best_path(), {"state": state})
            save_state(
                self.folder / LAST,
                {
                    "identity": self.identity,
                    "step": self.step,
                    "network": self.network.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "average": self.average.state_dict() if self.average else None,
                    "loss": (self.loss_sum, self.loss_count),
                    "history": self.history,
                    "best": (self.best_score, self.best_step, self.waited),
                    "ended": self.ended,
                },
            )
        except OutputError:
            if not (self.folder / LAST).exists() and self.best_step == self.step:
                self._best_path().unlink(missing_ok=True)
            raise
        for path in self.folder.glob("best-*.pt"):
            if path != self._best_path():
                path.unlink(missing_ok=True)
        self.saved_at = time.monotonic()

    def _best_path(self) -> Path:
        return self.folder / f"best-{self.best_step:08d}.pt"

    def _best_state(self) -> dict:
        if getattr(self, "best", None) is None:
            self.best = load_state(self._best_path())["state"] if self.folder else self._present_state()
        return self.best

    def _resume(self):
        if self.folder is None or not (self.folder / LAST).exists():
            return
        state = load_state(self.folder / LAST)
        if state["identity"] != self.identity:
            raise TrainingError(
                f"The folder {self.folder} holds a training of other data or settings; choose another folder, or let "
                "it be replaced."
            )
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.step, self.history, self.ended = state["step"], state["history"], state["ended"]
        self.loss_sum, self.loss_count = state["loss"]
        self.best_score, self.best_step, self.waited = state["best"]
        if self.team.leads:
            self.context.log(f"Going on after step {self.step}.")
            for row in self.history:
                self.context.curve("Loss/training", row["step"], row["loss"])
