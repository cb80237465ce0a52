"""What this process has seen: embeddings of images, and earlier answers to come back to."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np

from ...core import Volume

_SHARE_OF_FREE = 0.2
_MOST_ANSWERS = 30


def key_of(image: Volume) -> str:
    """A hash of the voxels and the grid."""
    found = hashlib.blake2b(digest_size=16)
    found.update(repr((image.array.shape, image.array.dtype.str)).encode())
    found.update(np.round(image.geometry.ijk_to_ras, 6).tobytes())
    found.update(np.ascontiguousarray(image.array))
    return found.hexdigest()


class Embeddings:
    """The latest embeddings, as many as fit into a fifth of the free memory, the last one always.

    They live as long as the process: the worker is kept warm between runs, so that a second prompt finds them.
    """

    def __init__(self):
        self._held: OrderedDict = OrderedDict()
        self.hits = self.misses = 0

    def get(self, key, make):
        """The embedding ``key``, or what ``make()`` gives, which is then kept."""
        if key in self._held:
            self.hits += 1
            self._held.move_to_end(key)
            return self._held[key][0]
        self.misses += 1
        value = make()
        self._held[key] = value, _bytes(value)
        self._shrink()
        return value

    def find(self, fits):
        """The latest key for which ``fits(key)`` is true, or None."""
        return next((k for k in reversed(self._held) if fits(k)), None)

    def clear(self):
        self._held.clear()

    def _shrink(self):
        from ..memory import free_memory

        limit = _SHARE_OF_FREE * free_memory()
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > limit:
            self._held.popitem(last=False)


def _bytes(value) -> int:
    """Of the arrays and tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    if isinstance(value, np.ndarray):
        return value.nbytes
    return value.numel() * value.element_size() if hasattr(value, "numel") else 0


class Answers:
    """Earlier answers for each image and model, bit by bit, to undo a prompt."""

    def __init__(self):
        self._stacks: dict = {}

    def add(self, key, mask: np.ndarray):
        """Remember a (K, J, I) bool answer, unless it is the latest already."""
        stack = self._stacks.setdefault(key, [])
        packed = np.packbits(mask)
        if not stack or not np.array_equal(stack[-1][0], packed):
            stack.append((packed, mask.shape))
        del stack[:-_MOST_ANSWERS]

    def back(self, key) -> np.ndarray | None:
        """Forget the latest answer and give the one before it; None if there is none."""
        stack = self._stacks.get(key, [])
        if len(stack) < 2:
            return None
        stack.pop()
        packed, shape = stack[-1]
        return np.unpackbits(packed, count=int(np.prod(shape))).view(bool).reshape(shape)

    def clear(self):
        self._stacks.clear()


embeddings, answers = Embeddings(), Answers()
"""Of this process."""
