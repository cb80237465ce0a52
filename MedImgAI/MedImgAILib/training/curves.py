"""Losses and scores as TensorBoard files, where the package tensorboard is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class Curves:
    """Writes below ``folder/tensorboard``; does nothing without a folder or without TensorBoard.

    Parameters
    ----------
    folder : Path, optional
    step : int
        From which the training goes on; what was written beyond it is hidden.
    """

    def __init__(self, folder: Path | None, step: int = 0):
        self._writer = None
        if folder is not None and importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def add(self, row: dict):
        """The numbers of one validation; ``row["step"]`` is their place."""
        if self._writer is None:
            return
        for name, value in row.items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self):
        if self._writer is not None:
            self._writer.close()
