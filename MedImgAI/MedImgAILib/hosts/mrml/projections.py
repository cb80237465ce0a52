"""CT projections in a scene: a scalar volume of views × rows × columns that carries its scan geometry."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from ...core import raw
from ...core.data import Volume
from ...core.errors import InputError
from ...core.geometry import Geometry
from .arrays import view_of_image
from .prepared import Prepared
from .records import read_provenance
from .volumes import SCAN, prepare_volume


def read_projections(node) -> raw.Projections:
    """The projections of a volume node; its array is a read-only view of the node's voxels.

    The node's place in the scene means nothing: where the object is, the scan geometry tells.

    Raises
    ------
    InputError
        If the node carries no scan geometry, a damaged one, or one of another number of views.
    """
    who = f"Volume '{node.GetName()}'"
    text = node.GetAttribute(SCAN)
    if not text:
        raise InputError(f"{who} holds no projections; choose what reading or simulating a scan gave.")
    array = view_of_image(node.GetImageData())
    if array is None or array.ndim != 3:
        raise InputError(f"{who} holds no projections any more; read or simulate the scan again.")
    try:
        scan = raw.ScanGeometry(**json.loads(text))
    except (TypeError, ValueError) as error:
        raise InputError(f"{who} carries a damaged scan geometry; read or simulate the scan again.") from error
    return raw.Projections(array, scan, node.GetName() or "", read_provenance(node))


def prepare_projections(value: raw.Projections) -> Prepared:
    """Ready for a scalar volume node: one slice a view, in mm of the detector."""
    scan = {f.name: _plain(getattr(value.scan, f.name)) for f in dataclasses.fields(value.scan)}
    row_mm, column_mm = value.scan.pixel_mm
    place = Geometry.from_spacing(value.array.shape, (column_mm, row_mm, 1.0))
    prepared = prepare_volume(Volume(value.array, place, value.name))

    def install(node):
        prepared.install(node)
        node.SetAttribute(SCAN, json.dumps(scan))

    return dataclasses.replace(prepared, install=install)


def _plain(value):
    return value.tolist() if isinstance(value, np.ndarray) else value
