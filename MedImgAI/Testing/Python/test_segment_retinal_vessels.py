"""Retinal vessels on drawn lines and on photographs with an observer's outlines (CHASE_DB1)."""

from dataclasses import replace

import numpy as np
import pytest
from MedImgAILib.core import Context, Geometry, InputError, Volume, registry
from MedImgAILib.segment.retinal_vessels import example_fundus
from MedImgAILib.segment.ridges import dark_ridges, field_of_view
from testing_data import data_path


def execute(volume, context=None, **parameters):
    return registry()["segment.retinal_vessels"].execute({"image": volume}, parameters, context or Context())


def test_drawn_lines_are_found_where_they_are():
    volume = example_fundus()
    found = execute(volume)["segmentation"].mask("Retinal vessels")[0]
    axis = np.arange(160) - 79.5
    y, x = np.meshgrid(axis, axis, indexing="ij")
    away = np.min([abs(y - 0.4 * x - offset) / np.hypot(1, 0.4) for offset in (-30, 0, 30)], axis=0)
    core = np.hypot(x, y) < 65
    assert found[core & (away < 0.8)].mean() > 0.97
    assert found[core & (away > 5)].mean() < 0.01
    assert not found[np.hypot(x, y) > 77].any(), "the rim of the field of view is no vessel"


def test_response_to_a_line_is_that_of_theory_in_every_direction():
    """A long line with a Gaussian profile of width w under a filter of width s: s² w / (s² + w²)^1.5 at its middle."""
    axis = np.arange(201) - 100.0
    y, x = np.meshgrid(axis, axis, indexing="ij")
    for degrees in (0, 15, 45, 90, 150):
        across = -np.sin(np.radians(degrees)) * x + np.cos(np.radians(degrees)) * y
        plane = -np.exp(-0.5 * (across / 2.0) ** 2).astype(np.float32)
        got = dark_ridges(plane, (3.0,), Context())[100, 100]
        assert got == pytest.approx(3.0**2 * 2.0 / (3.0**2 + 2.0**2) ** 1.5, rel=0.02)


def test_field_of_view():
    volume = example_fundus()
    inside = field_of_view(volume.array[0].max(axis=-1))
    axis = np.arange(160) - 79.5
    truth = np.hypot(*np.meshgrid(axis, axis)) < 0.48 * 160
    assert 2 * (inside & truth).sum() / (inside.sum() + truth.sum()) > 0.97
    assert field_of_view(np.full((70, 70), 100, np.uint8)).all()


def photograph(name):
    image = pytest.importorskip("PIL.Image")
    array = np.array(image.open(data_path(f"fundus_chase/{name}.jpg")))[None]
    truth = np.array(image.open(data_path(f"fundus_chase/{name}_1stHO.png"))) > 0
    return Volume(array, Geometry.from_spacing(array.shape[:3]), name), truth


@pytest.mark.parametrize("name", ["Image_02L", "Image_10R"])
def test_real_photographs(name):
    volume, truth = photograph(name)
    outputs = execute(volume)
    found = outputs["segmentation"].mask("Retinal vessels")[0]
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.68
    assert 4 < outputs["measures"].columns["share"][0] < 20


def test_unsuitable_images_are_refused():
    volume = example_fundus()
    with pytest.raises(InputError, match="is dark everywhere"):
        execute(replace(volume, array=np.zeros_like(volume.array)))
    stack = np.repeat(volume.array, 2, axis=0)
    with pytest.raises(InputError, match="has several slices; choose a single photograph"):
        execute(replace(volume, array=stack, geometry=volume.geometry.cropped((0, 0, 0), stack.shape[:3])))
    matrix = volume.geometry.ijk_to_ras @ np.diag([1.0, 1.3, 1, 1])
    with pytest.raises(InputError, match="pixels that are not square"):
        execute(replace(volume, geometry=Geometry(matrix, volume.geometry.shape)))
