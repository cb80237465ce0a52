"""A training as a whole, for either purpose: parts, one network for each fold, figures with intervals."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ..core import Context, InputError, OutputError
from ..core.model_networks import build, combined
from ..core.model_package import ModelPackage
from .distributed import Team
from .exclusive import LOCK, alone_in
from .loop import Settings, Trained, train
from .lora import merge_low_rank
from .splits import check_apart, folds, given_parts, holdout
from .transfer import freeze, start_from

RESAMPLES = 1000
MARK = "training.json"


@dataclass(frozen=True)
class Parts:
    """Positions of the cases: for each network what it learns from and what judges it, and the test part."""

    rounds: tuple[tuple[np.ndarray, np.ndarray], ...]
    test: np.ndarray


@dataclass(frozen=True)
class Start:
    """Where the weights come from and what is trained of them."""

    package: ModelPackage | None = None
    tuning: str = "all"
    rank: int = 8


@dataclass(eq=False)
class Outcome:
    """What the rounds gave.

    Parameters
    ----------
    states : list of dict
        Weights of each network.
    trained : list of list of Trained
        The networks of each round.
    unseen : list
        For each round its states and the cases that judge them.
    judged : list
        What ``evaluate`` gave for each round.
    """

    states: list = field(default_factory=list)
    trained: list = field(default_factory=list)
    unseen: list = field(default_factory=list)
    judged: list = field(default_factory=list)

    @property
    def stopped(self) -> bool:
        """Whether the user ended the last training early."""
        return self.trained[-1][-1].ended == "user"

    @property
    def histories(self) -> list:
        """For each round and each of its networks the validations."""
        return [[network.history for network in trained] for trained in self.trained]


def parts_of(cases, classes, count: int, share: float, seed: int) -> Parts:
    """The rounds of a training: as the data set says, or ``count`` folds, or one with a share held out.

    With a single patient nothing can be held out, and the only round has no validation.

    Raises
    ------
    InputError
        If a patient stands on both sides of a given split, or there are fewer patients than folds.
    """
    given = given_parts(cases)
    test = given.get("test", np.zeros(0, np.int64))
    rest = np.setdiff1d(np.arange(len(cases)), test)
    if not len(rest):
        raise InputError("All cases belong to the test part, so there is nothing to learn from.")
    patients = [cases[n].patient for n in rest]
    kinds = [classes[n] for n in rest]
    if count > 1:
        outs = [rest[f] for f in folds(patients, kinds, count, seed)]
        rounds = [(np.setdiff1d(rest, out), out) for out in outs]
    elif "validation" in given:
        rounds = [(given.get("train", np.zeros(0, np.int64)), given["validation"])]
        if not len(rounds[0][0]):
            raise InputError("No case belongs to the training part of the data set.")
    elif len(set(patients)) < 2:
        rounds = [(rest, np.zeros(0, np.int64))]
    else:
        kept, out = holdout(patients, kinds, share, seed)
        rounds = [(rest[kept], rest[out])]
    for kept, out in rounds:
        check_apart(*([cases[n].patient for n in part] for part in (kept, out, test)))
    return Parts(tuple(rounds), test)


class Folder:
    """The folder of a training: ``cache``, ``fold_1``, …, ``tensorboard`` in each, ``model`` at the end.

    Parameters
    ----------
    path : Path
    identity : str
        What distinguishes this training from others.
    replaces : bool
        Whether another training there may be deleted.
    """

    def __init__(self, path: Path, identity: str, replaces: bool):
        self.path, self.identity, self.replaces = Path(path), identity, replaces
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path} is a file; give a folder for the training.")
        held = self._held()
        if held is None and self.path.exists() and any(entry.name != LOCK for entry in self.path.iterdir()):
            raise OutputError(f"The folder {self.path} holds something else; give an empty folder for the training.")
        if held is not None and held != identity and not replaces:
            raise OutputError(
                f"The folder {self.path} holds a training of other data or settings; choose another folder, or let it "
                "be replaced."
            )

    def _held(self) -> str | None:
        try:
            return json.loads((self.path / MARK).read_text(encoding="utf-8"))["identity"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"The file {self.path / MARK} is damaged; delete the folder or choose another."
            ) from error

    def held(self, leads: bool):
        """Hold it while the training runs; of several processes that train together the leading one does."""
        return alone_in(self.path) if leads else nullcontext()

    def open(self, record: dict):
        """Create it, or empty it if it shall be replaced; the cache stays."""
        from .checkpoints import write_atomically

        if self.path.exists() and self.replaces and self._held() is not None:
            for entry in [*self.path.glob("fold_*"), self.path / "all", self.path / "model"]:
                shutil.rmtree(entry, ignore_errors=True)  # what cannot be deleted is refused when it is written
        content = json.dumps({"identity": self.identity, **record}, indent=2, default=str).encode()
        write_atomically(self.path / MARK, content)

    def __truediv__(self, name: str) -> Path:
        return self.path / name


def identity_of(*parts) -> str:
    """A hash of everything that decides the outcome."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()


