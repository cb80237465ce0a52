"""Arrangements of the slice views that compare volumes: one over the other, or side by side."""

import slicer

LAYOUT_ID = 74120
"""Number of the side-by-side layout; Slicer's own are below 100."""
MOST = 6
"""Volumes that fit side by side."""
_OPACITY = 0.5
_THIN = 0.25
_COLORS = ("#F34A33", "#EDD54C", "#6EB04B", "#4C8FED", "#B14CED", "#9A9A9A")


def is_comparable(volumes) -> bool:
    """Whether there are two volumes or more, and views to show them in."""
    return len(images(volumes)) > 1 and slicer.app.layoutManager() is not None


def images(nodes) -> list:
    """The volumes among the nodes that are no label maps, each once, and still in the scene."""
    found = []
    for node in nodes:
        if node is None or not node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
            continue
        if node not in found and slicer.mrmlScene.GetNodeByID(node.GetID() or "") is node:
            found.append(node)
    return found


def show_overlay(inputs, results):
    """The first result half transparent over the first input, in all slice views; else the second input over it."""
    shown = images([*inputs, *results])
    if len(shown) < 2 or slicer.app.layoutManager() is None:
        return
    found = [volume for volume in images(results) if volume is not shown[0]]
    slicer.util.setSliceViewerLayers(
        background=shown[0], foreground=found[0] if found else shown[1], foregroundOpacity=_OPACITY, fit=True
    )  # fmt: skip


def show_groups(groups) -> bool:
    """Each group in a slice view of its own: its first volume behind, a second one thin over it, the rest on top.

    Segmentations and markups of a group are hidden in the other views: images of different views may lie at the same
    place.

    Parameters
    ----------
    groups : list of list of vtkMRMLNode
        The first of each is a volume.

    Returns
    -------
    bool
        Whether there was something to show, and views to show it in.
    """
    manager = slicer.app.layoutManager()
    groups = groups[:MOST]
    if not groups or manager is None:
        return False
    for name, group in zip(_arranged(manager, len(groups)), groups):
        widget = manager.sliceWidget(name)
        composite = widget.mrmlSliceCompositeNode()
        volumes = images(group)
        composite.SetLinkedControl(False)
        composite.SetBackgroundVolumeID(volumes[0].GetID())
        composite.SetForegroundVolumeID(volumes[1].GetID() if len(volumes) > 1 else None)
        composite.SetForegroundOpacity(_THIN)
        composite.SetLabelVolumeID(None)
        widget.mrmlSliceNode().RotateToVolumePlane(volumes[0])
        for node in group:
            if not node.IsA("vtkMRMLVolumeNode") and node.IsA("vtkMRMLDisplayableNode"):
                node.CreateDefaultDisplayNodes()
                node.GetDisplayNode().RemoveAllViewNodeIDs()
                node.GetDisplayNode().AddViewNodeID(widget.mrmlSliceNode().GetID())
    for number in range(len(groups)):
        manager.sliceWidget(view_name(number)).sliceLogic().FitSliceToBackground()
    return True


def show_side_by_side(volumes):
    """Each volume in a slice view of its own; the views are linked and show the plane of the first volume."""
    shown = images(volumes)[:MOST]
    manager = slicer.app.layoutManager()
    if len(shown) < 2 or manager is None:
        return
    names = _arranged(manager, len(shown))
    for name, volume in zip(names, shown):
        widget = manager.sliceWidget(name)
        composite = widget.mrmlSliceCompositeNode()
        # Links are set at the end: a linked view would hand its volume to the others.
        composite.SetLinkedControl(False)
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        widget.mrmlSliceNode().RotateToVolumePlane(shown[0])
    for name in names:
        manager.sliceWidget(name).sliceLogic().FitSliceToBackground()
    for name in names:
        composite = manager.sliceWidget(name).mrmlSliceCompositeNode()
        composite.SetHotLinkedControl(True)
        composite.SetLinkedControl(True)


def _arranged(manager, count: int) -> list[str]:
    """Lay out so many slice views; their names."""
    node = manager.layoutLogic().GetLayoutNode()
    text = description(count)
    if node.IsLayoutDescription(LAYOUT_ID):
        node.SetLayoutDescription(LAYOUT_ID, text)
    else:
        node.AddLayoutDescription(LAYOUT_ID, text)
    # The same number with another description is only laid out anew after something else.
    if manager.layout == LAYOUT_ID:
        manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    manager.setLayout(LAYOUT_ID)
    return [view_name(number) for number in range(count)]


def view_name(number: int) -> str:
    """Name of a slice view of the side-by-side layout."""
    return f"MedImgAI{number + 1}"


def description(count: int) -> str:
    """XML of a layout with so many slice views, at most three in a row."""
    columns = count if count <= 3 else (count + 1) // 2
    rows = [range(start, min(start + columns, count)) for start in range(0, count, columns)]
    lines = ['<layout type="vertical" split="true">']
    for row in rows:
        lines.append('<item><layout type="horizontal" split="true">')
        for number in row:
            lines.append(
                f'<item><view class="vtkMRMLSliceNode" singletontag="{view_name(number)}">'
                '<property name="orientation" action="default">Axial</property>'
                f'<property name="viewlabel" action="default">{number + 1}</property>'
                f'<property name="viewcolor" action="default">{_COLORS[number % len(_COLORS)]}</property></view></item>'
            )
        lines.append("</layout></item>")
    return "".join([*lines, "</layout>"])
