"""Provenance: what a node tells about where its data came from."""

from __future__ import annotations

import json
import logging

import numpy as np

from ...core.errors import InputError

PROVENANCE = "MedImgAI.Provenance"
"""Node attribute with the JSON of the record that :mod:`MedImgAILib.core.provenance` makes."""

logger = logging.getLogger("MedImgAI")


def read_provenance(node) -> dict:
    """The record stored with the node, if any, and under ``source`` what is known of the node.

    That is its id, name and file, and the transform it stands under: the nodes, and the matrix to world RAS or a hash.
    """
    source = {"node": node.GetID() or "", "name": node.GetName() or ""}
    if above := _transform_above(node):
        source["transform"] = above
    storage = node.GetStorageNode() if node.IsA("vtkMRMLStorableNode") else None
    if storage is not None and storage.GetFileName():
        source["file"] = storage.GetFileName()
    return stored_provenance(node) | {"source": source}


def _transform_above(node) -> dict:
    """The transform to world that a node stands under: nodes, the innermost first, and matrix or hash."""
    from ...core.provenance import describe_transform
    from .transforms import read_transform

    first = node.GetParentTransformNode() if node.IsA("vtkMRMLTransformableNode") else None
    if first is None:
        return {}
    chain, parent = [], first
    while parent is not None:
        chain.append({"node": parent.GetID() or "", "name": parent.GetName() or ""})
        parent = parent.GetParentTransformNode()
    try:
        found = describe_transform(read_transform(first))
    except InputError:
        # Volumes can be resampled through transforms of kinds that no task takes.
        found = {"kind": first.GetTransformToParent().GetClassName()}
    return {"nodes": chain} | found


def stored_provenance(node) -> dict:
    """The record stored with the node; empty if there is none or it is damaged."""
    text = node.GetAttribute(PROVENANCE)
    if not text:
        return {}
    try:
        record = json.loads(text)
    except ValueError:
        logger.warning("The provenance stored with '%s' cannot be read and is left out.", node.GetName())
        return {}
    return record if isinstance(record, dict) else {}


def write_provenance(node, provenance: dict):
    """Store the record with the node; an empty one removes what an earlier result left there."""
    if provenance:
        node.SetAttribute(PROVENANCE, json.dumps(provenance, default=_plain, ensure_ascii=True))
    else:
        node.RemoveAttribute(PROVENANCE)


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
