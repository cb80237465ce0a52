"""Agreement of segmentations against analytic shapes and DeepMind's surface-distance package."""

import numpy as np
import pytest
from MedImgAILib.annotate.overlap import match_segments
from MedImgAILib.annotate.surfaces import surface, surface_distances
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, registry
from MedImgAILib.core.terminology import BRAIN, LUNG, MASS

GRID = Geometry.from_spacing((20, 30, 40), (1.0, 1.5, 3.0), (10, -5, 7))


def segmentation(mask, geometry=GRID, name="Brain", **changes):
    segment = Segment(name, 1, terminology=changes.get("terminology", BRAIN))
    return Segmentation.from_labels(mask.astype(np.uint8), geometry, [segment], changes.get("title", ""))


def metrics(judged, reference, context=None, **parameters):
    inputs = {"segmentation": judged, "reference": reference}
    table = registry()["annotate.overlap"].execute(inputs, parameters, context or Context())["metrics"]
    return {name: column[0] for name, column in table.columns.items()}, table


def box(k, j, i, shape=GRID.shape):
    mask = np.zeros(shape, bool)
    mask[slice(*k), slice(*j), slice(*i)] = True
    return mask


def random_blobs(seed):
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(np.random.default_rng(seed).normal(0, 1, (24, 40, 44)), 4) > 0.02


def test_shifted_box_has_the_analytic_values():
    one, other = box((5, 15), (10, 20), (10, 30)), box((5, 15), (10, 20), (14, 34))
    row, table = metrics(segmentation(one), segmentation(other), tolerance_mm=2.0)
    assert row["Dice"] == pytest.approx(16 / 20) and row["Jaccard"] == pytest.approx(16 / 24)
    volume = 10 * 10 * 20 * 4.5 / 1000
    assert row["volume"] == pytest.approx(volume) == row["reference volume"]
    assert row["volume difference"] == pytest.approx(0) == row["relative volume difference"]
    assert row["Hausdorff distance"] == pytest.approx(4.0), "the end face, 4 mm away"
    # Long faces: 16 of 20 mm coincide; on the overhang the distance rises 0.5, 1.5, 2.5, 3.5 (seen from its faces).
    end, side = 10 * 1.5 * 10 * 3, 2 * (10 * 1.5 + 10 * 3) * 1.0
    total = 2 * (2 * end + 20 * side)
    wanted = (2 * 2 * end * 4 + 2 * side * (0.5 + 1.5 + 2.5 + 3.5)) / total
    # End faces that lie inside the other box are nearer to its sides than to its end: an upper bound.
    assert 0.5 * wanted < row["mean surface distance"] < wanted
    assert table.units["Hausdorff distance"] == "mm" and table.units["volume"] == "mL"


def test_concentric_boxes():
    inner, outer = box((5, 15), (8, 22), (10, 30)), box((4, 16), (6, 24), (7, 33))
    row, _ = metrics(segmentation(inner), segmentation(outer), tolerance_mm=3.0)
    # All faces are 3 mm apart but the rim of the outer ones, which the inner ones do not cover.
    inner_mm2, outer_mm2 = (2 * (a * b + b * c + c * a) for a, b, c in ((20, 21, 30), (26, 27, 36)))
    assert row["surface Dice"] == pytest.approx(2 * inner_mm2 / (inner_mm2 + outer_mm2), abs=1e-6)
    assert row["relative volume difference"] == pytest.approx(100 * (10 * 14 * 20 / (12 * 18 * 26) - 1))
    assert 3.0 <= row["mean surface distance"] < 3.4


def test_spheres_have_the_distance_of_their_radii():
    geometry = Geometry.from_spacing((60, 60, 60), (1, 1, 1))
    k, j, i = np.meshgrid(*[np.arange(60) - 29.5] * 3, indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2)
    row, _ = metrics(segmentation(radius < 24, geometry), segmentation(radius < 20, geometry))
    assert row["mean surface distance"] == pytest.approx(4, abs=0.2)
    assert row["Hausdorff distance"] == pytest.approx(4, abs=1)
    assert row["Dice"] == pytest.approx(2 * 20**3 / (20**3 + 24**3), abs=0.01)
    # Faces of voxels over-count a smooth surface by 3/2, whatever the shape; fractions of it are right.
    assert surface(radius < 20, geometry)[1].sum() == pytest.approx(1.5 * 4 * np.pi * 400, rel=0.02)


