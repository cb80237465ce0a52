"""Majority vote and STAPLE against SimpleITK and counting by hand."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from MedImgAIFusionLib.decision.patterns import encode
from MedImgAIFusionLib.decision.staple import Staple, estimate
from MedImgAIFusionLib.decision.vote import MajorityVote
from MedImgAILib.core import Context, Geometry, InputError, ParameterError, Segment, Segmentation
from MedImgAILib.core.examples import example_volume

GRID = Geometry.from_spacing((12, 14, 16), (1.0, 2.0, 3.0), (5.0, -8.0, 2.0))
NAMES = ("Brain", "Mass", "Cyst")


def random_labels(seed, count, labels=3, noise=0.3):
    """``count`` noisy versions of one label image on :data:`GRID`."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels + 1, GRID.shape)
    answers = []
    for _ in range(count):
        wrong = rng.random(GRID.shape) < noise
        answers.append(np.where(wrong, rng.integers(0, labels + 1, GRID.shape), truth).astype(np.uint8))
    return answers


def rater(labels, name="", names=NAMES):
    return Segmentation.from_labels(labels, GRID, [Segment(n, i) for i, n in enumerate(names, 1)], name)


def run(task, segmentations, inputs=None, **parameters):
    return task.execute({"segmentations": segmentations} | (inputs or {}), parameters, Context())


@pytest.mark.parametrize("count", [2, 3, 4, 9, 24])
@pytest.mark.parametrize("noise", [0.05, 0.9])
def test_majority_vote_is_that_of_simpleitk(count, noise):
    answers = random_labels(count, count, noise=noise)
    consensus = run(MajorityVote(), [rater(a) for a in answers])["consensus"]
    peer = sitk.GetArrayFromImage(sitk.LabelVoting([sitk.GetImageFromArray(a) for a in answers], 0))
    np.testing.assert_array_equal(consensus.layers[0], peer)
    assert [s.name for s in consensus.segments] == list(NAMES)


@pytest.mark.parametrize("count", [2, 5, 17])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_staple_is_that_of_simpleitk(count, noise):
    answers = random_labels(count, count, labels=1, noise=noise)
    result = run(Staple(), [rater(a, names=("Brain",)) for a in answers])
    peer = sitk.STAPLEImageFilter()
    peer.SetForegroundValue(1)
    probability = sitk.GetArrayFromImage(peer.Execute([sitk.GetImageFromArray(a) for a in answers]))
    np.testing.assert_allclose(result["probability"].array, probability, atol=2e-6)
    np.testing.assert_array_equal(result["consensus"].layers[0], probability >= 0.5)
    np.testing.assert_allclose(result["raters"].columns["sensitivity"], peer.GetSensitivity(), atol=1e-6)
    np.testing.assert_allclose(result["raters"].columns["specificity"], peer.GetSpecificity(), atol=1e-6)


def test_staple_keeps_the_most_probable_of_several_segments():
    answers = random_labels(3, 7, noise=0.3)
    result = run(Staple(), [rater(a) for a in answers])
    single = []
    for label in (1, 2, 3):
        peer = sitk.STAPLEImageFilter()
        peer.SetForegroundValue(label)
        single.append(sitk.GetArrayFromImage(peer.Execute([sitk.GetImageFromArray(a) for a in answers])))
    single = np.stack(single)
    np.testing.assert_allclose(result["probability"].array, single.max(axis=0), atol=2e-6)
    expected = np.where(single.max(axis=0) >= 0.5, single.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(result["consensus"].layers[0], expected)


def test_staple_without_or_with_nothing_but_foreground_is_certain():
    for value in (False, True):
        probability, _, _, steps = estimate(np.full((1, 3), value), np.array([10]))
        assert probability == [float(value)] and steps == 0


@given(
    st.integers(2, 30),
    st.integers(2, 6),
    st.integers(0, 2**31),
    st.floats(0, 1),
    st.sampled_from([np.uint8, np.uint16]),
)
@settings(max_examples=40, deadline=None)
def test_patterns_give_every_answer_back(count, base, seed, noise, dtype):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, base, (3, 5, 40))
    layers = [
        np.where(rng.random(truth.shape) < noise, rng.integers(0, base, truth.shape), truth).astype(dtype)
        for _ in range(count)
    ]
    patterns, counts, codes, image = encode(layers, base)
    place = np.searchsorted(codes, image)
    np.testing.assert_array_equal(codes[place], image)
    np.testing.assert_array_equal(np.moveaxis(patterns[place], -1, 0), layers)
    np.testing.assert_array_equal(np.bincount(place.ravel(), minlength=len(codes)), counts)


def one_voxel(*answers, names=NAMES):
    grid = Geometry.from_spacing((1, 1, 1))
    segments = [Segment(n, i) for i, n in enumerate(names, 1)]
    return [Segmentation.from_labels(np.full((1, 1, 1), a, np.uint8), grid, segments) for a in answers]


