"""Lungs from CT: a chest of ellipsoids with known volumes, and a real one with a radiologist's lesion."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Volume, registry
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.segment.lungs_ct import example_chest, split_lungs
from testing_data import data_path


def execute(volume, **parameters):
    outputs = registry()["segment.lungs_ct"].execute({"image": volume}, parameters, Context())
    sizes = outputs["measures"].columns
    return outputs["segmentation"], dict(zip(sizes["segment"], zip(*list(sizes.values())[1:])))


def test_volumes_of_a_chest_of_ellipsoids():
    segmentation, sizes = execute(example_chest(), closing_mm=4.0)
    lung = 4 / 3 * np.pi * 42 * 65 * 75 / 1000
    ball = 4 / 3 * np.pi * 16**3 / 1000
    assert sizes["Left lung"][0] == pytest.approx(lung, rel=0.03)
    assert sizes["Right lung"][0] == pytest.approx(lung - ball, rel=0.03)
    assert sizes["Dense part"][0] == pytest.approx(ball, rel=0.15)
    assert 20 < sizes["Airways"][0] < 50
    assert sizes["Right lung"][1] == pytest.approx(-850, abs=2)
    position = segmentation.geometry.ras(np.argwhere(segmentation.mask("Right lung"))[:, ::-1]).mean(axis=0)
    assert position[0] > segmentation.geometry.center[0] + 30, "the right lung lies at +R"
    assert segmentation.segment("Right lung").terminology.modifier.meaning == "Right"
    assert not (segmentation.mask("Dense part") & segmentation.mask("Left lung")).any()


def test_emphysema_index_is_the_share_below_950_hu():
    chest = example_chest()
    array = chest.array.copy()
    lung = (array < -700) & (array > -950)
    draw = np.random.default_rng(1).random(array.shape)
    array[lung & (draw < 0.25)] = -975
    array[lung & (draw > 0.7)] = -925
    _, sizes = execute(replace(chest, array=array), closing_mm=4.0)
    assert sizes["Left lung"][2] == pytest.approx(25, abs=1.0)
    _, healthy = execute(chest, closing_mm=4.0)
    assert healthy["Left lung"][2] == 0


def test_lungs_that_touch_are_parted():
    grid = Geometry.from_spacing((30, 40, 70), (3.0, 3.0, 3.0))
    k, j, i = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    left = ((i - 18) / 16) ** 2 + ((j - 20) / 15) ** 2 + ((k - 15) / 13) ** 2 < 1
    right = ((i - 52) / 16) ** 2 + ((j - 20) / 15) ** 2 + ((k - 15) / 13) ** 2 < 1
    bridge = (abs(j - 20) < 2) & (abs(k - 15) < 2) & (i > 30) & (i < 40)
    found = split_lungs(left | right | bridge, grid, "CT")
    assert (found[0] & right).sum() == right.sum() and (found[1] & left).sum() == left.sum()


def test_real_chest():
    """The lesion's outline was drawn by a radiologist; its core is dense, the whole of it lies in the lung."""
    image = volume_from_itk(sitk.ReadImage(str(data_path("ct/lung1_image.nrrd"))), name="ct", units="HU")
    lesion = sitk.GetArrayFromImage(sitk.ReadImage(str(data_path("ct/lung1_label.nrrd")))) > 0
    segmentation, sizes = execute(image)
    assert (segmentation.layers[0][lesion] > 0).all()
    assert segmentation.mask("Dense part")[lesion].mean() > 0.8
    assert 1400 < sizes["Right lung"][0] < 2200 and 800 < sizes["Left lung"][0] < 1500
    assert sizes["Right lung"][0] > sizes["Left lung"][0]
    assert 10 < sizes["Airways"][0] < 60 and sizes["Airways"][1] < -950
    assert sizes["Right lung"][2] < 6


def test_an_image_cut_through_the_lungs():
    """The columns from 10 cm left to 10 cm right of the middle: the lungs reach both sides, there is no air outside."""
    chest = example_chest()
    ras = chest.geometry.ras(np.stack(np.meshgrid(*map(np.arange, chest.array.shape[::-1]), indexing="ij"), -1))
    x = ras[:, 0, 0, 0] - chest.geometry.center[0]
    first, last = np.flatnonzero(abs(x) < 80)[[0, -1]]
    y = ras[0, :, 0, 1] - chest.geometry.center[1]
    front, back = np.flatnonzero(abs(y) < 70)[[0, -1]]
    start, size = (0, front, first), (len(chest.array), back - front + 1, last - first + 1)
    cut = Volume(chest.array[:, front : back + 1, first : last + 1], chest.geometry.cropped(start, size), "cut", "HU")
    whole, _ = execute(chest, closing_mm=4.0)
    part, _ = execute(cut, closing_mm=4.0)
    for name in ("Left lung", "Right lung"):
        wanted = whole.mask(name)[:, front : back + 1, first : last + 1]
        found = part.mask(name)
        assert 2 * (wanted & found).sum() / (wanted.sum() + found.sum()) > 0.97


def test_gas_in_the_bowel_is_no_lung():
    chest = example_chest()
    array = chest.array.copy()
    k, j, i = np.indices(array.shape)
    lungs_below = k < 14
    array[(array < -700) & (array > -950) & lungs_below] = 40
    bowel = (abs(k - 5) < 4) & (abs(j - 22) < 5) & (abs(i - 30) < 14)
    array[bowel] = -1000
    segmentation, sizes = execute(replace(chest, array=array), closing_mm=4.0)
    assert not (segmentation.layers[0][bowel]).any()
    assert sizes["Right lung"][0] > 300 and sizes["Airways"][0] > 20


def test_abdomen_with_the_lungs_lower_ends():
    """The reference is TotalSegmentator's output, not drawn by hand."""
    image = volume_from_itk(sitk.ReadImage(str(data_path("ct/ts_abdomen_ct.nii.gz"))), name="ct", units="HU")
    reference = sitk.GetArrayFromImage(sitk.ReadImage(str(data_path("ct/ts_abdomen_ct_seg117.nii.gz"))))
    lobes = np.isin(reference, (10, 11, 12, 13, 14))
    segmentation, sizes = execute(image)
    found = segmentation.mask("Right lung") | segmentation.mask("Left lung")
    assert 2 * (found & lobes).sum() / (found.sum() + lobes.sum()) > 0.94
    assert sizes["Airways"][0] == 0


def test_an_image_without_lungs_is_refused():
    chest = example_chest()
    with pytest.raises(InputError, match=r"^CT image: Volume 'chest' has no air \(its lowest value is 0 HU"):
        execute(replace(chest, array=np.maximum(chest.array, 0)))
    empty = Volume(np.where(chest.array > -500, 40, -1000).astype(np.int16), chest.geometry, "body")
    block = empty.array.copy()
    block[block < 0] = 40
    block[:2] = -1000
    with pytest.raises(InputError, match="no lung was found in volume 'body'"):
        execute(replace(empty, array=block))
