"""Low-rank fine-tuning: W + (α / r) B A with small trained A and B beside a frozen W (Hu et al. 2022, ICLR)."""

from __future__ import annotations


def add_low_rank(network, rank: int = 8, alpha: float | None = None):
    """Freeze a network and give each linear and convolutional layer a trained addition of low rank.

    The additions begin at 0, so that the network's output is unchanged. The layers keep their names in the state, which
    gains ``….parametrizations.weight.…``; :func:`merge_low_rank` takes them away again.

    Parameters
    ----------
    network : torch.nn.Module
    rank : int
        At most the smaller side of each layer's weight, seen as a matrix (outputs × everything else).
    alpha : float, optional
        Scale; ``rank`` (a factor of 1) if not given.
    """
    import torch
    from torch.nn.utils import parametrize

    class LowRank(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            rows, columns = weight.shape[0], weight[0].numel()
            r = min(rank, rows, columns)
            self.scale = (alpha or r) / r
            self.a = torch.nn.Parameter(torch.empty(r, columns, device=weight.device))
            self.b = torch.nn.Parameter(torch.zeros(rows, r, device=weight.device))
            torch.nn.init.kaiming_uniform_(self.a, a=5**0.5)

        def forward(self, weight):
            return weight + self.scale * (self.b @ self.a).reshape(weight.shape)

    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for module in low_rank_layers(network):
        addition = LowRank(module.weight)
        parametrize.register_parametrization(module, "weight", addition)


def merge_low_rank(network):
    """Put the additions into the weights; the network is then of its plain form again and gives the same output."""
    from torch.nn.utils import parametrize

    for module in low_rank_layers(network):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def low_rank_layers(network) -> list:
    """The layers whose weight is at least a matrix with more than one row and column."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    found = [m for m in network.modules() if isinstance(m, kinds)]
    return [m for m in found if m.weight.shape[0] > 1 and m.weight[0].numel() > 1]
