"""Inference window by window over an image of any size, in memory that does not grow with the number of classes.

Windows are visited in rising order along the first axis. Only the planes that a window still adds to are held
(:class:`.slab.Slab`); a plane that is finished becomes labels at once. Where the network ends with a pointwise linear
layer (:mod:`.heads`), the features before it are held in place of the classes' scores.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from ..core import Context, ModelError, ResourceError
from .heads import find_head
from .planes import PlaneReader
from .slab import Slab
from .windows import gaussian_importance, window_rows

_MOST_BATCH = 8
_SHARE_OF_FREE = 0.25
"""How much of the free memory the slab may take before it lies in a file."""


@dataclass(frozen=True)
class Plan:
    """How to apply a network.

    Parameters
    ----------
    window : (K, J, I), optional
        Extent of the windows in voxels; None for the whole image at once. With ``dimensions`` 2, K is 1.
    overlap : float
        Share of a window that its neighbour covers too.
    batch : int, optional
        Windows at a time; None chooses by the free memory of the graphics card, 1 on the CPU.
    reduced_precision : bool
        Compute in half precision on a graphics card.
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
    """

    window: tuple[int, int, int] | None = None
    overlap: float = 0.5
    batch: int | None = None
    reduced_precision: bool = True
    empty_value: float | None = None
    activation: str = "softmax"
    threshold: float = 0.5
    entropy: bool = False
    confidence: bool = False
    probabilities: bool = False
    dimensions: int = 3
    split_head: bool = True
    slab_bytes: int | None = None


def infer(network, image: np.ndarray, plan: Plan, context: Context | None = None, device: str = "cpu") -> PlaneReader:
    """Apply a network to an image.

    Parameters
    ----------
    network : callable
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
        If the memory does not suffice even for one window on the CPU.
    """
    import torch

    context = context or Context("cpu")
    shape = image.shape[1:]
    window = tuple(plan.window or shape)
    before = [max(0, w - n) // 2 for w, n in zip(window, shape, strict=True)]
    if any(w > n for w, n in zip(window, shape, strict=True)):
        # The image lies in the middle of the window, as in MONAI.
        padding = [(b, max(w - n, 0) - b) for b, w, n in zip(before, window, shape, strict=True)]
        image = np.pad(image, [(0, 0), *padding])
    with torch.inference_mode():
        reader = _Run(network, image, window, plan, context, device).result()
    if image.shape[1:] != shape:
        inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
        for name in ("labels", "entropy", "confidence"):
            if (values := getattr(reader, name)) is not None:
                setattr(reader, name, np.ascontiguousarray(values[inside]))
        if reader.probabilities is not None:
            reader.probabilities = np.ascontiguousarray(reader.probabilities[(slice(None), *inside)])
    return reader


class _Run:
    """One pass over one image."""

    def __init__(self, network, image, window, plan: Plan, context: Context, device: str):
        import torch

        self.network, self.window, self.plan, self.context = network, window, plan, context
        self.device, self.image = device, torch.from_numpy(np.require(image, np.float32, "CW"))
        self.rows = window_rows(image.shape[1:], window, plan.overlap)
        self.total = sum(len(row) for _, row in self.rows)
        self.batch = plan.batch or 1
        self.done = 0
        self.importance = gaussian_importance(window).to(device)
        self.head = self._find_head() if plan.split_head else None
        self.slab: Slab | None = None
        self.reader = PlaneReader(
            image.shape[1:], self.head, plan.activation, plan.threshold, plan.entropy, plan.confidence,
            plan.probabilities,
        )  # fmt: skip

    def _find_head(self):
        """Tried on a corner of the image where the network takes one that small."""
        import torch

        corner = [min(32, w) for w in self.window]
        example = torch.zeros((1, self.image.shape[0], *corner), device=self.device)
        try:
            return find_head(self.network, example[:, :, 0] if self.plan.dimensions == 2 else example)
        except (RuntimeError, ValueError):
            return None  # a network that wants its full window; it runs without this saving

    def result(self) -> PlaneReader:
        extent = self.image.shape[1]
        starts = [k for k, _ in self.rows]
        with self.head.removed() if self.head else nullcontext():
            try:
                for (k, row), following in zip(self.rows, [*starts[1:], extent]):
                    self._row(k, row)
                    for finished in range(k, following):
                        if self.slab is not None:
                            self.reader.read(finished, *self.slab.plane(finished))
                            self.slab.clear(finished)
            finally:
                if self.slab is not None:
                    self.slab.close()
        return self.reader

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
        """Run the windows at ``starts``, in smaller portions or on the CPU if the memory does not suffice."""
        import torch

        while starts:
            self.context.check()
            portion = starts[: self.batch]
            try:
                values = self._forward(torch.stack([self._part(s) for s in portion]))
                if self.slab is None:
                    self.slab = self._new_slab(values.shape[1])
            except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise ModelError(
                        f"The network cannot compute a window of {self.window} voxels ({error})."
                    ) from error
                values = None
                self._step_down()
                continue
            for start, value in zip(portion, values):
                self.slab.add(value, self.importance, start)
            starts = starts[len(portion) :]
            self._count(len(portion))

    def _forward(self, windows):
        import torch

        windows = windows.to(self.device)
        flat = self.plan.dimensions == 2
        grows = self.plan.batch is None and self.device == "cuda" and self.slab is None
        if grows:
            torch.cuda.reset_peak_memory_stats()
            used = torch.cuda.memory_allocated()
        reduced = self.plan.reduced_precision and self.device == "cuda"
        dtype = torch.bfloat16 if reduced and torch.cuda.is_bf16_supported() else torch.float16
        with torch.autocast("cuda", dtype) if reduced else nullcontext():
            values = self.network(windows[:, :, 0] if flat else windows)
        values = values[:, :, None].float() if flat else values.float()
        if values.ndim != 5 or values.shape[2:] != windows.shape[2:]:
            got, wanted = tuple(values.shape[2:]), tuple(windows.shape[2:])
            raise ModelError(
                f"The network gives {got} voxels for a window of {wanted}; it cannot be used for segments."
            )
        if grows:
            needed = max(1, torch.cuda.max_memory_allocated() - used)
            self.batch = int(min(_MOST_BATCH, max(1, 0.5 * torch.cuda.mem_get_info()[0] / needed)))
        return values

    def _new_slab(self, channels: int) -> Slab:
        limit = self.plan.slab_bytes
        if limit is None:
            limit = int(_SHARE_OF_FREE * free_memory())
        return Slab(channels, self.window[0], tuple(self.image.shape[2:]), self.device, limit)

    def _step_down(self):
        """Half the batch; from a single window on, the CPU."""
        import torch

        if self.batch > 1:
            self.batch //= 2
            self.context.warn(f"The memory did not suffice; going on with {self.batch} windows at a time.")
        elif self.device != "cpu":
            self.context.warn(
                f"The memory of the device '{self.device}' did not suffice; going on with the CPU, slower."
            )
            self.device = "cpu"
            if isinstance(self.network, torch.nn.Module):
                self.network.to("cpu")
            self.importance = self.importance.to("cpu")
            self.slab = self.slab.to("cpu") if self.slab is not None else None
        else:
            size = "×".join(str(n) for n in self.window[::-1])
            raise ResourceError(f"The memory does not suffice for one window of {size} voxels; choose smaller windows.")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in text for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def free_memory() -> int:
    """Bytes of main memory that are free now, as Linux tells; 4 GB elsewhere."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return 4 << 30
