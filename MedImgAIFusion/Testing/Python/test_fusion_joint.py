"""Joint label fusion against plain loops, on atlases that err together, and with bad input."""

import itertools

import numpy as np
import pytest
from MedImgAIFusionLib.decision.joint import best_matches, fuse, steps_within, weights_of
from MedImgAIFusionLib.decision.joint_task import JointLabelFusion
from MedImgAIFusionLib.decision.vote import MajorityVote
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Volume
from scipy.ndimage import gaussian_filter

GRID = Geometry.from_spacing((9, 10, 11), (1.0, 1.0, 1.0))


def normal(patch):
    patch = patch - patch.mean()
    return patch / np.sqrt(max((patch**2).mean(), 1e-6))


def patch_at(array, place, radius):
    index = [np.clip(np.arange(p - r, p + r + 1), 0, n - 1) for p, r, n in zip(place, radius, array.shape)]
    return array[np.ix_(*index)]


def plain_fusion(target, images, labels, count, disputed, patch, search, alpha, beta):
    """The published algorithm, one voxel at a time."""
    votes = {tuple(d): np.zeros(count) for d in disputed}
    around = list(itertools.product(*(range(-r, r + 1) for r in patch)))
    near = {
        tuple(np.add(d, step))
        for d in disputed
        for step in around
        if all(0 <= p < n for p, n in zip(np.add(d, step), target.shape))
    }
    for place in near:
        own = normal(patch_at(target, place, patch))
        differences, said = [], []
        for image, layer in zip(images, labels):
            best = max(
                (tuple(s) for s in steps_within(search)),
                key=lambda s: round(float((own * normal(patch_at(image, np.add(place, s), patch))).mean()), 6),
            )
            differences.append(np.abs(own - normal(patch_at(image, np.add(place, best), patch))).ravel())
            said.append(patch_at(layer, np.add(place, best), patch).ravel())
        together = np.array([[(a @ b / (len(a) - 1)) ** beta for a in differences] for b in differences])
        weights = np.linalg.solve(together + alpha * np.eye(len(images)), np.ones(len(images)))
        weights /= weights.sum()
        for number, step in enumerate(around):
            goal = tuple(np.add(place, step))
            if goal in votes:
                for weight, answer in zip(weights, said):
                    votes[goal][answer[number]] += weight
    return np.array([votes[tuple(d)] / votes[tuple(d)].sum() for d in disputed])


@pytest.mark.parametrize("patch, search", [((1, 1, 1), (1, 1, 1)), ((0, 1, 2), (1, 0, 1)), ((1, 1, 1), (0, 0, 0))])
def test_votes_are_those_of_plain_loops(patch, search):
    rng = np.random.default_rng(0)
    target, *images = (gaussian_filter(rng.random(GRID.shape), 0.7).astype(np.float32) for _ in range(4))
    target, *images = ((a - a.mean()) / a.std() for a in (target, *images))
    labels = [rng.integers(0, 3, GRID.shape) for _ in images]
    # Away from the border, where the intensities are standardised over a box that holds the outermost voxels twice.
    disputed = np.array([[4, 5, 5], [4, 5, 6], [5, 4, 4], [4, 4, 3]])
    votes, _ = fuse(target, images, labels, 3, disputed, patch, search, 0.1, 2.0)
    wanted = plain_fusion(target, images, labels, 3, disputed, patch, search, 0.1, 2.0)
    np.testing.assert_allclose(votes, wanted, atol=2e-3)


def test_the_best_match_undoes_a_shift():
    rng = np.random.default_rng(1)
    target = gaussian_filter(rng.normal(size=(20, 20, 20)), 0.8).astype(np.float32)
    moved = np.roll(target, (1, -2, 0), axis=(0, 1, 2))
    places = np.argwhere(np.ones((4, 4, 4))) + 8
    steps = best_matches(target, 3 * moved + 1, places, (1, 1, 1), (2, 2, 2))
    assert (steps == [1, -2, 0]).all()


