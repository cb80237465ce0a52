"""Training: planning, preparation, patches, augmentation, losses."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from MedImgAILib.core import Geometry, Segment, Segmentation, Volume
from MedImgAILib.core.model_card import ModelInput
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.training.cache import Preparation
from MedImgAILib.training.cases import Case
from MedImgAILib.training.planning import ImageFacts, intensity_rule, modality_of, plan_images, plan_patches

# Planning


def facts(shape, spacing, values=(0.0, 100.0), low=0.0, high=100.0, integer8=False):
    return [ImageFacts(shape, spacing, np.array(values), low, high, 1, integer8)]


def test_plan_of_the_hippocampus_is_nnunets():
    """nnU-Net's published plan of Task04: patch 40×56×40 at 1 mm, three halvings; a processor saves the padding."""
    crops = [facts((36, 50, 35), (1.0, 1.0, 1.0))] * 40
    plan = plan_patches(crops, ["T1"], ["MR"], "cuda")
    assert sorted(plan.patch) == [40, 40, 56] and plan.strides == ((1, 1, 1),) + ((2, 2, 2),) * 3
    assert plan.inputs[0].spacing_mm == (1.0, 1.0, 1.0) and plan.inputs[0].intensity.rule == "z_score"
    lean = plan_patches(crops, ["T1"], ["MR"], "cpu")
    assert lean.patch == (36, 52, 36) and lean.strides == plan.strides[:3] and len(lean.kernels) == 3


def test_thick_slices_are_not_halved_first_and_keep_their_finest_spacing():
    cases = [facts((20, 320, 320), (s, 0.6, 0.6)) for s in (2.0, 3.6, 3.6, 3.6, 4.0)]
    plan = plan_patches(cases, ["T2"], ["MR"], "cuda")
    assert not plan.isotropic and plan.strides[1] == (1, 2, 2) and plan.kernels[0] == (1, 3, 3)
    assert plan.inputs[0].spacing_mm[2] == pytest.approx(np.percentile([2, 3.6, 3.6, 3.6, 4.0], 10))
    assert all(n % d == 0 for n, d in zip(plan.patch, plan.divisor))


