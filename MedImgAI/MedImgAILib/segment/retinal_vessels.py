"""Vessels in a colour photograph of the retina, without training."""

from __future__ import annotations

import numpy as np

from ..core import (
    FloatParameter,
    Geometry,
    InputError,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Volume,
    VolumePort,
)
from ..core.geometry import inverse_order
from ..core.terminology import anatomy
from .ridges import dark_ridges, field_of_view, locally_normalised

_HALF_WIDTHS = (3.0, 4.5, 6.5)
"""Of the filters, in thousandths of the field of view's diameter."""
_BACKGROUND = 25.0
"""Width of the local mean and contrast, in the same unit."""
_RIM = 6.0
"""What is left out at the border of the field of view, in the same unit."""
_SMALLEST = 180.0
"""Area of the smallest separate vessel, in that unit squared."""
_SURE = 1.5
"""A vessel must somewhere reach this many times the threshold."""


class RetinalVessels(Task):
    """Elongated second derivatives of the green channel at several widths and directions, cut by hysteresis.

    The field of view is found from its dark border and gives the unit of length, so that the pixels' size need not be
    known. Brightness and contrast are evened out by the local mean and deviation within the field of view.
    """

    id = "segment.retinal_vessels"
    title = "Retinal vessels"
    group = "Segmentation"
    summary = "Outlines the blood vessels in a colour fundus photograph by their line shape."
    references = (
        "Chaudhuri S, Chatterjee S, Katz N, et al. Detection of blood vessels in retinal images using two-dimensional "
        "matched filters. IEEE Trans Med Imaging 1989; 8:263-269.",
        "Frangi AF, Niessen WJ, Vincken KL, Viergever MA. Multiscale vessel enhancement filtering. MICCAI 1998: "
        "130-137.",
    )
    keywords = ("fundus", "retina", "vessel", "Frangi", "matched filter", "ophthalmology")

    inputs = (
        VolumePort(
            "image", "Fundus image", "One colour photograph, or its green channel.", components=(1, 3, 4),
            minimum_shape=64,
        ),
    )  # fmt: skip
    parameters = (
        FloatParameter(
            "threshold", "Threshold", 0.29, "Lower finds finer vessels and more false ones.",
            minimum=0.05, maximum=2.0, step=0.02,
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segmentation", "The segment Retinal vessels on the grid of the image."),
        VolumePort("vesselness", "Vesselness", "How much like a dark line each pixel is.", optional=True),
        TablePort("measures", "Sizes", "Share of the field of view that is vessel.", optional=True),
    )

    def example(self):
        return {"image": example_fundus()}, {}

    def run(self, inputs, parameters, context):
        from scipy.ndimage import distance_transform_edt

        image = inputs.image
        order = image.geometry.canonical_order()
        ordered = image.reordered(*order)
        flat = int(np.argmin(ordered.geometry.shape))
        if ordered.geometry.shape[flat] != 1:
            raise InputError(f"Fundus image: {image.label} has several slices; choose a single photograph.")
        spacing = np.delete(ordered.geometry.spacing_kji, flat)
        if spacing.max() > 1.02 * spacing.min():
            raise InputError(f"Fundus image: {image.label} has pixels that are not square; resample it first.")
        plane = ordered.array.squeeze(flat).astype(np.float32)
        green = plane[..., 1] if image.is_vector else plane
        inside = field_of_view(plane[..., :3].max(axis=-1) if image.is_vector else plane)
        if not inside.any():
            raise InputError(f"Fundus image: {image.label} is dark everywhere; choose a photograph of the retina.")
        unit = 2 * np.sqrt(inside.sum() / np.pi) / 1000
        context.progress(0.1, "Evening out the light")
        even = locally_normalised(green, inside, _BACKGROUND * unit)
        context.progress(0.2, "Looking for lines")
        with context.part(0.2, 0.9):
            # A filter narrower than a pixel sees noise only.
            ridges = dark_ridges(even, np.maximum(np.array(_HALF_WIDTHS) * unit, 1.0), context)
        # Padded, because where the photograph cuts the field of view off there is a border, too.
        depth = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        ridges[depth <= _RIM * unit] = 0
        vessels = hysteresis(ridges, parameters.threshold, _SURE * parameters.threshold, _SMALLEST * unit**2)
        if not vessels.any():
            context.warn(f"No vessel was found in {image.in_sentence}; lower the threshold.")

        def restored(values):
            values = ordered.with_array(np.expand_dims(values, flat))
            return np.ascontiguousarray(values.reordered(*inverse_order(*order)).array)

        segment = Segment("Retinal vessels", 1, (0.85, 0.4, 0.31), anatomy("59820001", "Blood vessel"))
        share = {"segment": ("Retinal vessels",), "share": np.array([100 * vessels.sum() / inside.sum()])}
        return {
            "segmentation": Segmentation.from_labels(restored(vessels.view(np.uint8)), image.geometry, [segment]),
            "vesselness": image.with_array(restored(ridges)),
            "measures": Table(share, "Vessel sizes", {"share": "%"}),
        }


def hysteresis(values: np.ndarray, low: float, high: float, smallest: float) -> np.ndarray:
    """(J, I) bool: regions above ``low``, corners joined, that reach ``high`` and hold ``smallest`` pixels."""
    from scipy.ndimage import label

    numbers, count = label(values > low, np.ones((3, 3)))
    keep = np.bincount(numbers.ravel(), minlength=count + 1) >= smallest
    sure = np.zeros(count + 1, bool)
    sure[np.unique(numbers[values > high])] = True
    keep &= sure
    keep[0] = False
    return keep[numbers]


def example_fundus(size: int = 160) -> Volume:
    """A disc with dark lines of known width and place on a shaded ground; RGB, uint8."""
    axis = np.arange(size) - (size - 1) / 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    inside = np.hypot(x, y) < 0.48 * size
    ground = 120 + 0.3 * x
    for offset in (-30.0, 0.0, 30.0):
        ground = ground - 45 * np.exp(-0.5 * ((y - 0.4 * x - offset) / 1.6) ** 2)
    green = np.where(inside, ground, 0)
    noise = np.random.default_rng(0).normal(0, 2, (size, size))
    rgb = np.stack([1.4 * green, green + noise * inside, 0.5 * green], axis=-1)
    geometry = Geometry.from_spacing((1, size, size), (0.02, 0.02, 1.0), (1.6, 1.6, 0.0), np.diag([-1.0, -1.0, 1.0]))
    return Volume(np.rint(rgb.clip(0, 255)).astype(np.uint8)[None], geometry, "fundus")
