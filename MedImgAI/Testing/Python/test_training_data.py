"""Training: data sets, splits, sampling, planning, augmentation, losses, the report."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, Geometry, InputError, Segment, Segmentation, Table, Volume
from MedImgAILib.core.model_card import ModelInput
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.training.cache import Preparation
from MedImgAILib.training.cases import Case, Collection
from MedImgAILib.training.experiment import parts_of
from MedImgAILib.training.planning import ImageFacts, intensity_rule, modality_of, plan_images, plan_patches
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


# Planning


def facts(shape, spacing, values=(0.0, 100.0), low=0.0, high=100.0, integer8=False):
    return [ImageFacts(shape, spacing, np.array(values), low, high, 1, integer8)]


def test_plan_of_the_hippocampus_is_nnunets():
    """nnU-Net's published plan of Task04: patch 40×56×40 at 1 mm, three halvings."""
    plan = plan_patches([facts((36, 50, 35), (1.0, 1.0, 1.0))] * 40, ["T1"], ["MR"])
    assert sorted(plan.patch) == [40, 40, 56] and plan.strides == ((1, 1, 1),) + ((2, 2, 2),) * 3
    assert plan.inputs[0].spacing_mm == (1.0, 1.0, 1.0) and plan.inputs[0].intensity.rule == "z_score"


def test_thick_slices_are_not_halved_first_and_keep_their_finest_spacing():
    cases = [facts((20, 320, 320), (s, 0.6, 0.6)) for s in (2.0, 3.6, 3.6, 3.6, 4.0)]
    plan = plan_patches(cases, ["T2"], ["MR"], "cuda")
    assert not plan.isotropic and plan.strides[1] == (1, 2, 2) and plan.kernels[0] == (1, 3, 3)
    assert plan.inputs[0].spacing_mm[2] == pytest.approx(np.percentile([2, 3.6, 3.6, 3.6, 4.0], 10))
    assert all(n % d == 0 for n, d in zip(plan.patch, plan.divisor))


@pytest.mark.parametrize("shape", [(512, 512, 512), (3, 700, 90), (2, 2, 2), (1, 512, 500), (1, 5, 5), (60, 7, 900)])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_any_size_gets_a_plan(shape, device):
    plan = plan_patches([facts(shape, (1.0, 1.0, 1.0))] * 10, ["image"], [""], device)
    extents = plan.patch[1:] if plan.dimensions == 2 else plan.patch
    assert all(n % d == 0 for n, d in zip(extents, plan.divisor)) and plan.batch >= 2
    assert np.prod(plan.patch) < (160**3 if device == "cuda" else 96**3)


def test_modalities_and_their_rules():
    ct = facts((9, 9, 9), (1, 1, 1), np.r_[np.linspace(-100, 300, 1000), 9000.0], -1024, 9000)[0]
    assert modality_of([ct]) == "CT" and modality_of([facts((1, 9, 9), (1, 1, 1), integer8=True)[0]]) == "OT"
    clip, scale = intensity_rule("CT", [ct])
    low, high = np.percentile(ct.inside, (0.5, 99.5))
    assert (clip.lower, clip.upper) == pytest.approx((low, high))
    assert scale.mean == pytest.approx(ct.inside.clip(low, high).mean())
    assert intensity_rule("MR", [ct]).rule == "z_score"


def test_images_of_a_classification_get_one_size():
    plan = plan_images([facts((1, 300, 1000), (1, 1, 1))] * 3, ["image"], [""])
    assert plan.inputs[0].size == (224, 67, 1) and plan.inputs[0].fit == "stretch" and plan.dimensions == 2


# Preparation, patches, augmentation


def prepared(tmp_path=None, shape=(9, 11, 13)):
    rng = np.random.default_rng(0)
    grid = Geometry.from_spacing(shape)
    labels = np.zeros(shape, np.uint8)
    labels[2:5, 3:8, 4:9] = 1
    labels[6:8, 2:4, 2:6] = 2
    segments = [Segment("A", 1), Segment("B", 2)]
    image = Volume((labels * 100 + rng.normal(0, 1, shape)).astype(np.float32), grid, "image")
    case = Case("one", (image,), Segmentation.from_labels(labels, grid, segments, "truth"))
    inputs = (ModelInput("image", "MR", 1, None, None, Intensity("none")),)
    return Preparation(inputs, ("A", "B"), tmp_path), case, labels


def test_cached_cases_are_those_that_were_prepared(tmp_path):
    preparation, case, labels = prepared(tmp_path / "cache")
    first = preparation.case(case)
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    before = [f.stat().st_mtime_ns for f in files]
    second = preparation.case(case)
    assert [f.stat().st_mtime_ns for f in files] == before
    assert np.array_equal(first.image, second.image) and np.array_equal(first.labels, labels)
    assert np.array_equal(second.prepared.back(second.labels), labels)
    assert {label: len(places) for label, places in second.places.items()} == {1: 75, 2: 16}
    changed = Case("one", (Volume(case.images[0].array + 1, case.images[0].geometry),), case.target)
    assert preparation.key(changed) != preparation.key(case)


