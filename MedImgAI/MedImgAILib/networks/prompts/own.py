"""Our own promptable network: a look at the whole image, then a close look at what was found.

Both looks are at most 96³ voxels, so that the time does not depend on the size of the image. What the network knows
of each look is kept; a further prompt costs the decoder alone.
"""

from __future__ import annotations

import numpy as np

from ...core import Context, Geometry, Volume
from ...core.resampling import resample_volume
from ..precision import arranged, reduced
from .channels import channels
from .given import Prompts
from .memory import Embeddings
from .network import STRIDE

_MOST = 96
"""Voxels along the edge of a cubic look; others have no more voxels together."""
_MARGIN = 0.35
"""Of a structure's extent, left around it in the close look."""
_CLOSER = 0.75
"""A close look whose voxels are no smaller than this times those of the first is not worth while."""
_LEAST_MM = 12.0
"""Around a point of which the first look found nothing."""


class OwnNetwork:
    """Answers prompts with a :func:`.network.PromptNet`.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, on ``device``.
    device : str
    reduced_precision : bool
    """

    def __init__(self, network, device: str = "cpu", reduced_precision: bool = True):
        self.network, self.device, self.reduced_precision = network, device, reduced_precision

    def segment(self, image: Volume, prompts: Prompts, kept: Embeddings, key, context: Context) -> np.ndarray:
        """(K, J, I) bool: the structure on the grid of ``image``, which is in canonical order."""
        whole = _grid(image.geometry, np.zeros(3), np.array(image.geometry.shape) - 1.0)
        with context.part(0.0, 0.5) as part:
            part.progress(0.0, "Looking at the whole image")
            likely = self._look(image, whole, prompts, kept, key, part)
        low, high = _box_of(likely > 0.5, whole, image.geometry, prompts)
        close = _grid(image.geometry, *_widened(low, high, image.geometry))
        seen = kept.find(lambda k: k[0] == key and isinstance(k[1], _Look) and _serves(k[1], close, whole))
        close = seen[1].geometry if seen else close
        with context.part(0.5, 0.9) as part:
            if _voxel(close) < _CLOSER * _voxel(whole):
                part.progress(0.0, "Looking closely")
                likely, whole = self._look(image, close, prompts, kept, key, part), close
        with context.part(0.9, 1.0):
            return _on_image(likely, whole, image.geometry)

    def _look(self, image, grid, prompts, kept, key, context) -> np.ndarray:
        """(K, J, I) float32 probabilities on ``grid``."""
        import torch

        def embed():
            tensor = torch.from_numpy(self._picture(image, grid)[None, None]).to(self.device)
            with torch.inference_mode():
                precision, is_reduced = reduced(
                    self.network, self.device, self.reduced_precision, self.reduced_precision
                )
                with precision:
                    return self.network.embed(arranged(self.network, tensor) if is_reduced else tensor)

        embedding = kept.get((key, _Look(grid)), embed)
        context.progress(0.6)
        marks = channels(
            grid.shape, prompts.marks(prompts.inside, grid), prompts.marks(prompts.outside, grid), prompts.box_on(grid)
        )
        with torch.inference_mode():
            precision, _ = reduced(self.network, self.device, self.reduced_precision, self.reduced_precision)
            with precision:
                logits = self.network.answer(embedding, torch.from_numpy(marks[None]).to(self.device))
            return torch.sigmoid(logits.float())[0, 0].cpu().numpy()

    @staticmethod
    def _picture(image, grid) -> np.ndarray:
        """The image on a look's grid, 1st and 99th percentile at 0 and 1, beyond its edges as dark as its darkest."""
        source = _smoothed(image, grid)
        lowest = float(image.array.min())
        array = resample_volume(source, grid, "linear", outside=lowest).array.astype(np.float32)
        low, high = np.percentile(array, [1, 99])
        return ((array - low) / max(high - low, 1e-6)).astype(np.float32)


class _Look:
    """A grid as a part of a key: equal where its numbers are."""

    def __init__(self, geometry: Geometry):
        self.geometry = geometry
        self._numbers = (geometry.shape, tuple(np.round(geometry.ijk_to_ras, 6).ravel()))

    def __eq__(self, other):
        return isinstance(other, _Look) and self._numbers == other._numbers

    def __hash__(self):
        return hash(self._numbers)


def _voxel(grid: Geometry) -> float:
    return float(np.prod(grid.spacing) ** (1 / 3))


