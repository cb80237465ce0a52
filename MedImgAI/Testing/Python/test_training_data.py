"""Training: data sets, splits, sampling, the report."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Table, Volume
from MedImgAILib.training.cases import Case, Collection
from MedImgAILib.training.experiment import parts_of
from MedImgAILib.training.report import as_text, examine
from MedImgAILib.training.sampling import Sampler
from MedImgAILib.training.sources import read_collection, scene_classification, scene_segmentation
from MedImgAILib.training.splits import check_apart, folds, given_parts, holdout
from testing_data import data_path


def picture(path, value=100, size=(12, 10), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.clip(np.random.default_rng(seed).normal(value, 20, size), 0, 255).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    return path


def nifti(path, array, spacing=(1.0, 1.0, 1.0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


# Sources


def test_class_folders_with_parts_and_patients(tmp_path):
    for n in range(3):
        picture(tmp_path / "train" / "sick" / f"p{n}_a.png")
        picture(tmp_path / "train" / "well" / f"p{n + 3}_a.png")
    picture(tmp_path / "val" / "sick" / "p9_a.png")
    found = read_collection(tmp_path, "classification", patient_pattern=r"(p\d+)_")
    assert found.classes == ("sick", "well") and len(found) == 7
    assert {c.patient for c in found.cases} == {f"p{n}" for n in (0, 1, 2, 3, 4, 5, 9)}
    assert [c.split for c in found.cases].count("validation") == 1
    assert found.class_numbers().tolist().count(0) == 4


def test_a_table_of_paths(tmp_path):
    for n in range(4):
        picture(tmp_path / f"{n}.png")
    rows = [["image", "label", "patient_id", "split"]]
    rows += [[f"{n}.png", "ab"[n % 2], f"p{n // 2}", "train"] for n in range(4)]
    with open(tmp_path / "cases.csv", "w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(rows)
    found = read_collection(tmp_path / "cases.csv", "classification")
    assert [c.patient for c in found.cases] == ["p0", "p0", "p1", "p1"] and found.classes == ("a", "b")
    with pytest.raises(InputError, match="no column 'finding'"):
        read_collection(tmp_path / "cases.csv", "classification", label_column="finding")
    (tmp_path / "bad.csv").write_text("image,label\nmissing.png,a\n")
    with pytest.raises(InputError, match="Row 2 of .*missing.png, which does not exist"):
        read_collection(tmp_path / "bad.csv", "classification")


def test_pairs_of_images_and_labels_with_channels(tmp_path):
    for n in range(2):
        for channel in range(2):
            nifti(tmp_path / "imagesTr" / f"case_{n}_{channel:04d}.nii.gz", np.zeros((3, 4, 5), np.float32))
        nifti(tmp_path / "labelsTr" / f"case_{n}.nii.gz", np.ones((3, 4, 5), np.uint8))
    found = read_collection(tmp_path, "segmentation")
    assert [c.id for c in found.cases] == ["case_0", "case_1"] and all(len(c.images) == 2 for c in found.cases)


def test_arrays_as_medmnist_has_them(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.integers(0, 255, (6, 8, 8)).astype(np.uint8), "train_labels": np.array([[0], [1]] * 3),
        "val_images": rng.integers(0, 255, (2, 8, 8)).astype(np.uint8), "val_labels": np.array([[0], [1]]),
    }  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays)
    found = read_collection(tmp_path / "a.npz", "classification")
    assert len(found) == 8 and found.classes == ("0", "1") and found.cases[6].split == "validation"
    assert np.array_equal(found.cases[3].images[0].array[0], arrays["train_images"][3])
    np.savez(tmp_path / "b.npz", images=arrays["train_images"], labels=np.zeros((6, 14), int))
    with pytest.raises(InputError, match="one for each image is needed"):
        read_collection(tmp_path / "b.npz", "classification")
    (tmp_path / "c.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cannot be read as .npz"):
        read_collection(tmp_path / "c.npz", "classification")


def test_a_dicom_folder_is_one_image_and_says_whose_it_is(tmp_path):
    from testing_dicom import write_series

    for name, patient in (("one", "A"), ("two", "B")):
        write_series(tmp_path / name / "series", np.zeros((3, 8, 8), np.int16), PatientID=patient)
    found = read_collection(tmp_path, "classification")
    assert [(c.patient, c.target) for c in found.cases] == [("A", "one"), ("B", "two")]


def test_scene_data():
    grid = Geometry.from_spacing((4, 5, 6))
    images = [Volume(np.zeros((4, 5, 6)), grid, f"i{n}") for n in range(4)]
    labels = [
        Segmentation.from_labels(np.ones((4, 5, 6), np.uint8), grid, [Segment("A", 1)], f"s{n}") for n in range(2)
    ]
    found = scene_segmentation(images, labels)
    assert [len(c.images) for c in found.cases] == [2, 2] and found.classes == ("A",)
    with pytest.raises(InputError, match="cannot be shared out"):
        scene_segmentation(images[:3], labels)
    table = Table({"image": ("i0", "i1"), "label": np.array([0.0, 1.0]), "patient": ("x", "y")}, "truth")
    found = scene_classification(images[:2], table)
    assert found.classes == ("0", "1") and found.cases[1].patient == "y"
    with pytest.raises(InputError, match="'i2' is not in table 'truth'"):
        scene_classification(images[:3], table)


def test_names_of_parts_among_other_folders_are_no_classes(tmp_path):
    for part in ("train", "test"):
        for name in ("sick", "well"):
            picture(tmp_path / part / name / f"{part}{name}.png")
    (tmp_path / "docs").mkdir()
    for stray in (".ipynb_checkpoints", "__MACOSX"):
        picture(tmp_path / stray / "a-checkpoint.png")
        picture(tmp_path / "train" / stray / "b-checkpoint.png")
        picture(tmp_path / "train" / "sick" / stray / "c-checkpoint.png")
    found = read_collection(tmp_path, "classification")
    assert found.classes == ("sick", "well") and len(found) == 4
    picture(tmp_path / "docs" / "figure.png")
    with pytest.raises(InputError, match="the folders test, train beside docs; move"):
        read_collection(tmp_path, "classification")
    for name in ("test", "control"):
        picture(tmp_path / "other" / name / "a.png")
    assert read_collection(tmp_path / "other", "classification").classes == ("control", "test")


def test_equal_names_in_the_folders_of_patients_are_several_cases(tmp_path):
    for n in range(3):
        nifti(tmp_path / "images" / f"p{n}" / "t1.nii.gz", np.full((3, 4, 5), n, np.float32))
        nifti(tmp_path / "labels" / f"p{n}" / "t1.nii.gz", np.ones((3, 4, 5), np.uint8))
    found = read_collection(tmp_path, "segmentation", patient_pattern=r"(p\d+)/")
    assert [c.id for c in found.cases] == ["p0/t1", "p1/t1", "p2/t1"]
    for case, patient in zip(found.cases, ("p0", "p1", "p2")):
        assert case.patient == patient and len(case.images) == 1 and case.target.parent.name == patient


def test_unlabelled_cases_with_numbers_are_no_channels(tmp_path):
    for n in range(4):
        nifti(tmp_path / "images" / f"case_{n:04d}.nii.gz", np.zeros((3, 4, 5), np.float32))
    nifti(tmp_path / "labels" / "case_0000.nii.gz", np.ones((3, 4, 5), np.uint8))
    found = read_collection(tmp_path, "segmentation")
    assert [len(c.images) for c in found.cases] == [1] * 4 and len(found.labelled) == 1


def radiograph(path, patient, modality="DX"):
    from pydicom.uid import generate_uid
    from testing_dicom import new_dataset, set_pixels

    path.parent.mkdir(parents=True, exist_ok=True)
    data = new_dataset("1.2.840.10008.5.1.4.1.1.1.1", Modality=modality, PatientID=patient,
                       SeriesInstanceUID=generate_uid())  # fmt: skip
    set_pixels(data, np.random.default_rng(0).integers(0, 900, (9, 8)).astype(np.uint16))
    data.save_as(path)


def test_each_radiograph_of_a_folder_is_an_image(tmp_path):
    for n in range(3):
        radiograph(tmp_path / "sick" / f"{n}.dcm", f"s{n}")
        radiograph(tmp_path / "well" / "all" / f"IM{n}", f"w{n}", "CR")
    found = read_collection(tmp_path, "classification")
    assert [c.patient for c in found.cases] == ["s0", "s1", "s2", "w0", "w1", "w2"]
    assert found.class_numbers().tolist() == [0, 0, 0, 1, 1, 1]


def test_a_table_of_dicom_files_knows_the_patients(tmp_path):
    for n in range(4):
        radiograph(tmp_path / f"{n}.dcm", f"p{n // 2}")
    (tmp_path / "t.csv").write_text("image,label\n" + "".join(f"{n}.dcm,{'ab'[n % 2]}\n" for n in range(4)))
    assert [c.patient for c in read_collection(tmp_path / "t.csv", "classification").cases] == ["p0", "p0", "p1", "p1"]


def test_gaps_in_the_labels_of_the_scene():
    grid = Geometry.from_spacing((1, 5, 6))
    images = [Volume(np.zeros((1, 5, 6)), grid, f"i{n}") for n in range(3)]
    table = Table({"image": ("i0", "i1", "i2"), "label": np.array([0.0, np.nan, 1.0]),
                   "patient": np.array([7.0, np.nan, np.nan])}, "truth")  # fmt: skip
    found = scene_classification(images, table)
    assert [c.target for c in found.cases] == ["0", None, "1"] and found.classes == ("0", "1")
    assert found.cases[0].patient == "7" and len({c.patient for c in found.cases}) == 3


# Splits


def test_no_patient_is_ever_on_both_sides():
    """Tries to leak: patients with many cases, of several classes, in every order."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        patients = [f"p{n}" for n in rng.integers(0, 30, 200)]
        classes = rng.integers(0, 3, 200)
        parts = folds(patients, classes, 5, seed)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(200))
        owners = [{patients[n] for n in part} for part in parts]
        assert sum(map(len, owners)) == len(set(patients))
        kept, out = holdout(patients, classes, 0.2, seed)
        assert not {patients[n] for n in kept} & {patients[n] for n in out}
        assert 20 <= len(out) <= 70


