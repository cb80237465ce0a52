"""Groupwise registration takes known motions off time series and lands in their middle."""

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAIFusionLib.registration.groupwise_task import GroupwiseRegistration
from MedImgAILib.core import Context, DisplacementTransform, InputError, ParameterError, Sequence, Volume
from MedImgAILib.core.itk import volume_from_itk
from MedImgAILib.core.resampling import resample_volume
from scipy.spatial.transform import Rotation
from testing_data import data_path


class Listener(Context):
    def __init__(self):
        super().__init__("cpu")
        self.warnings, self.points = [], []

    def warn(self, message):
        self.warnings.append(message)

    def on_curve(self, name, x, y):
        self.points.append((name, x, y))


@pytest.fixture(scope="module")
def brain():
    image = sitk.ReadImage(str(data_path("brain/mni152_t1.nii.gz")), sitk.sitkFloat32)
    volume = volume_from_itk(image)
    return resample_volume(volume, volume.geometry.with_spacing([4.0] * 3))


def matrix(angles, shift, center):
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    result[:3, 3] = center - result[:3, :3] @ center + shift
    return result


MOTIONS = (((0, 0, 0), (0, 0, 0)), ((4, -2, 1), (5, 0, -3)), ((-3, 5, 2), (-4, 6, 2)), ((1, 1, -6), (0, -5, 5)))


@pytest.fixture(scope="module")
def series(brain):
    """Four time points, each moved rigidly by known amounts and in a contrast of its own."""
    truth = [matrix(*motion, brain.geometry.center) for motion in MOTIONS]
    rng = np.random.default_rng(0)
    frames = []
    for n, moved in enumerate(truth):
        array = resample_volume(brain.transformed(moved), brain.geometry).array * (1 + 0.15 * n)
        frames.append(Volume(array + rng.normal(0, 2, array.shape).astype(np.float32), brain.geometry, name=f"t{n}"))
    return Sequence(tuple(frames), np.array([0.0, 100, 200, 350]), name="series"), truth


def matrices(table):
    result = np.tile(np.eye(4), (table.rows, 1, 1))
    for row in range(3):
        for column in range(4):
            result[:, row, column] = table.columns[f"m{row}{column}"]
    return result


def test_motion_between_time_points_is_taken_off(brain, series):
    sequence, truth = series
    context = Listener()
    found = GroupwiseRegistration().execute({"sequence": sequence}, {"samples": 10000, "frame": 3}, context)
    assert not context.warnings
    got = matrices(found["motion"])
    points = brain.geometry.ras(np.argwhere(brain.array > 60)[::50, ::-1])

    def mapped(m, at):
        return at @ m[:3, :3].T + m[:3, 3]

    # A place of the patient lies at truth · p in each frame; all must land on one place of the mean space.
    landed = np.stack([mapped(g, mapped(t, points)) for g, t in zip(got, truth, strict=True)])
    assert np.linalg.norm(landed - landed.mean(axis=0), axis=-1).mean() < 0.25
    # None is favoured: the frames' movements to the mean cancel.
    shifts = np.stack([mapped(g, points) - points for g in got]).mean(axis=(0, 1))
    assert np.linalg.norm(shifts) < 0.3
    assert found["registered"].geometry.same_grid(brain.geometry)
    np.testing.assert_array_equal(found["registered"].values, sequence.values)
    np.testing.assert_allclose(found["transform"].map_points(points), mapped(got[2], points), atol=1e-6)
    np.testing.assert_allclose(found["inverse"].map_points(found["transform"].map_points(points)), points, atol=1e-6)
    spread = [y for name, _, y in context.points if name.startswith("Standard deviation")]
    assert len(spread) == 3 and spread[-1] < 0.8 * spread[0]
    bright = brain.array > 60
    apart = np.stack([v.array[bright] / v.array[bright].mean() for v in found["registered"].items]).std(axis=0).mean()
    moving = np.stack([v.array[bright] / v.array[bright].mean() for v in sequence.items]).std(axis=0).mean()
    assert apart < 0.5 * moving


def test_several_volumes_are_warped_to_their_middle(brain):
    k, j, i = np.meshgrid(*(np.arange(n) for n in brain.geometry.shape), indexing="ij")
    ras = brain.geometry.ras(np.stack([i, j, k], axis=-1)) - brain.geometry.center
    bump = 5 * np.exp(-(np.linalg.norm(ras, axis=-1) ** 2) / (2 * 30.0**2))[..., None]
    images = []
    for n, direction in enumerate(((1.0, 0, 0), (-0.5, 0.8, 0), (-0.5, -0.8, 0))):
        bent = resample_volume(brain, brain.geometry, "linear", DisplacementTransform(bump * direction, brain.geometry))
        images.append(bent.with_array(bent.array, name=f"subject {n}"))
    parameters = {"model": "deformable", "rounds": 1, "samples": 6000, "make_displacements": True}
    found = GroupwiseRegistration().execute({"images": images}, parameters, Listener())
    bright = brain.array > 60

    def spread(volumes):
        return np.stack([v.array[bright] for v in volumes]).std(axis=0).mean()

    assert spread(found["registered"].items) < 0.45 * spread(images)
    # The bumps cancel, so the mean space is the unbent brain.
    straight, bent = (np.corrcoef(found["mean"].array[bright], v.array[bright])[0, 1] for v in (brain, images[0]))
    assert straight > bent and straight > 0.97
    vectors = found["displacements"].items[0]
    middle = tuple(n // 2 for n in brain.geometry.shape)
    at = brain.geometry.ras(np.array(middle[::-1])[None])
    np.testing.assert_allclose(found["transform"].map_points_inverse(at) - at, vectors.array[middle][None], atol=1e-3)
    assert found["mean"].name == "images mean" and found["motion"].columns["image"][1] == "subject 1"


def test_what_cannot_be_aligned_is_refused(brain, series):
    sequence, _ = series
    task = GroupwiseRegistration()
    with pytest.raises(InputError, match="either a time series or several images"):
        task.execute({}, {}, Context())
    with pytest.raises(InputError, match="either a time series or several images"):
        task.execute({"sequence": sequence, "images": [brain, brain]}, {}, Context())
    with pytest.raises(InputError, match="single image"):
        task.execute({"sequence": Sequence(sequence.items[:1], name="one")}, {}, Context())
    with pytest.raises(ParameterError, match="no image 9"):
        task.execute({"sequence": sequence}, {"frame": 9}, Context())
    flat = brain.with_array(np.zeros(brain.array.shape, np.float32), name="flat")
    with pytest.raises(InputError, match="'flat' is constant"):
        task.execute({"images": [brain, flat]}, {}, Context())


def test_an_unrelated_image_is_named(brain):
    noise = brain.with_array(np.random.default_rng(3).normal(size=brain.array.shape).astype(np.float32), name="noise")
    moved = brain.with_array(np.roll(brain.array, 1, axis=0), name="moved")
    context = Listener()
    parameters = {"rounds": 1, "samples": 4000}
    found = GroupwiseRegistration().execute({"images": [brain, moved, noise]}, parameters, context)
    assert [w.split(" failed")[0] for w in context.warnings] == ["The alignment of image 3"]
    np.testing.assert_array_equal(found["motion"].columns["failed"], [0, 0, 1])
