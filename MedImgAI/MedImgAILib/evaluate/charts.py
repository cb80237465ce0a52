"""Line charts as SVG texts, so that a report is one file and needs nothing to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 400, 320, 54, 46, 12, 12
COLORS = ("#1f5fa8", "#c0392b", "#2e8b57", "#8e6bb0", "#b8860b", "#555555")


@dataclass(frozen=True, eq=False)
class Line:
    """A curve; ``marks`` draws its points, ``dashed`` is for references."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dashed: bool = False
    marks: bool = False


def chart(lines, x_title: str, y_title: str, y_range: tuple[float, float] = (0.0, 1.0)) -> str:
    """An ``<svg>`` element; x runs from 0 to 1."""
    low, high = y_range
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x, y):
        return _LEFT + width * np.asarray(x, float), _TOP + height * (high - np.asarray(y, float)) / (high - low)

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_title)} against {escape(x_title)}">',
        f'<rect x="{_LEFT}" y="{_TOP}" width="{width}" height="{height}" fill="none" stroke="#999"/>',
    ]
    for share in np.linspace(0, 1, 6):
        x, _ = place(share, low)
        value = low + share * (high - low)
        _, y = place(0, value)
        parts.append(f'<text x="{x:.1f}" y="{_TOP + height + 16}" text-anchor="middle">{share:g}</text>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2g}</text>')
        parts.append(f'<path d="M{_LEFT} {y:.1f}h{width}M{x:.1f} {_TOP}v{height}" stroke="#eee" fill="none"/>')
    for number, line in enumerate(lines):
        kept = np.isfinite(line.x) & np.isfinite(line.y)
        x, y = place(line.x[kept], np.clip(line.y[kept], low, high))
        color = "#888" if line.dashed else COLORS[number % len(COLORS)]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"{dash}/>')
        if line.marks:
            parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{color}"/>' for a, b in zip(x, y)]
    middle = _LEFT + width / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_title)}</text>')
    at = _TOP + height / 2
    parts.append(f'<text x="14" y="{at}" text-anchor="middle" transform="rotate(-90 14 {at})">{escape(y_title)}</text>')
    legend = "".join(
        f'<span style="color:{"#888" if line.dashed else COLORS[n % len(COLORS)]}">━ {escape(line.name)}</span> '
        for n, line in enumerate(lines)
    )
    return "".join([*parts, "</svg>", f'<p class="legend">{legend}</p>'])
