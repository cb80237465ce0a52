"""Exponential moving average of a network's weights (Polyak & Juditsky 1992, SIAM J Control Optim 30:838)."""

from __future__ import annotations


class MovingAverage:
    """A running mean of all floating-point entries of a network's state; others are copied.

    Parameters
    ----------
    network : torch.nn.Module
    decay : float
        Share that the old mean keeps at each step; smaller in the first steps, (1 + n) / (10 + n), so that the
        starting weights are soon forgotten.
    """

    def __init__(self, network, decay: float = 0.999):
        self.decay, self.updates = float(decay), 0
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def update(self, network):
        """Take the network's present weights in."""
        import torch

        self.updates += 1
        share = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        means, values = [], []
        with torch.no_grad():
            for name, value in network.state_dict().items():
                mean = self.state[name]
                if mean.is_floating_point():
                    means.append(mean)
                    values.append(value.detach().to(mean.dtype))
                else:
                    mean.copy_(value)
            torch._foreach_lerp_(means, values, share)  # all at once: one by one it costs more than the computing

    def state_dict(self) -> dict:
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, state: dict):
        self.updates = int(state["updates"])
        for name, value in state["state"].items():
            self.state[name].copy_(value)
