"""Mammograms as they come: views in any order, inverted, raw, framed, cut off, and pictures that are none."""

import numpy as np
import pytest
from listening import Listening
from MedImgAILib.core import Context, InputError, VolumePort
from MedImgAILib.hosts.files import read_file
from MedImgAILib.mammography.phantom import drawn, drawn_exam, volume_of
from MedImgAILib.mammography.picture import picture_of
from MedImgAILib.mammography.screening import BreastScreening
from MedImgAILib.mammography.sorting import of_name, recognised
from MedImgAILib.mammography.view import examine
from pydicom.uid import generate_uid
from testing_data import data_path
from testing_dicom import new_dataset, set_pixels

PRESENTATION, PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2", "1.2.840.10008.5.1.4.1.1.1.2.1"


def features(image, name="left_cc", context=None, **geometry):
    return examine(name, volume_of(image, **geometry), 0.0, 0.5, context or Context("cpu")).features


@pytest.mark.parametrize(
    ("name", "view"),
    [
        ("0_L-CC", ("left", "cc")),
        ("RMLO", ("right", "mlo")),
        ("4: R MLO", ("right", "mlo")),
        ("Patient7_left_mlo.png", ("left", "mlo")),
        ("P_00001_RIGHT_CC", ("right", "cc")),
        ("mloR", ("right", "mlo")),
        ("collar", ("", "")),
        ("left and right cc", ("", "cc")),
    ],
)
def test_views_of_names(name, view):
    assert of_name(name) == view


@pytest.mark.parametrize("said", [True, False])
def test_views_in_any_order_are_sorted(said):
    exam = drawn_exam(np.random.default_rng(2))
    volumes = [
        volume_of(image, 0.7, name.replace("_", " ") if said else f"image {n}")
        for n, (name, image) in enumerate(reversed(exam.items()))
    ]
    assert [recognised(v, 0.0, Context("cpu")) for v in volumes] == list(reversed(exam))
    results = BreastScreening().execute({"mammograms": volumes}, {}, Context("cpu"))
    assert results["views"].columns["view"] == ("Left CC", "Left MLO", "Right CC", "Right MLO")
    for name, volume in zip(reversed(exam), volumes):
        assert results[f"{name}_regions"].geometry is volume.geometry or np.array_equal(
            results[f"{name}_regions"].layers[0] > 0, volume.array > 0
        )


def test_a_name_counts_more_than_the_hanging_and_two_of_a_view_are_refused():
    image, _ = drawn()
    context = Listening()
    volume = volume_of(image, name="R-CC")
    assert recognised(volume, 0.0, context) == "right_cc"
    results = BreastScreening().execute({"mammograms": [volume]}, {}, context)
    assert results["views"].columns["view"] == ("Right CC",) and context.heard("hangs like a left breast")
    with pytest.raises(InputError, match="both taken for Right CC"):
        BreastScreening().execute({"mammograms": [volume, volume_of(image, name="rcc")]}, {}, Context("cpu"))
    with pytest.raises(InputError, match="both taken for Right CC"):
        BreastScreening().execute({"mammograms": [volume], "right_cc": volume_of(image)}, {}, Context("cpu"))


def test_an_inverted_picture_gives_the_same():
    image, _ = drawn(oblique=True)
    context = Listening()
    found = features(image.max() - image, "left_mlo", context)
    assert found == pytest.approx(features(image, "left_mlo"), rel=0.02, abs=0.02)
    assert context.heard("MONOCHROME1")


def test_a_picture_for_processing_becomes_attenuation():
    image, truth = drawn()
    raw = np.rint(16000 * np.exp(-image / 400)).astype(np.uint16)
    context = Listening()
    result = examine("left_cc", volume_of(raw), 0.0, 0.5, context)
    assert context.heard("as in images for processing")
    assert 2 * (result.breast & truth["breast"]).sum() / (result.breast.sum() + truth["breast"].sum()) > 0.97
    dense = truth["dense"] | truth["mass"]
    assert 2 * (result.dense & dense).sum() / (result.dense.sum() + dense.sum()) > 0.85


