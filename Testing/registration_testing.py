"""What the tests of registration share: real images, known motions, and reading the results."""

from __future__ import annotations

import SimpleITK as sitk
from MedImgAILib.core import Context
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_volume
from scipy.spatial.transform import Rotation
from testing_data import data_path


class Listener(Context):
    """Keeps the warnings."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.warnings = []

    def warn(self, message):
        """Keep it."""
        self.warnings.append(message)


def load(relative, spacing_mm=None):
    """A test image as float32, on a grid of that spacing if given."""
    volume = volume_from_itk(sitk.ReadImage(str(data_path(relative)), sitk.sitkFloat32), name=relative)
    return volume if spacing_mm is None else resample_volume(volume, volume.geometry.with_spacing([spacing_mm] * 3))


def row(quality, measure):
    """The figures of a measure before and after, from the table of quality."""
    number = quality.columns["measure"].index(measure)
    return quality.columns["before"][number], quality.columns["after"][number]


def euler(*degrees):
    """(3, 3) rotation by angles about x, y and z."""
    return Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
