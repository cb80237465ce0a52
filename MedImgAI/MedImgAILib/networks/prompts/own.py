"""Our own promptable network: looks at what was pointed at, from close to wide, of which the surest answer counts.

A look is at most 96³ voxels, so that the time does not depend on the size of the image. What the network knows of each
look is kept; a further prompt costs the decoder alone.
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
"""Of a box's extent, left around it."""
_CLOSEST = 48
"""Voxels of the image's finest spacing along the edge of the first look."""
_WIDER = 1.8
"""How much wider each look is than the one before."""
_TOUCHES, _CUT_OFF = 0.05, 0.9
"""A structure of whose surface so much lies at the look's edge goes on beyond; its answer counts for so much less."""


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
        low, high = prompts.extent(image.geometry)
        if prompts.box is not None:
            grid = _grid(image.geometry, *_widened(low, high, image.geometry))
            likely = self._look(image, grid, prompts, kept, key, context)
            return _on_image(likely, grid, image.geometry)
        best, answer = 0.0, None
        wanted = _looks(image.geometry, low, high)
        for number, grid in enumerate(wanted):
            with context.part(number / len(wanted), (number + 1) / len(wanted)) as part:
                part.progress(0.0, f"Look {number + 1} of {len(wanted)}")
                if number + 1 < len(wanted):
                    grid = self._kept_grid(kept, key, grid, prompts, image.geometry) or grid
                likely = self._look(image, grid, prompts, kept, key, part)
            found = _pointed_at(likely > 0.5, prompts.marks(prompts.inside, grid))
            sure = _expected_dice(likely, found)
            if _goes_on(found, grid, image.geometry):
                sure *= _CUT_OFF
            if sure > best:
                best, answer = sure, (np.where(found, likely, np.minimum(likely, 0.49)), grid)
        return np.zeros(image.geometry.shape, bool) if answer is None else _on_image(*answer, image.geometry)

    @staticmethod
    def _kept_grid(kept, key, wanted, prompts, geometry) -> Geometry | None:
        """The grid of an earlier look about as wide as ``wanted``, in whose inner part all points lie."""
        last = np.array(geometry.shape[::-1]) - 1.0

        def serves(known):
            if known[0] != key or not isinstance(known[1], _Look):
                return False
            grid = known[1].geometry
            extent = np.array(grid.shape[::-1])
            index = (grid.ijk(prompts.inside) + 0.5) / extent
            ends = geometry.ijk(grid.ras(np.array([-0.5, -0.5, -0.5]) + np.array([extent * 0, extent])))
            inner = ((index > 0.15) | (ends[0] < 0.5)) & ((index < 0.85) | (ends[1] > last - 0.5))
            return 0.75 < _width(grid) / _width(wanted) < 1.3 and bool(inner.all())

        known = kept.find(serves)
        return known[1].geometry if known else None

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


def _width(grid: Geometry) -> float:
    """Edge in mm of the cube as large as a grid."""
    return float(np.prod(grid.shape[::-1] * grid.spacing) ** (1 / 3))


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


def _looks(geometry: Geometry, low, high) -> list[Geometry]:
    """Grids about the prompts between two indices (k, j, i), each wider than the last; the last one shows all."""
    spacing = geometry.spacing_kji
    side = max(_CLOSEST * spacing.min(), 1.5 * float(((high - low + 1) * spacing).max()))
    grids = []
    while not grids or not _covers(grids[-1], geometry):
        grids.append(_grid(geometry, *_cube((low + high) / 2, side, geometry)))
        side *= _WIDER
    # The same whatever the prompts are.
    return [*grids[:-1], _grid(geometry, np.zeros(3), np.array(geometry.shape) - 1.0)]


def _expected_dice(likely, found) -> float:
    """The Dice that ``found`` has if the probabilities are right, those of other parts above a half left out."""
    if not found.any():
        return 0.0
    own = likely[found].sum()
    return float(2 * own / (own + likely[likely <= 0.5].sum() + found.sum()))


