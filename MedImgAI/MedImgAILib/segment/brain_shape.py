"""Whether a mask can be a brain: its volume, shape and place in the image."""

from __future__ import annotations

import numpy as np

from ..core.terminology import BRAIN, GREY_MATTER, WHITE_MATTER

VOLUME_ML = (350.0, 2000.0)
"""From a newborn's brain to a large adult's with the fluid around it."""
LENGTH_MM = (85.0, 230.0)
"""Of the longest axis of the ellipsoid with the mask's second moments."""
_MOST_ELONGATED = 2.0
"""Longest over shortest axis; that of adult brains is 1.2 to 1.5."""
_LEAST_FILLED = 0.75
"""The mask's volume over that ellipsoid's: 0.94 to 0.97 for brains, less for what is ragged or hollow."""
_MOST_CUT = 0.08
"""Share of the mask's surface that lies on the image's border."""


_WHITE = (WHITE_MATTER.type.value, "68523003")
"""Codes of white matter: any, and the cerebrum's."""
_GREY = (GREY_MATTER.type.value, "40146001")
"""Codes of grey matter: any, and the cerebral cortex."""


def is_brain(segments) -> bool:
    """Whether segments together are a brain: it alone, or white matter beside grey matter or parts of the cortex."""
    codes = [s.terminology.type.value for s in segments]
    if len(codes) == 1:
        return codes[0] == BRAIN.type.value
    has_grey = any(c in _GREY or "cortex" in s.name.lower() for c, s in zip(codes, segments))
    return has_grey and any(code in _WHITE for code in codes)


def brain_doubts(mask: np.ndarray, spacing_kji) -> list[str]:
    """Why a mask is hardly a brain, in words that follow "it"; empty if nothing speaks against it.

    Parameters
    ----------
    mask : (K, J, I) bool ndarray
    spacing_kji : (3,) in mm
    """
    spacing = np.asarray(spacing_kji, float)
    count = int(mask.sum())
    if count < 8:
        return ["is empty"]
    volume = count * float(np.prod(spacing)) / 1000
    places = np.argwhere(mask)[:: max(1, count // 200_000)] * spacing
    axes = 2 * np.sqrt(5 * np.maximum(np.linalg.eigvalsh(np.cov(places.T)), 0))
    filled = volume / max(np.pi / 6 * float(np.prod(axes)) / 1000, 1e-9)
    doubts = []
    if not VOLUME_ML[0] <= volume <= VOLUME_ML[1]:
        doubts.append(f"has {volume:.0f} mL")
    if not LENGTH_MM[0] <= axes[2] <= LENGTH_MM[1]:
        doubts.append(f"is {axes[2]:.0f} mm long")
    if axes[2] > _MOST_ELONGATED * axes[0]:
        doubts.append(f"is {axes[2] / max(axes[0], 1e-9):.1f} times as long as thick")
    if filled < _LEAST_FILLED:
        doubts.append("is ragged or hollow")
    if (cut := _cut_share(mask)) > _MOST_CUT:
        doubts.append(f"touches the border of the image with {100 * cut:.0f} % of its surface")
    return doubts


def _cut_share(mask: np.ndarray) -> float:
    """Share of the faces between mask and not-mask that lie on the border of the image."""
    inner = border = 0
    for axis in range(3):
        inner += int(np.count_nonzero(np.diff(mask.view(np.int8), axis=axis)))
        border += int(mask.take(0, axis).sum()) + int(mask.take(-1, axis).sum())
    return border / max(inner + border, 1)


def warn_of_doubts(mask: np.ndarray, spacing_kji, label: str, context):
    """Tell the user in one sentence if what was found in the image called ``label`` is hardly a brain."""
    doubts = brain_doubts(mask, spacing_kji)
    if doubts:
        context.warn(
            f"What was found in {label} is hardly a brain: it {', '.join(doubts[:-1])}"
            f"{' and ' if len(doubts) > 1 else ''}{doubts[-1]}. Is it a T1-weighted image of the whole head?"
        )
