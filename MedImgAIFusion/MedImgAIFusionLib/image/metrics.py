"""Figures of merit of a fused image against its sources, as the fusion literature defines them.

They agree with the evaluator published with CDDFuse (Zhao et al., CVPR 2023; repository Zhaozixiang1228/MMIF-CDDFuse),
so that figures can be held against published tables.

Intensities are on the scale 0…255, all on one grid. MI, SCD and entropy look at all voxels; VIF, Qabf and SSIM are
defined for pictures and are averaged over slices.
"""

from __future__ import annotations

import numpy as np


def entropy(image) -> float:
    """Shannon entropy in bit of the 256 grey levels."""
    share = np.bincount(_grey(image), minlength=256) / image.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def mutual_information(first, second) -> float:
    """Mutual information in nat of the 256 grey levels."""
    joint = np.bincount(_grey(first) * 256 + _grey(second), minlength=65536).reshape(256, 256) / first.size
    expected = joint.sum(1)[:, None] * joint.sum(0)
    full = joint > 0
    return float((joint[full] * np.log(joint[full] / expected[full])).sum())


def sum_of_correlations_of_differences(fused, sources) -> float:
    """SCD (Aslantas & Bendes 2015, AEU 69:1890): what is left of the fused image without one source is the other."""
    first, second = sources
    return _correlation(fused - second, first) + _correlation(fused - first, second)