def data_hash(keys) -> str:
    """A hash of the data set: of its cases' hashes, whatever their order."""
    return hashlib.sha256("".join(sorted(keys)).encode()).hexdigest()


def run_round(
    architecture, arguments, start: Start, batches, loss, settings: Settings, validate, folder: Path, context: Context,
    identity: str, team: Team, device: str, teacher=None, count: int = 1,
) -> list[Trained]:  # fmt: skip
    """Train ``count`` networks from the given start, with one seed after the other; fewer if the user ends it early.

    Parameters
    ----------
    batches : callable
        ``batches(seed)`` gives what makes a network's batches.
    folder : Path
        Of the checkpoints; of several networks each has a folder of its own in it.
    """
    done = []
    for number in range(count):
        own, place, name = replace(settings, seed=settings.seed + number), folder, identity
        if count > 1:
            place, name = folder / f"network_{number + 1}", f"{identity} network {number + 1}"
        with context.part(number / count, (number + 1) / count) as part:
            trained = _run_one(
                architecture, arguments, start, batches(own.seed), loss, own, validate, place, part, name, team, device,
                teacher,
            )  # fmt: skip
        done.append(trained)
        if done[-1].ended == "user":
            break
    return done


def _run_one(
    architecture, arguments, start, batch, loss, settings, validate, folder, context, identity, team, device, teacher
) -> Trained:
    """Train one network; its state is of the plain architecture whatever was tuned."""
    import torch

    torch.manual_seed(settings.seed)
    network = build(architecture, arguments)
    if start.package is not None:
        start_from(network, start.package, context)
    freeze(network, start.tuning, start.rank)
    done = train(network, batch, loss, settings, validate, folder, context, identity, team, device, teacher)
    if start.tuning != "lora":
        return done
    network.load_state_dict(done.state)
    merge_low_rank(network.cpu())
    return replace(done, state={name: value.detach().clone() for name, value in network.state_dict().items()})


def network_of(architecture: str, arguments: dict, states: list, device: str):
    """The network with these weights, in evaluation mode; of several the mean, as a model package gives it."""
    networks = []
    for state in states:
        network = build(architecture, arguments)
        network.load_state_dict(state)
        networks.append(network.to(device).eval())
    return combined(networks)


def with_interval(figure, patients, context: Context, seed: int = 0) -> tuple[float, float, float]:
    """A figure and its 95 % bootstrap interval over patients.

    Parameters
    ----------
    figure : callable
        Of (n,) weights, how often each case counts.
    patients : sequence of n str
    """
    from ..evaluate.intervals import bootstrap, percentile_interval

    patients = np.asarray(patients)
    _, groups = np.unique(patients, return_inverse=True)
    value = float(figure(np.ones(len(patients))))
    if groups.max(initial=0) < 1:
        return value, float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = bootstrap(
        lambda w: {"figure": figure(w)}, len(patients), RESAMPLES, rng, groups, lambda _: context.check()
    )  # fmt: skip
    return value, *percentile_interval(drawn["figure"])


def settings_record(settings: Settings) -> dict:
    """The settings that decide the weights."""
    return {k: v for k, v in asdict(settings).items() if k not in ("save_every_s", "workers")}
