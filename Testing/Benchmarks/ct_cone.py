"""Cone beams: FDK against RTK's."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Context, Projections, ScanGeometry, Volume
from MedImgAIReconstructLib.ct import quality
from MedImgAIReconstructLib.ct.fbp import FDK
from MedImgAIReconstructLib.ct.grid import Grid
from MedImgAIReconstructLib.ct.phantoms import project, sample, shepp_logan

from .measuring import row, seconds

SOURCE, DETECTOR, RADIUS = 500.0, 800.0, 60.0


def cone_rows() -> list[dict]:
    """128³ from 180 views of 192², 256³ from 360 of 256²."""
    return [*_case(128, 180, 192, 3), *_case(256, 360, 256, 1)]


def _case(size: int, views: int, detector: int, repeats: int) -> list[dict]:
    pixel = 2.3 * RADIUS * DETECTOR / SOURCE / detector
    scan = ScanGeometry(
        "cone", 2 * np.pi * np.arange(views) / views, (pixel, pixel), source_to_isocenter_mm=SOURCE,
        source_to_detector_mm=DETECTOR,
    )  # fmt: skip
    phantom = shepp_logan(RADIUS)
    data = project(phantom, scan, detector, detector)
    grid = Grid((size,) * 3, (2 * RADIUS / size,) * 3)
    truth = sample(phantom, grid, 2)
    reference = Volume(np.zeros(grid.shape, np.float32), grid.geometry(scan))
    projections = Projections(data, scan)
    ours, peer, latest = [], [], {}
    peer_run = _rtk(scan, data, grid)

    def run():
        inputs = {"projections": projections, "reference": reference}
        latest["ours"] = FDK().execute(inputs, {}, Context("cpu"))["volume"].array

    def run_peer():
        latest["peer"] = peer_run()

    run()
    for _ in range(repeats):
        peer.append(seconds(run_peer))
        ours.append(seconds(run))
    our_seconds, peer_seconds = float(np.median(ours)), float(np.median(peer))
    # What the detector sees all around; above and below, a circular scan lacks data.
    z, y, x = (grid.axis(n) for n in range(3))
    inside = np.zeros(grid.shape, bool)
    inside[np.abs(z) < 0.75 * RADIUS] = np.hypot(y[:, None], x[None, :]) < 0.95 * RADIUS
    errors = {k: quality.rmse(v[inside], truth[inside]) for k, v in latest.items()}
    label = f"FDK {size}³ from {views}×{detector}²"
    # Equal to four digits is equal.
    ratio = round(errors["ours"] / errors["peer"], 4)
    return [
        row(f"{label}, against RTK (CPU)", peer_seconds / our_seconds, "≥ 5", "×", our_seconds, peer_seconds),
        row(f"{label}, RMSE over RTK's", ratio, "≤ 1.0", "×", errors["ours"], errors["peer"]),
    ]


def _rtk(scan, data, grid):
    """A function that runs RTK's CPU FDK and gives our voxel order."""
    import itk
    from itk import RTK as rtk

    geometry = rtk.ThreeDCircularProjectionGeometry.New()
    for angle in np.rad2deg(scan.angles_rad):
        geometry.AddProjection(SOURCE, DETECTOR, float(angle))
    stack = itk.image_from_array(np.ascontiguousarray(data))
    _, rows, columns = data.shape
    stack.SetSpacing([scan.pixel_mm[1], scan.pixel_mm[0], 1.0])
    stack.SetOrigin([-(columns - 1) / 2 * scan.pixel_mm[1], -(rows - 1) / 2 * scan.pixel_mm[0], 0.0])
    count, spacing = grid.shape[0], grid.spacing_mm[0]
    kind = itk.Image[itk.F, 3]

    def run():
        empty = rtk.ConstantImageSource[kind].New()
        empty.SetOrigin([-(count - 1) / 2 * spacing] * 3)
        empty.SetSpacing([spacing] * 3)
        empty.SetSize([count] * 3)
        empty.SetConstant(0.0)
        fdk = rtk.FDKConeBeamReconstructionFilter[kind].New()
        fdk.SetInput(0, empty.GetOutput())
        fdk.SetInput(1, stack)
        fdk.SetGeometry(geometry)
        fdk.GetRampFilter().SetTruncationCorrection(0.0)
        fdk.GetRampFilter().SetHannCutFrequency(0.0)
        fdk.Update()
        # RTK's axes are our x, z, −y: array [Z, Y, X] to [z, y, x].
        return itk.array_from_image(fdk.GetOutput()).transpose(1, 0, 2)[:, ::-1]

    return run
