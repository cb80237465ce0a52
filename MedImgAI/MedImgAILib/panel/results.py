"""What a run produced, shown in the panel and in the views."""

import html
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from . import layouts

_LARGEST_HEIGHT = 240
_LARGEST_COLUMN = 170
_ROW_HEIGHT = 24


class ResultArea:
    """The rows of the "Results" section.

    Parameters
    ----------
    section : ctkCollapsibleButton
        Hidden while there is nothing to show.
    layout : QLayout
        Of the section.
    """

    def __init__(self, section, layout):
        self._section = section
        self._layout = layout
        self._container = None
        self._rows = []
        section.visible = False

    def clear(self):
        """Take every row away."""
        for _node, _widget, view in self._rows:
            if view is not None:
                view.setMRMLTableNode(None)
        self._rows = []
        if self._container is not None:
            self._layout.removeWidget(self._container)
            self._container.hide()
            self._container.deleteLater()
            self._container = None
        self._section.visible = False

    def show(self, nodes: dict, warnings=(), inputs=()):
        """Display what a run gave.

        Parameters
        ----------
        nodes : dict
            Title to result node.
        warnings : sequence of str
            What the task warned of.
        inputs : sequence of vtkMRMLNode
            What it was made from; two volumes or more among inputs and results give buttons to look at them together.
        """
        self.clear()
        if not nodes and not warnings:
            return
        self._container = qt.QWidget()
        rows = qt.QVBoxLayout(self._container)
        rows.setContentsMargins(0, 0, 0, 0)
        if warnings:
            rows.addWidget(_warning_label(warnings))
        if layouts.is_comparable([*inputs, *nodes.values()]):
            rows.addWidget(_comparison(list(inputs), list(nodes.values())))
        for title, node in nodes.items():
            widget, view = _row(title, node)
            self._rows.append((node, widget, view))
            rows.addWidget(widget)
        self._layout.addWidget(self._container)
        self._section.visible = True
        self._section.collapsed = False

    def forget_deleted_nodes(self):
        """Take the rows away whose node is no longer in the scene."""
        for row in list(self._rows):
            node, widget, view = row
            if slicer.mrmlScene.GetNodeByID(node.GetID() or "") is not node:
                if view is not None:
                    view.setMRMLTableNode(None)
                widget.hide()
                self._rows.remove(row)


def _comparison(inputs, results):
    """Buttons that arrange the views."""
    widget = qt.QWidget()
    box = qt.QHBoxLayout(widget)
    box.setContentsMargins(0, 0, 0, 0)
    overlay = qt.QPushButton(_("Overlay"))
    overlay.objectName = "overlayButton"
    overlay.toolTip = _("Show the result half transparent over the reference in all slice views.")
    overlay.connect("clicked()", lambda: layouts.show_overlay(inputs, results))
    side_by_side = qt.QPushButton(_("Side by side"))
    side_by_side.objectName = "sideBySideButton"
    side_by_side.toolTip = _("Show reference, other inputs and results in linked slice views beside each other.")
    side_by_side.connect("clicked()", lambda: layouts.show_side_by_side([*inputs, *results]))
    for button in (overlay, side_by_side):
        box.addWidget(button)
    return widget


def _warning_label(warnings):
    label = qt.QLabel("\n".join(warnings))
    label.objectName = "warningsLabel"
    label.wordWrap = True
    label.setStyleSheet("color: #b06000;")
    return label


def _row(title: str, node):
    """The widget for one result, and the table view in it if it has one."""
    widget = qt.QWidget()
    widget.objectName = f"result_{node.GetID()}"
    box = qt.QVBoxLayout(widget)
    box.setContentsMargins(0, 0, 0, 0)
    head = qt.QHBoxLayout()
    label = qt.QLabel(f"{html.escape(title)}: <b>{html.escape(node.GetName())}</b>")
    label.wordWrap = True
    head.addWidget(label, 1)
    box.addLayout(head)
    view = None
    if node.IsA("vtkMRMLSegmentationNode"):
        head.addWidget(_button(_("Show in 3D"), _("Show the segments as surfaces in the 3D view."), show_in_3d, node))
    elif node.IsA("vtkMRMLVolumeNode"):
        head.addWidget(_button(_("Show in slices"), _("Show the volume in the slice views."), show_volume, node))
    elif node.IsA("vtkMRMLPlotChartNode"):
        head.addWidget(_button(_("Show plot"), _("Show the chart in the plot view."), show_plot, node))
    elif node.IsA("vtkMRMLTableNode"):
        head.addWidget(_button(_("Open"), _("Open the table in the Tables module."), slicer.app.openNodeModule, node))
        view = _table_view(node)
        box.addWidget(view)
    elif node.IsA("vtkMRMLTextNode"):
        if is_page(node.GetText()):
            tool_tip = _("Show the whole report in the web browser.")
            head.addWidget(_button(_("Open in browser"), tool_tip, open_in_browser, node, needs_views=False))
        box.addWidget(_text_view(node))
    return widget, view


