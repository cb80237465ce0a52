"""Chapter one: a head, from k-space to three opinions about where the brain is and their consensus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import Points, Segment, Segmentation, Table, Volume
from MedImgAILib.core.terminology import BRAIN, GREY_MATTER, WHITE_MATTER
from MedImgAILib.hosts.files import read_file
from MedImgAILib.runners import Job, runner
from pictures import INK, caption, draw_slice, figure, lit_surface, png
from pipeline import Pipeline
from report import Report
from scipy.ndimage import binary_closing, binary_fill_holes
from simulate import measured_kspace, rigid

BRAIN_COLOR = (0.96, 0.78, 0.35)
RATERS = {"Network": (0.35, 0.75, 1.0), "Region growing": (0.45, 0.95, 0.55), "Template": (1.0, 0.55, 0.85)}
WHITE_MATTER_MNI = (26.0, -25.0, 28.0)  # where a user would click, in the head's own (MNI) frame
OVERLAP_COLUMNS = ("Dice", "Hausdorff distance 95 %", "mean surface distance", "volume", "reference volume")
OVERLAP_UNITS = dict(zip(OVERLAP_COLUMNS[1:], ("mm", "mm", "mL", "mL"), strict=True))
STEPS = 10


def _brain(mask: np.ndarray, geometry, name: str) -> Segmentation:
    return Segmentation.from_labels(mask.astype(np.uint8), geometry, [Segment("Brain", 1, BRAIN_COLOR, BRAIN)], name)


def _named(segmentation: Segmentation, name: str) -> Segmentation:
    """The first segment of a result, called Brain, so that raters are compared like with like."""
    segment = replace(segmentation.segments[0], id="Brain", name="Brain", color=BRAIN_COLOR, terminology=BRAIN)
    return replace(segmentation, segments=(segment,), name=name)


def _template_tissue(files: dict) -> Segmentation:
    """Grey and white matter of the MNI152 template: where its maps (0…255) sum to more than half."""
    grey, white = (read_file(files[f"mni152_{kind}.nii.gz"]) for kind in ("gm", "wm"))
    more_white = white.array > grey.array
    inside = grey.array.astype(np.int16) + white.array > 127
    labels = np.where(inside, 1 + more_white, 0).astype(np.uint8)
    segments = (
        Segment("Grey matter", 1, (0.55, 0.62, 0.86), GREY_MATTER),
        Segment("White matter", 2, (0.98, 0.95, 0.80), WHITE_MATTER),
    )
    return Segmentation.from_labels(labels, grey.geometry, segments, "Tissue of the template")


def _overlap(pipeline: Pipeline, segmentation: Segmentation, reference: Segmentation) -> dict:
    """One row of numbers: Dice, HD95 (mm) and volume (mL)."""
    job = Job("annotate.overlap", {"segmentation": segmentation, "reference": reference})
    table = runner("in_process").submit(job).wait()["metrics"]
    return {name: float(values[0]) for name, values in table.columns.items() if name in OVERLAP_COLUMNS}


def run(files: dict, pipeline: Pipeline, report: Report) -> dict:
    with pipeline.step("A scanner measures a tilted head (simulated k-space, 4 coils)", "simulation"):
        colin = read_file(files["ch2.nii.gz"])
        tilted = rigid((7, 0, 12), (14, -9, 6), colin.geometry.center)
        truth = colin.transformed(tilted)
        bet = read_file(files["ch2bet.nii.gz"]).transformed(tilted)
        reference = _brain(bet.array > 0, bet.geometry, "Reference brain")
        kspace = measured_kspace(replace(truth, name="Head"))
    image = pipeline.run("Reconstruct: Fourier transform", "reconstruct.fft", {"kspace": kspace}, only="image")
    image = replace(image, name="Head, reconstructed")
    n4 = pipeline.run("Enhance: N4 bias correction", "enhance.n4", {"image": image})
    corrected = replace(n4["corrected"], name="Head, bias corrected")
    smooth = pipeline.run(
        "Enhance: Gaussian smoothing", "enhance.gaussian", {"image": corrected}, {"sigma_mm": 1.0}, only="smoothed"
    )
    extracted = pipeline.run("Segment: brain extraction by network", "segment.brain_extraction", {"image": corrected})
    network = _named(extracted["segmentation"], "Brain by network")

    clicked = truth.geometry.ras(colin.geometry.ijk(WHITE_MATTER_MNI))
    seed = Points([clicked], ("white matter",), "Seed in white matter")
    at = np.rint(smooth.geometry.ijk(clicked)).astype(int)
    white = float(smooth.array[tuple(at[::-1])])
    grown = pipeline.run(
        "Segment: region growing from a seed",
        "segment.region_growing",
        {"image": smooth, "seeds": seed},
        {"method": "range", "range": (0.56 * white, 1.1 * white), "segment": "brain"}
        | {"smoothing": "opening", "smoothing_mm": 5.0},
    )
    region = _named(grown["segmentation"], "Brain by region growing")

    mni = replace(read_file(files["mni152_t1.nii.gz"]), name="MNI152 template")
    registered = pipeline.run(
        "Fuse: rigid registration to the MNI152 template",
        "fusion.rigid_registration",
        {"fixed": mni, "moving": replace(extracted["brain"], name="Head, brain only")},
    )
    to_template = replace(registered["transform"], name="Head to MNI152")
    tissue = _template_tissue(files)
    to_head = replace(to_template.inverse(), name="MNI152 to head")
    tissue_on_head = pipeline.run(
        "Fuse: bring the template's tissue maps to the head",
        "fusion.resample",
        {"segmentation": tissue, "reference": image, "transform": to_head},
        only="segments",
    )
    tissue_on_head = replace(tissue_on_head, name="Tissue from template")
    solid = binary_fill_holes(binary_closing(tissue_on_head.labelmap() > 0, iterations=5))
    template = _brain(solid, image.geometry, "Brain by template")

    raters = {"Network": network, "Region growing": region, "Template": template}
    vote = pipeline.run(
        "Fuse: majority vote of three raters", "fusion.majority_vote", {"segmentations": list(raters.values())}
    )
    consensus = replace(vote["consensus"], name="Brain, majority of three")
    rows = {}
    with pipeline.step("Annotate: compare each with the reference brain", "annotate.overlap"):
        for name, rater in (raters | {"Majority of three": consensus}).items():
            rows[name] = _overlap(pipeline, rater, reference)
    overlap = Table(
        {"brain by": list(rows)} | {key: [r[key] for r in rows.values()] for key in next(iter(rows.values()))},
        "Brain overlap",
        OVERLAP_UNITS,
    )
    _write(report, image, corrected, raters, consensus, reference, mni, registered, tissue_on_head, overlap)
    return {
        "image": image,
        "corrected": corrected,
        "template": mni,
        "to_template": to_template,
        "registered": replace(registered["registered"], name="Head on MNI152"),
        "consensus": consensus,
        "tissue": tissue_on_head,
        "reference": reference,
        "seed": seed,
        "overlap": overlap,
    }


def _write(report, image, corrected, raters, consensus, reference, mni, registered, tissue, overlap):
    best = overlap.columns["Dice"]
    report.chapter(
        f"Head MR: three ways to find the brain, and their vote agrees with the reference at Dice {best[-1]:.3f}",
        "Multi-coil k-space of a tilted head was simulated from the Colin27 average. The image was reconstructed by "
        "Fourier transform, corrected for coil shading (N4) and smoothed. A network, region growing from one click "
        "and the registered MNI152 template each outlined the brain; a majority vote made the consensus.",
    )
    fig, axes = figure(4)
    level = np.percentile(image.array, 99.5)
    draw_slice(axes[0], image, "axial", window=(0, level))
    caption(axes[0], "Reconstructed from k-space")
    draw_slice(axes[1], corrected, "axial", window=(0, np.percentile(corrected.array, 99.5)))
    caption(axes[1], "Bias field corrected")
    draw_slice(axes[2], corrected, "sagittal", overlays=[(consensus, None, BRAIN_COLOR)], tint=consensus)
    caption(axes[2], "Brain, majority of three")
    axes[3].imshow(lit_surface(consensus))
    axes[3].set_axis_off()
    caption(axes[3], "The same in 3-D")
    report.picture(png(fig), "Head: reconstructed, bias corrected, brain outlined, brain in 3-D")

    fig, axes = figure(3)
    for ax, plane in zip(axes, ("axial", "coronal", "sagittal"), strict=True):
        overlays = [(r, None, RATERS[name]) for name, r in raters.items()]
        draw_slice(ax, corrected, plane, overlays=[*overlays, (reference, None, "white")])
    for n, (name, color) in enumerate([*RATERS.items(), ("Reference", "white")]):
        place = {"x": 0.015, "y": 0.985 - 0.06 * n, "transform": axes[0].transAxes, "va": "top"}
        box = {"facecolor": INK, "edgecolor": "none", "alpha": 0.8, "pad": 1.5}
        axes[0].text(s=f"— {name}", color=color, fontsize=9, bbox=box, **place)
    for ax, text in zip(axes, ("Three raters", "and the reference", "in three planes"), strict=True):
        caption(ax, text)
    report.picture(png(fig), "Outlines of the three raters and the reference on three planes")
    report.table(overlap)

    quality = registered["quality"]
    report.chapter(
        "Rigid registration puts the head onto the MNI152 template, and the template's tissues onto the head",
        "The head lay tilted by 7° and 12° and shifted by 18 mm. Squares alternate between template and head.",
    )
    fig, axes = figure(4)
    moved = registered["registered"]
    for ax, plane in zip(axes, ("axial", "coronal", "sagittal"), strict=False):
        draw_slice(ax, _checkerboard(mni, moved), plane, window=(0, 1))
        caption(ax, "Template and head, checkerboard")
    draw_slice(axes[3], corrected, "axial", overlays=[(tissue, None, None)], tint=tissue)
    caption(axes[3], "Tissues carried to the head")
    report.picture(png(fig), "Checkerboard of template and registered head; tissue outlines on the head")
    report.table(quality)


def _checkerboard(first: Volume, second: Volume, square_mm: float = 24.0) -> Volume:
    """Squares that alternate between two images on one grid, each scaled to its 99.5th percentile."""
    k, j, i = np.ogrid[tuple(slice(0, n) for n in first.geometry.shape)]
    side = np.maximum(1, np.rint(square_mm / first.geometry.spacing_kji)).astype(int)
    odd = (k // side[0] + j // side[1] + i // side[2]) % 2 == 1
    scaled = [v.array / max(np.percentile(v.array[v.array > 0], 99.5), 1e-9) for v in (first, second)]
    return first.with_array(np.clip(np.where(odd, *scaled), 0, 1).astype(np.float32))
