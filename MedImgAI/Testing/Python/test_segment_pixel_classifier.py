"""The trainable pixel classifier against SciPy's filters, scikit-learn's predictions and analytic images."""

import json

import numpy as np
import pytest
from MedImgAILib.core import (
    Context,
    Geometry,
    InputError,
    ModelError,
    Points,
    Segment,
    Segmentation,
    Text,
    Volume,
    registry,
)
from MedImgAILib.core.terminology import BRAIN, LUNG
from MedImgAILib.segment.pixel_features import FeatureBank, feature_names
from MedImgAILib.segment.pixel_model import PixelModel
from MedImgAILib.segment.plane_filters import eigenvalues
from scipy import ndimage

TRAIN, APPLY = "segment.pixel_classifier_train", "segment.pixel_classifier_apply"
KINDS = ("forest", "boosting", "svm", "logistic")


def features(volume, scales):
    bank = FeatureBank([volume.canonical()], scales, "none", Context())
    stack = np.stack([bank.plane(k) for k in range(bank.shape[0])], axis=1)
    return dict(zip(feature_names(1, scales), stack, strict=True))


def canonical(array, spacing=(1.0, 1.0, 1.0)):
    return Volume(np.asarray(array, np.float32), Geometry.from_spacing(array.shape, spacing), "image")


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


# Features


def test_eigenvalues_agree_with_lapack():
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(2000, 3, 3)).astype(np.float32)
    matrices += matrices.transpose(0, 2, 1)
    matrices[0] = 0
    matrices[1] = np.eye(3)
    a = matrices
    got = np.stack(eigenvalues(a[:, 0, 0], a[:, 1, 1], a[:, 2, 2], a[:, 0, 1], a[:, 0, 2], a[:, 1, 2]), axis=1)
    np.testing.assert_allclose(got, np.linalg.eigvalsh(a)[:, ::-1], atol=3e-5)


def test_derivatives_of_a_polynomial_are_exact():
    """f = 2 r² + 0.5 s a - 3 a + 1 in RAS mm on an anisotropic grid: gradient and curvature are known."""
    grid = Geometry.from_spacing((40, 44, 48), (0.9, 1.1, 1.6))
    k, j, i = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    r, a, s = np.moveaxis(grid.ras(np.stack([i, j, k], -1)) - grid.center, -1, 0)
    volume = Volume((2 * r**2 + 0.5 * s * a - 3 * a + 1).astype(np.float32), grid, "polynomial")
    found = features(volume, (2.0,))
    middle = (slice(16, 24), slice(16, 28), slice(18, 30))
    slope = 2.0 * np.sqrt((4 * r) ** 2 + (0.5 * s - 3) ** 2 + (0.5 * a) ** 2)
    np.testing.assert_allclose(found["image 1 gradient at 2 mm"][middle], slope[middle], rtol=0.01, atol=0.02)
    for number, wanted in enumerate((4.0, 0.5, -0.5), start=1):
        np.testing.assert_allclose(found[f"image 1 hessian {number} at 2 mm"][middle], wanted * 4.0, atol=0.05)


@pytest.mark.parametrize("sigma", [1.5, 3.0])
def test_features_agree_with_scipy_also_on_coarser_grids(sigma):
    spacing = np.array([2.0, 1.0, 0.8])
    array = ndimage.gaussian_filter(np.random.default_rng(0).normal(100, 30, (40, 64, 72)), 1.0 / spacing)
    found = features(canonical(array, spacing[::-1]), (sigma,))
    smooth = ndimage.gaussian_filter(array, sigma / spacing, mode="nearest")
    inner = (slice(8, -8), slice(12, -12), slice(12, -12))
    assert correlation(found[f"image 1 smoothed at {sigma:g} mm"][inner], smooth[inner]) > 0.995
    gradients = [np.gradient(smooth, h, axis=n) for n, h in enumerate(spacing)]
    slope = np.sqrt(sum(g**2 for g in gradients))
    assert correlation(found[f"image 1 gradient at {sigma:g} mm"][inner], slope[inner]) > 0.97
    tensor = np.empty((*array.shape, 3, 3))
    for m in range(3):
        for n in range(3):
            tensor[..., m, n] = ndimage.gaussian_filter(
                gradients[m] * gradients[n], 2 * sigma / spacing, mode="nearest"
            )
    roots = sigma * np.sqrt(np.maximum(np.linalg.eigvalsh(tensor), 0))[..., ::-1]
    for number in range(3):
        got = found[f"image 1 structure {number + 1} at {sigma:g} mm"][inner]
        assert correlation(got, roots[..., number][inner]) > 0.95
        assert got.mean() == pytest.approx(roots[..., number][inner].mean(), rel=0.06)


