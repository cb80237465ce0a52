"""Parallel beams, 512² from 720 views of 512 pixels: filtered back-projection, SIRT, CGLS."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import Context, Projections, ScanGeometry
from MedImgAIReconstructLib.ct import iterative
from MedImgAIReconstructLib.ct.fbp import FilteredBackProjection
from MedImgAIReconstructLib.ct.grid import Grid, automatic_grid
from MedImgAIReconstructLib.ct.phantoms import project, sample, shepp_logan
from MedImgAIReconstructLib.ct.projector import Projector

from .measuring import interleaved, row

SIZE, VIEWS, SLICES, LANES = 512, 720, 64, 16


def parallel_rows() -> list[dict]:
    """FBP against scikit-image and ASTRA; SIRT and CGLS against ASTRA."""
    scan = ScanGeometry("parallel", np.pi * np.arange(VIEWS) / VIEWS)
    phantom = shepp_logan(SIZE / 2, flat=True)
    one = project(phantom, scan, 1, SIZE, 8)
    truth = sample(phantom, automatic_grid(scan, 1, SIZE), 8)[0]
    data = np.repeat(one, SLICES, axis=1)
    return [*_fbp(scan, data, truth), *_iterative(scan, one)]


def _astra(sinogram: np.ndarray, angles: np.ndarray, algorithm: str):
    """A function that runs ``iterations`` from zero, and one that gives the image, our way up."""
    import astra

    volume = astra.create_vol_geom(SIZE, SIZE)
    detector = astra.create_proj_geom("parallel", 1.0, SIZE, angles)
    settings = astra.astra_dict(algorithm)
    image = astra.data2d.create("-vol", volume)
    settings["ProjectorId"] = astra.create_projector("linear", detector, volume)
    settings["ProjectionDataId"] = astra.data2d.create("-sino", detector, np.ascontiguousarray(sinogram))
    settings["ReconstructionDataId"] = image

    def run(iterations=1):
        astra.data2d.store(image, 0)
        number = astra.algorithm.create(settings)
        astra.algorithm.run(number, iterations)
        astra.algorithm.delete(number)

    return run, lambda: astra.data2d.get(image)[::-1]


def _fbp(scan, data, truth) -> list[dict]:
    from skimage.transform import iradon

    theta = np.rad2deg(scan.angles_rad)
    task, projections = FilteredBackProjection(), Projections(data, scan)
    latest = {}

    def ours():
        latest["volume"] = task.execute({"projections": projections}, {}, Context("cpu"))["volume"]

    sinogram = np.ascontiguousarray(data[:, 0])
    peer_seconds = {}
    our_seconds = {}
    run, image = _astra(sinogram, scan.angles_rad, "FBP")
    for name, peer in (("scikit-image", lambda: iradon(sinogram.T, theta=theta)), ("ASTRA", run)):
        our_seconds[name], peer_seconds[name] = interleaved(ours, peer, 5)
    y, x = np.indices(truth.shape) - (SIZE - 1) / 2
    inside = x * x + y * y <= (SIZE / 2) ** 2

    def decibel(result):
        return float(-20 * np.log10(np.sqrt(np.mean((result[inside] - truth[inside]) ** 2))))

    result = []
    for name, goal in (("scikit-image", 50), ("ASTRA", 30)):
        slice_seconds = our_seconds[name] / SLICES
        ratio = peer_seconds[name] / slice_seconds
        figure = f"parallel FBP 512², 720×512, per slice of 64, against {name} (CPU)"
        result.append(row(figure, ratio, f"≥ {goal}", "×", slice_seconds, peer_seconds[name]))
    quality = decibel(latest["volume"].array[0])
    result.append(row("parallel FBP PSNR, peer ASTRA", quality, "≥ 37.4", "dB", quality, decibel(image())))
    return result


def _iterative(scan, one) -> list[dict]:
    data = np.repeat(one, LANES, axis=1)
    projector = Projector(scan, LANES, SIZE, Grid((LANES, SIZE, SIZE), (1.0, 1.0, 1.0)))
    start = np.zeros(projector.volume_shape, np.float32)
    result = []
    for name, method, counted in (("SIRT", iterative.sirt, 2), ("CGLS", iterative.cgls, 2)):
        run, image = _astra(one[:, 0], scan.angles_rad, name)

        # Setting up (row and column sums) counts on both sides; so do as many iterations.
        def ours(method=method, counted=counted):
            for _ in method(projector, data, start, counted):
                pass

        our_seconds, peer_seconds = interleaved(ours, lambda: run(counted), 3)  # noqa: B023
        our_slice = our_seconds / counted / LANES
        peer_slice = peer_seconds / counted
        figure = f"{name} 512², 720×512, an iteration of a slice of {LANES}, against ASTRA (CPU)"
        result.append(row(figure, peer_slice / our_slice, "≥ 20", "×", our_slice, peer_slice))
        for iterations in {"SIRT": (50,), "CGLS": (3, 10)}[name]:
            result.append(_same_iterates(name, iterations, method, scan, one, run, image))
    return [*result, _cgls_exact(scan, one)]


def _same_iterates(name, iterations, method, scan, one, run, image) -> dict:
    projector = Projector(scan, 1, SIZE, Grid((1, SIZE, SIZE), (1.0, 1.0, 1.0)))
    for latest, _ in method(projector, one, np.zeros(projector.volume_shape, np.float32), iterations):
        ours = latest
    run(iterations)
    peer = image()
    difference = float(np.linalg.norm(ours[0] - peer) / np.linalg.norm(peer))
    return row(f"{name} iterate {iterations}, relative difference from ASTRA's", difference, "≤ 0.001", "")


def _cgls_exact(scan, one) -> dict:
    from scipy.sparse.linalg import lsqr

    projector = Projector(scan, 1, SIZE, Grid((1, SIZE, SIZE), (1.0, 1.0, 1.0)))
    for latest, _ in iterative.cgls(projector, one, np.zeros(projector.volume_shape, np.float32), 10):
        ours = latest
    peer = lsqr(projector.linear_operator(), one.ravel().astype(float), iter_lim=10, atol=0, btol=0)[0]
    difference = float(np.linalg.norm(ours.ravel() - peer) / np.linalg.norm(peer))
    return row("CGLS iterate 10, relative difference from SciPy's LSQR in double precision", difference, "≤ 0.001", "")
