"""Noise2Inverse beside filtered back-projection and total variation, on low-dose scans simulated from real CTs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MedImgAILib.core import Context, Volume, VolumePort
from MedImgAILib.hosts.files import read_file
from MedImgAIReconstructLib.ct import quality
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.iterative_tasks import TotalVariation
from MedImgAIReconstructLib.ct.noise2inverse import Noise2Inverse
from MedImgAIReconstructLib.ct.simulation import SimulateProjections, attenuation

from .ct_real import DATA
from .measuring import row

CASES = {"abdomen": "ts_abdomen_ct.nii.gz", "chest": "lung1_image.nrrd"}
SLICES = 16
VIEWS, PHOTONS = 360, 2e4
TV_STRENGTHS_PERCENT = (0.02, 0.05, 0.1)
"""The best of these by PSNR against the truth is taken: more than a user could know."""
STEPS = 600


def lowdose_rows() -> list[dict]:
    """PSNR and SSIM of each method on each case, and Noise2Inverse's lead; none without the data."""
    result = []
    for case, file in CASES.items():
        path = DATA / "ct" / file
        if not path.exists():
            continue
        scores = compare(middle_slices(path))
        shown = ", ".join(f"{name} {psnr:.1f}/{ssim:.3f}" for name, (psnr, ssim) in scores.items())
        ours = scores["Noise2Inverse"]
        figures = (("PSNR", "dB"), ("SSIM", ""))
        for peer in ("FBP ramp", "FBP Hann", "TV"):
            for number, (figure, unit) in enumerate(figures):
                lead = ours[number] - scores[peer][number]
                text = f"low dose, {case}: {figure} of Noise2Inverse over {peer}"
                if peer == "FBP ramp" and figure == "PSNR":
                    text += f" (PSNR/SSIM: {shown})"
                result.append(row(text, lead, "> 0", unit, ours[number], scores[peer][number]))
    return result


def middle_slices(path) -> Volume:
    """The middle slices of a CT in HU, with at most 256 pixels a side (means of 2×2)."""
    image = read_file(path, VolumePort("image", "Image"))
    first = (image.array.shape[0] - SLICES) // 2
    shape = (SLICES, *image.array.shape[1:])
    geometry = image.geometry.cropped((first, 0, 0), shape)
    array = image.array[first : first + SLICES].astype(np.float32)
    if max(shape) > 256:
        array = array.reshape(SLICES, shape[1] // 2, 2, shape[2] // 2, 2).mean((2, 4))
        geometry = geometry.resized(array.shape)
    return replace(image, array=array, geometry=geometry, units="HU")


def compare(image: Volume) -> dict[str, tuple[float, float]]:
    """(PSNR in dB, SSIM) against the image that was projected, by method."""
    truth = attenuation(image, 0.0192)
    scan = {"views": VIEWS, "photons": PHOTONS}
    projections = SimulateProjections().execute({"image": image}, scan, Context("cpu"))["projections"]
    inputs = {"projections": projections, "reference": image}

    def score(task, **parameters):
        volume = task.execute(inputs, parameters, Context("cpu"))["volume"].array
        return quality.psnr(volume, truth), quality.ssim(volume, truth)

    return {
        "FBP ramp": score(FilteredBackProjection()),
        "FBP Hann": score(FilteredBackProjection(), filter="hann"),
        "TV": max(score(TotalVariation(), iterations=60, strength_percent=s) for s in TV_STRENGTHS_PERCENT),
        "Noise2Inverse": score(Noise2Inverse(), steps=STEPS),
    }
