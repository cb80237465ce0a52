"""Raw data made from real images, since no package carries raw data: what a scanner would have measured."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import KSpace, Projections, ScanGeometry, Volume
from MedImgAIReconstructLib.ct.grid import Grid
from MedImgAIReconstructLib.ct.projector import Projector


def receive_coils(image: Volume, count: int = 4, reach: float = 0.9) -> np.ndarray:
    """(count, J, I) complex sensitivities of coils around the field of view (Gaussian fall-off, linear phase)."""
    rows, columns = image.geometry.shape[1:]
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    coils = [
        np.exp(-((x - np.cos(a)) ** 2 + (y - np.sin(a)) ** 2) / (2 * reach**2) + 1j * (x * np.sin(a) - y * np.cos(a)))
        for a in angles
    ]
    return np.stack(coils).astype(np.complex64)


def measured_kspace(image: Volume, coils: int = 4, noise: float = 0.01, seed: int = 0) -> KSpace:
    """Multi-coil Cartesian k-space of every slice of ``image``, with complex Gaussian noise.

    ``noise`` is relative to the image's 99.5th percentile, per coil, in the image domain.
    """
    from scipy import fft

    rng = np.random.default_rng(seed)
    sensitivities = receive_coils(image, coils)
    slices, rows, columns = image.geometry.shape
    samples = np.empty((coils, slices, rows, columns), np.complex64)
    sigma = np.float32(noise * np.percentile(image.array, 99.5))
    for number in range(slices):
        seen = sensitivities * image.array[number].astype(np.float32)
        noisy = seen + sigma * (rng.standard_normal((*seen.shape, 2), np.float32) @ np.array([1, 1j], np.complex64))
        shifted = fft.ifftshift(noisy, axes=(-2, -1))
        samples[:, number] = fft.fftshift(fft.fft2(shifted, norm="ortho"), axes=(-2, -1))
    return KSpace(samples, image.geometry, name=f"{image.name} raw data")


WATER_PER_MM = 0.0192  # attenuation of water at about 70 keV (Hubbell & Seltzer 1995, NIST)


def measured_projections(ct: Volume, views: int = 400, photons: float = 3e4, seed: int = 0) -> Projections:
    """Parallel-beam line integrals of a CT volume in HU over 180°, with Poisson noise of ``photons`` per ray.

    The rotation axis runs along S through the volume's middle; the patient lies straight in the scanner.
    """
    image = ct.canonical()
    attenuation = np.maximum(0, WATER_PER_MM * (1 + image.array.astype(np.float32) / 1000))
    slices, rows, columns = attenuation.shape
    place = np.eye(4)
    place[:3, 3] = image.geometry.center
    pixel = (float(image.geometry.spacing[2]), float(image.geometry.spacing[0]))
    scan = ScanGeometry("parallel", np.pi * np.arange(views) / views, pixel, scanner_to_ras=place)
    grid = Grid(image.geometry.shape, tuple(image.geometry.spacing_kji))
    ideal = Projector(scan, slices, int(np.ceil(np.hypot(rows, columns))), grid).forward(attenuation)
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-ideal))
    noisy = -np.log(np.maximum(counts, 1) / photons).astype(np.float32)
    return Projections(noisy, scan, f"{ct.name} projections")


def rigid(angles_deg, shift_mm, center) -> np.ndarray:
    """(4, 4) RAS matrix: rotations about R, A, S (in that order) around ``center``, then a shift in mm."""
    matrix = np.eye(4)
    for axis, angle in enumerate(np.radians(angles_deg)):
        one, two = [n for n in range(3) if n != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix[:3, :3] = turn @ matrix[:3, :3]
    matrix[:3, 3] = np.asarray(center) - matrix[:3, :3] @ np.asarray(center) + np.asarray(shift_mm)
    return matrix
