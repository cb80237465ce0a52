"""Mammograms: regions against drawn truth, places found, the report, and the real exam."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from listening import Listening
from MedImgAILib.core import Context, InputError, Volume, VolumePort
from MedImgAILib.hosts.files import read_file
from MedImgAILib.mammography import suspicion
from MedImgAILib.mammography.phantom import PIXEL_MM, drawn, volume_of
from MedImgAILib.mammography.picture import enlarged, picture_of, reduced
from MedImgAILib.mammography.screening import BreastScreening
from MedImgAILib.mammography.view import examine, projection_by_shape
from testing_data import data_path


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("oblique", [False, True])
def test_regions_of_a_drawn_breast(oblique):
    image, truth = drawn(oblique=oblique)
    result = examine("left_mlo" if oblique else "left_cc", volume_of(image), 0.0, 0.5, Context("cpu"))
    assert dice(result.breast, truth["breast"]) > 0.97
    assert dice(result.muscle, truth["muscle"]) > 0.95 if oblique else not result.muscle.any()
    assert dice(result.dense, truth["dense"] | truth["mass"]) > 0.9
    assert projection_by_shape(result.breast | result.muscle) == ("mlo" if oblique else "cc")
    area = truth["breast"].sum() * PIXEL_MM**2 / 100
    assert result.features["breast_area_cm2"] == pytest.approx(area, rel=0.03)


@pytest.mark.parametrize("radius_mm", [5.0, 8.0, 12.0])
def test_a_drawn_mass_is_the_strongest_finding(radius_mm):
    image, truth = drawn(mass=(150, 60), mass_radius_mm=radius_mm)
    result = examine("left_cc", volume_of(image), 0.0, 0.3, Context("cpu"))
    first = result.findings[0]
    assert first.kind == "mass-like" and np.hypot(first.row - 150, first.column - 60) * PIXEL_MM < 0.5 * radius_mm
    assert truth["mass"][round(first.row), round(first.column)]


def test_a_group_of_calcifications_is_found():
    rng = np.random.default_rng(1)
    image = rng.normal(1000, 5, (600, 400))
    spots = rng.integers(-30, 30, (10, 2)) + (300, 200)
    for row, column in spots:
        image[row : row + 3, column : column + 3] += 200
    region = np.ones(image.shape, bool)
    places = suspicion.calcifications(image, region, 0.1)
    nearest = np.hypot(*(places[:, None] - spots[None] - 1).transpose(2, 0, 1)).min(0)
    assert (nearest <= 3).all() and len(places) <= len(spots) + 2
    cluster = suspicion.cluster_likeness(places, image.shape, 0.1)
    assert cluster[300, 200] == 1.0 and cluster[50, 50] == 0.0
    nothing = np.zeros(image.shape)
    assert not suspicion.findings(nothing, nothing, nothing, 0.1, 0.0), "what is not striking at all is no place"
    found = suspicion.findings(nothing, nothing, cluster, 0.1, 0.5)
    assert found[0].kind == "calcifications" and np.hypot(found[0].row - 300, found[0].column - 200) < 60


def test_a_right_breast_is_the_mirrored_left_one():
    image, _ = drawn(oblique=True)
    left = examine("left_mlo", volume_of(image), 0.0, 0.5, Context("cpu"))
    right = examine("right_mlo", volume_of(image[:, ::-1]), 0.0, 0.5, Context("cpu"))
    assert right.picture.wall_was_right and left.features == pytest.approx(right.features)
    np.testing.assert_array_equal(right.breast, left.breast)
    mirrored = right.picture.restored(right.breast)[0]
    np.testing.assert_array_equal(mirrored, left.picture.restored(left.breast)[0, :, ::-1])


@pytest.mark.parametrize("mirrored", [False, True])
def test_places_in_the_picture_are_places_in_the_patient(mirrored):
    image, _ = drawn()
    volume = volume_of(image[:, ::-1] if mirrored else image)
    picture = picture_of(volume, 0.0, Context("cpu"))
    row, column = 230, 90
    value = picture.array[row, column]
    index = volume.geometry.ras_to_ijk @ [*picture.ras(row, column), 1.0]
    i, j, k = np.rint(index[:3]).astype(int)
    assert volume.array[k, j, i] == value
    np.testing.assert_allclose(picture.restored(picture.array), volume.array)


def test_mixed_up_views_are_told():
    image, _ = drawn(oblique=True)
    context = Listening()
    examine("right_cc", volume_of(image), 0.0, 0.5, context)
    assert any("hangs like a left breast" in m for m in context.messages)
    assert any("looks like a MLO view" in m for m in context.messages)


def test_bad_mammograms_are_refused_in_one_sentence():
    image, _ = drawn()
    volume = volume_of(image)
    stack = Volume(np.stack([image, image]), replace(volume.geometry, shape=(2, *image.shape)))
    broken = image.copy()
    broken[5, 5] = np.nan
    cases = {
        "several slices": stack,
        "same everywhere": volume_of(np.ones_like(image)),
        "too small": volume_of(image[:50, :50]),
        "NaN": volume_of(broken),
        "no breast": volume_of(image, pixel_mm=0.03),
    }
    for words, given in cases.items():
        with pytest.raises(InputError, match=words):
            examine("left_cc", given, 0.0, 0.5, Context("cpu"))
    with pytest.raises(InputError, match="No mammogram"):
        BreastScreening().execute({}, {}, Context("cpu"))


def test_an_impossible_pixel_size_is_told():
    image = np.repeat(drawn((900, 500), mass=(400, 120))[0], 2, axis=0)
    context = Listening()
    picture = picture_of(volume_of(image, pixel_mm=1.0), 0.0, context)
    assert picture.pixel_mm == 0.07 and any("0.07 mm are assumed" in m for m in context.messages)
    assert picture_of(volume_of(image, pixel_mm=1.0), 0.05, context).pixel_mm == 0.05


def test_reduced_and_enlarged():
    image = np.arange(35.0).reshape(5, 7)
    np.testing.assert_allclose(reduced(image, 2)[0, 0], image[:2, :2].mean())
    assert enlarged(reduced(image, 2), 2, image.shape).shape == image.shape


def test_the_report_holds_pictures_tables_and_limits():
    from PIL import Image

    task = BreastScreening()
    inputs, parameters = task.example()
    result = task.execute(inputs, parameters, Context("cpu"))
    text = result["report"].text
    assert "For research only" in text and "Not given: Left CC, Right CC, Right MLO." in text
    assert "no probability of cancer" in text
    content = re.search(r'src="data:image/png;base64,([^"]+)"', text)[1]
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert picture.size == (110, 200) and len(picture.getcolors(100000)) > 20
    names = [s.name for s in result["left_mlo_regions"].segments]
    assert names[:3] == ["Breast", "Pectoral muscle", "Dense tissue"] and names[3].startswith("Suspicious 1")
    assert "right_cc_regions" not in result


@pytest.mark.parametrize("side", ["L", "R"])
def test_the_real_exam(side):
    """No truth is at hand but anatomy: muscle in the oblique view only, a third to a half of the breast dense."""
    name = {"L": "left", "R": "right"}[side]
    inputs = {
        f"{name}_{view.lower()}": read_file(
            data_path(f"mammo/0_{side}-{view}.png"), VolumePort("i", "I"), spacing_mm=(0.07, 0.07)
        )
        for view in ("CC", "MLO")
    }
    context = Listening()
    result = BreastScreening().execute(inputs, {}, context)
    assert not any("hangs" in m or "looks like" in m for m in context.messages)
    views = result["views"].columns
    assert list(views["muscle_area_cm2"] > 20) == [False, True]
    assert (views["dense_percent"] > 25).all() and (views["dense_percent"] < 55).all()
    assert (views["suspicious places"] >= 1).all()
    saliency = result[f"{name}_cc_suspicion"]
    assert saliency.array.shape == inputs[f"{name}_cc"].array.shape and saliency.array.max() <= 1
    for place in result[f"{name}_cc_places"].positions:
        i, j, k = np.rint((saliency.geometry.ras_to_ijk @ [*place, 1.0])[:3]).astype(int)
        assert saliency.array[k, j, i] > 0.7
