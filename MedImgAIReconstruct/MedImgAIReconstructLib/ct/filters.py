"""Ramp filters of filtered back-projection.

The ramp is built in space, band-limited to the detector's Nyquist frequency (Kak & Slaney, Principles of
Computerized Tomographic Imaging, 1988, eq. 61): sampling |f| in frequency instead sets its zero-frequency
value to 0 and biases the reconstruction.
"""

from __future__ import annotations

import numpy as np

WINDOWS = {
    "ramp": "Ramp (Ram-Lak)",
    "shepp-logan": "Shepp-Logan",
    "cosine": "Cosine",
    "hamming": "Hamming",
    "hann": "Hann",
    "none": "None (unfiltered back-projection)",
}


def padded_length(columns: int) -> int:
    """A fast transform length without wrap-around for ``columns`` samples."""
    from scipy.fft import next_fast_len

    return next_fast_len(max(64, 2 * columns), real=True)


def ramp_filter(
    length: int, pitch: float, window: str = "ramp", cutoff: float = 1.0, equiangular: bool = False
) -> np.ndarray:
    """Frequency response, (length // 2 + 1,) in 1/pitch, for ``irfft(rfft(row, length) * response)``.

    Parameters
    ----------
    length : int
        Transform length, at least twice the number of samples.
    pitch : float
        Sample pitch in mm, or in rad if ``equiangular``.
    window : str
        One of :data:`WINDOWS`.
    cutoff : float
        Fraction of the Nyquist frequency, in 0…1, at which the window ends.
    equiangular : bool
        The ramp of a curved detector, with sin γ in place of γ (Kak & Slaney, eq. 95).
    """
    frequency = np.arange(length // 2 + 1) / length
    if window == "none":
        return np.ones(len(frequency))
    n = np.concatenate([np.arange(length // 2 + 1), np.arange(length // 2 + 1 - length, 0)])
    kernel = np.zeros(length)
    kernel[0] = 0.25
    odd = n % 2 != 0
    # Lags beyond a quarter turn do not occur between rays of one fan; the kernel would turn back there.
    lag = np.sin(np.clip(n[odd] * pitch, -np.pi / 2, np.pi / 2)) / pitch if equiangular else n[odd]
    kernel[odd] = -1 / (np.pi * lag) ** 2
    response = np.fft.rfft(kernel).real / pitch
    return response * window_response(frequency, window, cutoff)


def window_response(frequency: np.ndarray, window: str, cutoff: float = 1.0) -> np.ndarray:
    """The apodisation at ``frequency`` in cycles per sample (Nyquist 0.5); 0 above the cut-off."""
    relative = frequency / (0.5 * cutoff)
    if window == "ramp":
        value = np.ones(len(frequency))
    elif window == "shepp-logan":
        value = np.sinc(relative / 2)
    elif window == "cosine":
        value = np.cos(np.pi / 2 * relative)
    elif window == "hamming":
        value = 0.54 + 0.46 * np.cos(np.pi * relative)
    elif window == "hann":
        value = 0.5 + 0.5 * np.cos(np.pi * relative)
    else:
        raise ValueError(f"unknown window {window}")
    return np.where(relative <= 1 + 1e-9, value, 0.0)


def filter_rows(rows: np.ndarray, response: np.ndarray, length: int) -> np.ndarray:
    """Linear convolution along the last axis; ``rows`` float32 (…, columns), the result alike."""
    from scipy import fft

    spectrum = fft.rfft(rows, length, axis=-1)
    spectrum *= response.astype(np.float32)
    return fft.irfft(spectrum, length, axis=-1)[..., : rows.shape[-1]]