@pytest.mark.parametrize("shape", [(512, 512, 512), (3, 700, 90), (2, 2, 2), (1, 512, 500), (1, 5, 5), (60, 7, 900)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_any_size_gets_a_plan(shape, device):
    plan = plan_patches([facts(shape, (1.0, 1.0, 1.0))] * 10, ["image"], [""], device)
    extents = plan.patch[1:] if plan.dimensions == 2 else plan.patch
    assert all(n % d == 0 for n, d in zip(extents, plan.divisor)) and plan.batch >= 2
    assert np.prod(plan.patch) < (160**3 if device == "cuda" else 96**3)


def test_modalities_and_their_rules():
    ct = facts((9, 9, 9), (1, 1, 1), np.r_[np.linspace(-100, 300, 1000), 9000.0], -1024, 9000)[0]
    assert modality_of([ct]) == "CT" and modality_of([facts((1, 9, 9), (1, 1, 1), integer8=True)[0]]) == "OT"
    clip, scale = intensity_rule("CT", [ct])
    low, high = np.percentile(ct.inside, (0.5, 99.5))
    assert (clip.lower, clip.upper) == pytest.approx((low, high))
    assert scale.mean == pytest.approx(ct.inside.clip(low, high).mean())
    assert intensity_rule("MR", [ct]).rule == "z_score"


def test_images_of_a_classification_get_one_size():
    plan = plan_images([facts((1, 300, 1000), (1, 1, 1))] * 3, ["image"], [""])
    assert plan.inputs[0].size == (224, 67, 1) and plan.inputs[0].fit == "stretch" and plan.dimensions == 2


# Preparation, patches, augmentation


def prepared(tmp_path=None, shape=(9, 11, 13)):
    rng = np.random.default_rng(0)
    grid = Geometry.from_spacing(shape)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:8, 4:9] = 1
    labels[6:8, 2:4, 2:6] = 2
    segments = [Segment("A", 1), Segment("B", 2)]
    image = Volume((labels * 100 + rng.normal(0, 1, shape)).astype(np.float32), grid, "image")
    case = Case("one", (image,), Segmentation.from_labels(labels, grid, segments, "truth"))
    inputs = (ModelInput("image", "MR", 1, None, None, Intensity("none")),)
    return Preparation(inputs, ("A", "B"), tmp_path), case, labels


def test_cached_cases_are_those_that_were_prepared(tmp_path):
    preparation, case, labels = prepared(tmp_path / "cache")
    first = preparation.case(case)
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    before = [f.stat().st_mtime_ns for f in files]
    second = preparation.case(case)
    assert [f.stat().st_mtime_ns for f in files] == before
    assert np.array_equal(first.image, second.image) and np.array_equal(first.labels, labels)
    assert np.array_equal(second.prepared.back(second.labels), labels)
    assert {label: len(places) for label, places in second.places.items()} == {1: 75, 2: 16}
    changed = Case("one", (Volume(case.images[0].array + 1, case.images[0].geometry),), case.target)
    assert preparation.key(changed) != preparation.key(case)


def test_patches_hold_image_and_labels_of_the_same_place():
    from MedImgAILib.training.batches import cut_patch

    preparation, case, _ = prepared()
    ready = preparation.case(case)
    middles = []
    for n in range(60):
        image, labels = cut_patch(ready, (6, 20, 5), np.random.default_rng(n), 1.0)
        assert image.shape == (1, 6, 20, 5) and labels.shape == (6, 20, 5)
        inside = np.abs(image[0]) > 0
        assert np.array_equal(labels[inside], np.clip(np.rint(image[0][inside] / 100), 0, 2).astype(np.uint8))
        assert labels.any()
        middles.append(set(np.unique(labels)) - {0})
    assert {1} in middles or {2} in middles


@pytest.mark.parametrize("level", ["full", "strong"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_labels_move_with_the_image(dimensions, level):
    """A picture of its own labels: after any spatial change it must still be that."""
    pytest.importorskip("monai")
    from MedImgAILib.training.augmentation import Augmentation

    shape = (40,) * dimensions
    labels = np.zeros(shape, np.uint8)
    labels[(slice(8, 20),) * (dimensions - 1) + (slice(6, 30),)] = 1
    labels[(slice(22, 34),) * dimensions] = 2
    image = labels[None].astype(np.float32)
    augment = Augmentation(dimensions, level, (True,) * dimensions)
    augment._intensity = lambda: []
    moved = 0
    for seed in range(12):
        changed, found = augment(image, labels, np.random.default_rng(seed))
        changed, found = changed[0].numpy(), found.numpy()
        moved += not np.array_equal(found, labels)
        certain = np.abs(changed - np.rint(changed)) < 1e-3  # away from borders, where the image is interpolated
        assert certain.mean() > 0.5
        assert (np.rint(changed)[certain] == found[certain]).mean() > 0.995
    assert moved >= 8


def places_seen(shape, seed, **ranges):
    """(d, …) voxel coordinates that a warp shows at each voxel, NaN where it shows what lies outside."""
    pytest.importorskip("torch")
    import torch
    from MedImgAILib.training.warping import Warp

    own = np.stack(np.meshgrid(*(np.arange(float(n)) for n in shape), indexing="ij")).astype(np.float32)
    given = torch.from_numpy(np.concatenate([own, np.ones((1, *shape), np.float32)]))
    seen, _ = Warp(share=1.0, **ranges)(given, None, np.random.default_rng(seed))
    seen = seen.numpy().astype(np.float64)
    return np.where(seen[-1:] > 1 - 1e-5, seen[:-1], np.nan), own


@pytest.mark.parametrize("shape", [(20, 33), (20, 33, 27)])
def test_a_turn_keeps_right_angles_and_lengths_in_any_grid(shape):
    moves = []
    for seed in range(5):
        seen, own = places_seen(shape, seed, degrees=25, scale=0.0, shift=2.0)
        good = np.isfinite(seen).all(axis=0)
        design = np.c_[own[:, good].T, np.ones(good.sum())]
        fit, rest, *_ = np.linalg.lstsq(design, seen[:, good].T, rcond=None)
        matrix, middle = fit[:-1].T, np.array([(n - 1) / 2 for n in shape])
        assert rest.max() / good.sum() < 1e-6
        assert matrix.T @ matrix == pytest.approx(np.eye(len(shape)), abs=1e-4)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-4)
        shift = np.r_[middle, 1] @ fit - middle
        assert np.abs(shift).max() <= 2 + 1e-3, "the turn is about the middle"
        moves.append(np.rad2deg(np.arccos(np.clip((np.trace(matrix) - len(shape) + 2) / 2, -1, 1))))
    assert max(moves) > 5


def test_bending_is_as_large_along_every_axis():
    ways = []
    for seed in range(12):
        seen, own = places_seen((24, 60, 36), seed, degrees=0, scale=0.0, shift=0.0, bend=1.5)
        ways.append(np.nanstd(seen - own, axis=(1, 2, 3)))
    spread = np.mean(ways, axis=0)
    assert (spread > 0.5).all() and (spread < 1.5).all() and spread.max() < 1.5 * spread.min()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_augmentation_is_a_function_of_its_random_numbers(dimensions):
    pytest.importorskip("monai")
    from concurrent.futures import ThreadPoolExecutor

    from MedImgAILib.training.augmentation import Augmentation

    image = np.random.default_rng(0).normal(size=(1,) + (16,) * dimensions).astype(np.float32)
    augment = Augmentation(dimensions, "full", (True,) * dimensions, bias_field=True)

    def once(seed):
        return augment(image, None, np.random.default_rng(seed))[0].numpy()

    first = [once(n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        second = list(pool.map(once, range(40)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], first[1]) and all(np.isfinite(f).all() for f in first)


def test_a_warp_takes_its_values_from_where_it_says():
    """Against SciPy's interpolation at the same places; without a range nothing changes."""
    torch = pytest.importorskip("torch")
    from MedImgAILib.training.warping import Warp
    from scipy.ndimage import map_coordinates

    image = np.random.default_rng(0).normal(size=(2, 12, 17, 9)).astype(np.float32)
    labels = (image[0] > 1).astype(np.uint8)
    given = torch.from_numpy(image), torch.from_numpy(labels)
    same, same_labels = Warp(1.0, 0, 0.0, 0.0)(*given, np.random.default_rng(0))
    np.testing.assert_allclose(same, image, atol=1e-4)
    assert np.array_equal(same_labels, labels)
    warp = Warp(1.0, 20, 0.2, 2.0, 1.0)
    rng = np.random.default_rng(5)
    rng.random()
    grid = warp._grid(image.shape[1:], rng)[0].flip(-1).numpy()
    half = (np.array(image.shape[1:]) - 1) / 2
    places = np.moveaxis((grid + 1) * half, -1, 0)
    changed, _ = warp(*given, np.random.default_rng(5))
    inside = np.all((places >= 0) & (places <= 2 * half[:, None, None, None]), axis=0)
    assert 0.3 < inside.mean() < 1
    for channel in range(2):
        expected = map_coordinates(image[channel].astype(float), places, order=1)
        np.testing.assert_allclose(changed[channel].numpy()[inside], expected[inside], atol=1e-3)


def test_bending_never_folds_and_keeps_sizes_in_bounds():
    pytest.importorskip("torch")
    from MedImgAILib.training.augmentation import _WARPS
    from MedImgAILib.training.warping import Warp

    warp, shape, sizes = Warp(**_WARPS["strong"]), (24, 36, 24), []
    half = (np.array(shape) - 1) / 2
    for seed in range(20):
        places = warp._grid(shape, np.random.default_rng(seed))[0].flip(-1).numpy() * half
        slopes = np.stack([np.stack(np.gradient(places[..., a]), axis=-1) for a in range(3)], axis=-2)
        volumes = np.linalg.det(slopes)
        assert (volumes > 0).mean() > 0.999
        sizes.append(np.median(volumes))
    assert 0.35 < min(sizes) < 1 < max(sizes) < 2.8  # exp(±3 · 1.5 · 0.15) and the bending


def test_sides_are_not_mirrored():
    from MedImgAILib.training.segmentation import flips_allowed

    kidneys = [Segment("Left kidney"), Segment("Right kidney", 2)]
    assert flips_allowed(kidneys, 3, "all") == (True, True, False)
    assert flips_allowed(kidneys, 3, "sides") == (False, False, False)
    assert flips_allowed([Segment("Liver")], 3, "sides") == (False, False, True)
    assert flips_allowed([Segment("Hippocampus_L")], 2, "sides") == (False, False)
    assert flips_allowed([Segment("Liver")], 2, "none") == (False, False)


# Losses


def test_effective_numbers_are_those_of_the_paper():
    from MedImgAILib.training.losses import effective_number_weights

    counts, beta = np.array([5000, 50, 2]), 0.999
    expected = (1 - beta) / (1 - beta**counts)
    expected = expected / expected.sum() * 3
    np.testing.assert_allclose(effective_number_weights(counts, beta), expected, rtol=1e-9)
    assert np.allclose(effective_number_weights(counts, 0.0), 1)


def test_focal_loss_without_focus_is_cross_entropy_and_agrees_with_monai():
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    from MedImgAILib.training.losses import classification_loss

    scores = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    shares = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3, 0, 1])]
    plain = torch.nn.functional.cross_entropy(scores, shares)
    torch.testing.assert_close(classification_loss("focal", gamma=0.0)(scores, shares), plain)
    torch.testing.assert_close(classification_loss()(scores, shares), plain)
    peer = losses.FocalLoss(gamma=2.0, use_softmax=True, reduction="none")(scores, shares).sum(1).mean()
    torch.testing.assert_close(classification_loss("focal")(scores, shares), peer)


def test_dice_loss_agrees_with_monai():
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    from MedImgAILib.training.losses import segmentation_loss

    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, 7, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 7, 8), generator=generator)
    peer = losses.DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(scores, labels[:, None])
    torch.testing.assert_close(segmentation_loss()(scores, labels), peer, rtol=1e-4, atol=1e-4)
    deep = torch.stack([scores, scores], dim=1)
    torch.testing.assert_close(segmentation_loss()(deep, labels), segmentation_loss()(scores, labels))


