"""Resampling through a transform, against positions worked out by hand and SimpleITK."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAIFusionLib.resample import Resample
from MedImgAILib.core import Context, DisplacementTransform, Geometry, InputError, LinearTransform, Volume
from MedImgAILib.core.examples import example_geometry, example_segmentation, example_volume
from MedImgAILib.core.itk import itk_image
from scipy.spatial.transform import Rotation


def resample(inputs, **parameters):
    return Resample().execute(inputs, parameters, Context())


def ramp(geometry):
    """A volume whose value is 2 R − A + 0.5 S + 7."""
    k, j, i = np.meshgrid(*(np.arange(n) for n in geometry.shape), indexing="ij")
    ras = geometry.ras(np.stack([i, j, k], axis=-1))
    return Volume((ras @ [2.0, -1.0, 0.5] + 7).astype(np.float32), geometry)


def motion():
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", (10, -20, 35), degrees=True).as_matrix()
    matrix[:3, 3] = (3.0, -2.0, 5.0)
    return LinearTransform(matrix)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_a_ramp_is_carried_exactly(interpolation):
    transform = motion()
    source = Geometry.from_spacing((40, 44, 48), (2.0, 1.5, 2.0), (-48.0, -33.0, -40.0))
    target = Geometry.from_spacing((9, 10, 11), (1.7, 1.1, 0.9), (-6.0, -4.0, -3.0), motion().matrix[:3, :3].T)
    result = resample(
        {"reference": Volume(np.zeros(target.shape), target), "image": ramp(source), "transform": transform},
        interpolation=interpolation,
    )["resampled"]
    k, j, i = np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij")
    moving = transform.map_points_inverse(target.ras(np.stack([i, j, k], axis=-1)))
    np.testing.assert_allclose(
        result.array, moving @ [2.0, -1.0, 0.5] + 7, atol=0.02 if interpolation == "cubic" else 1e-3
    )


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_it_is_simpleitks_resample(interpolation):
    image, transform = example_volume(), motion()
    reference = example_volume(geometry=example_geometry().with_spacing((1.3, 0.9, 2.2)))
    ours = resample(
        {"reference": reference, "image": image, "transform": transform}, interpolation=interpolation, outside=-5.0
    )["resampled"]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    back = flip @ np.linalg.inv(transform.matrix) @ flip
    peer = sitk.AffineTransform(3)
    peer.SetMatrix(back[:3, :3].ravel().tolist())
    peer.SetTranslation(back[:3, 3].tolist())
    kind = {"nearest": sitk.sitkNearestNeighbor, "linear": sitk.sitkLinear, "cubic": sitk.sitkBSpline}[interpolation]
    theirs = sitk.GetArrayFromImage(sitk.Resample(itk_image(image), itk_image(reference), peer, kind, -5.0))
    k, j, i = np.meshgrid(*(np.arange(n) for n in reference.geometry.shape), indexing="ij")
    place = image.geometry.ijk(transform.map_points_inverse(reference.geometry.ras(np.stack([i, j, k], axis=-1))))
    within = ((place >= 0) & (place <= np.array(image.geometry.shape[::-1]) - 1)).all(axis=-1)
    np.testing.assert_allclose(ours.array[within], theirs[within], atol=0.01)
    # Between the outermost voxel centres and faces the splines differ; on the very face either side is right.
    assert ((ours.array == -5) == (theirs == -5)).mean() > 0.999


def test_segments_go_along_and_keep_their_table():
    segmentation, image = example_segmentation(), example_volume()
    outputs = resample({"reference": image, "image": image, "segmentation": segmentation})
    np.testing.assert_array_equal(outputs["segments"].layers[0], segmentation.layers[0])
    np.testing.assert_array_equal(outputs["resampled"].array, image.array)
    assert outputs["segments"].segments == segmentation.segments


def test_a_displacement_field_is_followed():
    image = ramp(Geometry.from_spacing((20, 20, 20)))
    vectors = np.broadcast_to(np.array([1.0, -2.0, 3.0]), (20, 20, 20, 3)).copy()
    field = DisplacementTransform(vectors, image.geometry)
    result = resample({"reference": image, "image": image, "transform": field}, outside=-99.0)["resampled"].array
    expected = image.array + np.float32(2 * 1 + 2 + 0.5 * 3)
    np.testing.assert_allclose(result[1:-4, 3:-1, 1:-2], expected[1:-4, 3:-1, 1:-2], atol=1e-3)
    assert (result[-2:] == -99).all()


def test_a_single_slice_and_no_overlap():
    image = example_volume()
    slice_ = Volume(image.array[10:11], image.geometry.cropped((10, 0, 0), (1, 26, 32)))
    cut = resample({"reference": slice_, "image": image})["resampled"]
    np.testing.assert_array_equal(cut.array, slice_.array)
    far = LinearTransform([[1, 0, 0, 1000], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    assert (resample({"reference": image, "image": image, "transform": far}, outside=3.0)["resampled"].array == 3).all()


def test_what_cannot_be_resampled_is_refused():
    image = example_volume()
    with pytest.raises(InputError, match="nothing to resample"):
        resample({"reference": image})
    broken = image.with_array(np.where(image.array > 130, np.nan, image.array), name="holes")
    with pytest.raises(InputError, match="'holes' contains NaN"):
        resample({"reference": image, "image": broken}, interpolation="cubic")
    resample({"reference": broken, "image": broken}, interpolation="linear")


def test_a_result_without_content_gets_a_warning():
    class Listening(Context):
        def on_log(self, level, message):
            heard.append(message)

    heard, away = [], np.eye(4)
    away[0, 3] = 5000
    inputs = {"reference": example_volume(), "image": example_volume("scan"), "segmentation": example_segmentation()}
    Resample().execute(inputs, {}, Listening())
    assert heard == []
    Resample().execute(inputs | {"transform": LinearTransform(away)}, {}, Listening())
    assert len(heard) == 2 and heard[0].startswith("Nothing of volume 'scan' lies") and "egmentation" in heard[1]