@pytest.mark.parametrize("spacing_kji", [(1, 1, 1), (3.0, 1.5, 1.0)])
def test_agrees_with_surface_distance_package(spacing_kji):
    peer = pytest.importorskip("surface_distance")
    one, other = random_blobs(1), random_blobs(1) ^ (random_blobs(2) & random_blobs(3))
    geometry = Geometry.from_spacing(one.shape, spacing_kji[::-1])
    row, _ = metrics(segmentation(one, geometry), segmentation(other, geometry), tolerance_mm=1.0)
    theirs = peer.compute_surface_distances(other, one, spacing_kji)
    half = 0.5 * np.linalg.norm(spacing_kji)
    assert row["Hausdorff distance"] == pytest.approx(peer.compute_robust_hausdorff(theirs, 100), abs=half)
    assert row["Hausdorff distance 95 %"] == pytest.approx(peer.compute_robust_hausdorff(theirs, 95), abs=half)
    sides = (("gt_to_pred", "gt"), ("pred_to_gt", "pred"))
    lengths, areas = (
        np.concatenate([theirs[f"{what}_{side[n]}"] for side in sides])
        for n, what in enumerate(("distances", "surfel_areas"))
    )
    assert row["mean surface distance"] == pytest.approx(lengths @ areas / areas.sum(), rel=0.1)
    assert row["surface Dice"] == pytest.approx(peer.compute_surface_dice_at_tolerance(theirs, 1.0), abs=0.06)
    assert row["Dice"] == pytest.approx(peer.compute_dice_coefficient(other, one), abs=1e-12)


def test_other_grid_of_the_same_segment_agrees():
    truth = box((5, 15), (10, 20), (10, 30))
    fine = GRID.resized((40, 60, 80))
    mask = np.repeat(np.repeat(np.repeat(truth, 2, 0), 2, 1), 2, 2)
    row, _ = metrics(segmentation(mask, fine).reordered((2, 0, 1), (True, False, True)), segmentation(truth))
    assert row["Dice"] == 1 and row["volume difference"] == pytest.approx(0, abs=1e-9)
    # The faces' centres differ, their planes do not.
    assert row["Hausdorff distance"] < 1.5 and row["surface Dice"] == 1


def test_empty_segments_follow_the_stated_convention():
    full, empty = segmentation(box((5, 9), (5, 9), (5, 9))), segmentation(np.zeros(GRID.shape, bool))
    row, _ = metrics(empty, empty)
    assert (row["Dice"], row["Jaccard"], row["surface Dice"], row["Hausdorff distance"]) == (1, 1, 1, 0)
    for pair in ((full, empty), (empty, full)):
        row, _ = metrics(*pair)
        assert (row["Dice"], row["surface Dice"], row["mean surface distance"]) == (0, 0, np.inf)


def test_surface_of_a_voxel_on_a_sheared_grid_touching_the_border():
    matrix = np.diag([2.0, 3.0, 4.0, 1.0])
    matrix[0, 2] = 1.0
    places, areas = surface(np.ones((1, 1, 1), bool), Geometry(matrix, (1, 1, 1)))
    np.testing.assert_allclose(sorted(areas), sorted([6, 6, 8, 8, 3 * np.sqrt(17), 3 * np.sqrt(17)]))
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-12)


def test_percentile_is_weighted_by_area():
    line = np.array([[0.0, 0, 0], [10.0, 0, 0]])
    many, few = (line, np.array([97.0, 3.0])), (line[:1], np.array([1.0]))
    assert surface_distances(many, few, 1.0).hausdorff_95 == 0
    assert surface_distances((line, np.array([90.0, 10.0])), few, 1.0).hausdorff_95 == 10
    assert surface_distances(many, few, 1.0).mean == pytest.approx(30 / 101)


def test_matching_by_name_terminology_and_order():
    labels = np.zeros(GRID.shape, np.uint8)
    judged = Segmentation.from_labels(
        labels, GRID, [Segment("tumour", 1, terminology=MASS), Segment("brain ", 2), Segment("x", 3, terminology=LUNG)]
    )
    wanted = Segmentation.from_labels(
        labels, GRID, [Segment("Brain", 1, terminology=BRAIN), Segment("Mass", 2, terminology=MASS)]
    )
    names = {r: [(a.name, b.name) for a, b in match_segments(judged, wanted, r)] for r in ("auto", "name", "order")}
    assert names["auto"] == [("brain ", "Brain"), ("tumour", "Mass")]
    assert names["name"] == [("brain ", "Brain")]
    assert names["order"] == [("tumour", "Brain"), ("brain ", "Mass")]
    twice = Segmentation.from_labels(
        labels, GRID, [Segment("a", 1, terminology=MASS), Segment("b", 2, terminology=MASS)]
    )
    assert match_segments(twice, wanted, "terminology") == []


def test_what_has_no_counterpart_is_told():
    class Listener(Context):
        heard = ()

        def on_log(self, level, message):
            self.heard += (message,)

    mask = box((5, 9), (5, 9), (5, 9))
    two = Segmentation((mask, mask), GRID, (Segment("Brain"), Segment("Other", layer=1)))
    listener = Listener()
    _, table = metrics(two, segmentation(mask), listener)
    assert table.rows == 1 and any("Other" in m for m in listener.heard)
    with pytest.raises(InputError, match=r"^No segments match: .* has Other, .* Brain\.$"):
        metrics(segmentation(mask, name="Other", terminology=MASS), segmentation(mask))
