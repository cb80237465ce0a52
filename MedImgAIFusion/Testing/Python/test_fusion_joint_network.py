"""Model level: what the joint network does with missing modalities, its data from folders, training and packages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from MedImgAIFusionLib.model import ablation
from MedImgAIFusionLib.model.cases import Patient, foreground, match_images, normalized, prepare
from MedImgAIFusionLib.model.folder import read_patients
from MedImgAIFusionLib.model.package import on_source
from MedImgAIFusionLib.model.training import Sampler, Settings, infer, loss, train
from MedImgAILib.core import (
    Context,
    Geometry,
    InputError,
    ModelError,
    ParameterError,
    Segment,
    Segmentation,
    Volume,
    registry,
)

torch = pytest.importorskip("torch")
TRAIN, APPLY = registry()["fusion.joint_network_train"], registry()["fusion.joint_network_apply"]
SEGMENTS = [Segment("core", 1), Segment("oedema", 2)]


def network(modalities=2, classes=3, channels=(2, 4)):
    from MedImgAILib.networks.multimodal_unet import MultimodalUNet

    torch.manual_seed(0)
    built = MultimodalUNet(modalities, classes, list(channels)).eval()
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    return built


def patient(seed: int, shape=(16, 20, 24), spacing=(1.0, 1.0, 1.0)):
    """The first image shows one ball, the second another."""
    rng = np.random.default_rng(seed)
    geometry = Geometry.from_spacing(shape, spacing)
    k, j, i = np.mgrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint8)
    labels[(k - 7) ** 2 + (j - 6 - seed % 4) ** 2 + (i - 7) ** 2 < 18] = 1
    labels[(k - 8) ** 2 + (j - 13) ** 2 + (i - 17 + seed % 3) ** 2 < 18] = 2
    images = [
        Volume((rng.normal(0, 1, shape) + 6 * (labels == n + 1)).astype(np.float32), geometry, name=kind)
        for n, kind in enumerate(("T1c", "FLAIR"))
    ]
    return images, Segmentation.from_labels(labels, geometry, SEGMENTS, f"patient {seed}")


# The network


def test_a_missing_modality_is_as_if_it_had_never_been():
    built = network(3)
    x = torch.randn(1, 3, 9, 10, 11)
    y = x.clone()
    y[:, 1] = torch.nan
    z = y.clone()
    z[:, 1, 0, 0, 0], z[:, 1, 1:] = torch.nan, 5.0
    with torch.no_grad():
        assert torch.equal(built(y), built(z)) and torch.isfinite(built(y)).all()
        assert not torch.allclose(built(x), built(y))


def test_items_of_a_batch_may_lack_different_modalities():
    built = network(3)
    x = torch.randn(4, 3, 8, 8, 8)
    for item, missing in ((0, [0]), (1, [1, 2]), (3, [2])):
        x[item, missing] = torch.nan
    with torch.no_grad():
        together = built(x)
        for item in range(4):
            assert torch.allclose(together[item], built(x[item : item + 1])[0], atol=1e-5)


def test_of_one_modality_the_mean_is_itself_and_the_spread_is_zero():
    fusion = network(3).fusions[0]
    features = [torch.randn(2, 2, 4, 4, 4) for _ in range(3)]
    present = torch.tensor([[False, True, False]] * 2)
    alone = fusion(features, present)
    wanted = fusion.join(torch.cat([features[1], torch.zeros_like(features[1])], dim=1))
    assert torch.allclose(alone, wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 9, 10), (5, 7, 9), (2, 3, 4)])
def test_any_extent(shape):
    with torch.no_grad():
        assert network()(torch.randn(1, 2, *shape)).shape == (1, 3, *shape)


def test_gradients_reach_only_the_encoders_that_were_used():
    built = network(2).train()
    x = torch.randn(2, 2, 8, 8, 8)
    x[:, 1] = torch.nan
    built(x).sum().backward()
    used, unused = (list(e.parameters())[0].grad for e in built.encoders)
    assert used.abs().sum() > 0 and unused is None


def test_loss_of_a_perfect_answer_is_zero():
    labels = torch.randint(0, 3, (2, 4, 4, 4))
    scores = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() * 50
    assert loss(scores, labels, torch.ones(3)) == pytest.approx(0, abs=1e-3)
    assert loss(-scores, labels, torch.ones(3)) > 1


# Cases


def test_background_of_a_stripped_brain_does_not_count():
    images, _ = patient(0)
    stripped = images[0].array.copy() + 100
    stripped[:, :, :10] = -3.2
    tissue = foreground(stripped)
    assert not tissue[:, :, :10].any() and tissue[:, :, 10:].all()
    prepared = normalized(images[0].with_array(stripped))[0].array
    assert (prepared[:, :, :10] == 0).all()
    assert prepared[tissue].mean() == pytest.approx(0, abs=1e-4) and prepared[tissue].std() == pytest.approx(
        1, abs=1e-4
    )
    assert foreground(images[0].array).all()


def test_units_do_not_matter():
    images, segmentation = patient(0)
    hounsfield = images[0].with_array(images[0].array * 400 - 900, name="CT", units="HU")
    cases = [
        prepare(Patient("p", {"a": one, "b": images[1]}, segmentation), ["a", "b"], 0.0, ["core", "oedema"])
        for one in (images[0], hounsfield)
    ]
    assert np.allclose(cases[0].array, cases[1].array, atol=1e-4)


def test_images_are_brought_to_the_grid_of_the_first_and_missing_ones_marked():
    images, segmentation = patient(0)
    half = images[1].geometry.with_spacing((2.0, 2.0, 2.0))
    pooled = images[1].array.reshape(8, 2, 10, 2, 12, 2).mean(axis=(1, 3, 5))
    given = {"T1c": images[0], "FLAIR": Volume(pooled, half, name="FLAIR")}
    case = prepare(Patient("p", given, segmentation), ["T1c", "PET", "FLAIR"], 2.0, ["core", "oedema"])
    assert case.present.tolist() == [True, False, True] and case.geometry.same_grid(half)
    assert np.corrcoef(case.array[2].ravel(), pooled.ravel())[0, 1] == pytest.approx(1, abs=1e-5)
    far = images[1].transformed(np.array([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    with pytest.raises(InputError, match="does not overlap"):
        prepare(Patient("p", {"T1c": images[0], "FLAIR": far}), ["T1c", "FLAIR"], 2.0)
    with pytest.raises(InputError, match="none of the images"):
        prepare(Patient("p", {}), ["T1c"], 2.0)


def test_images_are_known_by_their_names():
    images, _ = patient(0)
    named = [images[0].with_array(images[0].array, name=n) for n in ("p7 T1POST", "p7 t1", "p7 FLAIR")]
    found = match_images(named, ["FLAIR", "T1", "T1POST"])
    assert [found[m].name for m in ("FLAIR", "T1", "T1POST")] == ["p7 FLAIR", "p7 t1", "p7 T1POST"]
    with pytest.raises(InputError, match="are both 'T1'"):
        match_images([named[1], named[1]], ["FLAIR", "T1"])


def write(path, volume):
    import SimpleITK as sitk
    from MedImgAILib.core.itk import itk_image

    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(itk_image(volume), str(path))


def folders(root, count=3):
    for number in range(count):
        images, segmentation = patient(number)
        for image in images if number else images[:1]:
            write(root / f"p{number}" / f"{image.name}_n4.nii.gz", image)
        write(root / f"p{number}" / "segmentation.nii.gz", Volume(segmentation.layers[0], segmentation.geometry))
    return root


def test_patients_from_folders_and_from_a_table(tmp_path):
    root = folders(tmp_path / "data")
    modalities, patients = read_patients(root, ["FLAIR", "T1c"])
    assert modalities == ["FLAIR", "T1c"] and [sorted(p.images) for p in patients] == [
        ["T1c"], ["FLAIR", "T1c"], ["FLAIR", "T1c"],
    ]  # fmt: skip
    table = root / "cases.csv"
    rows = [
        "p0,,p0/T1c_n4.nii.gz,p0/segmentation.nii.gz",
        "p1,p1/FLAIR_n4.nii.gz,p1/T1c_n4.nii.gz,p1/segmentation.nii.gz",
    ]
    table.write_text("patient,FLAIR,T1c,segmentation\n" + "\n".join(rows) + "\n")
    modalities, patients = read_patients(table)
    assert modalities == ["FLAIR", "T1c"] and [sorted(p.images) for p in patients] == [["T1c"], ["FLAIR", "T1c"]]
    assert np.array_equal(patients[1].segmentation.layers[0], patient(1)[1].layers[0])
    write(root / "p1" / "T1c_again.nii.gz", patient(1)[0][0])
    with pytest.raises(InputError, match="all fit 't1c'"):
        read_patients(root, ["FLAIR", "T1c"])
    with pytest.raises(InputError, match="a folder needs their names"):
        read_patients(root)
    with pytest.raises(InputError, match="no column 'PET'"):
        read_patients(table, ["PET"])


# Training


def cases(count=3):
    result = []
    for seed in range(count):
        images, segmentation = patient(seed)
        given = dict(zip(("T1c", "FLAIR"), images))
        result.append(prepare(Patient(f"p{seed}", given, segmentation), list(given), 0.0, ["core", "oedema"]))
    return result


def test_labels_move_with_the_images_and_at_least_one_modality_is_shown():
    sampler = Sampler(cases(), Settings(patch=8, batch=40, dropout=1.0), np.random.default_rng(0))
    images, labels = sampler.batch()
    assert images.shape == (40, 2, 8, 8, 8) and labels.shape == (40, 8, 8, 8)
    present = np.isfinite(images).all(axis=(2, 3, 4))
    assert present.any(axis=1).all() and not present.all(axis=1).all()
    for modality in range(2):
        seen = images[:, modality][present[:, modality]]
        truth = labels[present[:, modality]] == modality + 1
        assert truth.any() and seen[truth].mean() > seen[~truth].mean() + 2


@pytest.fixture(scope="module")
def joint():
    return train(cases(3), 3, Settings(steps=60, patch=12, batch=4, learning_rate=1e-2), Context("cpu", 1))


def test_joint_network_learns_and_survives_a_missing_modality(joint):
    images, segmentation = patient(5)
    given = dict(zip(("T1c", "FLAIR"), images))
    case = prepare(Patient("new", given, segmentation), list(given), 0.0, ["core", "oedema"])
    rows = {row["subset"]: row["dice"] for row in ablation.measure(joint, [case], 2, Context("cpu"))}
    assert min(rows[0, 1]) > 0.75
    # Each segment is seen in one modality only: it is found with that one and cannot be found without it.
    assert rows[0,][0] > 0.6 and rows[1,][1] > 0.6
    assert rows[0,][1] < 0.3 and rows[1,][0] < 0.3


def test_result_is_brought_to_the_grid_of_the_image(joint):
    images, segmentation = patient(5)
    fine = images[0].geometry.with_spacing((0.5, 0.5, 0.5))
    doubled = np.repeat(np.repeat(np.repeat(images[0].array, 2, 0), 2, 1), 2, 2)
    given = {"T1c": Volume(doubled, fine, name="T1c"), "FLAIR": images[1]}
    case = prepare(Patient("new", given), ["T1c", "FLAIR"], 1.0)
    found, uncertainty = on_source(
        infer(joint, case.array, Context("cpu")), case.geometry, case.source, tuple(SEGMENTS), "x"
    )
    assert found.geometry.same_grid(fine) and uncertainty.array.min() >= 0 and uncertainty.array.max() <= 1
    truth = np.repeat(np.repeat(np.repeat(segmentation.layers[0], 2, 0), 2, 1), 2, 2)
    assert ablation.dice(found.layers[0], truth, 1) > 0.7


def test_same_seed_same_network():
    settings = Settings(channels=(2, 4), steps=2, patch=8)
    one, two, other = (
        train(cases(2), 3, settings, Context("cpu", seed)).state_dict() for seed in (4, 4, 5)
    )  # fmt: skip
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert not all(torch.equal(one[k], other[k]) for k in one)


def test_stop_and_keep():
    class Finishing(Context):
        steps = []

        def is_finishing(self):
            return len(self.steps) >= 2

        def on_curve(self, name, x, y):
            self.steps.append((name, x, y))

    built = train(cases(1), 3, Settings(channels=(2, 4), steps=50, patch=8), Finishing("cpu"))
    assert [s[:2] for s in Finishing.steps] == [("Loss/training", 1), ("Loss/training", 2)] and not built.training


def test_subsets_of_modalities():
    assert ablation.subsets(2) == [(0, 1), (0,), (1,)]
    assert len(ablation.subsets(4)) == 15 and len(ablation.subsets(7)) == 1 + 7 + 7


# Tasks


QUICK = {"voxel_mm": 0.0, "steps": 2, "patch": 8}


def scene(count):
    images, segmentations = [], []
    for seed in range(count):
        more, segmentation = patient(seed)
        images += more
        segmentations.append(segmentation)
    return {"images": images, "segmentations": segmentations}


def test_package_applies_to_any_part_of_the_modalities(tmp_path):
    model = tmp_path / "model"
    result = TRAIN.execute(scene(1), QUICK | {"model": str(model), "evaluation": "training"}, Context("cpu"))
    assert result["ablation"].columns["missing"] == ("none", "FLAIR", "T1c")
    images, _ = patient(0)
    found = APPLY.execute({"images": images[::-1]}, {"model": str(model)}, Context("cpu"))
    assert found["segmentation"].geometry.same_grid(images[1].geometry)
    known = APPLY.execute({"images": images}, {"model": str(model)}, Context("cpu"))["segmentation"]
    assert np.array_equal(known.layers[0], result["segmentation"].layers[0])
    alone = APPLY.execute({"images": images[1:]}, {"model": str(model)}, Context("cpu"))
    assert alone["measures"].columns["modalities"] == ("FLAIR", "FLAIR")
    whole = registry()["segment.network"].execute({"images": images}, {"model": str(model)}, Context("cpu"))
    assert [s.name for s in whole["segmentation"].segments] == ["core", "oedema"]
    with pytest.raises(InputError, match="fits none of the model's inputs"):
        APPLY.execute({"images": [replace(images[0], name="CT")]}, {"model": str(model)}, Context("cpu"))
    with pytest.raises(ParameterError, match="exists already"):
        TRAIN.execute(scene(1), QUICK | {"model": str(model)}, Context("cpu"))


def test_folder_with_a_missing_image_and_patients_left_out(tmp_path):
    data = folders(tmp_path / "data", 3)
    parameters = QUICK | {"data": str(data), "modalities": "T1c, FLAIR", "evaluation": "cross_validation"}
    result = TRAIN.execute({}, parameters, Context("cpu"))
    judged = list(zip(result["cases"].columns["case"], result["cases"].columns["modalities"]))
    assert len(judged) == 1 + 3 + 3 and ("p0", "T1c") in judged and ("p0", "T1c, FLAIR") not in judged
    assert result["ablation"].columns["cases"][0] == "2 not seen"


def test_what_cannot_be_trained_gets_a_sentence(tmp_path):
    given = scene(2)
    with pytest.raises(InputError, match="3 images cannot be shared out over 2 segmentations"):
        TRAIN.execute(given | {"images": given["images"][:3]}, QUICK, Context("cpu"))
    with pytest.raises(InputError, match="or a folder of patients"):
        TRAIN.execute({}, QUICK, Context("cpu"))
    with pytest.raises(InputError, match="not both"):
        TRAIN.execute(given, QUICK | {"data": str(tmp_path)}, Context("cpu"))
    blank = [replace(s, layers=(np.zeros_like(s.layers[0]),)) for s in given["segmentations"]]
    with pytest.raises(InputError, match="nothing to learn from"):
        TRAIN.execute(given | {"segmentations": blank}, QUICK, Context("cpu"))
    with pytest.raises(ModelError):
        APPLY.execute({"images": given["images"][:1]}, {"model": str(tmp_path)}, Context("cpu"))


def test_constant_channel_is_told_and_a_single_slice_is_trained(caplog):
    images, segmentation = patient(0)
    flat = images[1].with_array(np.full_like(images[1].array, 7), name="FLAIR")
    one = [Volume(v.array[7:8], v.geometry.cropped((7, 0, 0), (1, 20, 24)), name=v.name) for v in (images[0], flat)]
    cut = Segmentation.from_labels(segmentation.layers[0][7:8], one[0].geometry, SEGMENTS)
    result = TRAIN.execute({"images": one, "segmentations": [cut]}, QUICK | {"voxel_mm": 1.0}, Context("cpu"))
    assert "is constant" in caplog.text and result["segmentation"].geometry.shape == (1, 20, 24)
