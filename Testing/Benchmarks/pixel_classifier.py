"""The pixel classifier against the same kinds of feature from SciPy with scikit-learn's forest, used directly.

Strokes are drawn from the truth: short lines of voxels well inside each tissue in three slices. Both sides get the
same strokes; the accuracy is measured on all other voxels of the head.
"""

from __future__ import annotations

import time

import numpy as np
from MedImgAILib.core import Context, Geometry, Points, Segment, Segmentation, Volume
from MedImgAILib.segment.pixel_classifier_tasks import ApplyPixelClassifier, TrainPixelClassifier
from MedImgAILib.segment.pixel_session import PixelSession, Settings

from .measuring import row

SCALES_MM = (1.0, 2.0, 4.0)
TREES = 40


def rows() -> list[dict]:
    """Measure everything; a few minutes on two cores."""
    large, _, strokes = phantom(256)
    started = time.perf_counter()
    trained = _train(large, strokes)
    whole = time.perf_counter() - started
    preview = max(strokes_in_the_editor(large, strokes))
    started = time.perf_counter()
    ApplyPixelClassifier().execute({"images": [large], "trained": trained["trained"]}, {}, Context())
    applied = time.perf_counter() - started
    ours, theirs, dice_ours, dice_theirs = against_peer(128)
    return [
        row("pixel classifier, strokes to segmentation of 256³ voxels", whole, "< 30", "s"),
        row("pixel classifier, trained one applied to 256³ voxels", applied, "< 30", "s"),
        row("pixel classifier in the Segment Editor, stroke to preview in 256³ voxels, the slowest of five strokes",
            preview, "< 1", "s"),
        row("pixel classifier, scikit-learn's time relative to ours, 128³", theirs / ours, "≥ 5", "×", ours, theirs),
        row("pixel classifier, mean Dice less scikit-learn's", dice_ours - dice_theirs, "≥ -0.005", "Dice", dice_ours,
            dice_theirs),
    ]  # fmt: skip


def strokes_in_the_editor(volume: Volume, strokes: Segmentation) -> list[float]:
    """Seconds from each stroke to its preview, as the effect goes about it; the first comes right after opening."""
    session = PixelSession([volume], Settings(scales_mm=SCALES_MM, trees=TREES))
    session.warm_up(volume.geometry.center)
    session.newest(Segmentation.from_labels(np.zeros_like(strokes.layers[0]), volume.geometry, strokes.segments))
    middle = len(volume.array) // 2
    labels = np.zeros_like(strokes.layers[0])
    labels[middle] = strokes.layers[0][middle]
    turns = []
    for row_ in (None, 90, 110, 130, 150):
        if row_ is not None:
            labels[middle, row_, 60:90] = 2
        painted = Segmentation.from_labels(labels.copy(), volume.geometry, strokes.segments)
        started = time.perf_counter()
        point, axis = session.newest(painted)
        session.preview(painted, point if row_ else volume.geometry.center, axis)
        turns.append(time.perf_counter() - started)
    return turns


def phantom(size: int) -> tuple[Volume, np.ndarray, Segmentation]:
    """A head in three tissues with folded borders, shading and noise; its truth (1…3); strokes in three slices."""
    from scipy.ndimage import binary_erosion, gaussian_filter, zoom

    rng = np.random.default_rng(0)
    axis = (np.arange(size, dtype=np.float32) - size / 2) / (size / 2)
    k, j, i = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    radius = np.sqrt((k / 0.85) ** 2 + (j / 0.9) ** 2 + (i / 0.75) ** 2)
    folds = zoom(gaussian_filter(rng.normal(0, 1, (48, 48, 48)), 1.2), size / 48, order=1).astype(np.float32)
    truth = np.full((size,) * 3, 1, np.uint8)
    truth[radius < 1] = 2
    truth[radius + 0.9 * folds < 0.75] = 3
    values = np.array([0, 10, 70, 100], np.float32)[truth] * (1 + 0.1 * i)
    values += rng.normal(0, 25, truth.shape).astype(np.float32)
    geometry = Geometry.from_spacing(truth.shape, (1.0, 1.0, 1.0))
    painted = np.zeros_like(truth)
    for number in (1, 2, 3):
        for place in (size // 2 - 8, size // 2, size // 2 + 8):
            plane = truth[place] == number
            inside = binary_erosion(plane, iterations=1)
            line = np.zeros_like(plane)
            line[rng.integers(size // 8, 7 * size // 8, 6)] = True
            painted[place][inside & line] = number
    segments = [Segment(name, n) for n, name in enumerate(("Background", "Grey", "White"), start=1)]
    return Volume(values, geometry, "phantom"), truth, Segmentation.from_labels(painted, geometry, segments, "strokes")


def against_peer(size: int) -> tuple[float, float, float, float]:
    """Seconds of ours and the peer's, mean Dice of ours and the peer's; the shorter of two turns each."""
    volume, truth, strokes = phantom(size)
    ours, theirs = [], []
    for _ in range(2):
        started = time.perf_counter()
        outputs = _train(volume, strokes)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        peer = peer_labels(volume, strokes)
        theirs.append(time.perf_counter() - started)
    found = outputs["segmentation"]
    mine = np.where(found.mask("White"), 3, np.where(found.mask("Grey"), 2, 1))
    return min(ours), min(theirs), mean_dice(mine, truth), mean_dice(peer, truth)


def mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    """Of classes 2 and 3."""
    scores = []
    for number in (2, 3):
        a, b = labels == number, truth == number
        scores.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(scores))


def peer_labels(volume: Volume, strokes: Segmentation) -> np.ndarray:
    """Labels 1…3 by SciPy's filters, scikit-image's eigenvalues and scikit-learn's forest of the same size."""
    from sklearn.ensemble import RandomForestClassifier

    features = peer_features(volume)
    labels = strokes.labelmap()
    painted = labels > 0
    forest = RandomForestClassifier(
        TREES, max_leaf_nodes=32, min_samples_leaf=2, class_weight="balanced", random_state=0, n_jobs=-1
    )
    forest.fit(features[painted], labels[painted])
    probabilities = forest.predict_proba(features.reshape(-1, features.shape[-1]))
    return forest.classes_[probabilities.argmax(axis=1)].reshape(volume.array.shape)


def peer_features(volume: Volume) -> np.ndarray:
    """(K, J, I, 25) float32: the same features without any coarser grid."""
    from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
    from skimage.feature import hessian_matrix, hessian_matrix_eigvals, structure_tensor, structure_tensor_eigenvalues

    image = volume.array.astype(np.float32)
    columns = [image]
    for sigma in SCALES_MM:
        smooth = gaussian_filter(image, sigma)
        columns += [smooth, sigma * gaussian_gradient_magnitude(image, sigma)]
        hessian = hessian_matrix(image, sigma, order="rc", use_gaussian_derivatives=False)
        columns += list(sigma**2 * hessian_matrix_eigvals(hessian))
        tensor = structure_tensor(smooth, 2 * sigma, order="rc")
        columns += list(np.sqrt(np.maximum(structure_tensor_eigenvalues(tensor), 0)))
    return np.stack(columns, axis=-1).astype(np.float32)


def _train(volume, strokes, preview=None, **parameters):
    inputs = {"images": [volume], "strokes": strokes}
    if preview is not None:
        inputs["preview"] = Points(np.asarray([preview]))
    scales = ", ".join(f"{s:g}" for s in SCALES_MM)
    return TrainPixelClassifier().execute(inputs, {"trees": TREES, "scales_mm": scales} | parameters, Context())
