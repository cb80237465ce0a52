"""Clean-up of segmentations against scipy's distance transform, scikit-image and analytic shapes."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Points, Segment, Segmentation, registry
from MedImgAILib.core.terminology import BRAIN, LUNG
from scipy import ndimage

SPACING = (0.8, 1.1, 2.3)
OFF = {"smoothing": "none"}


def geometry(shape=(30, 44, 52)):
    return Geometry.from_spacing(shape, SPACING, (5.0, -7.0, 11.0))


def distance(grid, center):
    k, j, i = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    return np.linalg.norm(grid.ras(np.stack([i, j, k], -1)) - center, axis=-1)


def clean(labels, table=None, seeds=None, context=None, grid=None, **parameters):
    layers = labels if isinstance(labels, tuple) else (labels,)
    grid = grid or geometry(layers[0].shape)
    table = table or [Segment("one", 1)]
    inputs = {"segmentation": Segmentation(layers, grid, table)}
    inputs |= {"seeds": Points(seeds)} if seeds is not None else {}
    outputs = registry()["segment.clean_up"].execute(inputs, parameters, context or Context())
    return outputs["cleaned"], outputs["measures"]


def ball_mask(radius_mm=12.0):
    grid = geometry()
    return (distance(grid, grid.center) <= radius_mm).astype(np.uint8)


@pytest.mark.parametrize("margin", [3.0, -4.1])
def test_margin_is_the_distance_between_voxel_centres(margin):
    mask = ball_mask()
    got, sizes = clean(mask, **OFF, margin_mm=margin)
    if margin > 0:
        wanted = ndimage.distance_transform_edt(mask == 0, sampling=SPACING[::-1]) <= margin
    else:
        wanted = ndimage.distance_transform_edt(mask, sampling=SPACING[::-1]) > -margin
    np.testing.assert_array_equal(got.mask("one"), wanted)
    after = 4 / 3 * np.pi * (12 + margin) ** 3 / 1000
    assert sizes.columns["volume after"][0] == pytest.approx(after, rel=0.12)
    assert sizes.columns["volume before"][0] == pytest.approx(mask.sum() * np.prod(SPACING) / 1000)


def test_islands_below_a_volume_are_removed():
    morphology = pytest.importorskip("skimage.morphology")
    labels = (np.random.default_rng(0).random((20, 24, 28)) > 0.75).astype(np.uint8)
    voxel = np.prod(SPACING)
    got, _ = clean(labels, **OFF, smallest_mm3=5 * voxel)
    wanted = morphology.remove_small_objects(labels > 0, max_size=4)
    np.testing.assert_array_equal(got.mask("one"), wanted)
    assert 0 < got.mask("one").sum() < labels.sum()


def test_largest_and_seeded_component():
    grid = geometry()
    left, right = grid.ras([12, 20, 14]), grid.ras([40, 20, 14])
    labels = ((distance(grid, left) < 6) | (distance(grid, right) < 8)).astype(np.uint8)
    largest, _ = clean(labels, **OFF, keep="largest")
    np.testing.assert_array_equal(largest.mask("one"), distance(grid, right) < 8)
    seeded, _ = clean(labels, **OFF, keep="seeded", seeds=[left])
    np.testing.assert_array_equal(seeded.mask("one"), distance(grid, left) < 6)
    with pytest.raises(InputError, match="no points were given"):
        clean(labels, **OFF, keep="seeded")
    with pytest.raises(InputError, match="no point lies inside the grid"):
        clean(labels, **OFF, keep="seeded", seeds=[[900.0, 0, 0]])


def test_gaussian_smoothing_is_cut_at_one_half():
    labels = ball_mask()
    labels ^= (np.random.default_rng(0).random(labels.shape) > 0.93).astype(np.uint8)
    got, _ = clean(labels, smoothing="gaussian", smoothing_mm=2.0)
    wanted = ndimage.gaussian_filter(labels.astype(float), 2.0 / np.array(SPACING[::-1]), mode="nearest") >= 0.5
    assert (got.mask("one") != wanted).sum() <= 2
    truth = ball_mask() > 0
    dice = [2 * (m & truth).sum() / (m.sum() + truth.sum()) for m in (labels > 0, got.mask("one"))]
    assert dice[0] < 0.75 and dice[1] > 0.95


def test_joint_smoothing_leaves_no_gap_and_no_overlap():
    """Two halves of a ball with a jagged wall between: the wall gets smoother, the ball stays whole."""
    grid = geometry((24, 40, 40))
    ball = distance(grid, grid.center) <= 14
    jag = np.random.default_rng(1).integers(-2, 3, (24, 40, 1))
    labels = np.where(ball, 1 + (np.arange(40) + jag > 20), 0).astype(np.uint8)
    segments = [Segment("a", 1, (1, 0, 0), BRAIN), Segment("b", 2, (0, 1, 0), LUNG)]
    got, _ = clean(labels, segments, smoothing="joint", smoothing_mm=1.5, grid=grid)
    alone, _ = clean(labels, segments, smoothing="opening", smoothing_mm=2.5, grid=grid)

    def rough(segmentation):
        a = segmentation.mask("a")
        return (a[:, 1:] != a[:, :-1]).sum()

    def gap(segmentation):
        core = distance(grid, grid.center) <= 11
        return (core & ~segmentation.mask("a") & ~segmentation.mask("b")).sum()

    assert gap(got) == 0 and gap(alone) > 0
    before = Segmentation.from_labels(labels, grid, segments)
    assert rough(got) < 0.6 * rough(before)
    assert not (got.mask("a") & got.mask("b")).any()
    wanted = np.argmax(
        [ndimage.gaussian_filter((labels == n).astype(float), 1.5 / np.array(SPACING[::-1]), mode="nearest")
         for n in range(3)], axis=0,
    )  # fmt: skip
    assert (got.layers[0] != wanted).mean() < 1e-3
    assert got.segments == tuple(segments), "names, colours and terminology stay"


def test_a_growing_segment_does_not_take_from_its_neighbour():
    labels = np.zeros((10, 20, 30), np.uint8)
    labels[3:7, 5:15, 5:15] = 1
    labels[3:7, 5:15, 15:25] = 2
    segments = [Segment("a", 1), Segment("b", 2)]
    got, _ = clean(labels, segments, **OFF, margin_mm=2.0)
    assert (got.layers[0][labels > 0] == labels[labels > 0]).all()
    only_a, _ = clean(labels, segments, **OFF, margin_mm=2.0, segments="a")
    np.testing.assert_array_equal(only_a.mask("b"), labels == 2)
    assert only_a.mask("a").sum() > (labels == 1).sum()


def test_overlapping_segments_stay_in_their_layers():
    first, second = np.zeros((2, 9, 12, 12), np.uint8)
    first[2:7, 2:9, 2:9] = 1
    first[4, 5, 5] = 0
    second[2:7, 4:11, 4:11] = 1
    got, _ = clean((first, second), [Segment("a", 1), Segment("b", 1, layer=1)], **OFF, fill_holes=True)
    assert got.mask("a").sum() == first.sum() + 1
    np.testing.assert_array_equal(got.mask("b"), second > 0)
    assert (got.mask("a") & got.mask("b")).any()


def test_unknown_segment_and_sheared_axes_are_refused_and_an_empty_one_is_reported():
    with pytest.raises(InputError, match="has no segment 'bone'"):
        registry()["segment.clean_up"].execute(
            {"segmentation": Segmentation.from_labels(ball_mask(), geometry(), [Segment("one")])},
            {"segments": "bone"},
            Context(),
        )

    class Listener(Context):
        def on_log(self, level, message):
            self.heard = message

    listener = Listener()
    clean(ball_mask(), context=listener, **OFF, margin_mm=-40.0)
    assert listener.heard == "Empty after the clean-up: one."
    matrix = np.diag([1.0, 1.5, 2.0, 1.0])
    matrix[0, 2] = 0.8
    with pytest.raises(InputError, match="sheared axes; use median"):
        clean(ball_mask(), grid=Geometry(matrix, geometry().shape), smoothing="joint")


def test_millimetres_that_are_hundreds_of_voxels_get_a_sentence():
    """Micro-CT: a default radius would be a ball of a hundred million voxels."""
    grid = Geometry.from_spacing((20, 24, 26), (0.01, 0.01, 0.01))
    labels = np.ones(grid.shape, np.uint8)
    with pytest.raises(InputError, match="2 mm is 200 voxels.*choose a smaller one"):
        clean(labels, grid=grid, smoothing="median", smoothing_mm=2.0)