def test_atlases_that_err_together_share_one_vote():
    rng = np.random.default_rng(2)
    shared, own = rng.random((2, 1, 200))
    differences = np.stack([shared, shared, own], axis=1)
    weights = weights_of(differences, 1e-4, 1.0)[0]
    assert weights[0] == pytest.approx(weights[1], abs=1e-6) and weights.sum() == pytest.approx(1)
    assert weights[2] > 1.5 * weights[0]


def atlases(count_wrong=3, count_right=2):
    """A target with a square; most atlases have it elsewhere, in image and labels alike."""
    grid = Geometry.from_spacing((14, 26, 26))
    rng = np.random.default_rng(4)
    texture = gaussian_filter(rng.normal(size=grid.shape), 1.0)

    def image(column):
        labels = np.zeros(grid.shape, np.uint8)
        labels[4:10, 9:17, column : column + 8] = 1
        return (labels + 0.3 * texture + rng.normal(0, 0.02, grid.shape)).astype(np.float32), labels

    target, truth = image(9)
    images, segmentations = [], []
    for number in range(count_wrong + count_right):
        voxels, labels = image(14 if number < count_wrong else 9)
        images.append(Volume(voxels, grid, f"atlas {number}"))
        segmentations.append(Segmentation.from_labels(labels, grid, [Segment("Square", 1)], f"atlas {number}"))
    return Volume(target, grid, "target"), truth, images, segmentations


def dice(segmentation, truth):
    mask = segmentation.mask("Square")
    return 2 * (mask & (truth > 0)).sum() / (mask.sum() + truth.sum())


def test_the_atlases_that_look_like_the_target_decide_against_the_majority():
    target, truth, images, segmentations = atlases()
    inputs = {"target": target, "images": images, "segmentations": segmentations}
    result = JointLabelFusion().execute(inputs, {"search_mm": 1.0}, Context())
    vote = MajorityVote().execute({"segmentations": segmentations}, {}, Context())["consensus"]
    assert dice(vote, truth) < 0.5 < 0.97 < dice(result["consensus"], truth)
    weight = result["raters"].columns["weight"]
    assert weight[3:].min() > weight[:3].max() and weight.sum() == pytest.approx(1)
    agreement = result["agreement"].array
    assert agreement[0, 0, 0] == 1 and 0 < agreement.min() < 1


def test_slices_scaled_units_and_other_grids_work():
    target, truth, images, segmentations = atlases()
    scaled = [image.with_array(image.array * 1000 - 500, name=image.name) for image in images]
    inputs = {"target": target, "images": scaled, "segmentations": segmentations}
    scaled[0] = scaled[0].reordered((2, 0, 1), (True, False, True))
    assert dice(JointLabelFusion().execute(inputs, {"search_mm": 1.0}, Context())["consensus"], truth) > 0.97
    start, shape = (6, 0, 0), (1, 26, 26)
    grid = target.geometry.cropped(start, shape)
    flat = {"target": Volume(target.array[6:7], grid), "images": images, "segmentations": segmentations}
    result = JointLabelFusion().execute(flat, {"search_mm": 1.0}, Context())["consensus"]
    assert result.layers[0].shape == shape and dice(result, truth[6:7]) > 0.9
    constant = inputs | {"target": target.with_array(np.full(target.array.shape, 7.0, np.float32))}
    assert JointLabelFusion().execute(constant, {}, Context())["consensus"].layers[0].shape == truth.shape


def test_atlases_that_do_not_fit_are_refused():
    target, _, images, segmentations = atlases()
    with pytest.raises(InputError, match="5 atlas images but 4 segmentations"):
        JointLabelFusion().execute(
            {"target": target, "images": images, "segmentations": segmentations[:4]}, {}, Context()
        )
    away = images[0].transformed([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="'atlas 0' does not overlap"):
        inputs = {"target": target, "images": [away, *images[1:]], "segmentations": segmentations}
        JointLabelFusion().execute(inputs, {}, Context())
