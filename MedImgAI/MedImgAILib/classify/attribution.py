"""Which parts of an image a network's score depends on; for networks in two and three dimensions.

Every function takes one sample (1, C, …) and gives a map (…) of its size as a float32 array.
"""

from __future__ import annotations

import numpy as np

from ..core import ModelError

METHODS = {
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "occlusion": "Occlusion",
    "integrated_gradients": "Integrated gradients",
}
_MOST_AT_ONCE = 16


def spatial_layer(network, sample) -> str:
    """Name of the last module whose output still is an image: where class activation maps are best taken.

    Raises
    ------
    ModelError
        If there is none, as in a transformer.
    """
    import torch

    finished, handles = [], []

    def note(name):
        def hook(module, inputs, output):
            if isinstance(output, torch.Tensor) and output.ndim == sample.ndim and max(output.shape[2:]) > 1:
                finished.append(name)

        return hook

    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_hook(note(name)))
    try:
        with torch.no_grad():
            network(sample)
    finally:
        for handle in handles:
            handle.remove()
    if not finished:
        raise ModelError("The network has no layer whose output is an image; choose occlusion or integrated gradients.")
    return finished[-1]


def class_activation(network, sample, channel: int, layer: str = "", plus_plus: bool = False) -> np.ndarray:
    """Grad-CAM (Selvaraju 2017, ICCV) or Grad-CAM++ (Chattopadhay 2018, WACV), not scaled.

    Parameters
    ----------
    network : torch.nn.Module
    sample : (1, C, …) tensor
    channel : int
        Output whose score is explained.
    layer : str
        Name of a module; empty: :func:`spatial_layer`.
    """
    import torch
    from torch.nn import functional

    modules = dict(network.named_modules())
    layer = layer or spatial_layer(network, sample)
    if layer not in modules:
        raise ModelError(f"The network has no layer '{layer[:60]}'.")
    held = {}

    def hold(module, inputs, output):
        held["activation"] = output

    handle = modules[layer].register_forward_hook(hold)
    try:
        with torch.enable_grad():
            # A leaf that needs a gradient keeps the graph even where all weights are frozen.
            score = network(sample.detach().requires_grad_())[0, channel]
            activation = held["activation"]
            (gradient,) = torch.autograd.grad(score, activation)
    finally:
        handle.remove()
    activation = activation.detach()
    places = tuple(range(2, activation.ndim))
    if plus_plus:
        second = gradient.pow(2)
        below = 2 * second + (activation * gradient.pow(3)).sum(places, keepdim=True)
        below = torch.where(below != 0, below, torch.ones_like(below))
        alpha = second / (below + 1e-7)
        weights = (alpha * torch.relu(score.detach().exp() * gradient)).sum(places, keepdim=True)
    else:
        weights = gradient.mean(places, keepdim=True)
    coarse = torch.relu((weights * activation).sum(1, keepdim=True))
    mode = {3: "linear", 4: "bilinear", 5: "trilinear"}[coarse.ndim]
    fine = functional.interpolate(coarse, size=sample.shape[2:], mode=mode, align_corners=False)
    return fine[0, 0].cpu().numpy().astype(np.float32)


def integrated_gradients(network, sample, channel: int, baseline=None, steps: int = 32, check=None):
    """Integrated gradients (Sundararajan 2017, ICML) by Gauss-Legendre quadrature.

    Parameters
    ----------
    baseline : (1, C, …) tensor, optional
        The image without information; 0 by default.
    steps : int
        Points between it and the sample.
    check : callable, optional
        Called with the fraction done.

    Returns
    -------
    map : (…) float32 ndarray
        Summed over the channels; its sum is the difference of the scores, but for the quadrature.
    gap : float
        How far it is from that, relative to the difference.
    """
    import torch

    baseline = torch.zeros_like(sample) if baseline is None else baseline
    places, weights = np.polynomial.legendre.leggauss(steps)
    places, weights = (places + 1) / 2, weights / 2
    total = torch.zeros_like(sample, dtype=torch.float64)
    for start in range(0, steps, _MOST_AT_ONCE):
        if check is not None:
            check(start / steps)
        part = slice(start, start + _MOST_AT_ONCE)
        share = torch.as_tensor(places[part], dtype=sample.dtype, device=sample.device)
        share = share.reshape(-1, *[1] * (sample.ndim - 1))
        with torch.enable_grad():
            points = (baseline + share * (sample - baseline)).detach().requires_grad_()
            (gradient,) = torch.autograd.grad(network(points)[:, channel].sum(), points)
        weight = torch.as_tensor(weights[part], device=sample.device).reshape(share.shape)
        total += (gradient.double() * weight).sum(0, keepdim=True)
    attribution = total * (sample - baseline).double()
    with torch.no_grad():
        difference = float(network(sample)[0, channel] - network(baseline)[0, channel])
    gap = abs(float(attribution.sum()) - difference) / max(abs(difference), 1e-6)
    return attribution[0].sum(0).cpu().numpy().astype(np.float32), gap


def occlusion(network, sample, channel: int, window, stride, fill: float, check=None) -> np.ndarray:
    """By how much the score falls when a window is covered (Zeiler & Fergus 2014, ECCV), mean over the windows.

    Parameters
    ----------
    window, stride : sequence of int
        For each spatial axis, in voxels.
    fill : float
        Value that covers.
    check : callable, optional
        Called with the fraction done.
    """
    import torch

    shape = sample.shape[2:]
    window = [min(w, n) for w, n in zip(window, shape)]
    starts = [_starts(n, w, s) for n, w, s in zip(shape, window, stride)]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(shape))
    total, times = np.zeros(shape), np.zeros(shape)
    with torch.no_grad():
        whole = float(network(sample)[0, channel])
        for start in range(0, len(corners), _MOST_AT_ONCE):
            if check is not None:
                check(start / len(corners))
            boxes = [
                tuple(slice(int(c), int(c) + w) for c, w in zip(corner, window))
                for corner in corners[start : start + _MOST_AT_ONCE]
            ]
            covered = sample.repeat(len(boxes), *[1] * (sample.ndim - 1))
            for number, box in enumerate(boxes):
                covered[(number, slice(None), *box)] = fill
            for box, score in zip(boxes, network(covered)[:, channel].tolist()):
                total[box] += whole - score
                times[box] += 1
    return (total / times).astype(np.float32)


def _starts(extent: int, window: int, stride: int) -> list[int]:
    last = extent - window
    return sorted({*range(0, last + 1, max(stride, 1)), last})


def randomised(network, layers: int | None, seed: int):
    """A copy with new random weights in the last ``layers`` weighted modules, or in all (Adebayo 2018, NeurIPS)."""
    import copy

    import torch

    changed = copy.deepcopy(network)
    weighted = [m for m in changed.modules() if "weight" in m._parameters and m._parameters["weight"] is not None]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in weighted if layers is None else weighted[-layers:]:
            for parameter in module._parameters.values():
                if parameter is None:
                    continue
                # As wide as the trained ones, so that the activations keep their size.
                spread = float(parameter.std()) if parameter.numel() > 1 else float(parameter.abs().mean())
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
                parameter.copy_((drawn * (spread or 1.0) + float(parameter.mean())).to(parameter.dtype))
    return changed.eval()


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's, of two maps; 0 where one of them is constant."""
    from scipy.stats import rankdata

    one, other = (rankdata(np.ravel(m)) for m in (first, second))
    one, other = one - one.mean(), other - other.mean()
    size = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / size) if size > 0 else 0.0
