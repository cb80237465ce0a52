"""The bridge to SimpleITK: positions, types, progress, cancel."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Cancelled, Context, Geometry, InputError, ResourceError, Volume
from MedImgAILib.core.itk import geometry_from_itk, itk_image, run_filter, volume_from_itk

MATRIX = np.array([[-1.2, 0.3, 0, 20], [0.4, 0.9, 0, -30], [0, 0, 2.5, 7], [0, 0, 0, 1.0]])


def test_positions_agree_between_ras_and_lps():
    geometry = Geometry(MATRIX, (5, 6, 7))
    image = itk_image(Volume(np.zeros((5, 6, 7), np.float32), geometry))
    for index in ((0, 0, 0), (6, 5, 4), (2, 3, 1)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((-x, -y, z), geometry.ras(index), atol=1e-9)
    np.testing.assert_allclose(geometry_from_itk(image).ijk_to_ras, MATRIX, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.uint16, bool, np.float16])
def test_voxels_return_unchanged(dtype):
    array = (np.arange(60).reshape(3, 4, 5) % 7).astype(dtype)
    back = volume_from_itk(itk_image(Volume(array[::-1], Geometry(np.eye(4), (3, 4, 5)))), name="x", units="HU")
    np.testing.assert_array_equal(back.array, array[::-1].astype(back.array.dtype))
    assert (back.name, back.units) == ("x", "HU")


def test_vector_components_stay_apart():
    array = np.random.default_rng(0).random((3, 4, 5, 3)).astype(np.float32)
    image = itk_image(Volume(array, Geometry(np.eye(4), (3, 4, 5))))
    assert image.GetNumberOfComponentsPerPixel() == 3 and image.GetSize() == (5, 4, 3)
    np.testing.assert_array_equal(volume_from_itk(image).array, array)


def test_sheared_axes_are_refused_in_a_sentence():
    sheared = np.eye(4)
    sheared[0, 2] = 0.3
    with pytest.raises(InputError, match=r"^Volume 'tilted' has sheared axes, which ITK cannot process; resample"):
        itk_image(Volume(np.zeros((3, 4, 5)), Geometry(sheared, (3, 4, 5)), "tilted"))


class Recorder(Context):
    def __init__(self, stop_after=None):
        super().__init__()
        self.fractions, self.stop_after = [], stop_after

    def is_cancelled(self):
        return self.stop_after is not None and len(self.fractions) >= self.stop_after

    def on_progress(self, fraction, message):
        self.fractions.append(fraction)


def noise(size=40):
    return sitk.GetImageFromArray(np.random.default_rng(0).normal(100, 5, (size,) * 3).astype(np.float32))


def test_progress_rises_and_cancel_stops_the_filter(capfd):
    recorder = Recorder()
    median = sitk.MedianImageFilter()
    median.SetRadius([2, 2, 2])
    run_filter(median, noise(), context=recorder)
    assert len(recorder.fractions) > 5 and recorder.fractions == sorted(recorder.fractions)
    with pytest.raises(Cancelled):
        run_filter(median, noise(), context=Recorder(3))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetConvergenceThreshold(0.0)
    impatient = Recorder(2)
    with pytest.raises(Cancelled):
        run_filter(n4, noise(), context=impatient, fraction=lambda: n4.GetElapsedIterations() / 200)
    assert len(impatient.fractions) == 2
    assert capfd.readouterr().err == "", "cancelling is not worth a traceback"


def test_failure_inside_itk_becomes_a_sentence():
    with pytest.raises(ResourceError, match=r"^BinShrinkImageFilter of ITK failed: .*\.$"):
        shrink = sitk.BinShrinkImageFilter()
        shrink.SetShrinkFactors([500] * 3)
        run_filter(shrink, noise(), context=Context())