def test_features_do_not_turn_with_the_patient():
    array = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 30, (32, 32, 32)), 1.0)
    one = features(canonical(array), (1.0, 2.0))
    other = features(canonical(np.ascontiguousarray(array.transpose(2, 0, 1)[:, ::-1])), (1.0, 2.0))
    for name, values in one.items():
        turned = other[name][:, ::-1].transpose(1, 2, 0)
        np.testing.assert_allclose(turned, values, atol=2e-3 * np.ptp(values), err_msg=name)


def test_a_part_has_the_features_of_the_whole():
    array = np.random.default_rng(2).normal(0, 30, (60, 70, 80)).astype(np.float32)
    volume, scales = canonical(array, (1.0, 1.2, 1.5)), (1.0, 2.5)
    box = (slice(31, 33), slice(20, 50), slice(38, 44))
    part = FeatureBank([volume], scales, "percentile", Context(), box)
    whole = FeatureBank([volume], scales, "percentile", Context())
    np.testing.assert_allclose(part.plane(1), whole.plane(32)[:, box[1], box[2]], atol=1e-4)


# Models


def trained_estimator(kind, classes):
    training = pytest.importorskip("MedImgAILib.segment.pixel_training")
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 12)).astype(np.float32)
    y = (x[:, 0] + x[:, 1] ** 2 + 0.3 * rng.normal(size=600) > 0.5).astype(int) + (classes > 2) * (x[:, 2] > 0.3)
    estimator = training.new_estimator(kind, 15, 0).fit(x, y)
    return estimator, training.translated(estimator, kind, 12), rng.normal(size=(5000, 12)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_stored_model_gives_the_probabilities_of_scikit_learn(kind, classes):
    estimator, model, x = trained_estimator(kind, classes)
    read = PixelModel.from_json(json.loads(json.dumps(model.to_json())))
    got = read.probabilities(np.ascontiguousarray(x.T))
    np.testing.assert_allclose(got.T, estimator.predict_proba(x), atol=2e-6)


def test_values_on_a_threshold_go_the_way_of_scikit_learn():
    """Features with few distinct values lie on thresholds' neighbours; float64 thresholds must not be rounded up."""
    ensemble = pytest.importorskip("sklearn.ensemble")
    from MedImgAILib.segment.pixel_training import translated

    rng = np.random.default_rng(0)
    x = (rng.integers(0, 7, (500, 4)) / np.float32(10)).astype(np.float32)
    forest = ensemble.RandomForestClassifier(10, max_leaf_nodes=60, random_state=0).fit(x, rng.integers(0, 2, 500))
    got = translated(forest, "forest", 4).probabilities(np.ascontiguousarray(x.T))
    np.testing.assert_allclose(got.T, forest.predict_proba(x), atol=1e-6)


# Tasks


def two_textures(seed=0, shape=(24, 48, 48)):
    """Left: bright and smooth; right: as bright but rough; a dark frame. Truth 1, 2 and 3, and sparse strokes."""
    rng = np.random.default_rng(seed)
    truth = np.full(shape, 3, np.uint8)
    truth[4:-4, 6:-6, 6:24] = 1
    truth[4:-4, 6:-6, 24:-6] = 2
    array = np.where(truth == 3, 20.0, 100.0) + rng.normal(0, 3, shape)
    array += np.where(truth == 2, ndimage.gaussian_filter(rng.normal(0, 1, shape), 0.8) * 90, 0)
    painted = np.zeros_like(truth)
    painted[11:13, 10:38:3, 12:18] = 1
    painted[11:13, 10:38:3, 30:36] = 2
    painted[11:13, 1:4, 4:44] = 3
    painted[1:3, 4:44:4, 4:44] = 3
    painted[11:13, 10:38:3, 1:4] = 3
    geometry = Geometry.from_spacing(shape, (1.0, 1.0, 1.5), (10.0, -20.0, 5.0))
    segments = (Segment("Smooth", 1, (1, 0, 0), BRAIN), Segment("Rough", 2, (0, 1, 0), LUNG), Segment("Background", 3))
    return (
        Volume(array.astype(np.float32), geometry, "textures"),
        truth,
        Segmentation.from_labels(painted, geometry, segments, "strokes"),
    )


def train(volume, strokes, context=None, preview=None, region=None, **parameters):
    pytest.importorskip("sklearn")
    inputs = {"images": volume if isinstance(volume, list) else [volume], "strokes": strokes}
    inputs |= {} if preview is None else {"preview": Points([preview])}
    inputs |= {} if region is None else {"region": region}
    return registry()[TRAIN].execute(inputs, {"trees": 15} | parameters, context or Context())


def accuracy(segmentation, truth):
    found = np.where(segmentation.mask("Smooth"), 1, np.where(segmentation.mask("Rough"), 2, 3))
    return (found == truth).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_strokes_become_a_segmentation_that_applies_to_another_case(kind):
    volume, truth, strokes = two_textures()
    outputs = train(volume, strokes, classifier=kind, with_probabilities=True)
    segmentation = outputs["segmentation"]
    assert [s.name for s in segmentation.segments] == ["Smooth", "Rough"], "the background is no segment"
    assert segmentation.segments[1].terminology == LUNG and segmentation.segments[1].color == (0, 1, 0)
    assert accuracy(segmentation, truth) > 0.86
    probabilities = outputs["probabilities"].array
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_array_equal(segmentation.mask("Rough"), probabilities.argmax(axis=-1) == 1)
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(axis=-1) / np.log(3)
    np.testing.assert_allclose(outputs["uncertainty"].array, entropy, atol=1e-4)
    other, other_truth, _ = two_textures(seed=5)
    applied = registry()[APPLY].execute({"images": [other], "trained": outputs["trained"]}, {}, Context())
    assert accuracy(applied["segmentation"], other_truth) > 0.85
    again = registry()[APPLY].execute({"images": [volume], "trained": outputs["trained"]}, {}, Context())
    np.testing.assert_array_equal(again["segmentation"].layers[0], segmentation.layers[0])


def test_accuracy_is_that_of_scikit_learn_on_full_resolution_features():
    pytest.importorskip("sklearn")
    pytest.importorskip("skimage")
    from Benchmarks.pixel_classifier import _train, mean_dice, peer_labels, phantom

    volume, truth, strokes = phantom(64)
    found = _train(volume, strokes)["segmentation"]
    mine = np.where(found.mask("White"), 3, np.where(found.mask("Grey"), 2, 1))
    ours, theirs = mean_dice(mine, truth), mean_dice(peer_labels(volume, strokes), truth)
    assert ours > theirs - 0.01 and ours > 0.85


def test_a_second_image_on_another_grid_tells_apart_what_the_first_cannot():
    volume, truth, strokes = two_textures()
    flat = volume.with_array(np.where(truth == 3, 20, 100).astype(np.float32), name="flat")
    other = volume.with_array(np.where(truth == 2, 50, 10).astype(np.float32), name="other")
    from MedImgAILib.core.resampling import resample_volume

    finer = resample_volume(other, volume.geometry.resized((48, 48, 48)), "nearest")
    alone = accuracy(train(flat, strokes)["segmentation"], truth)
    both = train([flat, finer], strokes)
    assert accuracy(both["segmentation"], truth) > 0.95 > 0.9 > alone
    with pytest.raises(InputError, match=r"^Images: the classifier was trained on 2 \('flat', .*\), not 1; choose"):
        registry()[APPLY].execute({"images": [flat], "trained": both["trained"]}, {}, Context())


@pytest.mark.parametrize("axis, number", [("S", 0), ("A", 1), ("R", 2)])
def test_preview_is_the_slice_of_the_whole(axis, number):
    volume, _, strokes = two_textures()
    whole = train(volume, strokes)["segmentation"].layers[0]
    place = [14, 20, 30]
    got = train(volume, strokes, preview=volume.geometry.ras(place[::-1]), extent="slice", slice_axis=axis)
    got = got["segmentation"].layers[0]
    chosen = tuple(place[number] if n == number else slice(None) for n in range(3))
    assert (got[chosen] != whole[chosen]).mean() < 0.005
    rest = got.copy()
    rest[chosen] = 0
    assert not rest.any() and got.any()


def test_region_limits_the_result():
    volume, _, strokes = two_textures()
    mask = np.zeros(volume.array.shape, np.uint8)
    mask[5:9, 8:20, 10:40] = 1
    region = Segmentation.from_labels(mask, volume.geometry, [Segment("region")])
    whole, part = train(volume, strokes), train(volume, strokes, region=region)
    np.testing.assert_array_equal(part["segmentation"].layers[0], np.where(mask, whole["segmentation"].layers[0], 0))
    assert not part["uncertainty"].array[mask == 0].any()


def test_wrong_input_is_refused_in_one_sentence():
    volume, _, strokes = two_textures()
    one = Segmentation.from_labels((strokes.layers[0] == 1).astype(np.uint8), strokes.geometry, strokes.segments[:1])
    with pytest.raises(InputError, match="paint the background as another one"):
        train(volume, one)
    unpainted = Segmentation.from_labels(np.where(strokes.layers[0] == 2, 0, strokes.layers[0]), strokes.geometry,
                                         strokes.segments)  # fmt: skip
    with pytest.raises(InputError, match=r"^Strokes: segment 'Rough' has 0 voxels in the image; paint at least 3\.$"):
        train(volume, unpainted)
    for text in ("", "1, two", "-1", "1,2,3,4,5,6,7,8,9"):
        with pytest.raises(InputError, match="^Scales: "):
            train(volume, strokes, scales_mm=text)
    with pytest.raises(InputError, match="no point was given"):
        train(volume, strokes, extent="slice")
    with pytest.raises(InputError, match="lies outside the image"):
        train(volume, strokes, extent="slice", preview=[999.0, 0, 0])


def damaged():
    inputs = registry()[APPLY].example()[0]
    good = json.loads(inputs["trained"].text)
    tree = {"feature": [0, -1, -1], "threshold": [1.0, 0, 0], "left": [1, -1, -1], "right": [2, -1, -1],
            "values": [[1, 0], [0, 1]]}  # fmt: skip
    forest = {"kind": "forest", "classes": 2, "features": good["model"]["features"], "trees": [[tree]]}

    def changed(**changes):
        return good | {"model": forest | {"trees": [[tree | changes]]}}

    yield "not json", "cos\nsystem\n(S'true'\ntR."
    yield "nan", json.dumps(good).replace("0.2", "NaN", 1)
    yield "not an object", "[1, 2]"
    yield "other format", json.dumps(good | {"format": "pickle"})
    yield "later version", json.dumps(good | {"version": 2})
    yield "unknown kind", json.dumps(good | {"model": good["model"] | {"kind": "os.system"}})
    yield "too few weights", json.dumps(good | {"model": good["model"] | {"weights": [[1.0]]}})
    yield "text as weight", json.dumps(good | {"model": good["model"] | {"offsets": ["x"]}})
    yield "infinite", json.dumps(good).replace("-10.0", "1e999")
    yield "other scales", json.dumps(good | {"scales_mm": [1.0]})
    yield "classes differ", json.dumps(good | {"segments": good["segments"][:1]})
    yield "background out of range", json.dumps(good | {"background": [7]})
    yield "circle", json.dumps(changed(left=[0, -1, -1]))
    yield "shared branch", json.dumps(changed(right=[1, -1, -1]))
    yield "branch out of range", json.dumps(changed(right=[9, -1, -1]))
    yield "feature out of range", json.dumps(changed(feature=[500, -1, -1]))
    yield "deep nesting", "[" * 100_000
    yield "objects as numbers", json.dumps(changed(threshold=[{}, 0, 0]))
    yield "missing part", json.dumps({k: v for k, v in good.items() if k != "model"})


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in damaged()])
def test_damaged_classifiers_are_refused(text):
    inputs = registry()[APPLY].example()[0]
    with pytest.raises(ModelError, match=r"^The (pixel classifier|text) .*\.$"):
        registry()[APPLY].execute(inputs | {"trained": Text(text)}, {}, Context())
