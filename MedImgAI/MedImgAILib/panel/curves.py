"""Live curves under the progress bar: an objective, a loss or a metric while the task runs."""

import math

import qt

_WIDTH, _HEIGHT, _MARGIN = 360, 110, 4
_LEFT, _BOTTOM = 56, 16
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
_LOG_RATIO = 50.0
"""Values that span more than this ratio are drawn on a logarithmic axis."""
_MOST_POINTS = 2000


class CurvesView:
    """One small chart per group of curves; hidden while there is nothing to draw.

    Parameters
    ----------
    frame : QWidget
        With a layout, to put the charts in.
    """

    def __init__(self, frame):
        self._frame = frame
        self._charts = {}
        frame.visible = False

    def clear(self):
        """Take the charts away, as before a new run."""
        for label, _curves in self._charts.values():
            self._frame.layout().removeWidget(label)
            label.hide()
            label.deleteLater()
        self._charts = {}
        self._frame.visible = False

    def add(self, points):
        """Add points ``(name, x, y)``; "chart/curve" names put several curves into one chart."""
        changed = set()
        for name, x, y in points:
            if math.isfinite(x) and math.isfinite(y):
                chart, _slash, curve = name.partition("/")
                points = self._chart(chart)[1].setdefault(curve, [])
                points.append((x, y))
                thin(points)
                changed.add(chart)
        for chart in changed:
            label, curves = self._charts[chart]
            label.setPixmap(_drawn(chart, curves))

    def _chart(self, name):
        if name not in self._charts:
            label = qt.QLabel()
            label.objectName = f"curve_{name}"
            self._frame.layout().addWidget(label)
            self._charts[name] = (label, {})
            self._frame.visible = True
        return self._charts[name]


def thin(points: list):
    """Drop every second point of the older half once there are too many: drawing takes the same time for ever."""
    if len(points) > _MOST_POINTS:
        half = len(points) // 2
        points[:half] = points[:half:2]


def axis_range(values) -> tuple[float, float, bool]:
    """Lowest and highest value to show and whether the axis is logarithmic."""
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_RATIO:
        return low, high, True
    if high == low:
        space = abs(high) / 2 or 1.0
        return low - space, high + space, False
    return low, high, False


def positions(points, x_range, y_range) -> list[tuple[int, int]]:
    """Pixels of the points in the chart; ``y_range`` as :func:`axis_range` gives it."""
    (x_low, x_high), (low, high, is_log) = x_range, y_range
    scale = math.log if is_log else float
    width, height = _WIDTH - _LEFT - _MARGIN, _HEIGHT - _BOTTOM - _BOTTOM
    pixels = []
    for x, y in points:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (scale(y) - scale(low)) / (scale(high) - scale(low))
        pixels.append((int(_LEFT + across * width), int(_BOTTOM + (1 - up) * height)))
    return pixels


def _drawn(title, curves):
    """The chart as a pixmap; painted, not a chart view, so that it costs no OpenGL context."""
    every = [point for points in curves.values() for point in points]
    x_range = (min(x for x, _y in every), max(x for x, _y in every))
    y_range = axis_range([y for _x, y in every])
    pixmap = qt.QPixmap(_WIDTH, _HEIGHT)
    pixmap.fill(qt.QColor("#ffffff"))
    painter = qt.QPainter()
    painter.begin(pixmap)
    painter.setPen(qt.QPen(qt.QColor("#999999")))
    bottom = _HEIGHT - _BOTTOM
    painter.drawLine(_LEFT, _BOTTOM, _LEFT, bottom)
    painter.drawLine(_LEFT, bottom, _WIDTH - _MARGIN, bottom)
    painter.setPen(qt.QPen(qt.QColor("#333333")))
    painter.drawText(_MARGIN, _BOTTOM + 8, f"{y_range[1]:.3g}")
    painter.drawText(_MARGIN, bottom, f"{y_range[0]:.3g}")
    painter.drawText(_LEFT, _HEIGHT - _MARGIN, f"{x_range[0]:g} … {x_range[1]:g}")
    painter.drawText(_MARGIN, _BOTTOM - _MARGIN, title + (" (log)" if y_range[2] else ""))
    for number, (name, points) in enumerate(curves.items()):
        painter.setPen(qt.QPen(qt.QColor(_COLORS[number % len(_COLORS)])))
        text = f"{name}: {points[-1][1]:.4g}" if name else f"{points[-1][1]:.4g}"
        painter.drawText(_WIDTH // 3 + number * 110, _BOTTOM - _MARGIN, text)
        pixels = positions(points, x_range, y_range)
        for (x0, y0), (x1, y1) in zip(pixels, pixels[1:] or pixels):
            painter.drawLine(x0, y0, x1, y1)
    painter.end()
    return pixmap
