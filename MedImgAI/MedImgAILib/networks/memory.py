"""How much memory there is, how much a network takes, and smaller windows where it does not suffice."""

from __future__ import annotations

from math import prod

_USABLE = 0.5
"""Share of the free memory that one window's computation may take."""
_WINDOWS = (128, 96, 64, 48, 32)
_LEAST = 32


def free_memory(device: str = "cpu") -> int:
    """Bytes that are free now on a device; of main memory as Linux tells, 4 GB elsewhere."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return 4 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory did not suffice."""
    import torch

    text = str(error).lower()
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(
        words in text for words in ("out of memory", "not enough memory", "can't allocate memory")
    )


def bytes_per_voxel(network, example) -> float | None:
    """An estimate of the memory that ``network`` takes at once for each voxel of its input; None if it cannot tell.

    The largest input and output of one layer, and half as much again for what is kept beside them.

    Parameters
    ----------
    network : torch.nn.Module
    example : (B, channels, …) tensor
        A small input for one forward pass.
    """
    import torch

    if not isinstance(network, torch.nn.Module):
        return None
    largest = 0

    def watch(module, inputs, output):
        nonlocal largest
        tensors = [t for t in (*inputs, output) if torch.is_tensor(t)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [m for m in network.modules() if not any(True for _ in m.children())]
    hooks = [m.register_forward_hook(watch) for m in leaves]
    try:
        with torch.inference_mode():
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return 1.5 * largest / prod(example.shape[2:]) if largest else None


def fitting_window(shape, needed: float | None, free: int, dimensions: int = 3) -> tuple[int, int, int]:
    """The largest usual window for a network that names none: a cube, or a square of one slice.

    Parameters
    ----------
    shape : (K, J, I)
        Of the image; a window is no larger than the usual one that covers it.
    needed : float or None
        Bytes per voxel; 96 voxels are taken along each edge if unknown.
    free : int
        Bytes.
    """
    extent = max(shape[1:] if dimensions == 2 else shape)
    for edge in _WINDOWS if needed else (96,):
        fits = not needed or edge**dimensions * needed <= _USABLE * free
        if fits and (edge <= extent or edge == _WINDOWS[-1] or _next(edge) < extent):
            return (1 if dimensions == 2 else edge, edge, edge)
    return (1 if dimensions == 2 else _LEAST, _LEAST, _LEAST)


def _next(edge: int) -> int:
    return max((w for w in _WINDOWS if w < edge), default=0)


def smaller_window(window, shape=None) -> tuple[int, int, int] | None:
    """About half as many voxels: edges of three quarters, multiples of 16, at least 32; None if there is no smaller.

    Parameters
    ----------
    window : (K, J, I)
    shape : (K, J, I), optional
        Of the image; edges beyond it are not counted.
    """
    limits = shape or window
    edges = [min(w, n) for w, n in zip(window, limits)]
    result = tuple(e if e <= _LEAST else max(_LEAST, int(0.75 * e) // 16 * 16) for e in edges)
    return result if result != tuple(edges) else None


def window_that_fits(window, needed: float | None, free: int):
    """``window``, or the largest of the smaller ones whose computation fits into the free memory."""
    while needed and prod(window) * needed > free and (smaller := smaller_window(window)):
        window = smaller
    return window
