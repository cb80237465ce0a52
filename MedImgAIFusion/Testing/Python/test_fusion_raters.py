"""Weighted votes, SIMPLE, shape averages: against voxel-by-voxel code, analytic shapes and counting by hand."""

import numpy as np
import pytest
from MedImgAIFusionLib.decision.shape_average import ShapeAverage, average
from MedImgAIFusionLib.decision.simple import Simple
from MedImgAIFusionLib.decision.staple import Staple
from MedImgAIFusionLib.decision.vote import MajorityVote
from MedImgAILib.core import Code, Context, Geometry, InputError, Segment, Segmentation, Table, Terminology
from MedImgAILib.core.terminology import BRAIN, MASS, TISSUE

GRID = Geometry.from_spacing((12, 14, 16), (1.0, 2.0, 3.0), (5.0, -8.0, 2.0))
TASKS = (MajorityVote(), Staple(), Simple(), ShapeAverage())


class Listener(Context):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def rater(labels, name="", names=("Brain",), grid=GRID):
    return Segmentation.from_labels(
        labels.astype(np.uint8), grid, [Segment(n, i) for i, n in enumerate(names, 1)], name
    )


def run(task, segmentations, inputs=None, context=None, **parameters):
    return task.execute({"segmentations": segmentations} | (inputs or {}), parameters, context or Context())