def _cube(middle, side: float, geometry: Geometry):
    """Lowest and highest index (k, j, i) of a cube of ``side`` mm, within the image."""
    half = side / geometry.spacing_kji / 2 - 0.5
    last = np.array(geometry.shape) - 1.0
    return np.clip(middle - half, 0, last), np.clip(middle + half, 0, last)


def _pointed_at(found, marked):
    """The connected parts of ``found`` next to the marks; all of it if there are none."""
    from scipy.ndimage import binary_dilation, label

    parts, _ = label(found)
    chosen = np.unique(parts[binary_dilation(marked, iterations=2)])
    chosen = chosen[chosen > 0]
    return np.isin(parts, chosen) if len(chosen) else found


def _goes_on(found, grid: Geometry, geometry: Geometry) -> bool:
    """Whether a structure reaches the faces of a look beyond which there is more of the image."""
    at_edge = 0
    for axis in range(3):
        for end in (0, -1):
            face = found.take(end, axis)
            if not face.any():
                continue
            place = np.argwhere(face).mean(axis=0)
            index = np.insert(place, axis, 0 if end == 0 else grid.shape[axis] - 1)
            beyond = index.copy()
            beyond[axis] += -1.0 if end == 0 else 1.0
            if geometry.contains(grid.ras(beyond[::-1])):
                at_edge += int(face.sum())
    return at_edge > max(4, _TOUCHES * found.sum() ** (2 / 3))


def _covers(grid: Geometry, geometry: Geometry) -> bool:
    """Whether a look shows the whole image."""
    last = np.array(geometry.shape[::-1]) - 1.0
    index = grid.ijk(geometry.ras(np.array([np.zeros(3), last])))
    return bool((index > -1).all() and (index < np.array(grid.shape[::-1])).all())


def _widened(low, high, geometry: Geometry):
    """With the margin around, at least 24 voxels of the finest spacing wide, within the image."""
    spacing = geometry.spacing_kji
    width = np.maximum((high - low + 1) * (1 + 2 * _MARGIN), 24 * spacing.min() / spacing)
    middle = (low + high) / 2
    shape = np.array(geometry.shape)
    return np.maximum(middle - (width - 1) / 2, 0), np.minimum(middle + (width - 1) / 2, shape - 1)


def _smoothed(image: Volume, grid: Geometry) -> Volume:
    """The part of the image about a look, without the detail that voxels as large as the grid's cannot show."""
    from scipy.ndimage import gaussian_filter

    shape = np.array(image.geometry.shape)
    ratio = grid.spacing.min() / image.geometry.spacing_kji
    sigma = np.where(shape > 1, 0.4 * np.sqrt(np.maximum(ratio**2 - 1, 0)), 0)
    corners = np.array([np.zeros(3), np.array(grid.shape[::-1]) - 1.0])
    index = image.geometry.ijk(grid.ras(corners))[:, ::-1]
    margin = np.ceil(4 * sigma) + 1
    low = np.clip(np.floor(index.min(axis=0)) - margin, 0, shape - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + margin, 0, shape - 1).astype(int)
    array = image.array[tuple(slice(a, b + 1) for a, b in zip(low, high))].astype(np.float32)
    if sigma.max() >= 0.4:
        array = gaussian_filter(array, sigma)
    return Volume(array, image.geometry.cropped(tuple(low), tuple(high - low + 1)))


def _on_image(likely, grid: Geometry, geometry: Geometry) -> np.ndarray:
    """Probabilities of a look as a mask on the image, computed where the look found something."""
    result = np.zeros(geometry.shape, bool)
    found = np.argwhere(likely > 0.5)
    if not len(found):
        return result
    corners = np.array([found.min(axis=0) - 1.0, found.max(axis=0) + 1.0])
    index = geometry.ijk(grid.ras(corners[:, ::-1]))[:, ::-1]
    low = np.maximum(np.floor(index.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(index.max(axis=0)), np.array(geometry.shape) - 1).astype(int)
    if (low > high).any():
        return result
    part = geometry.cropped(tuple(low), tuple(high - low + 1))
    inside = tuple(slice(a, b + 1) for a, b in zip(low, high))
    result[inside] = resample_volume(Volume(likely, grid), part, "linear").array > 0.5
    return result
