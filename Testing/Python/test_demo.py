"""The demo on images of the user's: what it takes, what it refuses, and pictures in true proportion."""

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Geometry, InputError, Volume
from MedImgAILib.core.examples import example_segmentation, example_volume
from MedImgAILib.hosts.files import write_file

_DEMO = str(Path(__file__).resolve().parents[2] / "Demo")


@pytest.fixture
def demo(monkeypatch):
    """Imports one of the demo's files."""
    monkeypatch.syspath_prepend(_DEMO)
    yield __import__
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(_DEMO):
            del sys.modules[name]


def test_a_tinted_slice_keeps_its_proportions(demo):
    pictures = demo("pictures")
    geometry = Geometry.from_spacing((8, 10, 12), (0.5, 2.0, 3.0))
    volume = Volume(np.arange(960, dtype=np.float32).reshape(geometry.shape), geometry)
    segmentation = example_segmentation()
    mask = np.zeros(geometry.shape, np.uint8)
    mask[2:6, 3:7, 3:9] = 1
    segmentation = type(segmentation).from_labels(mask, geometry, segmentation.segments[:1])
    fig, axes = pictures.figure(1)
    pictures.draw_slice(axes[0], volume, overlays=[(segmentation, None, None)], tint=segmentation)
    assert axes[0].get_aspect() == pytest.approx(4.0)
    assert pictures.png(fig).startswith("data:image/png")


def test_a_picture_needs_its_pixel_size_and_takes_it(demo, tmp_path, capsys):
    run_demo, own_image = demo("run_demo"), demo("own_image")
    picture = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(picture), str(tmp_path / "film.png"))
    assert run_demo.main(["--input", str(tmp_path / "film.png"), "--output", str(tmp_path / "out")]) == 1
    assert "--spacing-mm" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["film.png"]
    image = own_image._load(tmp_path / "film.png", "0.2,0.3")
    np.testing.assert_allclose(image.geometry.spacing[:2], (0.2, 0.3))


def test_complex_images_are_shown_by_their_magnitude(demo, tmp_path):
    volume = example_volume()
    phase = np.exp(1j * np.arange(volume.array.size).reshape(volume.array.shape))
    write_file(volume.with_array((volume.array * phase).astype(np.complex64)), tmp_path / "c.nii.gz")
    own = demo("own_image")._load(tmp_path / "c.nii.gz")
    np.testing.assert_allclose(own.array, np.abs(volume.array), rtol=1e-5, atol=1e-4)


def test_a_line_of_voxels_is_refused(demo, tmp_path):
    write_file(Volume(np.arange(40.0).reshape(40, 1, 1), Geometry.from_spacing((40, 1, 1))), tmp_path / "line.nrrd")
    with pytest.raises(InputError, match="too thin"):
        demo("own_image")._load(tmp_path / "line.nrrd")