def noisy(count, seed=0, noise=(0.05, 0.1, 0.5)):
    """Answers about a box, the last raters the worse ones."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(GRID.shape, bool)
    truth[3:9, 4:11, 4:12] = True
    levels = np.linspace(noise[0], noise[1], count - 1).tolist() + [noise[2]]
    return truth, [truth ^ (rng.random(GRID.shape) < level) for level in levels]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def voxelwise_simple(answers, strictness):
    """The published loop on whole images."""
    weights = dict.fromkeys(range(len(answers)), 1.0)
    while True:
        votes = sum(weights[n] * answers[n].astype(float) for n in weights) / sum(weights.values())
        found = {n: dice(answers[n], votes >= 0.5) for n in weights}
        limit = np.mean(list(found.values())) - strictness * np.std(list(found.values())) - 1e-12
        kept = {n: value for n, value in found.items() if value >= limit}
        if kept.keys() == weights.keys() and all(abs(kept[n] - weights[n]) < 1e-9 for n in kept):
            return votes >= 0.5, weights
        weights = kept


@pytest.mark.parametrize("strictness", [0.8, 1.0, 2.0])
@pytest.mark.parametrize("count", [3, 6, 11])
def test_simple_is_the_published_loop(count, strictness):
    _, answers = noisy(count, seed=count)
    result = run(Simple(), [rater(a) for a in answers], strictness=strictness)
    wanted, weights = voxelwise_simple(answers, strictness)
    np.testing.assert_array_equal(result["consensus"].mask("Brain"), wanted)
    np.testing.assert_allclose(result["raters"].columns["weight"], [weights.get(n, 0) for n in range(count)], atol=1e-9)


def test_simple_drops_the_rater_who_guesses():
    truth, answers = noisy(6)
    table = run(Simple(), [rater(a) for a in answers])["raters"].columns
    assert table["weight"][-1] == 0 and table["weight"][0] > 0.8
    assert table["dice"][-1] < 0.6


def ball(radius, grid, shift=0.0):
    k, j, i = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    ras = grid.ras(np.stack([i, j, k], axis=-1)) - grid.center - [shift, 0, 0]
    return np.linalg.norm(ras, axis=-1) < radius


def test_the_average_of_two_balls_is_the_ball_between():
    grid = Geometry.from_spacing((40, 48, 24), (2.0, 1.0, 1.0))
    result = run(ShapeAverage(), [rater(ball(r, grid), grid=grid) for r in (8.0, 14.0)])
    found, wanted = result["consensus"].mask("Brain"), ball(11.0, grid)
    assert dice(found, wanted) > 0.97
    # A vote of two knows no middle.
    vote = run(MajorityVote(), [rater(ball(r, grid), grid=grid) for r in (8.0, 14.0)])["consensus"].mask("Brain")
    assert dice(vote, wanted) < 0.7
    centre = tuple(n // 2 for n in grid.shape)
    # The margin between inside and outside is twice the depth.
    assert result["margin"].array[centre] == pytest.approx(22, abs=2.5)


def test_shape_average_is_that_of_voxelwise_distances():
    from scipy.ndimage import distance_transform_edt

    rng = np.random.default_rng(3)
    labels = [rng.integers(0, 3, GRID.shape) * (rng.random(GRID.shape) < 0.6) for _ in range(3)]
    mean = []
    for label in range(3):
        signed = [
            distance_transform_edt(answer != label, GRID.spacing_kji) - distance_transform_edt(
                answer == label, GRID.spacing_kji) for answer in labels
        ]  # fmt: skip
        mean.append(np.mean(signed, axis=0))
    mean = np.round(np.stack(mean), 4)
    decided, margin = average(labels, 3, GRID)
    np.testing.assert_array_equal(decided, mean.argmin(axis=0))
    np.testing.assert_allclose(margin, np.diff(np.sort(mean, axis=0)[:2], axis=0)[0], atol=1e-3)


def test_a_crop_around_the_segments_changes_nothing():
    grid = Geometry.from_spacing((30, 31, 32), (1.0, 1.5, 2.0))
    answers = [ball(r, grid, s).astype(np.uint8) for r, s in ((9, 0), (12, 3), (7, -2))]
    whole, _ = average(answers, 2, grid)
    task = run(ShapeAverage(), [rater(a, grid=grid) for a in answers])["consensus"].mask("Brain")
    np.testing.assert_array_equal(task, whole == 1)


@pytest.mark.parametrize("task", TASKS)
def test_an_empty_rater_counts_and_is_told(task):
    truth, answers = noisy(4, noise=(0.0, 0.01, 0.02))
    listener = Listener()
    result = run(task, [*map(rater, answers), rater(np.zeros(GRID.shape), "nobody")], context=listener)
    assert any("nobody" in warning for warning in listener.warnings)
    assert dice(result["consensus"].mask("Brain"), truth) > 0.9
    empty = run(task, [rater(np.zeros(GRID.shape))] * 3)["consensus"]
    assert not empty.mask("Brain").any()


@pytest.mark.parametrize("task", TASKS)
def test_a_rater_who_lacks_a_segment_may_abstain(task):
    truth, answers = noisy(4, noise=(0.0, 0.01, 0.02))
    other = np.zeros(GRID.shape, bool)
    other[0] = True
    full = [rater(a | 2 * (other & ~a), n, ("Brain", "Mass")) for n, a in zip("ab", answers)]
    lacking = [rater(other, n, ("Mass",)) for n in "cdef"]
    listener = Listener()
    result = run(task, [*full, *lacking], context=listener, absent="abstain")
    assert any("'Brain' is missing with c, d, e, f" in warning for warning in listener.warnings)
    assert dice(result["consensus"].mask("Brain"), truth) > 0.9
    table = result["raters"].columns
    row = [r for r, s in enumerate(table["segment"]) if s == "Brain" and table["rater"][r] == "c"][0]
    assert np.isnan(table["dice"][row])
    outvoted = run(MajorityVote(), [*full, *lacking])["consensus"]
    assert not outvoted.mask("Brain").any()


def test_votes_by_agreement_follow_pairwise_dice():
    _, answers = noisy(4)
    table = run(MajorityVote(), [rater(a) for a in answers], weighting="agreement")["raters"].columns
    for number, own in enumerate(answers):
        expected = np.mean([dice(own, other) for n, other in enumerate(answers) if n != number])
        assert table["agreement"][number] == pytest.approx(expected)
        assert table["weight"][number] == pytest.approx(expected)


def test_votes_by_performance_come_from_a_table():
    _, answers = noisy(3)
    segmentations = [rater(a, n) for a, n in zip(answers, "abc")]
    table = Table({"Rater": ["c", "a", "b", "x"], "Dice": [0.9, 0.2, 0.3, 1.0]})
    result = run(MajorityVote(), segmentations, {"performance": table}, weighting="performance")
    np.testing.assert_array_equal(result["consensus"].mask("Brain"), answers[2])
    assert result["raters"].columns["weight"].tolist() == [0.2, 0.3, 0.9]
    for columns, message in (
        ({"rater": ["a"], "dice": [0.5]}, "no value for the rater 'b'"),
        ({"who": ["a"], "dice": [0.5]}, "needs a column 'rater'"),
        ({"rater": ["a", "b", "c"], "dice": [0.5, -1, 1]}, "negative"),
        ({"rater": ["a", "b", "c"], "dice": [0.0, 0, 0]}, "weight 0"),
    ):
        with pytest.raises(InputError, match=message):
            run(MajorityVote(), segmentations, {"performance": Table(columns)}, weighting="performance")
    with pytest.raises(InputError, match="need a table"):
        run(MajorityVote(), segmentations, weighting="performance")


def test_own_table_of_raters_serves_as_performance():
    _, answers = noisy(4)
    segmentations = [rater(a, n) for a, n in zip(answers, "abcd")]
    first = run(MajorityVote(), segmentations)["raters"]
    kept = Table({name: first.columns[name] for name in ("rater", "segment", "dice")})
    second = run(MajorityVote(), segmentations, {"performance": kept}, weighting="performance")["raters"]
    np.testing.assert_allclose(second.columns["weight"], first.columns["dice"])


def test_segments_are_matched_by_case_blanks_and_terminology():
    truth, _ = noisy(3)
    labels = truth.astype(np.uint8)

    def one(name, terminology=TISSUE):
        return Segmentation.from_labels(labels, GRID, [Segment(name, 1, terminology=terminology)])

    region = Terminology(MASS.category, MASS.type, region=Code("SCT", "12738006", "Brain"))
    for first, second in (
        (one("Brain"), one(" brain ")),
        (one("Brain", BRAIN), one("Gehirn", BRAIN)),
        (one("Tumour", region), one("GTV", region)),
    ):
        consensus = run(MajorityVote(), [first, second])["consensus"]
        assert len(consensus.segments) == 1 and (consensus.mask(consensus.segments[0]) == truth).all()
    for first, second, rule in (
        (one("Tumour", MASS), one("GTV", region), "auto"),
        (one("A"), one("B"), "auto"),
        (one("Brain", BRAIN), one("Gehirn", BRAIN), "name"),
        (one("Brain", BRAIN), one("Brain", MASS), "terminology"),
    ):
        with pytest.raises(InputError, match="No segment occurs with two raters"):
            run(MajorityVote(), [first, second], match=rule)
    assert len(run(MajorityVote(), [one("A"), one("B")], match="order")["consensus"].segments) == 1


def test_a_code_that_a_rater_uses_twice_identifies_nothing():
    labels = np.zeros(GRID.shape, np.uint8)
    labels[:6], labels[6:] = 1, 2
    left_right = Segmentation.from_labels(
        labels, GRID, [Segment("left", 1, terminology=BRAIN), Segment("right", 2, terminology=BRAIN)], "two"
    )
    whole = Segmentation.from_labels(np.ones(GRID.shape, np.uint8), GRID, [Segment("all", 1, terminology=BRAIN)], "one")
    with pytest.raises(InputError, match="two has left, right"):
        run(MajorityVote(), [left_right, whole])


def test_many_raters_on_different_grids():
    grid = Geometry.from_spacing((20, 24, 22), (1.5, 1.5, 2.0), (-3.0, -4.0, 6.0))
    answers = []
    for number in range(25):
        spacing = (1.0 + number % 3 / 4, 1.2, 1.7)
        own = grid.with_spacing(spacing).reordered(
            (number % 3, (number + 1) % 3, (number + 2) % 3), (True, False, True)
        )
        k, j, i = np.meshgrid(*(np.arange(n) for n in own.shape), indexing="ij")
        inside = np.linalg.norm(own.ras(np.stack([i, j, k], -1)) - grid.center, axis=-1) < 12
        answers.append(rater(inside, f"r{number}", grid=own))
    for task in TASKS:
        consensus = run(task, answers)["consensus"]
        assert consensus.geometry.same_grid(answers[0].geometry)
        assert dice(consensus.mask("Brain"), answers[0].mask("Brain")) > 0.97, task.id
