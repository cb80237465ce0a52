"""The brain models that come with the product, on heads that they have not seen, stored, cut or coloured in any way."""

import numpy as np
import pytest
from MedImgAILib.core import Context, Volume, registry
from testing_data import data_path


def applied(model: str, image: Volume) -> np.ndarray:
    """Labels on the image's grid."""
    pytest.importorskip("torch")
    outputs = registry()["segment.network"].execute({"images": [image]}, {"model": model}, Context("cpu"))
    return outputs["segmentation"].labelmap()


def read(relative: str) -> Volume:
    from MedImgAILib.hosts.files import read_file

    return read_file(data_path(relative))


def resampled(image: Volume, spacing_mm: tuple[float, float, float], how: str = "linear") -> Volume:
    """To another voxel size along K, J, I; of slices thicker than the image's the mean."""
    from MedImgAILib.core.resampling import resample_volume
    from scipy.ndimage import uniform_filter1d

    array = image.array.astype(np.float32)
    if how == "linear":
        for axis, (new, old) in enumerate(zip(spacing_mm, image.geometry.spacing_kji)):
            array = uniform_filter1d(array, max(1, round(new / old)), axis=axis)
    shape = [round(n * s / w) for n, s, w in zip(image.array.shape, image.geometry.spacing_kji, spacing_mm)]
    return resample_volume(image.with_array(array), image.geometry.resized(shape), how)


def dice(first, second) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.fixture(scope="module")
def colin():
    """(head, brain) of Colin27, T1-weighted, on 2 mm."""
    head, brain = read("brain/ch2.nii.gz"), read("brain/ch2bet.nii.gz")
    brain = brain.with_array((brain.array > 0).astype(np.float32))
    return resampled(head, (2, 2, 2)), resampled(brain, (2, 2, 2)).array > 0.5


@pytest.fixture(scope="module")
def brain_of_colin(colin):
    return applied("brain_extraction", colin[0]) > 0


def test_brain_of_an_unseen_head(colin, brain_of_colin):
    assert dice(brain_of_colin, colin[1]) > 0.93


def test_tissues_of_the_template():
    template, grey, white = (read(f"brain/mni152_{name}.nii.gz") for name in ("t1", "gm", "wm"))
    part = np.s_[40:150]
    cut = template.geometry.cropped((40, 0, 0), (110, *template.array.shape[1:]))
    labels = applied("brain_tissue", Volume(template.array[part], cut, "part of the template"))
    assert dice(labels == 2, grey.array[part] > 127) > 0.78
    assert dice(labels == 3, white.array[part] > 127) > 0.83


@pytest.mark.parametrize(("axes", "flips"), [((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, True))])
def test_labels_do_not_depend_on_how_the_image_is_stored(colin, brain_of_colin, axes, flips):
    turned = colin[0].reordered(axes, flips)
    again = Volume(applied("brain_extraction", turned).astype(np.uint8), turned.geometry).canonical()
    first = Volume(brain_of_colin.astype(np.uint8), colin[0].geometry).canonical()
    assert dice(again.array > 0, first.array > 0) > 0.99


def test_thick_slices(colin):
    head, brain = read("brain/ch2.nii.gz"), read("brain/ch2bet.nii.gz")
    thick = resampled(head, (5, 1, 1))
    truth = resampled(brain.with_array((brain.array > 0).astype(np.float32)), (5, 1, 1)).array > 0.5
    assert dice(applied("brain_extraction", thick) > 0, truth) > 0.92


def test_a_head_cut_off(colin):
    head, brain = colin
    start, shape = (20, 0, 10), (45, head.array.shape[1], 55)
    part = tuple(slice(s, s + n) for s, n in zip(start, shape))
    cut = Volume(np.ascontiguousarray(head.array[part]), head.geometry.cropped(start, shape), "cut")
    assert dice(applied("brain_extraction", cut) > 0, brain[part]) > 0.92


def test_another_contrast(colin):
    """White matter darker than grey and fluid bright; harder than T2, for the rims of skin and bone turn bright too."""
    head, brain = colin
    top = np.percentile(head.array[brain], 95)
    value = np.clip(head.array / top, 0, 1.4)
    folded = np.where(value > 0.15, 1.05 - 0.75 * value, 0.02 + value).clip(0).astype(np.float32)
    assert dice(applied("brain_extraction", head.with_array(folded)) > 0, brain) > 0.8