def test_patches_hold_image_and_labels_of_the_same_place():
    from MedImgAILib.training.batches import cut_patch

    preparation, case, _ = prepared()
    ready = preparation.case(case)
    middles = []
    for n in range(60):
        image, labels = cut_patch(ready, (6, 20, 5), np.random.default_rng(n), 1.0)
        assert image.shape == (1, 6, 20, 5) and labels.shape == (6, 20, 5)
        inside = np.abs(image[0]) > 0
        assert np.array_equal(labels[inside], np.clip(np.rint(image[0][inside] / 100), 0, 2).astype(np.uint8))
        assert labels.any()
        middles.append(set(np.unique(labels)) - {0})
    assert {1} in middles or {2} in middles


@pytest.mark.parametrize("dimensions", [2, 3])
def test_labels_move_with_the_image(dimensions):
    """A picture of its own labels: after any spatial change it must still be that."""
    pytest.importorskip("monai")
    from MedImgAILib.training.augmentation import Augmentation

    shape = (40,) * dimensions
    labels = np.zeros(shape, np.uint8)
    labels[(slice(8, 20),) * (dimensions - 1) + (slice(6, 30),)] = 1
    labels[(slice(22, 34),) * dimensions] = 2
    image = labels[None].astype(np.float32)
    augment = Augmentation(dimensions, "full", (True,) * dimensions)
    augment._intensity = lambda: []
    moved = 0
    for seed in range(12):
        changed, found = augment(image, labels, np.random.default_rng(seed))
        changed, found = changed[0].numpy(), found.numpy()
        moved += not np.array_equal(found, labels)
        certain = np.abs(changed - np.rint(changed)) < 1e-3  # away from borders, where the image is interpolated
        assert certain.mean() > 0.5
        assert (np.rint(changed)[certain] == found[certain]).mean() > 0.995
    assert moved >= 8


@pytest.mark.parametrize("dimensions", [2, 3])
def test_augmentation_is_a_function_of_its_random_numbers(dimensions):
    pytest.importorskip("monai")
    from concurrent.futures import ThreadPoolExecutor

    from MedImgAILib.training.augmentation import Augmentation

    image = np.random.default_rng(0).normal(size=(1,) + (16,) * dimensions).astype(np.float32)
    augment = Augmentation(dimensions, "full", (True,) * dimensions, bias_field=True)

    def once(seed):
        return augment(image, None, np.random.default_rng(seed))[0].numpy()

    first = [once(n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        second = list(pool.map(once, range(40)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert not np.array_equal(first[0], first[1]) and all(np.isfinite(f).all() for f in first)


def test_sides_are_not_mirrored():
    from MedImgAILib.training.segmentation import flips_allowed

    kidneys = [Segment("Left kidney"), Segment("Right kidney", 2)]
    assert flips_allowed(kidneys, 3, "all") == (True, True, False)
    assert flips_allowed(kidneys, 3, "sides") == (False, False, False)
    assert flips_allowed([Segment("Liver")], 3, "sides") == (False, False, True)
    assert flips_allowed([Segment("Hippocampus_L")], 2, "sides") == (False, False)
    assert flips_allowed([Segment("Liver")], 2, "none") == (False, False)


# Losses


def test_effective_numbers_are_those_of_the_paper():
    from MedImgAILib.training.losses import effective_number_weights

    counts, beta = np.array([5000, 50, 2]), 0.999
    expected = (1 - beta) / (1 - beta**counts)
    expected = expected / expected.sum() * 3
    np.testing.assert_allclose(effective_number_weights(counts, beta), expected, rtol=1e-9)
    assert np.allclose(effective_number_weights(counts, 0.0), 1)


def test_focal_loss_without_focus_is_cross_entropy_and_agrees_with_monai():
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    from MedImgAILib.training.losses import classification_loss

    scores = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    shares = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3, 0, 1])]
    plain = torch.nn.functional.cross_entropy(scores, shares)
    torch.testing.assert_close(classification_loss("focal", gamma=0.0)(scores, shares), plain)
    torch.testing.assert_close(classification_loss()(scores, shares), plain)
    peer = losses.FocalLoss(gamma=2.0, use_softmax=True, reduction="none")(scores, shares).sum(1).mean()
    torch.testing.assert_close(classification_loss("focal")(scores, shares), peer)


def test_dice_loss_agrees_with_monai():
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("monai.losses")
    from MedImgAILib.training.losses import segmentation_loss

    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, 7, 8, generator=generator)
    labels = torch.randint(0, 3, (2, 6, 7, 8), generator=generator)
    peer = losses.DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)(scores, labels[:, None])
    torch.testing.assert_close(segmentation_loss()(scores, labels), peer, rtol=1e-4, atol=1e-4)
    deep = torch.stack([scores, scores], dim=1)
    torch.testing.assert_close(segmentation_loss()(deep, labels), segmentation_loss()(scores, labels))


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
