"""What the training scripts share: a resumable training loop, augmentation and the library's place.

Every random number follows from the seed and the number of the step, so that a run that was interrupted and resumed
gives what an uninterrupted one gives.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np

MODULE = Path(__file__).resolve().parent.parent
MODELS = MODULE / "Resources" / "Models"
if str(MODULE) not in sys.path:
    sys.path.append(str(MODULE))


def arguments(description: str, data: str) -> argparse.ArgumentParser:
    """The options that all scripts have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints, from which a run resumes")
    parser.add_argument("--output", type=Path, default=MODELS, help="folder for the model package")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after this time; the same command resumes")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def kept(path: Path, make):
    """What ``make()`` gives, tensors in dicts and tuples, kept in a file for the next run."""
    import torch

    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        torch.save(made, draft)
        os.replace(draft, path)
    return torch.load(path, weights_only=True)


class OutOfTime(Exception):
    """The time given on the command line is over; a checkpoint is kept."""


def fit(network, sample, steps: int, checkpoint: Path, options, rate: float = 3e-3, kept: float = 0.995,
        loss_of=None, report_every: int = 100):  # fmt: skip
    """Train with Dice and cross-entropy, AdamW in one cycle of the learning rate, and a moving mean of the weights.

    Parameters
    ----------
    network : torch.nn.Module
    sample : callable
        ``sample(rng)`` gives images (B, C, …) float32 and labels (B, …) int64, drawn with the torch generator ``rng``.
    steps : int
    checkpoint : Path
        Where the state is kept; a finished one is only read.
    options : argparse.Namespace
        With ``seed`` and ``deadline`` (of time.monotonic).
    rate : float
        Highest learning rate.
    kept : float
        Share of the mean weights that a step keeps, in the long run.
    loss_of : callable, optional
        ``loss_of(scores, labels)`` in place of :func:`dice_and_entropy`.

    Returns
    -------
    dict
        The mean weights, on the CPU.

    Raises
    ------
    OutOfTime
    """
    import torch

    torch.manual_seed(options.seed)
    mean = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-4)
    done, losses = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        mean.load_state_dict(state["mean"])
        optimizer.load_state_dict(state["optimizer"])
        done = state["done"]

    def keep():
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        draft = checkpoint.with_suffix(".draft")
        state = {"network": network.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict(),
                 "done": done}  # fmt: skip
        torch.save(state, draft)
        os.replace(draft, checkpoint)

    network.train()
    started, first = time.monotonic(), done
    while done < steps:
        if time.monotonic() > options.deadline:
            keep()
            raise OutOfTime
        rng = torch.Generator().manual_seed(options.seed * 1_000_003 + done)
        image, label = sample(rng)
        with torch.autocast("cpu", torch.bfloat16):
            scores = network(image)
        loss = (loss_of or dice_and_entropy)(scores.float(), label)
        for group in optimizer.param_groups:
            group["lr"] = float(rate * one_cycle(done / steps))
            group["betas"] = (0.9, 0.999)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        done += 1
        losses.append(float(loss.detach()))
        share = min(kept, done / (done + 10))
        with torch.no_grad():
            for own, new in zip(mean.state_dict().values(), network.state_dict().values()):
                own.copy_(own * share + new * (1 - share) if own.is_floating_point() else new)
        if done % report_every == 0 or done == steps:
            pace = (time.monotonic() - started) / (done - first)
            print(f"{checkpoint.stem} step {done}/{steps} loss {np.mean(losses):.4f}, {pace:.2f} s a step", flush=True)
            losses.clear()
        if done == steps or done % 500 == 0:
            keep()
    return {name: value.detach().clone() for name, value in mean.state_dict().items()}


def one_cycle(share: float, rise: float = 0.15) -> float:
    """The learning rate's part of its highest value: rising for a while, then falling, both as a cosine."""
    if share < rise:
        return 0.04 + 0.48 * (1 - np.cos(np.pi * share / rise))
    return 0.001 + 0.4995 * (1 + np.cos(np.pi * (share - rise) / (1 - rise)))


def write_package(folder: Path, card, states: list[dict], unseen: dict[str, list[str]]):
    """Write a model package in half precision, in place of an older one of that name.

    Parameters
    ----------
    folder : Path
    card : ModelCard
    states : list of dict
        Weights of each network.
    unseen : {name: names of cases}
        For ``folds.txt``: what the network with the weights ``name`` has not seen.
    """
    import torch
    from MedImgAILib.core.model_package import ModelPackage

    halves = [{k: v.half() if v.is_floating_point() else v for k, v in state.items()} for state in states]
    assert all(torch.isfinite(v).all() for state in halves for v in state.values() if v.is_floating_point())
    lines = "".join(f"{name}: {' '.join(cases)}\n" for name, cases in unseen.items())
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "model.json").exists():
        shutil.rmtree(folder)
    package = ModelPackage.create(folder, card, halves, {"folds.txt": lines})
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{package.card.id}: {len(states)} networks, {size / 1e6:.2f} MB, in {folder}")


def weight_names(count: int) -> list[str]:
    """The files of an ensemble's weights, in its order."""
    return ["weights.safetensors", *(f"weights_{n}.safetensors" for n in range(2, count + 1))]


