"""The same tour on an image of the user's: whatever the modality, the steps need no labels and no anatomy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import InputError, Points, Segmentation, Sequence, Volume
from MedImgAILib.core.resampling import resample_volume
from MedImgAILib.hosts.files import read_file
from pictures import caption, draw_slice, figure, lit_surface, png
from pipeline import Pipeline
from report import Report
from simulate import measured_kspace, rigid

STEPS = 11
MOST_VOXELS = 8_000_000
LEAST_PIXELS = 8
OUTLINE = (1.0, 0.72, 0.25)


def _load(path: Path, spacing_mm: str | None = None) -> Volume:
    """A scalar volume of moderate size: the first of a sequence, the brightness of a colour image."""
    value = read_file(path, spacing_mm=spacing_mm)
    if isinstance(value, Sequence):
        value = value.items[0]
    if not isinstance(value, Volume):
        raise InputError(f"{path.name} holds no image; give a volume such as NIfTI, NRRD or a DICOM folder.")
    if value.is_vector:
        value = replace(value, array=value.array[..., :3].mean(axis=-1, dtype=np.float32))
    if np.iscomplexobj(value.array):
        value = replace(value, array=np.abs(value.array))
    if sorted(value.geometry.shape)[1] < LEAST_PIXELS:
        raise InputError(
            f"{path.name} is too thin to see anything; a slice needs {LEAST_PIXELS}×{LEAST_PIXELS} voxels."
        )
    if not value.is_finite:
        value = replace(value, array=np.nan_to_num(value.array, posinf=0.0, neginf=0.0))
    if value.array.min() == value.array.max():
        raise InputError(f"{path.name} is a constant image; there is nothing to see or to segment.")
    if value.array.size > MOST_VOXELS:
        factor = (value.array.size / MOST_VOXELS) ** (1 / 3)
        value = resample_volume(value, value.geometry.with_spacing(value.geometry.spacing * factor))
    return replace(value, name=value.name or path.name.split(".")[0])


def run(path: Path, pipeline: Pipeline, report: Report, spacing_mm: str | None = None) -> dict:
    with pipeline.step("Read the image and simulate its k-space", "simulation"):
        image = _load(path, spacing_mm)
        shifted = image.array.astype(np.float32) - float(image.array.min())  # magnitudes are not negative
        kspace = measured_kspace(replace(image, array=shifted), coils=4, noise=0.005)
    made = pipeline.run("Reconstruct: Fourier transform", "reconstruct.fft", {"kspace": kspace}, only="image")
    made = replace(made, name=f"{image.name}, reconstructed")
    smooth = pipeline.run(
        "Enhance: Gaussian smoothing",
        "enhance.gaussian",
        {"image": made},
        {"sigma_mm": float(image.geometry.spacing.min())},
        only="smoothed",
    )
    smooth = replace(smooth, name=f"{image.name}, smoothed")
    median = pipeline.run("Enhance: median filter", "enhance.median", {"image": made}, _radius(image), only="filtered")
    clahe = pipeline.run("Enhance: local contrast (CLAHE)", "enhance.clahe", {"image": smooth}, only="equalized")
    raters = [
        pipeline.run(f"Segment: Otsu's threshold of the {what} image", "segment.threshold", {"image": v}, only=SEGMENTS)
        for what, v in (("smoothed", smooth), ("median filtered", median))
    ]
    raters.append(_grown(pipeline, smooth, raters[0]))
    consensus = pipeline.run("Fuse: majority vote", "fusion.majority_vote", {"segmentations": raters}, only="consensus")
    consensus = replace(consensus, name="Foreground, majority of three")
    results = {"image": made, "smooth": smooth, "clahe": replace(clahe, name=f"{image.name}, CLAHE")}
    results["consensus"] = consensus
    report.chapter("Your image, reconstructed from simulated k-space, enhanced and segmented")
    _pictures(report, image, made, clahe, consensus)
    if min(image.geometry.shape) > 8:
        results |= _registration(pipeline, report, smooth)
    agreement = pipeline.run(
        "Annotate: compare the threshold with the vote",
        "annotate.overlap",
        {"segmentation": raters[0], "reference": consensus},
        {"match": "order"},
        only="metrics",
    )
    report.chapter("How far the plain threshold agrees with the vote")
    report.table(agreement)
    return results | {"agreement": replace(agreement, name="Threshold against vote")}


SEGMENTS = "segmentation"


def _radius(image: Volume) -> dict:
    return {"radius_mm": float(1.01 * image.geometry.spacing.min())}


def _grown(pipeline: Pipeline, image: Volume, first: Segmentation) -> Segmentation:
    """Region growing from the deepest point of the thresholded foreground."""
    from scipy.ndimage import distance_transform_edt

    mask = first.mask(first.segments[0])
    deepest = np.unravel_index(np.argmax(distance_transform_edt(mask, sampling=image.geometry.spacing_kji)), mask.shape)
    values = image.array[mask]
    bounds = (float(values.min()), float(values.max()))
    return pipeline.run(
        "Segment: region growing from one seed",
        "segment.region_growing",
        {"image": image, "seeds": Points([image.geometry.ras(deepest[::-1])], ("deepest",), "Seed")},
        {"method": "range", "range": bounds, "smoothing": "none"},
        only=SEGMENTS,
    )


def _pictures(report: Report, image: Volume, made: Volume, clahe: Volume, consensus: Segmentation):
    thin = int(np.argmin(image.canonical().geometry.shape)) if min(image.geometry.shape) == 1 else None
    planes = ("axial", "coronal", "sagittal")
    best = planes[0 if thin is None else thin]
    fig, axes = figure(4)
    for ax, volume, text in (
        (axes[0], image, "Your image"),
        (axes[1], made, "Reconstructed"),
        (axes[2], clahe, "CLAHE"),
    ):
        draw_slice(ax, volume, best)
        caption(ax, text)
    draw_slice(axes[3], made, best, overlays=[(consensus, None, OUTLINE)], tint=consensus)
    caption(axes[3], "Foreground")
    report.picture(png(fig), "The image, its reconstruction, local contrast, and the foreground outlined")
    if thin is None:
        fig, axes = figure(3)
        for ax, plane in zip(axes, ("coronal", "sagittal"), strict=False):
            draw_slice(ax, made, plane, overlays=[(consensus, None, OUTLINE)])
            caption(ax, "Foreground")
        axes[2].imshow(lit_surface(consensus, {s.name: OUTLINE for s in consensus.segments}))
        axes[2].set_axis_off()
        caption(axes[2], "Foreground in 3-D")
        report.picture(png(fig), "The foreground in two planes and in 3-D")


def _registration(pipeline: Pipeline, report: Report, image: Volume) -> dict:
    """Register a copy that was moved by a known amount, and say how far it still is from home."""
    shift = np.array([6.0, -9.0, 4.0])
    motion = rigid((5, -8, 10), shift, image.geometry.center)
    angle = np.degrees(np.arccos((np.trace(motion[:3, :3]) - 1) / 2))
    moved = replace(image.transformed(motion), name=f"{image.name}, moved")
    found = pipeline.run(
        "Fuse: rigid registration of a moved copy", "fusion.rigid_registration", {"fixed": image, "moving": moved}
    )
    corners = image.geometry.corners_ras()
    back = found["transform"].map_points(corners @ motion[:3, :3].T + motion[:3, 3])
    error = float(np.linalg.norm(back - corners, axis=1).mean())
    report.chapter(
        f"A copy turned by {angle:.0f}° and moved by {np.linalg.norm(shift):.0f} mm was brought back to within "
        f"{error:.2g} mm",
        "Mean distance of the volume's corners from where they belong, after rigid registration by mutual information.",
    )
    report.table(found["quality"])
    return {"transform": replace(found["transform"], name="Moved copy to image")}
