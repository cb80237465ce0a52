"""Learning from another model: distillation, and cases without labels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Context, ParameterError, registry
from MedImgAILib.core.model_package import ModelPackage

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from MedImgAILib.training.losses import segmentation_loss  # noqa: E402
from MedImgAILib.training.teaching import UNLABELLED, taught  # noqa: E402

QUICK = {
    "network": "unet", "precision": "full", "augmentation": "light", "batch": 8, "workers": 0, "rate": 1e-2,
    "mirror": "none", "segments": "Disc, Core",
}  # fmt: skip


def disc(number: int, size=32):
    """A disc with a core, of any brightness, in noise as strong as the step between them."""
    rng = np.random.default_rng(number)
    j, i = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    center, sign = rng.uniform(9, size - 9, 2), rng.choice([-1, 1])
    radius = np.hypot(j - center[0], i - center[1])
    labels = (radius < 8).astype(np.uint8) + (radius < 4)
    image = 1000 + sign * 60.0 * labels + rng.normal(0, 30, labels.shape)
    return image.astype(np.float32), labels


def table(folder, labelled, unlabelled, judged):
    """A .csv with cases of these numbers."""
    rows = [["image", "segmentation", "patient", "split"]]
    for numbers, split, known in ((labelled, "train", True), (unlabelled, "train", False), (judged, "val", True)):
        for n in numbers:
            image, labels = disc(n)
            sitk.WriteImage(sitk.GetImageFromArray(image[None]), folder / f"{n}.nii")
            sitk.WriteImage(sitk.GetImageFromArray(labels[None]), folder / f"{n}_truth.nii")
            rows.append([f"{n}.nii", f"{n}_truth.nii" if known else "", f"p{n}", split])
    path = folder / f"cases_{len(labelled)}_{len(unlabelled)}.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def learn(cases, folder, **parameters):
    values = QUICK | {"table": str(cases), "folder": str(folder)} | parameters
    found = registry()["train.segmentation"].execute({}, values, Context("cpu", 1))
    columns = found["metrics"].columns
    return float(np.mean([columns["Dice Disc"], columns["Dice Core"]])), found["report"].text


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    dice, _ = learn(table(folder, range(100, 140), (), range(12)), folder / "run", steps=200, size="medium")
    assert dice > 0.8
    return folder / "run" / "model"


def test_a_teacher_and_cases_without_labels_help(teacher, tmp_path):
    """Two labelled cases alone, with a teacher, and with a teacher and thirty cases without labels."""
    alone, _ = learn(table(tmp_path, range(20, 22), (), range(12)), tmp_path / "alone", steps=100)
    cases = table(tmp_path, range(20, 22), range(30, 60), range(12))
    helped, report = learn(cases, tmp_path / "helped", steps=100, teacher=str(teacher))
    assert helped > alone + 0.03, (alone, helped)
    assert "also on 30 cases without labels" in report and "2 cases of" not in report
    assert "figures are too good" in report


def test_the_loss_against_its_formula():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(3, 3, 4, 5, generator=generator)
    labels = torch.randint(0, 3, (3, 4, 5), generator=generator).to(torch.uint8)
    answers = torch.softmax(torch.randn(3, 3, 4, 5, generator=generator), 1)
    plain = segmentation_loss()
    torch.testing.assert_close(taught(plain, 0.0)(scores, labels, answers), plain(scores, labels))
    half = taught(plain, 0.5)(scores, labels, answers)
    one = taught(plain, 1.0)(scores, labels, answers)
    torch.testing.assert_close(half, (plain(scores, labels) + one) / 2)
    wanted = torch.nn.functional.kl_div(torch.log_softmax(scores, 1), answers, reduction="none").sum(1).mean()
    pseudo = plain(scores, answers.argmax(1)) - torch.nn.functional.cross_entropy(scores, answers.argmax(1))
    torch.testing.assert_close(one, wanted + pseudo)
    unknown = labels.clone()
    unknown[1] = UNLABELLED
    mixed = taught(plain, 0.0)(scores, unknown, answers)
    rest, second = [0, 2], [1]
    parts = 2 * plain(scores[rest], labels[rest]) + taught(plain, 1.0)(scores[second], labels[second], answers[second])
    torch.testing.assert_close(mixed, parts / 3)


def test_a_teacher_that_does_not_fit_is_refused_and_leaves_nothing(teacher, tmp_path):
    cases = table(tmp_path, range(20, 24), (), range(2))
    with pytest.raises(ParameterError, match="tells exactly Disc, Rim apart"):
        learn(cases, tmp_path / "run", steps=2, teacher=str(teacher), segments="Disc, Rim")
    assert not (tmp_path / "run").exists()


def test_unlabelled_cases_of_judging_patients_are_not_seen(teacher, tmp_path):
    """The unlabelled case has the patient of a judging one, so that the weights are as without it."""
    cases = table(tmp_path, range(20, 24), (30,), range(2))
    text = cases.read_text().replace("p30", "p1")
    cases.write_text(text)
    learn(cases, tmp_path / "with", steps=3, teacher=str(teacher))
    learn(table(tmp_path, range(20, 24), (), range(2)), tmp_path / "without", steps=3, teacher=str(teacher))
    hashes = {ModelPackage.load(tmp_path / n / "model").card.weights_sha256 for n in ("with", "without")}
    assert len(hashes) == 1
