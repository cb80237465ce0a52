"""Cartesian k-space to an image by the 2-D Fourier transform of every slice and coil."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import BooleanParameter, ChoiceParameter, InputError, KSpacePort, Task, Volume, VolumePort


def fit_axis(array: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Crop or zero-pad ``axis`` to ``size`` so that index ``n // 2`` (the centre) stays index ``size // 2``."""
    length = array.shape[axis]
    if size == length:
        return array
    if size < length:
        start = length // 2 - size // 2
        return array[(slice(None),) * axis + (slice(start, start + size),)]
    before = size // 2 - length // 2
    widths = [(0, 0)] * array.ndim
    widths[axis] = (before, size - length - before)
    return np.pad(array, widths)


def centered_ifft2(kspace: np.ndarray, sign: str = "minus") -> np.ndarray:
    """Unitary Fourier inversion over the last two axes, k = 0 and x = 0 at index ``n // 2``.

    Parameters
    ----------
    kspace : (…, phase, readout) complex ndarray
    sign : "minus" or "plus"
        Sign in the exponent of the acquisition, s(k) = Σ ρ(x) exp(∓2πi k·x).

    Returns
    -------
    (…, phase, readout) complex ndarray, of the input's precision.
    """
    from scipy import fft

    transform = fft.ifft2 if sign == "minus" else fft.fft2
    return fft.fftshift(transform(fft.ifftshift(kspace, axes=(-2, -1)), norm="ortho"), axes=(-2, -1))


def root_sum_of_squares(coils: np.ndarray) -> np.ndarray:
    """(coils, …) complex images combined to their (…) real root sum of squares (Roemer et al. 1990)."""
    return np.sqrt(
        np.einsum("c...,c...->...", coils.real, coils.real) + np.einsum("c...,c...->...", coils.imag, coils.imag)
    )


class FourierReconstruction(Task):
    """The direct reconstruction of Cartesian data: what was not acquired stays zero."""

    id = "reconstruct.fft"
    title = "Fourier transform, root sum of squares"
    group = "MRI"
    summary = (
        "Makes images from Cartesian k-space: 2-D Fourier transform per coil, coils combined by root sum of squares; "
        "samples that were not acquired count as zero."
    )
    references = (
        "Roemer PB et al. The NMR phased array. Magn Reson Med 1990;16:192-225. doi:10.1002/mrm.1910160203",
        "Bernstein MA, King KF, Zhou XJ. Handbook of MRI Pulse Sequences. Elsevier 2004, chapter 13.1",
    )
    keywords = ("k-space", "ifft", "coil", "zero filling", "MRI", "multi-coil")

    inputs = (
        KSpacePort("kspace", "k-space", "Cartesian samples (coil, slice, phase, readout) with k = 0 at index n // 2."),
    )
    parameters = (
        BooleanParameter(
            "keep_oversampling", "Keep readout oversampling", False,
            "A readout longer than the image grid was oversampled: its image is cut to the grid, unless this is on.",
        ),
        ChoiceParameter(
            "sign", "Sign of the encoding", "minus",
            "Sign in the exponent of the signal model s(k) = ∫ρ(x)·exp(∓2πi k·x)dx. The wrong one turns the image "
            "by 180° in its plane.",
            choices={"minus": "exp(−2πi k·x) (ISMRMRD and most data)", "plus": "exp(+2πi k·x)"}, advanced=True,
        ),
    )  # fmt: skip
    outputs = (VolumePort("image", "Image", "Magnitude on the grid of the k-space."),)

    def validate(self, inputs, parameters):
        kspace = inputs.kspace
        slices, rows, columns = kspace.geometry.shape
        if kspace.trajectory is not None:
            raise InputError(f"{kspace.label} has a trajectory; the Fourier transform takes Cartesian samples only.")
        if 0 in kspace.array.shape:
            raise InputError(f"{kspace.label} has no samples.")
        if kspace.array.shape[1] != slices:
            raise InputError(f"{kspace.label} has {kspace.array.shape[1]} slices but its image grid {slices}.")
        if kspace.array.shape[2] > rows:
            raise InputError(
                f"{kspace.label} has {kspace.array.shape[2]} phase-encoding steps but its image grid {rows} rows; "
                "give a grid with at least as many rows."
            )
        if kspace.sampled is not None:
            try:
                np.broadcast_to(kspace.sampled, kspace.array.shape[1:])
            except ValueError:
                raise InputError(f"The sampling mask of {kspace.label} does not fit its samples.") from None

    def run(self, inputs, parameters, context):
        kspace = inputs.kspace
        coils, slices, _, readout = kspace.array.shape
        _, rows, columns = kspace.geometry.shape
        mask = None if kspace.sampled is None else np.broadcast_to(kspace.sampled, kspace.array.shape[1:])
        if mask is not None and not mask.all():
            context.log(f"{100 * mask.mean():.1f} % of the samples were acquired; the rest are zero.")
        cut = readout > columns and not parameters.keep_oversampling
        geometry = kspace.geometry
        if readout > columns and not cut:
            geometry = geometry.cropped((0, 0, columns // 2 - readout // 2), (slices, rows, readout))
        image = np.empty(geometry.shape, np.float32)
        for number in range(slices):
            samples = kspace.array[:, number]
            if not np.isfinite(samples).all():
                raise InputError(f"{kspace.label} contains NaN or infinite samples in slice {number}.")
            if mask is not None:
                samples = samples * mask[number]
            padded = fit_axis(fit_axis(samples, rows, 1), max(readout, columns), 2)
            # The unitary transform of a padded array is dimmer by the root of the growth.
            scale = np.float32(np.sqrt(padded[0].size / samples[0].size))
            combined = root_sum_of_squares(centered_ifft2(padded, parameters.sign)) * scale
            image[number] = fit_axis(combined, geometry.shape[2], 1)
            context.progress((number + 1) / slices, f"Slice {number + 1} of {slices}")
        if not image.any():
            raise InputError(f"{kspace.label} is empty: every acquired sample is zero.")
        return {"image": Volume(image, geometry, name=kspace.name)}