def test_folds_are_balanced():
    classes = np.r_[np.zeros(180), np.ones(20)]
    parts = folds([str(n) for n in range(200)], classes, 5, 1)
    assert {len(p) for p in parts} == {40} and {int(classes[p].sum()) for p in parts} == {4}


def test_folds_are_as_balanced_as_scikit_learns():
    model_selection = pytest.importorskip("sklearn.model_selection")
    rng = np.random.default_rng(3)
    patients = rng.integers(0, 60, 400)
    classes = rng.integers(0, 2, 60)[patients]

    def spread(parts):
        return max(abs(classes[p].mean() - classes.mean()) for p in parts)

    peer = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = spread([out for _, out in peer.split(np.zeros(400), classes, patients)])
    assert spread(folds(patients, classes, 5, 0)) <= 1.5 * theirs + 0.02


def test_a_patient_on_both_sides_is_named():
    cases = [Case(str(n), (), "a", f"p{n // 2}", ("train", "test")[n % 2]) for n in range(4)]
    with pytest.raises(InputError, match="Patients p0, p1 stand on both sides"):
        given_parts(cases)
    with pytest.raises(InputError, match="Patient p0 stands"):
        check_apart(["p0", "p1"], ["p2", "p0"])
    with pytest.raises(InputError, match="5 folds need at least 5 patients, but there are 2"):
        parts_of([Case(str(n), (), "a", f"p{n // 2}") for n in range(4)], [0] * 4, 5, 0.2, 0)


