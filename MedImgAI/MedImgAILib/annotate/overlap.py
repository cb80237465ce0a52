"""How well a segmentation agrees with a reference."""

from __future__ import annotations

import numpy as np

from ..core import ChoiceParameter, FloatParameter, InputError, SegmentationPort, Table, TablePort, Task
from ..core.errors import listed
from .surfaces import surface, surface_distances


class Overlap(Task):
    """Overlap, volume and surface distance of matching segments.

    Overlap and volumes are counted on the reference's grid, to which the segmentation is carried by nearest
    neighbour; the surfaces are compared in mm where they are. Two empty segments agree perfectly (Dice 1, distances 0);
    where only one is empty, Dice is 0 and the distances are infinite.
    """

    id = "annotate.overlap"
    title = "Overlap with a reference"
    group = "Annotation"
    summary = "Compares the segments of two segmentations: Dice, Jaccard, volumes, Hausdorff and surface distances."
    references = (
        "Dice LR. Measures of the amount of ecologic association between species. Ecology 1945; 26:297-302.",
        "Nikolov S, Blackwell S, Zverovitch A, et al. Clinically applicable segmentation of head and neck anatomy for "
        "radiotherapy. J Med Internet Res 2021; 23:e26151.",
        "Maier-Hein L, Reinke A, Godau P, et al. Metrics reloaded. Nat Methods 2024; 21:195-212.",
    )
    keywords = ("dice", "jaccard", "hausdorff", "surface distance", "NSD", "agreement", "compare")

    inputs = (
        SegmentationPort("segmentation", "Segmentation", "What is judged."),
        SegmentationPort("reference", "Reference", "What it is judged against; its grid is used."),
    )
    parameters = (
        ChoiceParameter(
            "match", "Match segments by", "auto", "Name, then terminology; one of them; or the order of the lists.",
            choices={
                "auto": "Name, then terminology", "name": "Name", "terminology": "Terminology", "order": "Order",
            },
        ),
        FloatParameter(
            "tolerance_mm", "Surface tolerance", 1.0,
            "For the surface Dice (NSD): how far apart surfaces may lie and still agree.", "mm",
            minimum=0.0, maximum=50.0, step=0.5,
        ),
    )  # fmt: skip
    outputs = (TablePort("metrics", "Agreement", "One row per pair of segments."),)

    def run(self, inputs, parameters, context):
        from ..core.resampling import resample_segmentation

        reference, judged = inputs.reference, inputs.segmentation
        pairs = match_segments(judged, reference, parameters.match)
        if not pairs:
            names = [listed(s.name for s in side.segments) for side in (judged, reference)]
            raise InputError(f"No segments match: {judged.label} has {names[0]}, {reference.in_sentence} {names[1]}.")
        for side, position in ((judged, 0), (reference, 1)):
            left = [s.name for s in side.segments if s not in [p[position] for p in pairs]]
            if left:
                context.warn(f"Without a counterpart in {side.in_sentence}: {listed(left)}.")
        with context.part(0.0, 0.2):
            moved = resample_segmentation(judged, reference.geometry, context=context)
        rows = []
        for number, (one, other) in enumerate(pairs):
            context.progress(0.2 + 0.8 * number / len(pairs), f"Comparing {other.name}")
            rows.append(self._compare(judged, moved, reference, one, other, parameters.tolerance_mm, context))
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        lengths = ("Hausdorff distance", "Hausdorff distance 95 %", "mean surface distance")
        units = dict.fromkeys(lengths, "mm") | {key: "mL" for key in columns if "volume" in key}
        units["relative volume difference"] = "%"
        return {"metrics": Table(columns, f"Agreement of {judged.name} with {reference.name}".strip(), units)}

    @staticmethod
    def _compare(judged, moved, reference, one, other, tolerance_mm, context) -> dict:
        first, second = moved.mask(one), reference.mask(other)
        both, size_1, size_2 = (int(np.count_nonzero(m)) for m in (first & second, first, second))
        to_ml = reference.geometry.voxel_volume_mm3 / 1000
        own = judged.mask(one)
        distances = surface_distances(
            surface(own, judged.geometry), surface(second, reference.geometry), tolerance_mm
        )  # fmt: skip
        context.check()
        # Counted on its own grid, so that what lies beyond the reference's grid is not lost.
        volume = int(np.count_nonzero(own)) * judged.geometry.voxel_volume_mm3 / 1000
        return {
            "segment": other.name,
            "Dice": 2 * both / (size_1 + size_2) if size_1 + size_2 else 1.0,
            "Jaccard": both / (size_1 + size_2 - both) if size_1 + size_2 else 1.0,
            "volume": volume,
            "reference volume": size_2 * to_ml,
            "volume difference": volume - size_2 * to_ml,
            "relative volume difference": 100 * (volume / (size_2 * to_ml) - 1) if size_2 else np.nan,
            "Hausdorff distance": distances.hausdorff,
            "Hausdorff distance 95 %": distances.hausdorff_95,
            "mean surface distance": distances.mean,
            "surface Dice": distances.surface_dice,
        }


def match_segments(judged, reference, rule: str) -> list[tuple]:
    """Pairs (judged segment, reference segment), in the reference's order, each segment at most once.

    Names match whatever the case of their letters; terminologies match in type, modifier, region and its modifier.
    A terminology that a segmentation carries twice identifies nothing and is left out.
    """
    if rule == "order":
        return list(zip(judged.segments, reference.segments))

    def meaning(segment):
        term = segment.terminology
        return tuple((c.scheme, c.value) for c in (term.type, term.modifier, term.region, term.region_modifier))

    keys = {"auto": (_name, meaning), "name": (_name,), "terminology": (meaning,)}[rule]
    pairs = {}
    for key in keys:
        free = [s for s in judged.segments if s not in pairs.values()]
        wanted = [s for s in reference.segments if s not in pairs]
        for segment in wanted:
            fitting = [s for s in free if key(s) == key(segment)]
            if len(fitting) == 1 and sum(key(s) == key(segment) for s in wanted) == 1:
                pairs[segment] = fitting[0]
    return [(pairs[s], s) for s in reference.segments if s in pairs]


def _name(segment) -> str:
    return segment.name.strip().casefold()
