"""Fusion of registered images into one grey image, or as colour over anatomy."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    FloatParameter,
    InputError,
    RangeParameter,
    Table,
    TablePort,
    Task,
    Volume,
    VolumePort,
)
from MedImgAILib.core.geometry import inverse_order
from MedImgAILib.core.resampling import resample_volume

from . import metrics
from .methods import METHODS


def scaled(volume: Volume) -> np.ndarray:
    """(K, J, I) float32 voxels brought to 0…1 between their 0.5th and 99.5th percentiles; a constant becomes 0."""
    array = volume.array.astype(np.float32)
    low, high = np.percentile(array, (0.5, 99.5))
    if not high > low:
        low, high = array.min(), array.max()
    if not high > low:
        return np.zeros_like(array)
    return np.clip((array - np.float32(low)) / np.float32(high - low), 0, 1)


def on_grid(volume: Volume, reference: Volume, context) -> tuple[Volume, np.ndarray]:
    """A volume on the reference's grid, and (K, J, I) bool where it reaches.

    Raises
    ------
    InputError
        If it reaches nowhere.
    """
    if volume.geometry.same_grid(reference.geometry):
        return volume, np.ones(reference.geometry.shape, bool)
    covered = volume.with_array(np.ones(volume.geometry.shape, np.uint8))
    covered = resample_volume(covered, reference.geometry, "nearest").array > 0
    if not covered.any():
        raise InputError(f"{volume.label} does not overlap {reference.in_sentence}; register the images first.")
    lowest = float(volume.array.min())
    return resample_volume(volume, reference.geometry, "linear", outside=lowest, context=context), covered


class ImageFusion(Task):
    """Two images of different modality as one."""

    id = "fusion.image"
    title = "Image fusion"
    group = "Image fusion"
    summary = "Merges two registered images of different modality into one grey image, by one of eight methods."
    references = (
        "Burt PJ, Adelson EH. The Laplacian pyramid as a compact image code. IEEE Trans Commun 1983;31:532-540",
        "Li S, Kang X, Hu J. Image fusion with guided filtering. IEEE Trans Image Process 2013;22:2864-2875",
        "Xydeas CS, Petrović V. Objective image fusion performance measure. Electron Lett 2000;36:308-309",
    )
    keywords = ("merge", "blend", "multi-modal", "PET", "CT", "MR", "wavelet", "pyramid", "guided filter", "PCA")
    orientation_tolerance = 1e-3

    inputs = (
        VolumePort("first", "First image", "Its grid is that of the result."),
        VolumePort("second", "Second image", "Registered to the first; brought to its grid."),
    )
    parameters = (
        ChoiceParameter(
            "method", "Method", "laplacian",
            "Multiscale methods keep the details of both, salient regions are shown as they are; mean and maximum are "
            "quick looks.",
            choices={
                "weighted": "Weighted mean",
                "maximum": "Maximum",
                "pca": "Principal component",
                "laplacian": "Laplacian pyramid",
                "discrete_wavelet": "Discrete wavelet",
                "wavelet": "Undecimated wavelet",
                "guided": "Guided filter",
                "salient": "Salient regions",
            },
        ),
        FloatParameter(
            "weight", "Weight of the first", 0.5,
            "Share of the first image; in multiscale methods, of its coarsest part.",
            minimum=0.0, maximum=1.0, step=0.05,
            enabled_when=("method", ("weighted", "laplacian", "discrete_wavelet", "wavelet")),
        ),
    )  # fmt: skip
    outputs = (
        VolumePort("fused", "Fused image", "0…1 on the first image's grid."),
        TablePort("metrics", "Metrics", "How much of both images the result keeps.", optional=True),
    )

    def run(self, inputs, parameters, context):
        order = inputs.first.geometry.canonical_order()
        first = inputs.first.reordered(*order)
        with context.part(0.0, 0.2) as part:
            second, covered = on_grid(inputs.second, first, part)
        context.progress(0.2, "Fusing")
        images = [scaled(first), scaled(second)]
        weights = (parameters.weight, 1 - parameters.weight)
        fused = METHODS[parameters.method](images, first.geometry.spacing_kji, weights)
        # Where there is no second image the first stands alone.
        fused = np.where(covered, np.clip(fused, 0, 1), images[0]).astype(np.float32)
        context.progress(0.7, "Measuring")
        figures = metrics.evaluate(*_pictures(fused, images, first.geometry.spacing_kji))
        table = Table({"metric": list(figures), "value": list(figures.values())}, name="Fusion metrics")
        result = Volume(fused, first.geometry, name=f"{inputs.first.name} + {inputs.second.name}".strip(" +"))
        return {"fused": result.reordered(*inverse_order(*order)), "metrics": table}


def pictures_of(arrays, spacing):
    """The axis of the thickest slices, and the (K, J, I) arrays as float32 with that axis first."""
    short = [axis for axis in range(3) if arrays[0].shape[axis] == 1]
    axis = short[0] if short else int(np.argmax(np.round(spacing, 3)))
    return axis, [np.moveaxis(np.asarray(a, np.float32), axis, 0) for a in arrays]


def _pictures(fused, images, spacing):
    """The arrays on 0…255 with the axis of the thickest slices first."""
    fused, *images = (np.float32(255) * array for array in pictures_of((fused, *images), spacing)[1])
    return fused, images


def _known(volume: Volume) -> Volume:
    """1 where a map has a value, 0 where it is NaN or infinite (as a ratio is outside the body)."""
    return volume.with_array(np.isfinite(volume.array).astype(np.uint8))


def _without_nan(volume: Volume) -> Volume:
    """The map with its lowest value where it has none.

    Raises
    ------
    InputError
        If it has none anywhere.
    """
    known = np.isfinite(volume.array)
    if known.all():
        return volume
    if not known.any():
        raise InputError(f"Function: {volume.label} has no voxel with a value.")
    return volume.with_array(np.where(known, volume.array, volume.array[known].min()), name=volume.name)


# Positions and colours (red, green, blue) between which a map is interpolated.
COLORS = {
    "hot": ((0, (0, 0, 0)), (0.375, (1, 0, 0)), (0.75, (1, 1, 0)), (1, (1, 1, 1))),
    "iron": ((0, (0, 0, 0)), (0.33, (0.47, 0.0, 0.62)), (0.66, (0.96, 0.45, 0.0)), (1, (1, 1, 0.78))),
    "green": ((0, (0, 0, 0)), (1, (0, 1, 0))),
    "cool": ((0, (0, 1, 1)), (1, (1, 0, 1))),
}


def colored(values: np.ndarray, name: str) -> np.ndarray:
    """(…, 3) float32 colours 0…1 of values 0…1 by a map of :data:`COLORS`."""
    places, stops = zip(*COLORS[name], strict=True)
    stops = np.array(stops, float)
    return np.stack([np.interp(values, places, stops[:, c]).astype(np.float32) for c in range(3)], axis=-1)


class ColorOverlay(Task):
    """PET or SPECT in colour over grey anatomy."""

    id = "fusion.color_overlay"
    title = "Colour over anatomy"
    group = "Image fusion"
    summary = "Shows a functional image (PET, SPECT, a map) in colour over a grey anatomical image, as one RGB volume."
    references = ("Porter T, Duff T. Compositing digital images. Comput Graph 1984;18:253-259",)
    keywords = ("PET", "SPECT", "RGB", "blend", "overlay", "fusion display")

    inputs = (
        VolumePort("anatomy", "Anatomy", "Grey background; its grid is that of the result."),
        VolumePort(
            "function", "Function", "Shown in colour; registered to the anatomy. NaN is transparent.", allow_nan=True
        ),
    )
    parameters = (
        ChoiceParameter(
            "color", "Colours", "hot", "From low to high values.",
            choices={"hot": "Hot metal", "iron": "Iron", "green": "Green", "cool": "Cyan to magenta"},
        ),
        FloatParameter(
            "opacity", "Opacity", 0.6, "Of the colour where the function is highest.",
            minimum=0.0, maximum=1.0, step=0.05,
        ),
        RangeParameter(
            "range", "Shown range", (0.0, 0.0),
            "Values of the function from transparent to full colour; 0 to 0 takes its percentiles.",
            bounds_from="function",
        ),
    )  # fmt: skip
    outputs = (VolumePort("overlay", "Overlay", "Red, green and blue, 0…255.", components=(3,)),)

    def run(self, inputs, parameters, context):
        anatomy = inputs.anatomy
        with context.part(0.0, 0.5) as part:
            function, covered = on_grid(_without_nan(inputs.function), anatomy, part)
            covered &= resample_volume(_known(inputs.function), anatomy.geometry, "nearest").array > 0
        low, high = parameters.range
        if high > low:
            share = np.clip((function.array.astype(np.float32) - low) / (high - low), 0, 1)
        else:
            share = scaled(function)
        context.progress(0.6, "Colouring")
        grey = scaled(anatomy)[..., None]
        alpha = (np.float32(parameters.opacity) * share * covered)[..., None]
        color = grey * (1 - alpha) + colored(share, parameters.color) * alpha
        rgb = np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)
        return {"overlay": Volume(rgb, anatomy.geometry, name=f"{inputs.function.name} over {anatomy.name}".strip())}