def test_the_parts_of_a_data_set_are_kept():
    words = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    cases = [Case(str(n), (), "a", "", word) for n, word in enumerate(words)]
    parts = parts_of(cases, [0] * 8, 1, 0.2, 0)
    assert [p.tolist() for p in parts.rounds[0]] == [[0, 1, 2, 3], [4, 5]] and parts.test.tolist() == [6, 7]
    crossed = parts_of(cases, [0] * 8, 3, 0.2, 0)
    assert all(6 not in np.r_[k, o] and 7 not in np.r_[k, o] for k, o in crossed.rounds)


# Sampling


@pytest.mark.parametrize(("balance", "counts"), [("none", (90, 10)), ("under", (10, 10)), ("over", (90, 90))])
def test_an_epoch_holds_what_it_should(balance, counts):
    classes = np.r_[np.zeros(90, int), np.ones(10, int)]
    sampler = Sampler(classes, balance, 4)
    for epoch in range(2):
        drawn = [sampler.case(epoch * sampler.epoch_length + n) for n in range(sampler.epoch_length)]
        assert tuple(np.bincount(classes[drawn])) == counts
        if balance == "none":
            assert sorted(drawn) == list(range(100))
        if balance == "over":
            times = np.bincount(drawn, minlength=100)
            assert times[:90].tolist() == [1] * 90 and set(times[90:]) == {9}


