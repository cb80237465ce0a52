"""Region features against the published values of the IBSI's digital phantom, and against geometry.

The phantom and its values: Zwanenburg A, Leger S, Vallières M, Löck S. Image biomarker standardisation initiative.
arXiv:1612.07003, chapter "Reference data sets"; values reached by at least three of the initiative's teams.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Volume, registry
from MedImgAILib.features.ibsi import CODES, SHAPE_ONLY, Settings, grey_levels, region_features
from MedImgAILib.features.ibsi_matrices import AGGREGATIONS, run_lengths
from MedImgAILib.features.ibsi_mesh import mesh

PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
OUTSIDE = [(1, 2, 0), (2, 0, 3), (2, 0, 4), (2, 2, 2), (3, 0, 3), (3, 0, 4)]
TASK = registry()["features.region"]


def phantom():
    mask = np.ones(PHANTOM.shape, bool)
    mask[tuple(np.transpose(OUTSIDE))] = False
    return PHANTOM, mask


@pytest.fixture(scope="module")
def found():
    image, mask = phantom()
    settings = {a: Settings("size", bin_size=1.0, aggregation=a, calibrated=True) for a in AGGREGATIONS}
    return {a: region_features(image, mask, (2.0, 2.0, 2.0), s) for a, s in settings.items()}


def published():
    with open(Path(__file__).with_name("ibsi_digital_phantom.csv"), newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("family", sorted({name.partition("_")[0] for name in CODES}))
def test_published_values_of_the_digital_phantom(found, family):
    rows = [r for r in published() if r["feature"].startswith(f"{family}_")]
    assert {r["feature"] for r in rows} == {n for n in CODES if n.startswith(f"{family}_")}
    for row in rows:
        assert CODES[row["feature"]] == row["code"]
        wanted, tolerance = float(row["value"]), float(row["tolerance"])
        for aggregation in AGGREGATIONS:
            if row["aggregation"] not in ("any", aggregation, aggregation.partition("_")[0]):
                continue
            got = found[aggregation][row["feature"]]
            # Values are printed with three digits.
            assert abs(float(f"{got:.3g}") - wanted) <= tolerance + 1e-9, (row, got)


def test_every_published_value_is_compared():
    assert len(published()) == 482


def test_mesh_of_a_voxel_a_box_and_a_ball():
    voxel = mesh(np.ones((1, 1, 1), bool), (1.0, 2.0, 3.0))
    assert voxel.volume_mm3 == pytest.approx(1.0)  # an octahedron: a sixth of the voxel
    # Of a box the corners and edges are cut half-way between the outermost voxel centres and their neighbours.
    box = mesh(np.ones((4, 5, 6), bool), (1, 1, 1))
    assert box.volume_mm3 == pytest.approx(3 * 4 * 5 + (12 + 15 + 20) + (3 + 4 + 5) / 2 + 8 / 48)
    assert box.area_mm2 == pytest.approx(2 * (12 + 15 + 20) + 4 * (3 + 4 + 5) * np.sqrt(0.5) + np.sqrt(3))
    k, j, i = np.mgrid[-21:22, -42:43, -21:22]
    ball = mesh(k**2 + (0.5 * j) ** 2 + i**2 <= 20.3**2, (1, 0.5, 1))
    assert ball.volume_mm3 == pytest.approx(4 / 3 * np.pi * 20.3**3, rel=0.01)


def test_mesh_does_not_depend_on_storage():
    mask = np.random.default_rng(0).random((7, 8, 9)) > 0.5
    wanted = mesh(mask, (1.0, 1.5, 2.0))
    for axes, flip in (((2, 1, 0), 0), ((1, 0, 2), 1), ((0, 2, 1), 2)):
        turned = np.flip(mask.transpose(axes), flip)
        got = mesh(turned, np.array([1.0, 1.5, 2.0])[list(axes)])
        assert (got.volume_mm3, got.area_mm2) == pytest.approx((wanted.volume_mm3, wanted.area_mm2), rel=1e-9)


def ramp(shape=(12, 14, 16), spacing=(1.0, 1.0, 2.0), units=""):
    geometry = Geometry.from_spacing(shape, spacing)
    values = np.random.default_rng(1).normal(50, 10, shape).astype(np.float32)
    return Volume(values, geometry, name="MR", units=units)


def cube(geometry, name="Lesion", low=3, high=9):
    labels = np.zeros(geometry.shape, np.uint8)
    labels[low:high, low:high, low:high] = 1
    return Segmentation.from_labels(labels, geometry, [Segment(name)], "regions")


def column(table, feature, name="value"):
    return table.columns[name][table.columns["feature"].index(feature)]


def run(images, segmentation, **parameters):
    return TASK.execute({"images": images, "segmentation": segmentation}, parameters, Context())["features"]


def test_table_has_units_and_shape_once():
    image = ramp(units="HU")
    second = image.with_array(image.array * 2, name="PET", units="SUV")
    table = run([image, second], cube(image.geometry))
    assert table.rows == len(CODES) + len(CODES) - len(SHAPE_ONLY)
    assert column(table, "morph_volume_voxels_mm3") == 6 * 6 * 6 * 2
    units = dict(zip(table.columns["feature"], table.columns["unit"]))
    assert units["morph_area_mm2"] == "mm²" and units["stat_mean"] == "SUV" and units["stat_variance"] == "SUV²"
    assert units["stat_skewness"] == "" and units["hist_mean"] == ""
    wide = run([image, second], cube(image.geometry), layout="segments")
    inside = image.array[3:9, 3:9, 3:9]
    assert wide.rows == 1 and wide.columns["PET stat_mean"][0] == pytest.approx(2 * inside.mean())
    assert wide.units["MR stat_mean"] == "HU" and "morph_volume_mm3" in wide.columns


def test_bins():
    values = np.array([0.0, 1.0, 2.4, 2.5, 9.9, 10.0])
    assert grey_levels(values, Settings("number", bins=4))[0].tolist() == [1, 1, 1, 2, 4, 4]
    levels, count = grey_levels(values, Settings("size", bin_size=2.5, limits=(-5.0, 10.0)))
    assert levels.tolist() == [3, 3, 3, 4, 6, 7] and count == 7


def test_runs_of_a_known_line():
    levels = np.array([[[1, 1, 2, 0, 2, 2, 2, 1]]])
    grey, lengths, times, voxels = run_lengths(levels, "2d_averaged")[0]
    assert sorted(zip(grey, lengths, times)) == [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 3, 1)] and voxels == 7


def test_segments_on_another_grid_and_resampling():
    image = ramp((24, 28, 32), (0.5, 0.5, 1.0))
    coarse = Geometry.from_spacing((12, 14, 16), (1.0, 1.0, 2.0), image.geometry.ras((0.5, 0.5, 0.5)))
    own = cube(image.geometry, low=6, high=18)
    other = cube(coarse)
    one, two = (run([image], s, layout="segments").columns for s in (own, other))
    assert all(one[n][0] == pytest.approx(two[n][0], rel=1e-6, nan_ok=True) for n in CODES)
    resampled = run([image], own, layout="segments", resample_mm=0.8).columns
    assert resampled["morph_volume_mm3"][0] == pytest.approx(one["morph_volume_mm3"][0], rel=0.06)
    assert resampled["stat_mean"][0] == pytest.approx(one["stat_mean"][0], rel=0.02)


def test_whole_numbers_stay_whole_when_resampled():
    image = ramp((10, 20, 20), (1.0, 1.0, 2.0))
    whole = image.with_array(np.rint(image.array).astype(np.int16), name="CT", units="HU")
    found = run([whole], cube(image.geometry), layout="segments", resample_mm=1.0).columns
    assert found["stat_maximum"][0] == round(found["stat_maximum"][0])


def test_limits_shrink_the_intensity_mask_but_not_the_shape():
    image = ramp()
    free = run([image], cube(image.geometry), layout="segments").columns
    limited = run([image], cube(image.geometry), layout="segments", use_limits=True, limits=(45.0, 60.0)).columns
    assert limited["morph_volume_mm3"][0] == free["morph_volume_mm3"][0]
    assert limited["stat_minimum"][0] >= 45 and limited["stat_maximum"][0] <= 60


def test_one_voxel_and_a_constant_image_have_features():
    image = ramp()
    flat = image.with_array(np.full_like(image.array, 5), name="flat")
    for picture, segmentation in ((image, cube(image.geometry, low=4, high=5)), (flat, cube(image.geometry))):
        found = run([picture], segmentation, layout="segments").columns
        assert np.isfinite(found["morph_volume_mm3"][0]) and found["stat_variance"][0] == 0
        assert found["hist_entropy"][0] == 0 and np.isnan(found["morph_moran_i"][0])


def test_what_cannot_be_measured_gets_a_sentence():
    image = ramp()
    empty = cube(image.geometry, low=0, high=0)
    with pytest.raises(InputError, match="has no voxel in volume 'MR'"):
        run([image], empty)
    with pytest.raises(InputError, match="Segment 'Lesion' in volume 'MR': .*more than 2048 bins"):
        run([image], cube(image.geometry), discretisation="size", bin_size=0.001)
    with pytest.raises(InputError, match="no voxel of it has an intensity that counts"):
        run([image], cube(image.geometry), use_limits=True, limits=(1000.0, 2000.0))
    sheared = image.geometry.ijk_to_ras.copy()
    sheared[0, 1] = 0.3
    slanted = Volume(image.array, Geometry(sheared, image.geometry.shape), name="MR")
    with pytest.raises(InputError, match="sheared axes"):
        run([slanted], cube(slanted.geometry))
