"""One table of segments for several raters, whatever they call them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import InputError, Segment, Segmentation
from MedImgAILib.core.errors import listed
from MedImgAILib.core.terminology import TISSUE

MATCHES = {"auto": "Name, then terminology", "name": "Name", "terminology": "Terminology", "order": "Order"}
"""Ways to tell which segments are the same, and their text in the form."""


def common_table(segmentations: list[Segmentation], names, rule: str = "auto"):
    """Find which segments of several raters are the same structure.

    Names are compared without regard to case and outer blanks. Terminologies are compared by the codes of type,
    modifier, region and its modifier; one that a rater carries twice, or that says no more than "tissue", identifies
    nothing.

    Parameters
    ----------
    segmentations : R segmentations
    names : R str
        What messages call the raters.
    rule : one of :data:`MATCHES`

    Returns
    -------
    segments : tuple of Segment
        Labels 1…L in order; names, colours and terminologies are those of the first rater who has the segment.
    own : list of R dicts
        A rater's segments by the label of the table.

    Raises
    ------
    InputError
        If no segment occurs with two raters.
    """
    table: list[Segment] = []
    own: list[dict[int, Segment]] = []
    for rater in segmentations:
        placed: dict[int, Segment] = {}
        for position, segment in enumerate(rater.segments):
            place = _place(segment, position, rater, table, placed, rule)
            if place is None:
                table.append(segment)
                place = len(table) - 1
            placed.setdefault(place, segment)
        own.append({place + 1: segment for place, segment in placed.items()})
    if not any(sum(label in one for one in own) > 1 for label in range(1, len(table) + 1)):
        have = [f"{name} has {listed(s.name for s in rater.segments)}" for name, rater in zip(names, segmentations)]
        raise InputError(
            f"No segment occurs with two raters: {', '.join(have[:2])}; give the same structure the same name or "
            "terminology."
        )
    taken: set[str] = set()
    segments = []
    for label, segment in enumerate(table, start=1):
        name = segment.name if segment.name not in taken else f"{segment.name} ({label})"
        taken.add(name)
        segments.append(replace(segment, label=label, layer=0, id=name, name=name))
    return tuple(segments), own


def _place(segment, position, rater, table, placed, rule):
    """Where in the table the segment stands, None if it is new."""
    if rule == "order":
        return position if position < len(table) else None
    if rule in ("auto", "name"):
        for place, known in enumerate(table):
            if _name(known) == _name(segment):
                return place
    if rule in ("auto", "terminology"):
        meaning = _meaning(segment)
        fitting = [place for place, known in enumerate(table) if _meaning(known) == meaning and place not in placed]
        if meaning is not None and len(fitting) == 1 and sum(_meaning(s) == meaning for s in rater.segments) == 1:
            names = {_name(s) for s in rater.segments}
            # In "auto" a segment that this rater has under its own name is not given to another.
            if rule == "terminology" or _name(table[fitting[0]]) not in names:
                return fitting[0]
    return None


def _name(segment) -> str:
    return segment.name.strip().casefold()


def _meaning(segment):
    term = segment.terminology
    codes = (term.type, term.modifier, term.region, term.region_modifier)
    if codes[0] == TISSUE.type and not any(codes[1:]):
        return None
    return tuple((c.scheme, c.value) for c in codes)


def common_labels(rater: Segmentation, own: dict[int, Segment], count: int, name: str, context) -> np.ndarray:
    """(K, J, I) labels of the common table; where segments overlap the later one counts.

    Parameters
    ----------
    rater : Segmentation
    own : dict
        The rater's segments by the label of the table.
    count : int
        Labels in the table.
    name : str
        What the warning calls the rater.
    """
    dtype = np.uint8 if count < 255 else np.uint16
    wanted = {segment.label: label for label, segment in own.items()}
    if len(rater.layers) == 1 and len(wanted) == len(own) == len(rater.segments):
        layer = rater.layers[0].view(np.uint8) if rater.layers[0].dtype == bool else rater.layers[0]
        low, high = 0 if layer.dtype.kind == "u" else int(layer.min()), int(layer.max())
        if layer.dtype == dtype and all(wanted.get(n) == n for n in range(1, high + 1)):
            return layer
        if low >= 0 and high < 1 << 20:
            lookup = np.zeros(max(high, max(wanted)) + 1, dtype)
            lookup[list(wanted)] = list(wanted.values())
            return lookup[layer]
    result, filled = np.zeros(rater.geometry.shape, dtype), False
    for segment in rater.segments:
        label = next((n for n, s in own.items() if s is segment), None)
        if label is None:
            continue
        mask = rater.mask(segment)
        filled = filled or bool(result[mask].any())
        result[mask] = label
    if filled:
        context.warn(f"The segments of rater '{name}' overlap; where they do, the last one counts.")
    return result
