"""How the loop trains."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to train.

    Parameters
    ----------
    steps : int
        Updates of the weights in all.
    batch : int
        Samples of one update, over all processes.
    portions : int
        In how many portions a batch is computed, one after the other (gradient accumulation).
    rate : float
        Highest learning rate.
    optimizer : "adamw" or "sgd"
        AdamW (Loshchilov & Hutter 2019, ICLR), or SGD with Nesterov's momentum 0.99 as nnU-Net uses.
    weight_decay : float
        Of all weights but biases and normalisation.
    schedule, warmup
        See :func:`.schedules.rate_factor`.
    average : float
        Decay of the moving average of the weights that is validated and kept; 0 for none.
    clip : float
        Longest gradient; 0 for any.
    precision : "auto", "full" or "half"
        Half: bfloat16, or float16 with scaled loss on older graphics cards. Auto: half where the device is faster so.
    validate_every : int
        Steps between validations.
    patience : int
        Validations without a better score after which training ends; 0 for never.
    keep_best : bool
        Whether the weights of the best validation are kept, which makes its score a little too good; else the last.
    save_every_s : float
        Longest time between checkpoints; each validation writes one, too.
    workers : int
        Threads that make batches.
    seed : int
    """

    steps: int = 1000
    batch: int = 2
    portions: int = 1
    rate: float = 1e-3
    optimizer: str = "adamw"
    weight_decay: float = 1e-2
    schedule: str = "one_cycle"
    warmup: int = 0
    average: float = 0.99
    clip: float = 12.0
    precision: str = "auto"
    validate_every: int = 100
    patience: int = 0
    keep_best: bool = False
    save_every_s: float = 120.0
    workers: int = 1
    seed: int = 0