@pytest.mark.parametrize("bits", [8, 12, 14, 16])
def test_any_depth(bits):
    image, _ = drawn()
    scaled = np.rint(image / image.max() * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    found, wanted = features(scaled), features(image)
    for name in ("breast_area_cm2", "dense_percent", "mass_likeness_highest"):
        assert found[name] == pytest.approx(wanted[name], rel=0.02)


@pytest.mark.parametrize("what", ["label", "frame", "label on the wall's side", "notch"])
def test_letters_and_frames_change_nothing(what):
    image, _ = drawn()
    marked = image.copy()
    if what == "frame":
        marked[:2] = marked[-2:] = 4095
        marked[:, :2] = marked[:, -2:] = 4095
    elif what == "notch":
        marked[:, -12:] = 4095
        marked[40:, -12:] = 0
    else:
        columns = slice(150, 210) if what == "label" else slice(5, 60)
        marked[8:22, columns] = 4095 * (np.arange(marked[8:22, columns].size).reshape(14, -1) % 3 > 0)
    wanted = features(image)
    for pixels in (marked, marked[:, ::-1]):
        name = "left_cc" if pixels is marked else "right_cc"
        context = Listening()
        found = features(pixels, name, context)
        assert not context.heard("hangs like")
        for key in ("breast_area_cm2", "dense_percent"):
            assert found[key] == pytest.approx(wanted[key], rel=0.06), key


def test_grey_saved_as_colour_and_real_colour():
    image, _ = drawn()
    grey = np.rint(image / image.max() * 255).astype(np.uint8)
    assert features(np.stack([grey] * 3, -1)) == pytest.approx(features(grey))
    photo = np.random.default_rng(0).integers(0, 255, (300, 200, 3)).astype(np.uint8)
    with pytest.raises(InputError, match="in colour"):
        features(photo)


def test_a_small_copy_without_pixel_size_is_taken_for_a_whole_field():
    image, _ = drawn()
    context = Listening()
    assert picture_of(volume_of(image, 1.0), 0.0, context).pixel_mm == 0.5
    assert context.heard("may be wrong")


def test_a_cut_off_breast_and_one_without_air_are_told():
    image, _ = drawn()
    context = Listening()
    assert features(image[:, :165], context=context)["breast_area_cm2"] > 0 and context.heard("cut off")
    features(image[120:280, :120], context=context)
    assert context.heard("no dark air")


def test_an_implant_is_told():
    image, truth = drawn(shape=(500, 300))
    y, x = np.mgrid[:500, :300]
    image[((y - 250) / 110) ** 2 + ((x - 70) / 90) ** 2 < 1] = 3600
    context = Listening()
    features(image, context=context)
    assert context.heard("implant")
    context = Listening()
    features(drawn(shape=(500, 300))[0], context=context)
    assert not context.heard("implant")


def ball(shape=(300, 300), radius=100):
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = 1000.0 * (np.hypot(y - shape[0] / 2, x - shape[1] / 2) < radius)
    return image + np.random.default_rng(0).normal(0, 10, shape)


def chest():
    y, x = np.mgrid[:400, :400]
    image = np.full((400, 400), 1500.0)
    for side in (-1, 1):
        image[np.hypot((y - 200) / 1.5, x - 200 - side * 90) < 75] = 200
    return image


@pytest.mark.parametrize(
    "image",
    [
        ball(),
        chest(),
        np.random.default_rng(0).normal(500, 100, (300, 200)),
        np.tile(np.linspace(0, 1000, 300), (200, 1)),
        np.where(np.arange(300)[:, None] // 30 % 2, 1000.0, 0.0) * np.ones((300, 200)),
        np.pad(np.full((6, 60), 3000.0), ((100, 100), (80, 80))),
    ],
    ids=["a head", "a chest", "noise", "a ramp", "stripes", "a label alone"],
)
def test_what_is_no_mammogram_is_refused(image):
    with pytest.raises(InputError) as told:
        features(image)
    assert str(told.value).count(".") <= 2 and "mammogram" in str(told.value)


def test_a_real_slice_of_a_head_is_refused():
    volume = read_file(data_path("glioma_NC/brats_2013_pat0002_1/Flair_subtrMeanDivStd.nii.gz"), VolumePort("i", "I"))
    with pytest.raises(InputError, match="mammogram"):
        features(volume.array[len(volume.array) // 2], pixel_mm=0.4)


def write_mammogram(path, pixels, **header):
    kind = PROCESSING if header.get("PresentationIntentType") == "FOR PROCESSING" else PRESENTATION
    entries = {
        "Modality": "MG", "SeriesDescription": "", "SeriesInstanceUID": generate_uid(),
        "PresentationIntentType": "FOR PRESENTATION", "ImagerPixelSpacing": [0.4, 0.4],
    }  # fmt: skip
    data = new_dataset(kind, **entries | header)
    set_pixels(data, pixels)
    data.PhotometricInterpretation = header.get("PhotometricInterpretation", "MONOCHROME2")
    data.BitsStored = 12
    data.HighBit = 11
    data.save_as(path)
    return path


@pytest.mark.parametrize("inverted", [False, True])
def test_dicom_says_the_view_and_is_shown_upright(tmp_path, inverted):
    image, _ = drawn(oblique=True)
    pixels = np.rint(image).astype(np.uint16)
    pixels = 4095 - pixels if inverted else pixels
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    path = write_mammogram(
        tmp_path / "a.dcm", pixels, ImageLaterality="R", ViewPosition="MLO", PhotometricInterpretation=photometric
    )
    volume = read_file(path, VolumePort("i", "I"))
    context = Listening()
    results = BreastScreening().execute({"mammograms": [volume]}, {}, context)
    assert results["views"].columns["view"] == ("Right MLO",)
    assert context.heard("hangs like a left breast")
    area = features(image, "left_mlo")["breast_area_cm2"]
    assert results["views"].columns["breast_area_cm2"][0] == pytest.approx(area, rel=0.03)


def test_dicom_tells_of_implants(tmp_path):
    path = write_mammogram(tmp_path / "a.dcm", np.rint(drawn()[0]).astype(np.uint16), BreastImplantPresent="YES")
    context = Listening()
    BreastScreening().execute({"mammograms": [read_file(path, VolumePort("i", "I"))]}, {}, context)
    assert context.heard("implant")


def test_the_real_exam_in_any_order():
    names = ("R-MLO", "L-CC", "R-CC", "L-MLO")
    volumes = [
        read_file(data_path(f"mammo/0_{name}.png"), VolumePort("i", "I"), spacing_mm=(0.07, 0.07)) for name in names
    ]
    for volume, name in zip(volumes, names):
        side, projection = name.lower().split("-")
        seen = recognised(volume_of(volume.array[0], 0.07, "unnamed"), 0.0, Context("cpu"))
        assert seen == f"{'left' if side == 'l' else 'right'}_{projection}"