def visual_information_fidelity(reference, image) -> float:
    """VIF in the pixel domain, four scales (Sheikh & Bovik 2006, IEEE Trans Image Process 15:430); 2-D arrays.

    Scales too small for their window are left out; 1 where the reference carries no information.
    """
    from scipy.ndimage import correlate1d

    noise, gained, total = 2.0, 0.0, 0.0
    reference, image = reference.astype(np.float64), image.astype(np.float64)
    for scale in range(1, 5):
        width = 2 ** (5 - scale) + 1
        window = np.exp(-0.5 * ((np.arange(width) - width // 2) / (width / 5)) ** 2)
        window /= window.sum()

        def mean(values, window=window):
            values = correlate1d(correlate1d(values, window, axis=0), window, axis=1)
            cut = len(window) // 2
            return values[cut : values.shape[0] - cut, cut : values.shape[1] - cut]

        if scale > 1:
            if min(reference.shape) < width:
                break
            reference, image = mean(reference)[::2, ::2], mean(image)[::2, ::2]
        if min(reference.shape) < width:
            break
        mean_a, mean_b = mean(reference), mean(image)
        var_a = np.maximum(mean(reference * reference) - mean_a**2, 0)
        var_b = np.maximum(mean(image * image) - mean_b**2, 0)
        shared = mean(reference * image) - mean_a * mean_b
        gain = shared / (var_a + 1e-10)
        rest = var_b - gain * shared
        flat = var_a < 1e-10
        gain, rest = np.where(flat, 0, gain), np.where(flat, var_b, rest)
        flat = var_b < 1e-10
        gain, rest = np.where(flat, 0, gain), np.where(flat, 0, rest)
        falling = gain < 0
        rest = np.maximum(np.where(falling, var_b, rest), 1e-10)
        gain = np.maximum(gain, 0)
        var_a = np.where(var_a < 1e-10, 0, var_a)
        gained += np.log10(1 + gain**2 * var_a / (rest + noise)).sum()
        total += np.log10(1 + var_a / noise).sum()
    return float(gained / total) if total > 0 else 1.0


def edge_preservation(fused, sources) -> float:
    """Qabf (Xydeas & Petrović 2000, Electron Lett 36:308): share of the sources' edges kept; 2-D arrays.

    Orientations are compared as angles in −π/2…π/2 without wrapping, as in the published evaluators.
    """
    strength, angle = _edges(fused)
    top = bottom = 0.0
    for source in sources:
        own_strength, own_angle = _edges(source)
        low, high = np.minimum(strength, own_strength), np.maximum(strength, own_strength)
        kept = np.divide(low, high, out=np.zeros_like(low), where=high > 0)
        turned = 1 - np.abs(own_angle - angle) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (kept - 0.5))) * 0.9879 / (1 + np.exp(-22 * (turned - 0.8)))
        top += (quality * own_strength).sum()
        bottom += own_strength.sum()
    return float(top / bottom) if bottom > 0 else 1.0


def structural_similarity(first, second, data_range: float = 255.0, window: str = "gaussian") -> float:
    """Mean SSIM of 2-D arrays (Wang et al. 2004, IEEE Trans Image Process 13:600).

    Parameters
    ----------
    first, second : (J, I) arrays
    data_range : float
        Sets the constants that keep quotients of small numbers apart from noise.
    window : "gaussian" or "uniform"
        Standard deviation 1.5 voxels, or 7 × 7 voxels with sample variances.
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    count = 49 if window == "uniform" and min(first.shape) >= 7 else None

    def mean(values):
        return uniform_filter(values, 7) if window == "uniform" else gaussian_filter(values, 1.5, truncate=3.5)

    first, second = first.astype(np.float64), second.astype(np.float64)
    unbiased = count / (count - 1) if count else 1.0
    a, b = mean(first), mean(second)
    var_a, var_b = (unbiased * (mean(v * v) - m * m) for v, m in ((first, a), (second, b)))
    both = unbiased * (mean(first * second) - a * b)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    quality = (2 * a * b + c1) * (2 * both + c2) / ((a * a + b * b + c1) * (var_a + var_b + c2))
    reach = 3 if window == "uniform" else 5
    cut = reach if min(first.shape) > 2 * reach + 1 else 0
    return float(quality[cut : quality.shape[0] - cut, cut : quality.shape[1] - cut].mean())


def fusion_similarity(fused, sources) -> float:
    """Sum of the SSIM with the sources as evaluators of fusion compute it: uniform window, constants for a range of 2.

    With pictures on 0…255 the constants are next to nothing, so that noise in dark parts counts in full.
    """
    return sum(structural_similarity(fused, source, 2.0, "uniform") for source in sources)


def evaluate(fused, sources, slices: int = 12) -> dict[str, float]:
    """All figures of a fused (K, J, I) array with its two sources; sums over the sources, except SCD, Qabf and entropy.

    Pictures are (J, I) slices: ``slices`` of them, evenly spread among those that are not empty in every source.
    """
    used = [k for k in range(len(fused)) if any(np.ptp(s[k]) > 0 for s in sources)] or [0]
    used = [used[n] for n in np.unique(np.linspace(0, len(used) - 1, min(slices, len(used))).round().astype(int))]
    return {
        "MI": sum(mutual_information(fused, s) for s in sources),
        "SCD": sum_of_correlations_of_differences(fused, sources),
        "VIF": float(np.mean([sum(visual_information_fidelity(s[k], fused[k]) for s in sources) for k in used])),
        "Qabf": float(np.mean([edge_preservation(fused[k], [s[k] for s in sources]) for k in used])),
        "SSIM": float(np.mean([fusion_similarity(fused[k], [s[k] for s in sources]) for k in used])),
        "Entropy": entropy(fused),
    }


def _grey(image):
    return np.clip(np.rint(image), 0, 255).astype(np.intp).ravel()


def _correlation(first, second) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first * first).sum() * (second * second).sum())
    return float((first * second).sum() / norm) if norm > 0 else 0.0


def _edges(image):
    """Sobel strength and orientation in −π/2…π/2; upright edges count as +π/2, as in the published evaluators."""
    from scipy.ndimage import sobel

    across, down = sobel(image.astype(np.float64), axis=1), sobel(image.astype(np.float64), axis=0)
    slope = np.divide(down, across, out=np.zeros_like(down), where=across != 0)
    return np.hypot(across, down), np.where(across == 0, np.pi / 2, -np.arctan(slope))