def _grid(geometry: Geometry, low, high) -> Geometry:
    """Cubic voxels over the part of an image between two indices (k, j, i), extents in multiples of the stride.

    They are no smaller than the image's smallest spacing.
    """
    spacing = geometry.spacing_kji
    extent = (np.asarray(high) - low + 1) * spacing
    voxel = max(float(spacing.min()), float(np.prod(extent) ** (1 / 3)) / _MOST)
    while True:
        shape = np.ceil(extent / voxel / STRIDE - 1e-6).astype(int).clip(1) * STRIDE
        if np.prod(shape) <= _MOST**3 * 1.1:
            break
        voxel *= 1.03
    if (shape == STRIDE).all():
        shape[2] *= 2  # the coarsest level needs more than one voxel to be normalised
    middle = geometry.ras(((np.asarray(low) + high) / 2)[::-1])
    origin = middle - geometry.directions @ ((shape[::-1] - 1) / 2 * voxel)
    return Geometry.from_spacing(tuple(int(n) for n in shape), (voxel,) * 3, origin, geometry.directions)


def _box_of(found, grid: Geometry, geometry: Geometry, prompts: Prompts):
    """Lowest and highest index (k, j, i) on the image of what was found and of the prompts; a box alone counts."""
    low, high = prompts.extent(geometry)
    if prompts.box is not None:
        return low, high
    if not found.any():
        around = _LEAST_MM / geometry.spacing_kji
        return low - around, high + around
    spans = [np.flatnonzero(found.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    corners = np.array([[span[n] for span in spans] for n in (0, 1)], float)
    index = geometry.ijk(grid.ras(corners[:, ::-1]))[:, ::-1]
    return np.minimum(low, index.min(axis=0)), np.maximum(high, index.max(axis=0))


def _widened(low, high, geometry: Geometry):
    """With the margin around, at least 24 voxels of the finest spacing wide, within the image."""
    spacing = geometry.spacing_kji
    width = np.maximum((high - low + 1) * (1 + 2 * _MARGIN), 24 * spacing.min() / spacing)
    middle = (low + high) / 2
    shape = np.array(geometry.shape)
    return np.maximum(middle - (width - 1) / 2, 0), np.minimum(middle + (width - 1) / 2, shape - 1)


def _serves(seen: _Look, wanted: Geometry, whole: Geometry) -> bool:
    """Whether an earlier close look shows what is wanted, and not much more."""
    grid = seen.geometry
    if _voxel(grid) >= _CLOSER * _voxel(whole) or _voxel(grid) > 1.5 * _voxel(wanted):
        return False
    corners = np.array([np.zeros(3), np.array(wanted.shape[::-1]) - 1.0])
    index = grid.ijk(wanted.ras(corners))
    # The wanted look has a margin, half of which may be missing.
    slack = 0.5 * _MARGIN / (1 + 2 * _MARGIN) * np.array(wanted.shape[::-1]) * _voxel(wanted) / _voxel(grid)
    low, high = index.min(axis=0), index.max(axis=0) - np.array(grid.shape[::-1])
    return bool((low >= -0.5 - slack).all() and (high <= slack).all())


def _smoothed(image: Volume, grid: Geometry) -> Volume:
    """The image without the detail that voxels as large as the grid's cannot show."""
    from scipy.ndimage import gaussian_filter

    ratio = grid.spacing.min() / image.geometry.spacing_kji
    sigma = np.where(np.array(image.geometry.shape) > 1, 0.4 * np.sqrt(np.maximum(ratio**2 - 1, 0)), 0)
    if sigma.max() < 0.4:
        return image
    return image.with_array(gaussian_filter(image.array.astype(np.float32), sigma))


def _on_image(likely, grid: Geometry, geometry: Geometry) -> np.ndarray:
    """Probabilities of a look as a mask on the image, computed in the part that the look shows."""
    result = np.zeros(geometry.shape, bool)
    corners = np.array([np.zeros(3), np.array(grid.shape[::-1]) - 1.0])
    index = geometry.ijk(grid.ras(corners))[:, ::-1]
    low = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)), np.array(geometry.shape) - 1).astype(int)
    if (low > high).any():
        return result
    part = geometry.cropped(tuple(low), tuple(high - low + 1))
    inside = tuple(slice(a, b + 1) for a, b in zip(low, high))
    result[inside] = resample_volume(Volume(likely, grid), part, "linear").array > 0.5
    return result
