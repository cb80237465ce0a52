"""MRML host: the same adapters inside Slicer and with the PyPI package slicer-core."""

from .files import load_scene, save_scene
from .nodes import node_attribute, node_classes, output_class, read_node
from .results import apply_results, write_node
from .run_folder import tidy
from .scene import new_scene
from .segmentations import closed_surface

__all__ = [
    "apply_results",
    "closed_surface",
    "load_scene",
    "new_scene",
    "node_attribute",
    "node_classes",
    "output_class",
    "read_node",
    "save_scene",
    "tidy",
    "write_node",
]
