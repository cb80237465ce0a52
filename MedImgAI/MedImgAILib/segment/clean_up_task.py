"""Clean-up of any segmentation: smoothing, holes, islands, components, margin; lengths in mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    InputError,
    PointsPort,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    TextParameter,
)
from ..core.errors import listed
from ..core.geometry import inverse_order
from .cleanup import (
    components_at,
    fill_holes,
    joint_smooth,
    largest_component,
    smooth,
    with_margin,
    without_islands,
)

_ONE_BY_ONE = ("median", "opening", "closing")


class CleanUp(Task):
    """The steps in this order: smoothing, filling of holes, margin, islands, component.

    A segment never takes a voxel that belongs to another segment of the same label image, unless that one gives it up.
    """

    id = "segment.clean_up"
    title = "Clean up segments"
    group = "Segmentation"
    summary = "Smooths segments, fills holes, drops islands, keeps one component, grows or shrinks; all in mm."
    references = (
        "Serra J. Image analysis and mathematical morphology. Academic Press 1982, chapter 2.",
        "Pinter C, Lasso A, Fichtinger G. Polymorph segmentation representation for medical image computing. Comput "
        "Methods Programs Biomed 2019; 171:19-26.",
    )
    keywords = ("post-processing", "smoothing", "median", "opening", "closing", "islands", "holes", "margin", "dilate",
                "erode", "joint smoothing")  # fmt: skip

    inputs = (
        SegmentationPort("segmentation", "Segmentation", "The segments to clean up."),
        PointsPort("seeds", "Seeds", "Points inside the components to keep.", optional=True),
    )
    parameters = (
        TextParameter("segments", "Segments", "", "Names of the segments to clean up, with commas; empty means all."),
        ChoiceParameter(
            "smoothing", "Smoothing", "median",
            "Median evens out both sides; opening only cuts bridges; closing only fills gaps; Gaussian is for each "
            "segment alone, joint for all at once without gaps between them.",
            choices={
                "none": "No", "median": "Median", "opening": "Opening", "closing": "Closing", "gaussian": "Gaussian",
                "joint": "Joint",
            },
        ),
        FloatParameter(
            "smoothing_mm", "Smoothing radius", 2.0, "Radius of the ball, or standard deviation of the Gaussian.", "mm",
            minimum=0.0, maximum=50.0, step=0.5,
            enabled_when=("smoothing", (*_ONE_BY_ONE, "gaussian", "joint")),
        ),
        BooleanParameter("fill_holes", "Fill holes", False, "Whether cavities inside a segment are filled."),
        FloatParameter(
            "margin_mm", "Margin", 0.0, "By how much each segment grows, or shrinks if negative.", "mm",
            minimum=-50.0, maximum=50.0, step=0.5,
        ),
        FloatParameter(
            "smallest_mm3", "Smallest island", 0.0, "Separate parts of a segment below this volume are removed.", "mm³",
            minimum=0.0, maximum=1e7, step=10.0,
        ),
        ChoiceParameter(
            "keep", "Keep", "all", "Which separate parts of a segment stay; seeded ones hold a point.",
            choices={"all": "All parts", "largest": "The largest part", "seeded": "Parts with a seed"},
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("cleaned", "Cleaned segmentation", "The same segments on the same grid."),
        TablePort("measures", "Sizes", "Volume of each segment before and after, in mL.", optional=True),
    )

    def validate(self, inputs, parameters):
        _chosen(inputs.segmentation, parameters.segments)
        if parameters.keep == "seeded":
            if inputs.seeds is None:
                raise InputError("Seeds: no points were given to tell which parts to keep; place some or keep another.")
            inside = inputs.segmentation.geometry.contains(inputs.seeds.positions)
            if not inside.any():
                raise InputError(f"Seeds: no point lies inside the grid of {inputs.segmentation.in_sentence}.")
        if parameters.smoothing in ("gaussian", "joint") and not inputs.segmentation.geometry.is_orthogonal:
            raise InputError(f"{inputs.segmentation.label} has sheared axes; use median, opening or closing instead.")

    def run(self, inputs, parameters, context):
        given = inputs.segmentation
        axes, flips = given.geometry.canonical_order()
        ordered = given.canonical()
        chosen = set(_chosen(given, parameters.segments))
        seeds = None
        if parameters.keep == "seeded":
            positions = inputs.seeds.positions[given.geometry.contains(inputs.seeds.positions)]
            top = np.array(ordered.geometry.shape) - 1
            seeds = np.clip(np.rint(ordered.geometry.ijk(positions)[:, ::-1]).astype(int), 0, top)
        layers, done = list(ordered.layers), 0
        for number in range(len(layers)):
            segments = [s for s in ordered.segments if s.layer == number and s.id in chosen]
            if segments:
                layers[number] = self._layer(layers[number], segments, ordered.geometry, parameters, seeds, context)
            done += len(segments)
            context.progress(0.95 * done / len(chosen))
        cleaned = replace(ordered, layers=tuple(layers), provenance={}).reordered(*inverse_order(axes, flips))
        cleaned = replace(cleaned, layers=tuple(map(np.ascontiguousarray, cleaned.layers)), geometry=given.geometry)
        gone = [s.name for s in cleaned.segments if s.id in chosen and not cleaned.mask(s).any()]
        if gone:
            context.warn(f"Empty after the clean-up: {listed(gone)}.")
        return {"cleaned": cleaned, "measures": _sizes(given, cleaned)}

    def _layer(self, labels, segments, geometry, parameters, seeds, context):
        if parameters.smoothing == "joint":
            values = [s.label for s in segments]
            others = np.where(np.isin(labels, values), 0, labels)
            joint = joint_smooth(np.where(others, 0, labels).astype(np.uint16), geometry, parameters.smoothing_mm)
            labels = np.where(others, others, joint).astype(labels.dtype)
        # A segment first keeps what it had, then the free voxels are shared out in the order of the table.
        result = np.where(np.isin(labels, [s.label for s in segments]), 0, labels)
        claims = []
        for segment in segments:
            context.check()
            claim = _cleaned(labels == segment.label, geometry, parameters, seeds)
            result[claim & (labels == segment.label)] = segment.label
            claims.append(claim)
        for segment, claim in zip(segments, claims):
            result[claim & (result == 0)] = segment.label
        return result


def _cleaned(mask, geometry, parameters, seeds):
    if parameters.smoothing in _ONE_BY_ONE:
        mask = smooth(mask, geometry, parameters.smoothing, parameters.smoothing_mm)
    elif parameters.smoothing == "gaussian":
        mask = joint_smooth(mask.view(np.uint8), geometry, parameters.smoothing_mm).view(bool)
    if parameters.fill_holes:
        mask = fill_holes(mask)
    if parameters.margin_mm:
        mask = with_margin(mask, geometry, parameters.margin_mm)
    if parameters.smallest_mm3:
        mask = without_islands(mask, geometry, parameters.smallest_mm3)
    if parameters.keep == "largest":
        mask = largest_component(mask)
    elif parameters.keep == "seeded":
        mask = components_at(mask, seeds)
    return mask


def _chosen(segmentation: Segmentation, names: str) -> list[str]:
    """Ids of the named segments, of all if none is named; :class:`InputError` for an unknown name."""
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    return [segmentation.segment(name).id for name in wanted] or [s.id for s in segmentation.segments]


def _sizes(before: Segmentation, after: Segmentation) -> Table:
    to_ml = before.geometry.voxel_volume_mm3 / 1000
    columns = {"segment": tuple(s.name for s in before.segments)}
    for title, segmentation in (("volume before", before), ("volume after", after)):
        columns[title] = np.array([segmentation.mask(s).sum() * to_ml for s in segmentation.segments])
    return Table(columns, "Segment sizes", {"volume before": "mL", "volume after": "mL"})
