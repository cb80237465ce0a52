"""A MRML scene without the Slicer application."""

from __future__ import annotations

from functools import cache

import slicer

_MODULE_NODES = (
    "vtkMRMLSegmentEditorNode",
    "vtkMRMLSequenceBrowserNode",
    "vtkMRMLMarkupsJsonStorageNode",
    "vtkMRMLMarkupsPlaneJsonStorageNode",
    "vtkMRMLMarkupsROIJsonStorageNode",
)
_LOGICS = ("vtkMRMLColorLogic", "vtkSlicerUnitsLogic")
_CONVERSIONS = (
    "vtkBinaryLabelmapToClosedSurfaceConversionRule",
    "vtkClosedSurfaceToBinaryLabelmapConversionRule",
    "vtkFractionalLabelmapToClosedSurfaceConversionRule",
    "vtkClosedSurfaceToFractionalLabelmapConversionRule",
)


def new_scene() -> slicer.vtkMRMLScene:
    """A scene for the PyPI package slicer-core, with what Slicer's own scene has and the adapters need.

    It knows the classes that Slicer's modules register (segmentations, sequences, markups), has Slicer's built-in
    colour and unit nodes, a subject hierarchy and the conversions between labels and surfaces. Inside Slicer use
    ``slicer.mrmlScene``.
    """
    _register_conversions()
    scene = slicer.vtkMRMLScene()
    for name in _MODULE_NODES:
        scene.RegisterNodeClass(getattr(slicer, name)())
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    for name in _LOGICS:
        logic = getattr(slicer, name)()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        # A logic removes its nodes with it, and holds its scene as long as it lives: it is let go, its nodes stay.
        logic.SetMRMLScene(None)
    application.SetMRMLScene(None)
    slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(scene)
    return scene


def subject_hierarchy(scene):
    """The subject hierarchy node of a scene, None if it has none."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)


@cache
def _register_conversions():
    """Make segment representations convertible, once in a process."""
    factory = slicer.vtkSegmentationConverterFactory.GetInstance()
    for name in _CONVERSIONS:
        factory.RegisterConverterRule(getattr(slicer, name)())
