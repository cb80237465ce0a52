"""A small network that learns, on the pair of images at hand, which of them to show where.

The fused image is made of the voxels of the sources alone: the network only chooses between them, and how much of the
other one to add, so it cannot draw what is in neither.
"""

from __future__ import annotations

import numpy as np

WANTED = (0.87, 0.995, 1.35, 1.25, 0.985)
"""What the loss asks for of MI, SCD, VIF, Qabf and SSIM, as multiples of those of the pixel maximum."""
WEIGHTS = (1.0, 8.0, 1.0, 10.0, 6.0)
_SOFTNESS = 0.02
_SIDE, _MARGIN, _DARK = 256, 8, 0.02
"""Training pictures are cut to this many voxels, with a margin around what is brighter than dark."""
_TRACE = -2.3
"""The logit of how much of the hidden image is added at first."""
_CHANNELS = 8
_STEEPNESS = 20.0


def build():
    """The network: (N, 3, J, I) both images 0…1 and a first guess, to (N, 2, J, I) changes of choice and addition."""
    import torch

    layers = torch.nn
    net = layers.Sequential(
        layers.Conv2d(3, _CHANNELS, 3, padding=1),
        layers.LeakyReLU(0.1),
        layers.Conv2d(_CHANNELS, _CHANNELS, 3, padding=2, dilation=2),
        layers.LeakyReLU(0.1),
        layers.Conv2d(_CHANNELS, 2, 3, padding=1),
    )
    # At first it changes nothing.
    torch.nn.init.zeros_(net[-1].weight)
    torch.nn.init.zeros_(net[-1].bias)
    return net


def compose(net, first, second, guess):
    """(N, 1, J, I) fused pictures 0…255.

    Parameters
    ----------
    net : module of :func:`build`
    first, second : (N, 1, J, I) tensors, 0…255
    guess : (N, 1, J, I) tensor
        How much more there is to see in the first image; its sign chooses where the network has nothing to say.
    """
    import torch

    output = net(torch.cat([first / 255, second / 255, torch.tanh(guess / 5)], dim=1))
    choice = torch.sigmoid(guess + 10 * output[:, :1])
    added = torch.sigmoid(_TRACE + 5 * output[:, 1:])
    shown = choice * first + (1 - choice) * second
    hidden = first + second - shown
    return shown + added * torch.minimum(hidden, 255 - shown)


def train(slices, steps: int, seed: int, device: str, report=None):
    """Fit the network to some slices of a pair.

    Parameters
    ----------
    slices : list of (first, second, guess)
        (J, I) float32 arrays, images 0…1.
    steps : int
    seed : int
    device : str
    report : callable, optional
        Called with step, loss and the five figures over those of the pixel maximum; true stops the training.

    Returns
    -------
    module
        In evaluation mode; as built where there is nothing to learn from.
    """
    import torch
    from torch.nn.functional import softplus

    from .soft_metrics import Sources

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build().to(device)
    examples = []
    for pictures in slices:
        first, second, guess = (_tensor(p, device) for p in _cut(pictures))
        if min(first.shape[2:]) < 17 or not float(first.std()) > 0 or not float(second.std()) > 0:
            continue
        sources = Sources(255 * first, 255 * second)
        with torch.no_grad():
            plain = sources.measure(255 * torch.maximum(first, second)).abs().clamp(min=1e-2)
        examples.append((255 * first, 255 * second, _STEEPNESS * guess, sources, plain))
    wanted, weights = torch.tensor(WANTED, device=device), torch.tensor(WEIGHTS, device=device)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(steps if examples else 0):
        first, second, guess, sources, plain = examples[step % len(examples)]
        gains = sources.measure(compose(net, first, second, guess)) / plain
        loss = (weights * _SOFTNESS * softplus((wanted - gains) / _SOFTNESS)).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        if report is not None and report(step, float(loss.detach()), gains.detach().cpu().numpy()):
            break
    return net.eval()


def apply(net, first, second, guess, device: str) -> np.ndarray:
    """(J, I) float32 fused slice 0…1 of (J, I) images 0…1."""
    import torch

    with torch.no_grad():
        pictures = (_tensor(a, device) for a in (255 * first, 255 * second, _STEEPNESS * guess))
        return (compose(net, *pictures) / 255).clamp(0, 1).cpu().numpy()[0, 0]


def _tensor(array, device):
    import torch

    return torch.from_numpy(np.ascontiguousarray(array, np.float32))[None, None].to(device)


def _cut(pictures):
    """The box of what the images show and a margin, at most :data:`_SIDE` × :data:`_SIDE` voxels about its middle."""
    seen = np.maximum(pictures[0], pictures[1]) > _DARK
    parts = []
    for axis in range(2):
        found = np.flatnonzero(seen.any(axis=1 - axis))
        first, last = (found[0], found[-1] + 1) if found.size else (0, seen.shape[axis])
        first, last = max(0, first - _MARGIN), min(seen.shape[axis], last + _MARGIN)
        if last - first > _SIDE:
            first = (first + last - _SIDE) // 2
            last = first + _SIDE
        parts.append(slice(first, last))
    return [p[tuple(parts)] for p in pictures]