def _button(text, tool_tip, action, node, needs_views=True):
    button = qt.QPushButton(text)
    button.toolTip = tool_tip
    if needs_views and slicer.app.layoutManager() is None:
        button.enabled = False
        button.toolTip = _("There are no views.")
    button.connect("clicked()", lambda: action(node))
    return button


def _table_view(node):
    view = slicer.qMRMLTableView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(node)
    view.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    view.verticalHeader().hide()
    view.verticalHeader().defaultSectionSize = _ROW_HEIGHT
    height = min(_LARGEST_HEIGHT, 2 * _ROW_HEIGHT + _ROW_HEIGHT * max(1, node.GetNumberOfRows()))
    view.setMinimumHeight(height)
    view.setMaximumHeight(height)
    view.resizeColumnsToContents()
    for column in range(node.GetNumberOfColumns()):
        view.setColumnWidth(column, min(view.columnWidth(column), _LARGEST_COLUMN))
    return view


def is_page(text) -> bool:
    """Whether a text is an HTML page, as reports are."""
    return (text or "").lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


def _text_view(node):
    text = node.GetText() or ""
    if is_page(text):
        view = qt.QTextBrowser()
        view.openExternalLinks = False
        view.setHtml(text)
        view.setMinimumHeight(_LARGEST_HEIGHT)
        return view
    view = qt.QPlainTextEdit()
    view.setReadOnly(True)
    view.setPlainText(text)
    view.setMaximumHeight(_LARGEST_HEIGHT // 2)
    return view


def open_in_browser(node):
    """Write an HTML page to Slicer's temporary folder and show it in the user's web browser."""
    name = "".join(c if c.isalnum() else "-" for c in node.GetName())
    path = Path(slicer.app.temporaryPath) / f"MedImgAI-{name}.html"
    path.write_text(node.GetText(), encoding="utf-8")
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))


def show_in_3d(segmentation):
    """Show the segments as closed surfaces and centre the 3D view on them."""
    with slicer.util.WaitCursor():
        segmentation.CreateDefaultDisplayNodes()
        segmentation.CreateClosedSurfaceRepresentation()
        segmentation.GetDisplayNode().SetVisibility3D(True)
    views = slicer.app.layoutManager()
    if views is not None and views.threeDViewCount:
        views.threeDWidget(0).threeDView().resetFocalPoint()


def show_volume(volume):
    """Show a volume in the slice views: as label layer if it holds labels, else as background."""
    if slicer.app.layoutManager() is None:
        return
    if volume.IsA("vtkMRMLLabelMapVolumeNode"):
        slicer.util.setSliceViewerLayers(label=volume)
    else:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)


def show_plot(chart):
    """Show a chart in the plot view of the layout."""
    if slicer.app.layoutManager() is not None:
        slicer.modules.plots.logic().ShowChartInLayout(chart)


def show_in_slice_views(nodes, reference):
    """After a run: its first volume behind, its label map on top; a segmentation over the volume it was made from.

    The views keep their place unless the new background lies elsewhere than ``reference``.
    """
    if slicer.app.layoutManager() is None:
        return
    layers = {}
    for node in nodes:
        if node.IsA("vtkMRMLLabelMapVolumeNode"):
            layers.setdefault("label", node)
        elif node.IsA("vtkMRMLVolumeNode"):
            layers.setdefault("background", node)
    is_volume = reference is not None and reference.IsA("vtkMRMLVolumeNode")
    if "background" not in layers and is_volume and ("label" in layers or _has_segmentation(nodes)):
        layers["background"] = reference
    if layers:
        background = layers.get("background")
        elsewhere = background is not None and not (is_volume and _bounds(background) == _bounds(reference))
        slicer.util.setSliceViewerLayers(**layers, fit=elsewhere)


def _has_segmentation(nodes) -> bool:
    return any(node.IsA("vtkMRMLSegmentationNode") for node in nodes)


def _bounds(volume) -> list[float]:
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    return [round(b, 2) for b in bounds]