# Mirrored images when a package is applied


def test_a_network_asked_about_both_sides_favours_none():
    """Its answer to the mirrored image is the mirrored answer, which a lopsided network's own is not."""
    torch = pytest.importorskip("torch")
    from MedImgAILib.networks.sliding_window import Plan, infer
    from MedImgAILib.networks.variations import mirrored

    torch.manual_seed(0)
    network = torch.nn.Conv3d(1, 3, 3, padding=1).eval()
    image = np.random.default_rng(0).normal(size=(1, 10, 12, 16)).astype(np.float32)

    def found(array, axes):
        return infer(network, array, Plan((8, 8, 8), 0.5, variations=mirrored(axes))).labels

    flipped = np.ascontiguousarray(image[..., ::-1])
    assert (found(flipped, ("i",))[..., ::-1] == found(image, ("i",))).mean() > 0.999
    assert (found(flipped, ())[..., ::-1] == found(image, ())).mean() < 0.9
    assert [v.flips for v in mirrored(("i", "k"))] == [(), (2,), (0,), (0, 2)]


def test_mirrored_axes_stand_in_the_card():
    from MedImgAILib.core import ModelError
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.model_json import Node

    rules = Inference(mirrored=("i", "k"))
    assert Inference.read(Node(rules.to_json(), "inference")) == rules
    for wrong in (["x"], ["i", "i"], [0], "i"):
        with pytest.raises(ModelError, match="mirrored"):
            Inference.read(Node({"mirrored": wrong}, "inference"))


def test_weights_of_segments_by_their_voxels():
    """Cui et al. 2019, equation 1, on counts scaled so that the most frequent class has 5000; rare ones weigh more."""
    from MedImgAILib.training.losses import effective_number_weights
    from MedImgAILib.training.segmentation_run import _Run

    labels = [np.repeat(np.uint8([0, 1, 2]), [19000, 900, 100]), np.repeat(np.uint8([0, 1]), [19500, 500])]
    run = SimpleNamespace(
        parameters=SimpleNamespace(class_weights=True), names=("a", "b"),
        preparation=SimpleNamespace(loaded=lambda case: SimpleNamespace(labels=labels[case])),
    )  # fmt: skip
    found = np.asarray(_Run._class_weights(run, [0, 1]))
    np.testing.assert_allclose(found, effective_number_weights(np.array([38500, 1400, 100]) * 5000 / 38500), rtol=1e-6)
    assert found[0] < found[1] < found[2]
    run.parameters.class_weights = False
    assert _Run._class_weights(run, [0, 1]) is None
