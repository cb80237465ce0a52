"""Inference window by window over an image of any size, in memory that does not grow with the number of classes.

Windows are visited in rising order along the first axis. Only the planes that a window still adds to are held
(:class:`.slab.Slab`); a plane that is finished becomes labels at once. Where the network ends with a pointwise linear
layer (:mod:`.heads`), the features before it are held in place of the classes' scores. Several passes (an ensemble,
variations of the image, dropout) advance side by side, so that the same holds for their mean.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..core import Context, ModelError, ResourceError
from .heads import find_head
from .memory import bytes_per_voxel, fitting_window, free_memory, is_out_of_memory, smaller_window, window_that_fits
from .planes import PlaneReader
from .precision import arranged, reduced
from .slab import Slab
from .variations import Variation, dropping
from .windows import gaussian_importance, window_rows

_MOST_BATCH = 8
_SHARE_OF_FREE = 0.25
"""How much of the free memory the slab may take before it lies in a file."""
_PROBES = (16, 32)
"""Edges of the corners on which a network is tried; some need the larger."""


@dataclass(frozen=True)
class Plan:
    """How to apply a network.

    Parameters
    ----------
    window : (K, J, I), "auto" or None
        Extent of the windows in voxels, "auto" to choose by the free memory, None for the whole image at once. With
        ``dimensions`` 2, K is 1.
    overlap : float
        Share of a window that its neighbour covers too.
    batch : int, optional
        Windows at a time; None chooses by the free memory of the graphics card, 1 on the CPU.
    reduced_precision : bool
        Compute in half precision on a graphics card.
    cpu_bfloat16 : bool
        Compute in bfloat16 on processors that have instructions for it.
    empty_value : float, optional
        A window in which every voxel has this value is not computed; its voxels are background.
    activation, threshold
        See :class:`.planes.PlaneReader`.
    entropy, confidence, probabilities : bool
        Further results, see :class:`.planes.PlaneReader`.
    dimensions : 2 or 3
        2: the network takes single slices.
    split_head : bool
        Take the network's last layer off where that saves memory.
    slab_bytes : int, optional
        Memory for the planes under way; a quarter of the free memory if None.
    variations : tuple of Variation
        The passes for each network.
    """

    window: tuple[int, int, int] | str | None = None
    overlap: float = 0.5
    batch: int | None = None
    reduced_precision: bool = True
    cpu_bfloat16: bool = False
    empty_value: float | None = None
    activation: str = "softmax"
    threshold: float = 0.5
    entropy: bool = False
    confidence: bool = False
    probabilities: bool = False
    dimensions: int = 3
    split_head: bool = True
    slab_bytes: int | None = None
    variations: tuple[Variation, ...] = (Variation(),)


def infer(network, image: np.ndarray, plan: Plan, context: Context | None = None, device: str = "cpu") -> PlaneReader:
    """Apply a network, or an ensemble of networks, to an image.

    Where the memory does not suffice, the batch shrinks, then the windows, then the CPU takes over.

    Parameters
    ----------
    network : callable, or list of callables
        Takes (B, C, K, J, I) tensors (without K for 2 dimensions), gives scores of the same extents. A torch module
        must be on ``device``, in evaluation mode.
    image : (C, K, J, I) float32 ndarray
    plan : Plan
    context : Context, optional
        Told of every window; asked about cancel before each.
    device : str

    Returns
    -------
    PlaneReader
        With ``labels`` and what else the plan asks for, each (K, J, I).

    Raises
    ------
    ModelError
        If the network does not take the image, or gives other extents than it got.
    ResourceError
        If the memory does not suffice even for one small window on the CPU.
    """
    import torch

    context = context or Context("cpu")
    networks = list(network) if isinstance(network, (list, tuple)) else [network]
    shape = image.shape[1:]
    first = _first_window(networks, image, plan, context, device)
    window, refused = first, None
    while True:
        try:
            with torch.inference_mode():
                return _cropped(networks, image, window, plan, context, device)
        except _OutOfMemory:
            refused = None
        except ModelError as error:
            if window == first:
                raise
            refused = error  # it takes only the window that it was made for
        if device == "cuda":
            torch.cuda.empty_cache()
        smaller = None if refused or _needs_all(networks[0]) else smaller_window(window, shape)
        if smaller is not None:
            window = smaller
            context.warn(f"The memory did not suffice; going on with windows of {_size(window)} voxels.")
        elif device != "cpu":
            context.warn(f"The memory of the device '{device}' did not suffice; going on with the CPU, slower.")
            window, device = first, "cpu"
            for one in networks:
                if isinstance(one, torch.nn.Module):
                    one.to("cpu")
        else:
            raise ResourceError(
                f"The memory does not suffice for one window of {_size(window)} voxels; close other programs or use a "
                "smaller model."
            ) from refused


def _first_window(networks, image, plan, context, device):
    shape = image.shape[1:]
    if _needs_all(networks[0]):
        return shape
    if plan.window is not None and plan.window != "auto" and device != "cpu":
        return tuple(plan.window)
    needed = None
    if plan.window == "auto" or (plan.window is None and prod(shape) > _PROBES[-1] ** 3):
        needed = _tried(bytes_per_voxel, networks[0], image, shape, plan, device)
    free = free_memory(device)
    if plan.window == "auto":
        return fitting_window(shape, needed, free, plan.dimensions)
    if plan.window is not None:
        return tuple(plan.window)
    whole = (1, *shape[1:]) if plan.dimensions == 2 else shape
    window = window_that_fits(whole, needed, free)
    if window != whole:
        context.warn(f"The whole image does not fit into the memory; going on with windows of {_size(window)} voxels.")
    return window


def _tried(look, network, image, window, plan, device):
    """``look(network, example)`` for a small example that the network takes; None if it wants its full window."""
    import torch

    if _needs_all(network):
        return None
    for edge in _PROBES:
        example = torch.zeros((1, image.shape[0], *(min(edge, w) for w in window)), device=device)
        try:
            return look(network, example[:, :, 0] if plan.dimensions == 2 else example)
        except (RuntimeError, ValueError, AssertionError):
            continue
    return None


def _needs_all(network) -> bool:
    """Whether a network finds its way by the whole image, so that a window of it would mislead it."""
    return bool(getattr(network, "needs_whole_image", False))


def _size(window) -> str:
    return "×".join(str(n) for n in window[::-1])


def _cropped(networks, image, window, plan, context, device) -> PlaneReader:
    """The result of one run, with the image in the middle of the window where that is larger, as in MONAI."""
    shape = image.shape[1:]
    before = [max(0, w - n) // 2 for w, n in zip(window, shape, strict=True)]
    if any(w > n for w, n in zip(window, shape, strict=True)):
        padding = [(b, max(w - n, 0) - b) for b, w, n in zip(before, window, shape, strict=True)]
        image = np.pad(image, [(0, 0), *padding])
    reader = _Run(networks, image, window, plan, context, device).result()
    if image.shape[1:] != shape:
        inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
        for name in ("labels", "entropy", "confidence"):
            if (values := getattr(reader, name)) is not None:
                setattr(reader, name, np.ascontiguousarray(values[inside]))
        if reader.probabilities is not None:
            reader.probabilities = np.ascontiguousarray(reader.probabilities[(slice(None), *inside)])
    return reader


class _OutOfMemory(Exception):
    """One window at a time is too much."""


class _Run:
    """One run over one image with one size of window on one device."""

    def __init__(self, networks, image, window, plan: Plan, context: Context, device: str):
        import torch

        self.networks, self.window, self.plan, self.context = networks, window, plan, context
        self.device, self.image = device, torch.from_numpy(np.require(image, np.float32, "CW"))
        # For variations of intensity only; of a sample, as a large image would take long.
        self.spread = float(self.image.reshape(-1)[:: max(1, self.image.numel() // 100_000)].std(correction=0))
        self.rows = window_rows(image.shape[1:], window, plan.overlap)
        self.total = sum(len(row) for _, row in self.rows)
        self.batch = plan.batch or 1
        self.done = 0
        self.passes = [replace(v, member=m) for m in range(len(networks)) for v in plan.variations]
        self.importance = gaussian_importance(window)
        # Without its last layer a network that has more classes than features saves memory.
        self.heads = [
            _tried(find_head, n, self.image, window, plan, device) if plan.split_head else None for n in networks
        ]
        self.slab: Slab | None = None
        self.reader = PlaneReader(
            image.shape[1:], [self.heads[v.member] for v in self.passes], plan.activation, plan.threshold,
            plan.entropy, plan.confidence, plan.probabilities,
        )  # fmt: skip

    def result(self) -> PlaneReader:
        extent = self.image.shape[1]
        starts = [k for k, _ in self.rows]
        with ExitStack() as stack, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for head in filter(None, self.heads):
                stack.enter_context(head.removed())
            try:
                for (k, row), following in zip(self.rows, [*starts[1:], extent]):
                    self._row(k, row)
                    if self.slab is not None:
                        list(pool.map(self._finish, range(k, following)))
            finally:
                if self.slab is not None:
                    self.slab.close()
        return self.reader

    def _finish(self, k):
        import torch

        with torch.inference_mode():
            self.reader.read(k, *self.slab.plane(k))
            self.slab.clear(k)

    def _row(self, k: int, row):
        waiting = []
        for j, i in row:
            if self._is_empty((k, j, i)):
                self._count()
            else:
                waiting.append((k, j, i))
            if len(waiting) == self.batch:
                self._compute(waiting)
                waiting = []
        while waiting:
            self._compute(waiting[: self.batch])
            waiting = waiting[self.batch :]

    def _part(self, start):
        return self.image[(slice(None), *(slice(s, s + w) for s, w in zip(start, self.window)))]

    def _is_empty(self, start) -> bool:
        value = self.plan.empty_value
        return value is not None and bool((self._part(start) == value).all())

    def _count(self, number: int = 1):
        self.done += number
        self.context.progress(self.done / self.total, f"Window {self.done} of {self.total}")

    def _compute(self, starts: list):
        """Run the windows at ``starts``, in smaller portions if the memory does not suffice."""
        import torch

        while starts:
            self.context.check()
            portion = starts[: self.batch]
            try:
                windows = torch.stack([self._part(s) for s in portion]).to(self.device)
                values = [self._forward(windows, variation) for variation in self.passes]
                if self.slab is None:
                    self._make_room([v.shape[1] for v in values])
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise ModelError(
                        f"The network cannot compute a window of {self.window} voxels ({error})."
                    ) from error
                values = None
            if values is None:
                # Outside of the handler, whose traceback would keep the tensors.
                self._fewer_windows()
                continue
            for number, start in enumerate(portion):
                self.slab.add([v[number] for v in values], self.importance, start)
            starts = starts[len(portion) :]
            self._count(len(portion))

    def _forward(self, windows, variation: Variation):
        import torch

        network = self.networks[variation.member]
        flat = self.plan.dimensions == 2
        grows = self.plan.batch is None and self.device == "cuda" and self.slab is None
        if grows:
            torch.cuda.reset_peak_memory_stats()
            used = torch.cuda.memory_allocated()
        seen = variation.forth(windows, self.spread)
        seen = seen[:, :, 0] if flat else seen
        precision, is_reduced = reduced(network, self.device, self.plan.reduced_precision, self.plan.cpu_bfloat16)
        if is_reduced:
            seen = arranged(network, seen)
        with precision, dropping(network, variation.dropout):
            values = network(seen)
        if not torch.is_tensor(values):
            raise ModelError("The network gives something else than one tensor; it cannot be used for segments.")
        values = values[:, :, None].float() if flat else values.float()
        if values.ndim != 5 or values.shape[2:] != windows.shape[2:]:
            got, wanted = tuple(values.shape[2:]), tuple(windows.shape[2:])
            raise ModelError(
                f"The network gives {got} voxels for a window of {wanted}; it cannot be used for segments."
            )
        if grows:
            needed = max(1, torch.cuda.max_memory_allocated() - used)
            self.batch = int(min(_MOST_BATCH, max(1, 0.5 * free_memory("cuda") / needed)))
        return variation.back(values)

    def _make_room(self, channels: list[int]):
        """The slab lies where the network computes if there it takes a quarter of the free memory at most."""
        plane = tuple(self.image.shape[2:])
        limit, device = self.plan.slab_bytes, self.device
        if device == "cuda" and 4 * sum(channels) * self.window[0] * prod(plane) > _SHARE_OF_FREE * free_memory(device):
            device = "cpu"
        if limit is None:
            limit = int(_SHARE_OF_FREE * free_memory())
        self.slab = Slab(channels, self.window[0], plane, device, limit)
        self.importance = self.importance.to(device)
        classes = {h.classes if h else c for h, c in zip(self.reader.heads, channels)}
        if len(classes) > 1:
            raise ModelError("The networks of the ensemble give different numbers of classes.")
        self.reader.prepare(classes.pop())

    def _fewer_windows(self):
        """Half the batch, or give up."""
        import torch

        if self.device == "cuda":
            torch.cuda.empty_cache()
        if self.batch == 1:
            raise _OutOfMemory
        self.batch //= 2
        self.context.warn(f"The memory did not suffice; going on with {self.batch} windows at a time.")
