"""Chapter two: a chest, from projections to the lungs and a nodule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import Display, Points, Segment, Segmentation, Table, Volume
from MedImgAILib.core.resampling import resample_volume
from MedImgAILib.core.terminology import LUNG, MASS
from MedImgAILib.hosts.files import read_file
from pictures import caption, draw_slice, figure, lit_surface, png
from pipeline import Pipeline
from report import Report
from simulate import WATER_PER_MM, measured_projections

STEPS = 7
LUNG_WINDOW = (-1100.0, 300.0)
# Where a user would click: the middle of the nodule, and one voxel in each lung (R, A, S in mm).
NODULE = (21.7, 120.3, -612.5)
LUNGS = ((60.0, 120.0, -640.0), (-75.0, 120.0, -640.0))


def run(files: dict, pipeline: Pipeline, report: Report) -> dict:
    with pipeline.step("A CT scanner measures a chest (simulated projections)", "simulation"):
        original = read_file(files["lung1_image.nrrd"])
        slices, rows, columns = original.geometry.shape
        truth = resample_volume(original, original.geometry.resized((slices, rows // 2, columns // 2)))
        truth = replace(truth, name="Chest", units="HU")
        projections = measured_projections(truth)
    marked = read_file(files["lung1_label.nrrd"])
    reference = _segmentation([(marked.array > 0, "Mass", (0.2, 0.9, 1.0), MASS)], marked.geometry, "Marked nodule")
    ct = pipeline.run(
        "Reconstruct: filtered back-projection",
        "reconstruct.fbp",
        {"projections": projections, "reference": truth},
        {"filter": "ramp", "units": "HU", "water_per_mm": WATER_PER_MM},
        only="volume",
    )
    low, high = LUNG_WINDOW
    ct = replace(ct, name="Chest, reconstructed", display=Display(high - low, (high + low) / 2))
    clean = pipeline.run("Enhance: median filter", "enhance.median", {"image": ct}, {"radius_mm": 1.2}, only="filtered")
    clean = replace(clean, name="Chest, median filtered")
    lungs = pipeline.run(
        "Segment: lungs, grown from two clicks",
        "segment.region_growing",
        {"image": clean, "seeds": Points(LUNGS, ("right lung", "left lung"), "Lung seeds")},
        {"method": "range", "range": (-1100, -400), "smoothing": "closing", "smoothing_mm": 4, "segment": "lung"},
    )
    nodule = pipeline.run(
        "Segment: nodule, grown from one click",
        "segment.region_growing",
        {"image": clean, "seeds": Points([NODULE], ("nodule",), "Nodule seed")},
        {"method": "range", "range": (-400, 300), "smoothing": "opening", "smoothing_mm": 3, "segment": "mass"},
    )
    masks = [s["segmentation"].mask(s["segmentation"].segments[0]) for s in (lungs, nodule)]
    found = _segmentation(
        [(masks[0], "Lungs", (0.45, 0.62, 0.9), LUNG), (masks[1], "Mass", (1.0, 0.55, 0.25), MASS)],
        ct.geometry,
        "Chest findings",
    )
    agreement = pipeline.run(
        "Annotate: compare the nodule with the one marked",
        "annotate.overlap",
        {"segmentation": nodule["segmentation"], "reference": reference},
        only="metrics",
    )
    with pipeline.step("Compare the reconstruction with the truth", "numbers"):
        quality = _quality(truth, ct, clean)
    sizes = Table(
        {
            "segment": ["Lungs", "Mass"],
            "volume": [m.sum() * ct.geometry.voxel_volume_mm3 / 1000 for m in masks],
            "mean": [float(ct.array[m].mean()) for m in masks],
        },
        "Chest measurements",
        {"volume": "mL", "mean": "HU"},
    )
    _write(report, truth, projections, ct, clean, found, reference, agreement, quality, sizes)
    return {
        "image": ct,
        "filtered": clean,
        "findings": found,
        "reference": reference,
        "seed": Points([*LUNGS, NODULE], ("right lung", "left lung", "nodule"), "Chest seeds"),
        "sizes": sizes,
        "agreement": replace(agreement, name="Nodule agreement"),
        "quality": quality,
    }


def _segmentation(parts, geometry, name: str) -> Segmentation:
    layers = tuple(mask.astype(np.uint8) for mask, *_ in parts)
    segments = tuple(Segment(n, 1, color, term, layer) for layer, (_, n, color, term) in enumerate(parts))
    return Segmentation(layers, geometry, segments, name)


def _quality(truth: Volume, *images: Volume) -> Table:
    """Root-mean-square error and bias in HU inside the body (above −900 HU in the truth)."""
    body = truth.array > -900
    errors = [np.asarray(v.array, np.float64)[body] - truth.array[body] for v in images]
    return Table(
        {
            "image": [v.name for v in images],
            "RMS error": [float(np.sqrt(np.mean(e**2))) for e in errors],
            "mean error": [float(np.mean(e)) for e in errors],
        },
        "Reconstruction error",
        {"RMS error": "HU", "mean error": "HU"},
    )


def _write(report, truth, projections, ct, clean, found, reference, agreement, quality, sizes):
    mass = agreement.columns["Dice"][0]
    report.chapter(
        f"Chest CT: the nodule is found in the reconstruction, Dice {mass:.2f} with the one a reader marked",
        f"{len(projections.array)} noisy projections were simulated from a chest CT and reconstructed by filtered "
        "back-projection. The lungs and a nodule were grown from clicks.",
    )
    fig, axes = figure(4)
    row = int(np.argmin(abs(truth.canonical().geometry.ijk(NODULE)[2] - np.arange(len(truth.array)))))
    axes[0].imshow(projections.array[:, row], cmap="gray", aspect="auto")
    axes[0].set_axis_off()
    caption(axes[0], "Measured: sinogram of one slice")
    for ax, volume, text in ((axes[1], ct, "Reconstructed"), (axes[2], clean, "Median filtered")):
        draw_slice(ax, volume, "axial", NODULE, LUNG_WINDOW)
        caption(ax, text)
    axes[3].imshow(lit_surface(found, azimuth_deg=-30))
    axes[3].set_axis_off()
    caption(axes[3], "Lungs and nodule in 3-D")
    report.picture(png(fig), "Sinogram, reconstruction, filtered reconstruction, lungs and nodule in 3-D")
    fig, axes = figure(3)
    for ax, plane in zip(axes, ("axial", "coronal", "sagittal"), strict=True):
        outlines = [(found, "Lungs", None), (reference, None, "cyan"), (found, "Mass", None)]
        draw_slice(ax, ct, plane, NODULE, LUNG_WINDOW, outlines)
    for ax, text in zip(axes, ("Blue: lungs", "Orange: nodule found", "Cyan: nodule marked by a reader"), strict=True):
        caption(ax, text)
    report.picture(png(fig), "Outlines of lungs, found and marked nodule on three planes")
    report.table(sizes)
    report.table(agreement)
    report.table(quality)
