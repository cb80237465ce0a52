"""A made-up patient with two modalities."""

from __future__ import annotations

from MedImgAILib.core import Segmentation, Volume
from MedImgAILib.core.examples import example_segmentation, example_volume


def example_patient(seed: int = 0) -> tuple[list[Volume], Segmentation]:
    """Two images of opposite contrast, "bright" and "dark", and the two segments of both."""
    bright = example_volume("bright", seed=seed)
    other = example_volume("dark", seed=seed + 1)
    return [bright, other.with_array(200 - other.array, name="dark")], example_segmentation("regions")
