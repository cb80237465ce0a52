"""Which image goes into which input of a model, and whether it looks like what the model knows."""

from __future__ import annotations

import re

import numpy as np

from ..core import Context, InputError, Volume
from ..core.model_card import ModelCard, ModelInput

_SYNONYMS = {
    "t1c": ("t1ce", "t1gd", "t1post", "t1km", "t1contrast"),
    "t1": ("t1w", "t1n", "t1pre", "mprage", "t1native"),
    "t2": ("t2w",),
    "flair": ("t2f", "t2flair", "fl"),
    "adc": (), "dwi": (), "pet": ("suv", "pt"), "ct": (),
}  # fmt: skip
_MUCH_LARGER = 1.5
"""Times the largest image that a model knows."""
_MOST_SPACING = 3
"""An image with voxels this many times as large as the model's hardly shows what it looks for."""


def match_inputs(images, card: ModelCard, context: Context | None = None) -> list[Volume]:
    """The images in the order of the card's inputs: by their names where these fit one input each, else as given.

    Raises
    ------
    InputError
        If there are too few or too many, or one has the wrong number of components.
    """
    images = list(images)
    if len(images) != len(card.inputs):
        wanted = ", ".join(f"{i.name} ({i.modality})" for i in card.inputs)
        raise InputError(f"The model '{card.title}' takes {len(card.inputs)} images, not {len(images)}: {wanted}.")
    order = _by_name([v.name for v in images], [i.name for i in card.inputs])
    result = [images[n] for n in order] if order else images
    if order is None and len(images) > 1 and context is not None:
        pairs = ", ".join(f"'{v.name}' as {i.name}" for v, i in zip(result, card.inputs))
        context.warn(f"The images' names do not tell which is which; they are taken in the order given: {pairs}.")
    for volume, wanted in zip(result, card.inputs):
        if volume.components != wanted.channels:
            raise InputError(
                f"{volume.label} has {volume.components} components per voxel; the model's input '{wanted.name}' "
                f"takes {wanted.channels}."
            )
    return result


def _by_name(names: list[str], inputs: list[str]) -> list[int] | None:
    """For each input the position of the name that fits it alone, or None if that cannot be said."""
    for fits in (_has_word, _contains):
        found = [[n for n, name in enumerate(names) if fits(name, wanted, inputs)] for wanted in inputs]
        if all(len(f) == 1 for f in found) and len({f[0] for f in found}) == len(names):
            return [f[0] for f in found]
    return None


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).lower()


def _has_word(name: str, wanted: str, inputs) -> bool:
    words = re.split(r"[\W_]+", name.lower())
    own = _plain(wanted)
    return any(word in words for word in (own, *_SYNONYMS.get(own, ())))


def _contains(name: str, wanted: str, inputs) -> bool:
    """Whether the name holds the input's, and no longer one of another input that holds it too (T1 in T1c)."""
    text, own = _plain(name), _plain(wanted)
    for other in map(_plain, inputs):
        if other != own and own in other:
            text = text.replace(other, " ")
    return own in text


def warn_of_unlikely(volume: Volume, wanted: ModelInput, context: Context):
    """Tell the user where an image cannot be what the model was trained on, as far as its values and grid show."""
    who, array = volume.label, volume.array
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if wanted.modality == "CT":
        if volume.units not in ("", "HU"):
            context.warn(f"{who} is in {volume.units}, but the model expects CT in HU.")
        elif low >= 0 and high > 0:
            context.warn(f"{who} has no negative values; the model expects CT in HU.")
        elif low < -2100 or high > 70000:
            context.warn(f"{who} has values from {low:g} to {high:g}; the model expects CT in HU.")
    elif wanted.modality == "MR":
        is_like_ct = volume.units == "HU" or (low <= -900 and float(np.mean(array[::4, ::4, ::4] < -500)) > 0.05)
        if is_like_ct:
            context.warn(f"{who} has values like CT, but the model expects MR ({wanted.name}).")
        elif volume.units == "SUV":
            context.warn(f"{who} is in SUV, but the model expects MR ({wanted.name}).")
    elif wanted.modality == "PT" and volume.units not in ("", "SUV"):
        context.warn(f"{who} is in {volume.units}, but the model expects PET in SUV.")
    elif wanted.modality == "OP" and (low < 0 or high > 255 or volume.geometry.shape[0] > 1 < min(array.shape[:3])):
        context.warn(f"{who} is no colour photograph with values 0 to 255, which the model expects.")
    _warn_of_extent(volume, wanted, context)
    _warn_of_grid(volume, wanted, context)


def _warn_of_extent(volume: Volume, wanted: ModelInput, context: Context):
    if wanted.largest_mm is None:
        return
    known = sorted(wanted.largest_mm, reverse=True)
    sides = sorted(volume.geometry.spacing_kji * volume.geometry.shape, reverse=True)
    if any(side > _MUCH_LARGER * most for side, most in zip(sides, known)):
        covered, most = ("×".join(f"{s:.0f}" for s in lengths) for lengths in (sides, known))
        context.warn(
            f"{volume.label} covers {covered} mm; the model knows images of at most {most} mm, so cut it to what "
            "it is for."
        )


def _warn_of_grid(volume: Volume, wanted: ModelInput, context: Context):
    if wanted.spacing_mm is None or min(volume.geometry.shape) < 2:
        return
    spacing = volume.geometry.spacing
    known = [s for s in wanted.spacing_mm if s > 0]
    text = "×".join(f"{s:.3g}" for s in spacing)
    if (spacing > _MOST_SPACING * max(known)).any():
        context.warn(
            f"{volume.label} has voxels of {text} mm, much coarser than the {max(known):g} mm that the model knows."
        )
    elif (spacing * 20 < min(known)).any():
        context.warn(f"{volume.label} has voxels of {text} mm, which may be another unit than mm.")