def dice_and_entropy(scores, label):
    """1 - mean soft Dice of the classes but the first, over the batch, plus cross-entropy."""
    import torch
    from torch.nn import functional

    entropy = functional.cross_entropy(scores, label)
    probability = torch.softmax(scores, dim=1)
    truth = functional.one_hot(label, scores.shape[1]).movedim(-1, 1)
    axes = (0, *range(2, scores.ndim))
    both, sizes = (probability * truth).sum(axes), probability.sum(axes) + truth.sum(axes)
    return entropy + 1 - ((2 * both[1:] + 1) / (sizes[1:] + 1)).mean()


def uniform(rng, low: float, high: float, *shape):
    """Random numbers; a float without a shape."""
    import torch

    values = low + (high - low) * torch.rand(shape, generator=rng)
    return values if shape else float(values)


def chance(rng, share: float) -> bool:
    return uniform(rng, 0, 1) < share


def random_grid(shape, extent, rng, degrees: float, scale: float, shift: float, bend: float, knots: int = 5,
                mirror: bool = True, enlarged: float = 0.0):  # fmt: skip
    """Where a randomly turned, scaled, moved, bent and mirrored (along the last axis) patch takes its voxels from.

    Parameters
    ----------
    shape : tuple of int
        Of the patch.
    extent : tuple of int
        Of the image, whose middle is the middle of the patch before it is moved.
    degrees, scale, shift, bend : float
        Largest angle, share, and lengths in voxels (``bend`` is a standard deviation at knots).
    knots : int
        Along each axis.
    enlarged : float
        Natural logarithm of how many voxels of the image lie along one of the patch, on top of ``scale``.

    Returns
    -------
    (1, …, d) tensor for ``grid_sample``, whose ``align_corners`` is to be True.
    """
    import torch
    from torch.nn import functional

    count = len(shape)
    axes = [torch.arange(n, dtype=torch.float32) - (n - 1) / 2 for n in shape]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix = torch.eye(count)
    planes = [(0, 1), (0, 2), (1, 2)] if count == 3 else [(0, 1)]
    for first, second in planes:
        angle = torch.tensor(uniform(rng, -degrees, degrees) * np.pi / 180)
        turn = torch.eye(count)
        turn[first, first] = turn[second, second] = torch.cos(angle)
        turn[first, second], turn[second, first] = -torch.sin(angle), torch.sin(angle)
        matrix = matrix @ turn
    whole = enlarged + uniform(rng, -scale, scale)
    matrix = matrix * torch.exp(whole + 0.4 * uniform(rng, -scale, scale, count))
    if mirror and chance(rng, 0.5):
        matrix[:, -1] = -matrix[:, -1]
    place = place @ matrix.T + uniform(rng, -shift, shift, count)
    if bend > 0:
        coarse = bend * torch.randn((1, count, *(knots,) * count), generator=rng)
        coarse = functional.interpolate(
            coarse, size=tuple(shape), mode="trilinear" if count == 3 else "bicubic", align_corners=True
        )
        place = place + coarse[0].movedim(0, -1)
    half = torch.tensor([(n - 1) / 2 for n in extent])
    return (place / half).flip(-1)[None]


def taken(image, label, grid, classes: int):
    """Image (C, …) linearly and label (…) by the largest of the linearly taken classes at a grid's places."""
    from torch.nn import functional

    picture = functional.grid_sample(image[None], grid, mode="bilinear", align_corners=True)[0]
    each = functional.one_hot(label, classes).movedim(-1, 0)[1:].to(image)
    shares = functional.grid_sample(each[None], grid, mode="bilinear", align_corners=True)[0]
    shares = functional.pad(shares, (0, 0) * (shares.ndim - 1) + (1, 0))
    shares[0] = 1 - shares.sum(dim=0)
    return picture, shares.argmax(dim=0)


def altered(image, rng, gamma: float = 0.3, noise: float = 0.06, smooth: bool = True):
    """Random gamma, contrast, brightness, shading, blur and noise of a (C, …) image of about 0…1."""
    import torch
    from torch.nn import functional

    count = image.ndim - 1
    outside = image == 0
    result = image.clamp(0, 1) ** float(torch.exp(gamma * torch.randn((), generator=rng)))
    result = result * uniform(rng, 0.8, 1.2) + uniform(rng, -0.1, 0.1)
    if chance(rng, 0.5):
        knots = 0.2 * torch.randn((1, 1, *(3,) * count), generator=rng)
        field = functional.interpolate(
            knots, size=image.shape[1:], mode="trilinear" if count == 3 else "bicubic", align_corners=True
        )
        result = result * torch.exp(field[0])
    if smooth and chance(rng, 0.25):
        result = blurred(result, uniform(rng, 0.3, 0.9))
    if chance(rng, 0.5):
        result = result + uniform(rng, 0, noise) * torch.randn(result.shape, generator=rng)
    return torch.where(outside, torch.zeros(()), result)


def blurred(image, sigma: float):
    """A (C, …) image smoothed by a Gaussian along each axis."""
    import torch
    from torch.nn import functional

    half = max(1, int(3 * sigma + 0.5))
    places = torch.arange(-half, half + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (places / max(sigma, 1e-3)) ** 2)
    kernel = kernel / kernel.sum()
    count = image.ndim - 1
    convolve = functional.conv3d if count == 3 else functional.conv2d
    result = image[:, None]
    for axis in range(count):
        shape = [1] * (count + 2)
        shape[axis + 2] = len(kernel)
        padding = [0] * (2 * count)
        padding[2 * (count - 1 - axis)] = padding[2 * (count - 1 - axis) + 1] = half
        result = convolve(functional.pad(result, padding, mode="replicate"), kernel.reshape(shape))
    return result[:, 0]
