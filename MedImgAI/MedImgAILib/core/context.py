"""What a running task may ask of its surroundings: progress, cancel, log, device, random numbers."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import numpy as np

from .errors import Cancelled, ResourceError

logger = logging.getLogger("MedImgAI")

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(wanted: str) -> str:
    """The device to compute on: "auto" is CUDA, else Apple's MPS, else the CPU.

    Torch is asked only where it is installed already and something other than the CPU is wanted.

    Raises
    ------
    ResourceError
        If the wanted device is not there.
    """
    if wanted == "cpu":
        return "cpu"
    import importlib.util

    has_torch = importlib.util.find_spec("torch") is not None
    available = {"cpu"}
    if has_torch:
        import torch

        if torch.cuda.is_available():
            available.add("cuda")
        if torch.backends.mps.is_available():
            available.add("mps")
    if wanted == "auto":
        return next(d for d in ("cuda", "mps", "cpu") if d in available)
    if wanted not in available:
        why = "no such device was found" if has_torch else "PyTorch is not installed"
        raise ResourceError(f"The device '{wanted}' cannot be used because {why}; choose auto or cpu.")
    return wanted


class Context:
    """Handed to :meth:`Task.run`. This base reports to the log only; runners override the hooks.

    Parameters
    ----------
    device : str
        One of :data:`DEVICES`; :attr:`device` resolves it when a task first asks.
    seed : int
        Seeds :attr:`rng`; a task that uses torch seeds that with :attr:`seed`.
    """

    def __init__(self, device: str = "auto", seed: int = 0):
        self._wanted_device = device
        self._device: str | None = None
        self.seed = int(seed)
        self.rng = np.random.default_rng(self.seed)
        self.models: dict[str, str] = {}
        self.finished_early = False
        self._span = (0.0, 1.0)

    in_worker = False
    """Whether this is the worker process, the only place where isolated tasks may run."""

    # Hooks that a runner overrides

    def is_cancelled(self) -> bool:
        return False

    def on_progress(self, fraction: float, message: str):
        logger.debug("%3.0f %% %s", 100 * fraction, message)

    def on_log(self, level: int, message: str):
        logger.log(level, message)

    def on_curve(self, name: str, x: float, y: float):
        logger.debug("%s at %g: %g", name, x, y)

    def is_finishing(self) -> bool:
        return False

    # What tasks call

    @property
    def device(self) -> str:
        """The device to use: "cpu", "cuda" or "mps"."""
        if self._device is None:
            self._device = resolve_device(self._wanted_device)
        return self._device

    @property
    def device_used(self) -> str:
        """The device the task asked for, "cpu" if it never asked; recorded in the provenance."""
        return self._device or "cpu"

    def progress(self, fraction: float, message: str = ""):
        """Report the true fraction done (0…1) of the current :meth:`part` and stop here if cancelled.

        Raises
        ------
        Cancelled
        """
        self.check()
        start, stop = self._span
        self.on_progress(start + (stop - start) * min(max(float(fraction), 0.0), 1.0), message)

    def check(self):
        """Stop here if the user has cancelled.

        Raises
        ------
        Cancelled
        """
        if self.is_cancelled():
            raise Cancelled

    @contextmanager
    def part(self, start: float, stop: float):
        """Within the block, progress 0…1 counts as ``start``…``stop`` of the whole."""
        low, high = outer = self._span
        self._span = (low + (high - low) * start, low + (high - low) * stop)
        try:
            yield self
        finally:
            self._span = outer

    def curve(self, name: str, x: float, y: float):
        """Report one point of a curve that the user can watch: an objective, a loss, a metric.

        Parameters
        ----------
        name : str
            "chart" or "chart/curve": curves of the same chart share its axes, as "Loss/training" and "Loss/validation".
        x, y : float
            Such as iteration and value; a point that is not finite is not drawn.
        """
        self.on_curve(name, float(x), float(y))

    @property
    def finish_early(self) -> bool:
        """Whether the user wants what is there so far as the result; see :attr:`Task.can_finish_early`.

        Recorded in the provenance once the task has seen it.
        """
        if self.is_finishing():
            self.finished_early = True
        return self.finished_early

    def log(self, message: str):
        self.on_log(logging.INFO, message)

    def warn(self, message: str):
        """Tell the user something that does not stop the task, in one sentence."""
        self.on_log(logging.WARNING, message)

    def used_model(self, name: str, sha256: str):
        """Record in the provenance that a model took part."""
        self.models[name] = sha256