@pytest.mark.parametrize(
    ("answers", "ties", "expected"),
    [
        ((0, 2), "background", 0),
        ((1, 2), "background", 0),
        ((0, 2), "foreground", 2),
        ((3, 2, 0, 0, 3, 2), "foreground", 2),
        ((3, 1, 2, 1, 2), "first_rater", 1),
        ((3, 2, 1, 1, 2), "first_rater", 2),
        ((3, 3, 1), "background", 3),
    ],
)
def test_ties_follow_the_rule(answers, ties, expected):
    result = run(MajorityVote(), one_voxel(*answers), ties=ties)
    assert result["consensus"].layers[0].item() == expected
    most = max(answers.count(a) for a in answers)
    assert result["agreement"].array.item() == pytest.approx(most / len(answers))


def test_weights_count_as_votes():
    answers = one_voxel(1, 1, 2)
    assert run(MajorityVote(), answers, weighting="given", weights="1, 1, 2.5")["consensus"].layers[0].item() == 2
    assert run(MajorityVote(), answers, weighting="given", weights="1 1 2")["consensus"].layers[0].item() == 0
    for text in ("1, 1", "1, x, 2", "1, -1, 2", "1, inf, 2"):
        with pytest.raises(ParameterError, match="Votes"):
            run(MajorityVote(), answers, weighting="given", weights=text)


def test_segments_are_matched_by_name_whatever_label_layer_or_grid():
    answers = random_labels(5, 3)
    plain = run(MajorityVote(), [rater(a) for a in answers])["consensus"]
    order = [Segment("Cyst", 7, layer=1, id="x"), Segment("Brain", 40, id="y"), Segment("Mass", 300, id="z")]
    first = np.zeros(GRID.shape, np.int32)
    first[answers[1] == 1], first[answers[1] == 2] = 40, 300
    other = Segmentation((first, (answers[1] == 3) * np.int16(7)), GRID, order, "other").reordered(
        (2, 0, 1), (True, False, True)
    )
    mixed = run(MajorityVote(), [rater(answers[0]), other, rater(answers[2])])["consensus"]
    np.testing.assert_array_equal(plain.layers[0], mixed.layers[0])


def test_a_rater_without_a_segment_says_background():
    labels = np.ones(GRID.shape, np.uint8)
    two = rater(labels * 2, names=("Brain", "Mass"))
    one = rater(labels * 0, names=("Brain",))
    result = run(MajorityVote(), [two, two, one])
    assert (result["consensus"].mask("Mass")).all()
    assert not result["consensus"].mask("Brain").any()


def test_table_has_the_dice_of_every_rater():
    answers = random_labels(8, 3, labels=2)
    result = run(MajorityVote(), [rater(a, f"R{n}", NAMES[:2]) for n, a in enumerate(answers)], ties="first_rater")
    table, truth = result["raters"].columns, result["consensus"].layers[0]
    assert table["rater"] == ("R0", "R0", "R1", "R1", "R2", "R2")
    for number, answer in enumerate(answers):
        for label in (1, 2):
            a, b = answer == label, truth == label
            row = 2 * number + label - 1
            assert table["dice"][row] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
            assert table["volume_ml"][row] == pytest.approx(a.sum() * 6 / 1000)


def test_the_reference_sets_the_grid():
    answers = random_labels(1, 3)
    reference = example_volume(geometry=GRID.cropped((2, 3, 4), (5, 6, 7)))
    small = run(MajorityVote(), [rater(a) for a in answers], {"reference": reference})["consensus"]
    whole = run(MajorityVote(), [rater(a) for a in answers])["consensus"]
    assert small.geometry.same_grid(reference.geometry)
    np.testing.assert_array_equal(small.layers[0], whole.layers[0][2:7, 3:9, 4:11])


@pytest.mark.parametrize("task", [MajorityVote(), Staple()])
def test_raters_that_cannot_be_compared_are_refused(task):
    labels = np.ones(GRID.shape, np.uint8)
    with pytest.raises(InputError, match="No segment occurs with two raters"):
        run(task, [rater(labels, names=("A",)), rater(labels, names=("B",))])
    with pytest.raises(InputError, match="at least 2"):
        run(task, [rater(labels)])
    away = rater(labels, "away").transformed([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="'away' lies entirely outside"):
        run(task, [rater(labels), away])


def test_overlapping_segments_of_a_rater_are_told():
    layers = (np.ones(GRID.shape, np.uint8), np.ones(GRID.shape, np.uint8))
    overlapping = Segmentation(layers, GRID, (Segment("Brain", 1), Segment("Mass", 1, layer=1)), "both")
    messages = []

    class Listener(Context):
        def warn(self, message):
            messages.append(message)

    result = MajorityVote().execute({"segmentations": [overlapping, overlapping]}, {}, Listener())
    assert "'both' overlap" in messages[0] and len(messages) == 2
    assert result["consensus"].mask("Mass").all()
