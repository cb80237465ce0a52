"""Segment Anything (Kirillov et al. 2023, ICCV) and its like on volumes: slice by slice, onwards from the prompts.

A slice with prompts is answered first. Its answer prompts the next slice, by the box around it and a point in its
depth, until nothing is found or the answer changes abruptly. Each slice's embedding is kept.
"""

from __future__ import annotations

import numpy as np

from ...core import Context, Volume
from ..precision import reduced
from ..preparation import prepare
from .given import Prompts
from .memory import Embeddings

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the photographs that SAM was trained on."""
_GROWTH = 3.0
"""From slice to slice an area may not grow or shrink by more than this."""
_MOST_POINTS = 16


class SegmentAnything:
    """Answers prompts with ``transformers.SamModel``.

    Parameters
    ----------
    network : transformers.SamModel
    card : ModelCard
        Its input says the orientation of the slices (the last letter is across them) and the intensities, to 0…1.
    device : str
    reduced_precision : bool
        On a graphics card.
    """

    def __init__(self, network, card, device: str = "cpu", reduced_precision: bool = True):
        self.network, self.card, self.device = network, card, device
        self.reduced_precision = reduced_precision
        self.edge = int(network.config.vision_config.image_size)

    def segment(self, image: Volume, prompts: Prompts, kept: Embeddings, key, context: Context) -> np.ndarray:
        """(K, J, I) bool on the grid of ``image``."""
        with context.part(0.0, 0.1) as part:
            prepared = kept.get((key, "prepared"), lambda: [prepare(image, self.card.inputs[0], part)])[0]
        self._array, self._kept, self._key = prepared.array, kept, key
        grid = prepared.geometry
        mask = np.zeros(grid.shape, bool)
        inside, outside = (
            np.rint(grid.ijk(points)[:, ::-1]).astype(int) if len(points) else np.zeros((0, 3), int)
            for points in (prompts.inside, prompts.outside)
        )
        box = prompts.box_on(grid)
        first, last = (box[0].start, box[0].stop - 1) if box else (0, grid.shape[0] - 1)
        chosen = sorted({int(k) for k in inside[:, 0] if first <= k <= last}) or [(first + last) // 2]
        with context.part(0.1, 0.9) as part:
            for k in chosen:
                mask[k] = self._slice(k, inside, outside, box)
            self._onwards(mask, range(chosen[-1] + 1, last + 1), chosen[-1], outside, box, part, (0.0, 0.5))
            self._onwards(mask, range(chosen[0] - 1, first - 1, -1), chosen[0], outside, box, part, (0.5, 1.0))
            for low, high in zip(chosen, chosen[1:]):
                self._onwards(mask, range(low + 1, high), low, outside, box, part, (1.0, 1.0))
        with context.part(0.9, 1.0) as part:
            return prepared.back(mask.view(np.uint8), part) > 0

    def _onwards(self, mask, slices, start, outside, box, context, span):
        """Go from the answered slice ``start`` through ``slices`` as long as something is found."""
        before = mask[start]
        for number, k in enumerate(slices):
            share = span[0] + (span[1] - span[0]) * number / max(1, len(slices))
            context.progress(share, f"Slice {k + 1} of {len(mask)}")
            if not before.any():
                return
            rows, columns = (np.flatnonzero(before.any(axis=a))[[0, -1]] for a in (1, 0))
            around = (slice(k, k + 1), slice(rows[0], rows[1] + 1), slice(columns[0], columns[1] + 1))
            found = self._slice(k, np.array([[k, *_deepest(before)]]), outside, around)
            if box is not None:
                found = _within(found, box)
            ratio = found.sum() / before.sum()
            if not 1 / _GROWTH <= ratio <= _GROWTH:
                return
            mask[k] = before = found

    def _slice(self, k, inside, outside, box) -> np.ndarray:
        """(J, I) bool: the answer in one slice."""
        import torch

        embedding = self._kept.get((self._key, k), lambda: self._embedding(k))
        points = [(p, 1) for p in inside if p[0] == k] + [(p, 0) for p in outside if p[0] == k]
        points = points[:: -(-len(points) // _MOST_POINTS)] if points else points
        rows, columns = self._array.shape[2:]
        scale = self.edge / max(rows, columns)
        arguments = {}
        if points:
            # Columns first, at the middle of the pixels, to which SAM itself adds a half.
            places = [[(p[2] + 0.5) * scale - 0.5, (p[1] + 0.5) * scale - 0.5] for p, _ in points]
            arguments["input_points"] = torch.tensor([[places]], dtype=torch.float32, device=self.device)
            arguments["input_labels"] = torch.tensor([[[label for _, label in points]]], device=self.device)
        if box is not None:
            corners = [box[2].start, box[1].start, box[2].stop, box[1].stop]
            arguments["input_boxes"] = torch.tensor([[[c * scale - 0.5 for c in corners]]], device=self.device)
        with torch.inference_mode():
            answer = self.network(image_embeddings=embedding, multimask_output=False, **arguments).pred_masks
            logits = torch.nn.functional.interpolate(answer[:, 0].float(), (self.edge, self.edge), mode="bilinear")
            shown = logits[:, :, : round(rows * scale), : round(columns * scale)]
            logits = torch.nn.functional.interpolate(shown, (rows, columns), mode="bilinear")[0, 0]
        return (logits > 0).cpu().numpy()

    def _embedding(self, k):
        """Of a slice made as large as the network wants, with the rest of the square left 0."""
        import torch

        plane = torch.from_numpy(np.ascontiguousarray(self._array[:, k]))[None].to(self.device)
        if plane.shape[1] != 3:
            plane = plane[:, :1].expand(-1, 3, -1, -1)
        mean, std = (torch.tensor(v, device=self.device).reshape(1, 3, 1, 1) for v in (_MEAN, _STD))
        scale = self.edge / max(plane.shape[2:])
        size = [max(1, round(n * scale)) for n in plane.shape[2:]]
        plane = torch.nn.functional.interpolate((plane - mean) / std, size, mode="bilinear", antialias=True)
        plane = torch.nn.functional.pad(plane, (0, self.edge - size[1], 0, self.edge - size[0]))
        precision, _ = reduced(self.network, self.device, self.reduced_precision, False)
        with torch.inference_mode(), precision:
            return self.network.get_image_embeddings(plane).float()


def _deepest(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel that is farthest from the edge of a mask."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row), int(column)


def _within(found: np.ndarray, box) -> np.ndarray:
    result = np.zeros_like(found)
    result[box[1:]] = found[box[1:]]
    return result
