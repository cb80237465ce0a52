"""Which view a mammogram is: told by its DICOM header or its name, else seen in the picture."""

from __future__ import annotations

import re

from ..core import InputError, Volume
from .picture import Picture, picture_of, reduced
from .plausibility import check_breast

SIDES, PROJECTIONS = ("left", "right"), ("cc", "mlo")
_SIDE_WORDS = {"l": "left", "left": "left", "r": "right", "right": "right"}
_WORD = re.compile(r"(left|right|l|r)?(cc|mlo)(left|right|l|r)?")
_COARSE_MM = 1.6


def header_facts(header) -> dict:
    """What the DICOM header of a mammogram says that its pixels do not show (PS3.3, C.8.11.7).

    Parameters
    ----------
    header : pydicom.Dataset
    """
    return {
        "laterality": str(header.get("ImageLaterality") or header.get("Laterality") or ""),
        "view": str(header.get("ViewPosition") or ""),
        "for_processing": header.get("PresentationIntentType") == "FOR PROCESSING",
        "implant": header.get("BreastImplantPresent") == "YES",
    }


def told(volume: Volume) -> tuple[str, str]:
    """Side and projection by the header (kept in the provenance) and, where that is silent, the name; "" if unknown."""
    header = volume.provenance.get("dicom", {}).get("mammography", {})
    side = _SIDE_WORDS.get(str(header.get("laterality", "")).lower(), "")
    projection = str(header.get("view", "")).lower()
    projection = projection if projection in PROJECTIONS else ""
    by_name = of_name(volume.name)
    return side or by_name[0], projection or by_name[1]


def of_name(name: str) -> tuple[str, str]:
    """Side and projection by words of a name such as "0_L-CC", "RMLO" or "left mlo"; "" where it says nothing."""
    sides, projections = set(), set()
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _SIDE_WORDS:
            sides.add(_SIDE_WORDS[word])
        elif found := _WORD.fullmatch(word):
            sides.update(_SIDE_WORDS[part] for part in (found[1], found[3]) if part)
            projections.add(found[2])
    return tuple(next(iter(words)) if len(words) == 1 else "" for words in (sides, projections))


def side_by_hanging(picture: Picture) -> str:
    """ "left" or "right": hung the usual way, a left breast has its chest wall on the left."""
    return "right" if picture.wall_was_right else "left"


def recognised(volume: Volume, pixel_mm: float, context) -> str:
    """The view, a key of :data:`.view.VIEWS`.

    Raises
    ------
    InputError
        If it is no mammogram.
    """
    from . import anatomy
    from .view import projection_by_shape

    side, projection = told(volume)
    if side and projection:
        return f"{side}_{projection}"
    picture = picture_of(volume, pixel_mm, context)
    if not projection:
        factor = max(1, round(_COARSE_MM / picture.pixel_mm))
        mask = anatomy.breast_mask(reduced(picture.array, factor), factor * picture.pixel_mm)
        check_breast(volume.label, mask, factor * picture.pixel_mm, context)
        projection = projection_by_shape(mask)
    return f"{side or side_by_hanging(picture)}_{projection}"


def sorted_into_views(volumes, taken, pixel_mm: float, context) -> dict[str, Volume]:
    """Mammograms in any order by their view.

    Parameters
    ----------
    volumes : sequence of Volume
    taken : {view: Volume}
        What was given for a view by name; it stays.

    Raises
    ------
    InputError
        If two are the same view.
    """
    from .view import VIEWS

    found = dict(taken)
    for volume in volumes:
        view = recognised(volume, pixel_mm, context)
        if view in found:
            raise InputError(
                f"{found[view].label} and {volume.in_sentence} are both taken for {VIEWS[view]}; give one of them, or "
                "each in the place of its view."
            )
        context.log(f"{volume.label} is taken for {VIEWS[view]}.")
        found[view] = volume
    return {view: found[view] for view in VIEWS if view in found}


def proposed_views(volumes: dict) -> dict[str, object]:
    """Mammograms among volumes, as ``{view: key}``; the first of each view, without what is none.

    Parameters
    ----------
    volumes : {key: Volume}
    """
    from ..core import Context

    found: dict[str, object] = {}
    quiet = Context("cpu")
    quiet.on_log = lambda level, message: None
    for key, volume in volumes.items():
        if min(volume.geometry.shape) != 1:
            continue
        try:
            view = recognised(volume, 0.0, quiet)
        except InputError:
            continue  # another kind of image, which may well lie in the scene
        found.setdefault(view, key)
    return found
