"""Filtered back-projection of parallel beams by a non-uniform Fourier transform.

The back-projection of filtered views q_θ(s), each a sum of frequencies, is itself a sum over the polar frequencies,
f(x, y) = Σ_θ w_θ Σ_k Q_θ(k) exp(2πi k s(x, y, θ)/L), that is: a type-1 non-uniform transform of the samples Q. It is
evaluated by finufft (Barnett, Magland & af Klinteberg, SIAM J Sci Comput 41:C479, 2019). The inner sum is the
trigonometric interpolation of the filtered view, so no interpolation error enters, unlike with the nearest or linear
neighbour of a back-projection loop. Two slices go in one complex transform, one as real, one as imaginary part.
"""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import ScanGeometry

from .accelerate import parallel, threads
from .filters import padded_length
from .grid import Grid

TOLERANCE = 1e-3
"""Relative precision asked of the transform."""
VIEWS_AT_ONCE = 64


def fourier_back_projection(
    projections, scan: ScanGeometry, grid: Grid, response, steps, column_weights, added=(0, 0), context=None
) -> np.ndarray:
    """Σ_θ steps[θ] · (filtered view)(s(x, y, θ)) in every slice, detector rows being slices.

    Parameters
    ----------
    projections : (views, rows, columns) ndarray
    grid : Grid
        With as many slices as there are rows.
    response : (P // 2 + 1,) ndarray
        Filter for :func:`filters.padded_length` samples.
    steps : (views,) ndarray
        Angular weights in rad.
    column_weights : (columns,) ndarray
    added : (left, right)
        Columns without data to complete the detector with.

    Returns
    -------
    (rows, ny, nx) float32 ndarray
    """
    import finufft
    from scipy import fft

    views, rows, columns = projections.shape
    _, ny, nx = grid.shape
    dz, dy, dx = grid.spacing_mm
    pitch = scan.pixel_mm[1]
    left, right = added
    whole = columns + left + right
    length = padded_length(whole)
    # The period holds the detector and some of the filter's tails.
    period = fft.next_fast_len(min(length, whole + max(16, whole // 16)), real=False)
    period += period % 2
    k = np.arange(period) - period // 2
    x0 = grid.center_mm[2] + (nx // 2 - (nx - 1) / 2) * dx
    y0 = grid.center_mm[1] + (ny // 2 - (ny - 1) / 2) * dy
    margin = (period - whole) // 2
    half = period // 2
    first = scan.offset_mm[1] - ((columns - 1) / 2 + left + margin) * pitch
    plan_x, plan_y = (np.empty((views, period), np.float32) for _ in range(2))
    factor = np.empty((views, period), np.complex64)
    for view, (cos, sin) in enumerate(zip(np.cos(scan.angles_rad), np.sin(scan.angles_rad))):
        turn = 2 * np.pi * k / (period * pitch)
        plan_x[view] = np.remainder(turn * (cos * dx) + np.pi, 2 * np.pi) - np.pi
        plan_y[view] = np.remainder(turn * (sin * dy) + np.pi, 2 * np.pi) - np.pi
        factor[view] = np.exp(1j * turn * (x0 * cos + y0 * sin + scan.axis_shift_mm - first)) * (steps[view] / period)
    factor[:, 0] = 0  # the Nyquist term has no partner of opposite sign
    plan_x, plan_y = plan_x.ravel(), plan_y.ravel()
    weights = np.asarray(column_weights, np.float32)
    spectrum = np.concatenate([response, response[1 : (length + 1) // 2][::-1]]).astype(np.float32)
    result = np.empty((rows, ny, nx), np.float32)
    measured = slice(left, left + columns)

    def plan():
        made = finufft.Plan(1, (ny, nx), eps=TOLERANCE, isign=1, dtype="complex64", upsampfac=1.25, nthreads=1)
        made.setpts(plan_y, plan_x)
        return made

    def work(part):
        # Buffers live as long as the part: fresh pages for every slice cost as much as the arithmetic. Views go
        # through the filter in blocks that stay in the processor's cache.
        transform = plan()
        samples = np.empty((VIEWS_AT_ONCE, length), np.complex64)
        window = np.empty((VIEWS_AT_ONCE, period), np.complex64)
        coefficients = np.empty((views, period), np.complex64)
        image = np.empty((ny, nx), np.complex64)
        for row in part:
            for start in range(0, views, VIEWS_AT_ONCE):
                block = slice(start, min(start + VIEWS_AT_ONCE, views))
                count = block.stop - start
                pair = samples[:count]
                pair[:, :left] = 0
                pair[:, left + columns :] = 0
                np.multiply(projections[block, row, :], weights, out=pair.real[:, measured])
                if row + 1 < rows:
                    np.multiply(projections[block, row + 1, :], weights, out=pair.imag[:, measured])
                else:
                    pair.imag[:, measured] = 0
                filtered = _in_place(fft.fft, pair)
                filtered *= spectrum
                filtered = _in_place(fft.ifft, filtered)
                window[:count, :margin] = filtered[:, length - margin :]
                window[:count, margin:] = filtered[:, : period - margin]
                frequencies = _in_place(fft.fft, window[:count])
                np.multiply(frequencies[:, half:], factor[block, :half], out=coefficients[block, :half])
                np.multiply(frequencies[:, :half], factor[block, half:], out=coefficients[block, half:])
            transform.execute(coefficients.reshape(-1), out=image)
            result[row] = image.real
            if row + 1 < rows:
                result[row + 1] = image.imag
            if context is not None:
                context.check()

    pairs = list(range(0, rows, 2))
    size = max(1, -(-len(pairs) // (threads() * max(1, len(pairs) // (threads() * 8)))))
    parts = [pairs[n : n + size] for n in range(0, len(pairs), size)]
    parallel(work, parts, context, message="Transforming slices")
    return result


def _in_place(transform, rows):
    """One-dimensional complex transform of the last axis in the memory of ``rows``."""
    return transform(rows, axis=1, overwrite_x=True)