def test_weighted_sampling_draws_classes_alike():
    sampler = Sampler(np.r_[np.zeros(950, int), np.ones(50, int)], "weighted", 0)
    share = np.mean([sampler.case(n) >= 950 for n in range(4000)])
    assert abs(share - 0.5) < 0.03
    again = Sampler(sampler.classes, "weighted", 0)
    assert [again.case(n) for n in (3999, 5, 1700)] == [sampler.case(n) for n in (3999, 5, 1700)]


# The report


def test_the_report_finds_what_is_wrong(tmp_path):
    for n in range(6):
        picture(tmp_path / "train" / "sick" / f"{n}.png", seed=n)
    for n in range(2):
        picture(tmp_path / "train" / "well" / f"{n}.png", 60, seed=20 + n)
    (tmp_path / "val" / "well").mkdir(parents=True)
    (tmp_path / "val" / "well" / "copy.png").write_bytes((tmp_path / "train" / "sick" / "3.png").read_bytes())
    (tmp_path / "train" / "well" / "broken.png").write_bytes(b"\x89PNG nothing")
    collection = read_collection(tmp_path, "classification")
    found = examine(collection, Context("cpu"))
    texts = "\n".join(text for _, text in found.problems)
    assert "broken.png" in texts and "cannot be used" in texts
    assert "look the same" in texts and "different sides" in texts and "different labels" in texts
    assert texts.count("look the same") == 1
    report = as_text(collection, found)
    assert "9 cases" in report or "10 cases" in report
    assert dict(zip(found.classes.columns["class"], found.classes.columns["cases"])) == {"sick": 6, "well": 3}


def test_the_report_finds_one_class_and_shared_patients():
    grid = Geometry.from_spacing((1, 8, 8))
    cases = [
        Case(str(n), (Volume(np.random.default_rng(n).normal(size=(1, 8, 8)), grid),), "a", "p", ("train", "test")[n])
        for n in range(2)
    ]
    texts = [text for _, text in examine(Collection("classification", cases, ("a",)), Context("cpu")).problems]
    assert any("All cases are of the class 'a'" in t for t in texts)
    assert any("several sides of the split: patient p" in t for t in texts)


def test_near_duplicates_survive_resizing_and_noise():
    from MedImgAILib.training.duplicates import fingerprint, near_duplicates

    images = np.load(data_path("cxr/pneumoniamnist_train_val.npz"))["train_images"][:200].astype(np.float32)
    first = images[0]
    grown = np.kron(first, np.ones((3, 3), np.float32)) * 1.1 + 5
    noisy = images[1] + np.random.default_rng(0).normal(0, 3, first.shape)
    pairs = near_duplicates([fingerprint(i[None]) for i in (*images, grown, noisy)])
    assert {(a, b) for a, b, _ in pairs} >= {(0, 200), (1, 201)}
    assert len(pairs) < 40
