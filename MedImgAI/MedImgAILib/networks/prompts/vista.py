"""VISTA3D (He et al. 2025, CVPR) as MONAI builds it: a window's features are kept, clicks go to the head.

The weights are the user's own: a model package of the architecture ``monai.vista3d132``.
"""

from __future__ import annotations

import numpy as np

from ...core import Context, InputError, Volume
from ..precision import reduced
from ..preparation import prepare
from .given import Prompts
from .memory import Embeddings

WINDOW = (128, 128, 128)
"""Voxels of the window that VISTA3D was trained with."""
_MOST_POINTS = 32
_STEP = 16
"""Windows begin at multiples of so many voxels, so that further clicks fall into the same one."""


class Vista3D:
    """Answers clicks with MONAI's ``VISTA3D``; a box counts as its middle, and as the limit of the answer.

    Parameters
    ----------
    network : monai.networks.nets.VISTA3D
    card : ModelCard
        Its input says spacing, orientation and intensities; its inference the window.
    device : str
    reduced_precision : bool
        On a graphics card.
    """

    def __init__(self, network, card, device: str = "cpu", reduced_precision: bool = True):
        self.network, self.card, self.device = network, card, device
        self.reduced_precision = reduced_precision
        self.window = card.inference.window[::-1] if card.inference.window else WINDOW

    def segment(self, image: Volume, prompts: Prompts, kept: Embeddings, key, context: Context) -> np.ndarray:
        """(K, J, I) bool on the grid of ``image``."""
        with context.part(0.0, 0.3) as part:
            prepared = kept.get((key, "prepared"), lambda: [prepare(image, self.card.inputs[0], part)])[0]
        grid = prepared.geometry
        start = self._start(prompts, grid)
        inside = tuple(slice(s, s + w) for s, w in zip(start, self.window))
        with context.part(0.3, 0.8) as part:
            part.progress(0.0, "Looking at the image")
            features = kept.get((key, start), lambda: self._features(prepared.array, inside))
        context.check()
        points, labels = self._points(prompts, grid, start)
        logits = self._logits(features, points, labels)
        mask = np.zeros(grid.shape, bool)
        shown = tuple(slice(s.start, min(s.stop, n)) for s, n in zip(inside, grid.shape))
        mask[shown] = logits[tuple(slice(0, s.stop - s.start) for s in shown)] > 0
        if (box := prompts.box_on(grid)) is not None:
            kept_part = np.zeros(grid.shape, bool)
            kept_part[box] = mask[box]
            mask = kept_part
        with context.part(0.9, 1.0) as part:
            return prepared.back(mask.view(np.uint8), part) > 0

    def _start(self, prompts: Prompts, grid) -> tuple[int, int, int]:
        """First voxel of the window about the prompts."""
        # Rounded, so that the last digits of an oblique grid do not choose the window.
        low, high = (np.round(index, 3) for index in prompts.extent(grid))
        start = []
        for a, b, extent, window in zip(low, high, grid.shape, self.window):
            if b - a >= window:
                raise InputError("The prompts lie too far from each other for this model; point at one structure.")
            first = round(((a + b + 1 - window) / 2) / _STEP) * _STEP
            # The window must not leave a prompt out for the sake of a round number.
            first = int(np.clip(first, np.ceil(b - window + 1), np.floor(a)))
            start.append(max(0, min(first, extent - window)))
        return tuple(start)

    def _features(self, array, inside):
        import torch

        part = array[(slice(None), *inside)]
        missing = [(0, w - n) for w, n in zip(self.window, part.shape[1:])]
        window = torch.from_numpy(np.pad(part, [(0, 0), *missing])[None]).to(self.device)
        precision, _ = reduced(self.network, self.device, self.reduced_precision, False)
        with torch.inference_mode(), precision:
            return self.network.image_encoder(window, with_point=True, with_label=False)[0].float()

    def _points(self, prompts: Prompts, grid, start):
        """(N, 3) voxels (k, j, i) of the window, and 1 or 0 for each."""
        points = [(p, 1) for p in prompts.inside] + [(p, 0) for p in prompts.outside]
        if prompts.box is not None:
            points.append((prompts.box.mean(axis=0), 1))
        if len(points) > _MOST_POINTS:
            points = [points[n] for n in np.linspace(0, len(points) - 1, _MOST_POINTS).astype(int)]
        index = grid.ijk(np.array([p for p, _ in points]))[:, ::-1] - start
        here = np.all((index >= 0) & (index < self.window), axis=1)
        return index[here], np.array([label for _, label in points])[here]

    def _logits(self, features, points, labels) -> np.ndarray:
        import torch

        coordinates = torch.from_numpy(points[None]).float().to(self.device)
        with torch.inference_mode():
            answer = self.network.point_head(features, coordinates, torch.from_numpy(labels[None]).to(self.device))
        return answer[0, 0].float().cpu().numpy()
