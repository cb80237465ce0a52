"""Training from data to a model package that other tasks use, and input that is not as it should be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import (
    Cancelled,
    Context,
    Geometry,
    InputError,
    MedImgAIError,
    OutputError,
    ParameterError,
    Volume,
    registry,
)
from MedImgAILib.core.model_package import ModelPackage

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from MedImgAILib.training.batches import PatchBatches  # noqa: E402
from MedImgAILib.training.reading import read_image  # noqa: E402

SPACING = (1.0, 1.0, 1.5)
QUICK = {"network": "unet", "precision": "full", "augmentation": "light", "batch": 4, "workers": 0}


def ball(number: int, size=20):
    """A bright ball with a darker core at a random place, and its labels."""
    rng = np.random.default_rng(number)
    k, j, i = np.meshgrid(*(np.arange(size),) * 3, indexing="ij")
    center = rng.uniform(7, size - 7, 3)
    radius = np.sqrt((k - center[0]) ** 2 + (j - center[1]) ** 2 + (i - center[2]) ** 2)
    labels = (radius < 6).astype(np.uint8) + (radius < 3)
    image = 100 * (labels > 0) - 50 * (labels > 1) + rng.normal(0, 8, labels.shape)
    return (image + 300).astype(np.float32), labels.astype(np.uint8)


def written(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, str(path))


@pytest.fixture(scope="module")
def balls(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("balls")
    for n in range(8):
        image, labels = ball(n)
        written(folder / "images" / f"case{n}.nii.gz", image)
        written(folder / "labels" / f"case{n}.nii.gz", labels)
    return folder


def train_segments(data, folder, context=None, **parameters):
    values = QUICK | {"data": str(data), "folder": str(folder), "segments": "Shell, Core", "name": "Balls"} | parameters
    return registry()["train.segmentation"].execute({}, values, context or Context("cpu", 1))


@pytest.fixture(scope="module")
def trained(balls, tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "run"
    return train_segments(balls, folder, steps=60, rate=1e-2, folds=2, correct_size=False), folder


def test_a_folder_becomes_a_model_that_finds_the_segments(trained, balls):
    results, folder = trained
    dice = np.concatenate([results["metrics"].columns["Dice Shell"], results["metrics"].columns["Dice Core"]])
    assert len(dice) == 16 and dice.mean() > 0.8
    card = ModelPackage.load(folder / "model").card
    assert [s.name for s in card.outputs[0].segments] == ["Shell", "Core"] and card.task == "segmentation"
    assert "8 cases of 8 patients" in card.training_data and "Hash of the data" in card.training_data
    assert card.metrics["mean Dice, 95 % from"] <= card.metrics["mean Dice"] <= card.metrics["mean Dice, 95 % to"]
    assert card.metrics["mean Dice, fold 2"] > 0.7 and len(card.members) == 1
    image, labels = ball(99)
    grid = Geometry.from_spacing(labels.shape, SPACING, directions=np.diag([-1.0, -1.0, 1.0]))
    new = registry()["segment.network"].execute(
        {"images": [Volume(image, grid, "new")]}, {"model": str(folder / "model")}, Context("cpu")
    )
    found = new["segmentation"]
    for name, label in (("Shell", 1), ("Core", 2)):
        a, b = found.mask(name), labels == label
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.75, name


def test_figures_are_those_of_the_network_on_the_unseen_cases(trained, balls):
    check_figures(*trained, balls, 1)


def check_figures(results, folder, balls, count, shifts=(0.0, 0.0)):
    """Each fold's networks are applied to its own held-out files by hand, without the code that judged them.

    ``shifts`` are added to the background's scores of each fold.
    """
    from MedImgAILib.core.model_networks import build
    from MedImgAILib.training.checkpoints import load_state

    card = ModelPackage.load(folder / "model").card
    for fold, case, expected in zip(*(results["metrics"].columns[c] for c in ("fold", "case", "Dice Shell"))):
        networks = []
        for state in sorted((folder / f"fold_{int(fold)}").rglob("best-*.pt")):
            networks.append(build(card.architecture, card.arguments).eval())
            networks[-1].load_state_dict(load_state(state)["state"])
        assert len(networks) == count
        image = sitk.GetArrayFromImage(sitk.ReadImage(str(balls / "images" / f"{case}.nii.gz")))[:, ::-1, ::-1]
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(balls / "labels" / f"{case}.nii.gz")))[:, ::-1, ::-1]
        image = (image - image.mean()) / image.std()
        divisor = np.array(card.inference.window[::-1])
        pads = [((w - n) // 2, (w - n) - (w - n) // 2) for w, n in zip(divisor, image.shape)]
        assert all(p >= (0, 0) for p in pads), "the window holds the whole image"
        with torch.inference_mode():
            given = torch.from_numpy(np.pad(image, pads)[None, None].astype(np.float32))
            plain = sum(network(given) for network in networks) / count
            turned = sum(network(given.flip(-1)) for network in networks) / count
            for each in (plain, turned):
                each[:, 0] += shifts[int(fold) - 1]
            scores = (plain.softmax(1) + turned.softmax(1).flip(-1))[0].argmax(0)
        found = scores.numpy()[tuple(slice(a, a + n) for (a, _), n in zip(pads, image.shape))]
        a, b = found == 1, labels == 1
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) == pytest.approx(expected, abs=5e-3)


class Stops(Context):
    """Cancelled after half of the work."""

    def on_progress(self, fraction, message):
        if fraction > 0.5:
            raise Cancelled


def test_the_size_is_corrected_by_what_the_other_folds_want(balls, tmp_path, monkeypatch):
    """Overlaps are told so that the first fold wants 0.75, the second -0.25 and both together 0.25."""
    from MedImgAILib.training import segmentation
    from MedImgAILib.training.checkpoints import load_state
    from MedImgAILib.training.decision import SHIFTS, background_bias

    def told(network, cases, *_):
        wanted = 0.75 if not calls else -0.25
        calls.append(len(cases))
        return np.tile(1 - 0.1 * (SHIFTS[None, :, None] - wanted) ** 2, (len(cases), 1, 2))

    calls = []
    monkeypatch.setattr(segmentation, "shift_overlaps", told)
    results = train_segments(balls, tmp_path / "run", steps=20, rate=1e-2, folds=2, network="dynunet")
    assert calls == [4, 4]
    check_figures(results, tmp_path / "run", balls, 1, shifts=(-0.25, 0.75))
    package = ModelPackage.load(tmp_path / "run" / "model")
    window = package.card.inference.window[::-1]
    bias = background_bias(package.networks("cpu")[0], torch.zeros(1, 1, *window))
    for number, network in enumerate(package.networks("cpu"), start=1):
        state = load_state(next((tmp_path / "run" / f"fold_{number}").glob("best-*.pt")))["state"]
        change = network.state_dict()[bias] - state[bias]
        assert change.tolist() == pytest.approx([0.25, 0, 0], abs=1e-6)
    assert "+0.25 is added to the background's score" in package.card.training_data


def test_the_size_of_what_is_found_is_corrected(balls, tmp_path):
    """Barely trained networks find balls better with it, though it was chosen on other balls."""
    figures = {}
    for correct in (False, True):
        results = train_segments(
            balls, tmp_path / str(correct), steps=20, rate=1e-2, folds=2, network="dynunet", correct_size=correct
        )
        figures[correct] = np.mean([results["metrics"].columns[f"Dice {name}"] for name in ("Shell", "Core")])
    assert figures[True] > figures[False]


def test_several_networks_of_a_fold_judge_together_and_are_all_kept(balls, tmp_path):
    """Figures, weights and curves of two networks for each of two folds, cancelled in between."""
    short = {"steps": 20, "rate": 1e-2, "folds": 2, "networks": 2, "correct_size": False}
    with pytest.raises(Cancelled):
        train_segments(balls, tmp_path / "run", Stops("cpu", 1), **short)
    first = (tmp_path / "run" / "fold_1" / "network_1" / "last.pt").read_bytes()
    results = train_segments(balls, tmp_path / "run", **short)
    assert (tmp_path / "run" / "fold_1" / "network_1" / "last.pt").read_bytes() == first, "it was trained already"
    check_figures(results, tmp_path / "run", balls, 2)
    package = ModelPackage.load(tmp_path / "run" / "model")
    assert len({package.card.weights_sha256, *package.card.members}) == 4
    history = results["history"].columns
    rounds = [(f, n) for f, n, step in zip(history["fold"], history["network"], history["step"]) if step == 20]
    assert rounds == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [s.name for s in results["curves"].series][1] == "fold 1, network 2"


_HOLDER = """
import sys, time
from pathlib import Path
from MedImgAILib.training.exclusive import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_in_which_another_process_trains_is_refused_until_that_is_killed(balls, pictures, tmp_path):
    import subprocess
    import sys

    import MedImgAILib

    path = Path(MedImgAILib.__file__).parents[1]
    for train, data in ((train_segments, balls), (train_classes, pictures), (train_robust, pictures)):
        folder = tmp_path / train.__name__
        command = [sys.executable, "-c", _HOLDER, str(folder)]
        with subprocess.Popen(command, cwd=path, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout.readline() == "held\n"
            before = sorted(folder.iterdir())
            with pytest.raises(OutputError, match="Another training is at work in the folder"):
                train(data, folder, **SHORT[train])
            assert sorted(folder.iterdir()) == before
            holder.kill()
        train(data, folder, **SHORT[train])
        assert (folder / "model" / "model.json").exists()


def test_a_cancelled_training_goes_on_to_the_same_model(balls, tmp_path):
    short = {"steps": 12, "validate_every": 4, "augmentation": "full"}
    train_segments(balls, tmp_path / "whole", **short)
    with pytest.raises(Cancelled):
        train_segments(balls, tmp_path / "cut", Stops("cpu", 1), **short)
    assert not (tmp_path / "cut" / "model").exists()
    train_segments(balls, tmp_path / "cut", **short)
    hashes = [ModelPackage.load(tmp_path / n / "model").card.weights_sha256 for n in ("whole", "cut")]
    assert hashes[0] == hashes[1]
    with pytest.raises(MedImgAIError, match="holds a training of other data or settings"):
        train_segments(balls, tmp_path / "cut", steps=13)
    train_segments(balls, tmp_path / "cut", steps=2, existing="replace")


@pytest.mark.parametrize("tuning", ["all", "head", "frozen_encoder", "lora"])
def test_fine_tuning_changes_only_what_it_should(trained, balls, tmp_path, tuning):
    _, folder = trained
    start = str(folder / "model")
    train_segments(balls, tmp_path / "next", start=start, tuning=tuning, steps=3, rate=1e-3)
    packages = [ModelPackage.load(p) for p in (start, tmp_path / "next" / "model")]
    before, after = (p.networks("cpu")[0].state_dict() for p in packages)
    names = list(before)
    assert set(names) == set(after)
    changed = [n for n in names if not torch.equal(before[n], after[n])]
    share = len(changed) / len(names)
    assert 0 < share <= 1
    if tuning == "head":
        assert len(changed) <= 2
    if tuning == "frozen_encoder":
        assert 0.1 < share < 0.9
    if tuning == "all":
        assert share > 0.9
    if tuning == "lora":
        for name in changed:
            difference = (after[name] - before[name]).flatten(1) if after[name].ndim > 1 else None
            if difference is not None and min(difference.shape) > 8 and name != changed[-1]:
                assert torch.linalg.matrix_rank(difference, rtol=1e-3) <= 8


def test_low_rank_additions_begin_as_nothing_and_can_be_merged():
    from MedImgAILib.training.lora import add_low_rank, merge_low_rank

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64, 5)
    )
    x = torch.randn(2, 3, 4, 4)
    plain, names = network(x), set(network.state_dict())
    add_low_rank(network, 2)
    torch.testing.assert_close(network(x), plain)
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 2 * (16 + 27) + 2 * (5 + 64)
    with torch.no_grad():
        for p in trained:
            p += 0.1
    tuned = network(x)
    merge_low_rank(network)
    assert set(network.state_dict()) == names
    torch.testing.assert_close(network(x), tuned)


def test_a_package_of_another_network_is_refused(trained, balls, tmp_path):
    from MedImgAILib.networks.network_task import _example_package
    from MedImgAILib.training.transfer import start_from

    with pytest.raises(MedImgAIError, match="is another network"):
        start_from(torch.nn.Linear(3, 3), ModelPackage.load(_example_package()), Context("cpu"))
    with pytest.raises(ParameterError, match="only if it starts from a model"):
        train_segments(balls, tmp_path / "a", tuning="lora")


def test_any_title_but_an_empty_one_will_do(balls, tmp_path):
    for task in (train_segments, train_classes):
        with pytest.raises(ParameterError, match="Name of the model: it is empty"):
            task(balls, tmp_path / "a", name=" ")
    assert not (tmp_path / "a").exists()
    title = "7 Tesla, " + "very " * 30 + "long"
    train_segments(balls, tmp_path / "a", name=title, steps=1)
    card = ModelPackage.load(tmp_path / "a" / "model").card
    assert card.title == title and card.id.startswith("model_7_tesla_very") and len(card.id) <= 80


# Classification


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Two patterns in .npz, three cases of each patient."""
    rng = np.random.default_rng(0)
    numbers = np.arange(120) % 2
    images = rng.normal(120, 20, (120, 16, 16))
    images[numbers == 1, 4:12, 6:10] += 60
    path = tmp_path_factory.mktemp("pictures") / "set.npz"
    split = 90
    np.savez(
        path, train_images=images[:split].clip(0, 255).astype(np.uint8), train_labels=numbers[:split, None],
        test_images=images[split:].clip(0, 255).astype(np.uint8), test_labels=numbers[split:, None],
        train_patients=np.array([f"p{n // 6}" for n in range(split)]),
    )  # fmt: skip
    return path


def train_classes(table, folder, context=None, **parameters):
    values = {"table": str(table), "folder": str(folder), "precision": "full", "workers": 0, "batch": 16} | parameters
    return registry()["train.classification"].execute({}, values, context or Context("cpu", 1))


def train_robust(data, folder, **parameters):
    values = {"data": str(data), "folder": str(folder), "members": 2, "epochs": 1, "width": 4, "size": 16}
    return registry()["classify.train_robust"].execute({}, values | parameters, Context("cpu", 1))


SHORT = {train_segments: {"steps": 2}, train_classes: {"epochs": 1}, train_robust: {}}


def test_arrays_become_a_model_that_tells_classes_apart(pictures, tmp_path):
    results = train_classes(
        pictures, tmp_path / "run", epochs=6, folds=3, mixup=0.2, balance="weighted", loss="focal", name="Patterns"
    )
    rows = {(f, p): v for f, p, v in zip(*(results["metrics"].columns[c] for c in ("figure", "part", "value")))}
    assert rows["AUC", "held out"] > 0.95 and rows["AUC", "test"] > 0.95 and ("AUC", "fold 3") in rows
    package = ModelPackage.load(tmp_path / "run" / "model")
    assert [s.name for s in package.card.outputs[0].segments] == ["0", "1"] and package.card.task == "classification"
    grid = Geometry.from_spacing((1, 16, 16), directions=np.diag([-1.0, -1.0, 1.0]))
    with np.load(pictures) as arrays:
        images, labels = arrays["test_images"], arrays["test_labels"][:, 0]
    applied = registry()["classify.apply"] if "classify.apply" in {t.id for t in registry()} else None
    task = applied or next(t for t in registry() if t.id.startswith("classify.") and "model" in t.defaults())
    right = 0
    for image, label in zip(images[:8], labels[:8]):
        given = {"images": [Volume(image[None], grid, "picture")]}
        found = task.execute(given, {"model": str(package.folder)}, Context("cpu"))
        table = next(v for v in found.values() if hasattr(v, "columns"))
        right += str(label) in json.dumps([str(v) for c in table.columns.values() for v in c][:3])
    assert right >= 6


def test_several_networks_tell_classes_apart_together(pictures, tmp_path):
    """The figures of the test part are those of the mean of the networks' scores, computed by hand."""
    results = train_classes(pictures, tmp_path / "run", epochs=1, networks=3)
    rows = {(f, p): v for f, p, v in zip(*(results["metrics"].columns[c] for c in ("figure", "part", "value")))}
    package = ModelPackage.load(tmp_path / "run" / "model")
    assert set(results["history"].columns["network"]) == {1, 2, 3} and len(package.networks("cpu")) == 3
    rule = package.card.inputs[0].intensity
    with np.load(pictures) as arrays:
        images, truth = arrays["test_images"].astype(np.float32), arrays["test_labels"][:, 0]
    with torch.inference_mode():
        given = torch.from_numpy((images - rule.mean) / rule.std).float()[:, None]
        scores = torch.stack([network(given) for network in package.networks("cpu")]).mean(0)
    likely = scores.softmax(1)[:, 1].numpy()
    assert rows["Brier score", "test"] == pytest.approx(np.mean((likely - truth) ** 2), abs=1e-4)


def test_the_scene_trains_too():
    task = registry()["train.classification"]
    inputs, parameters = task.example()
    outputs = task.execute(inputs, parameters, Context("cpu"))
    assert (Path(parameters["folder"]) / "model" / "model.json").exists()
    assert "of 8 patients from the open scene" in outputs["report"].text


# Input that is not as it should be


def test_one_class_is_refused_and_leaves_nothing(tmp_path):
    np.savez(tmp_path / "one.npz", images=np.zeros((6, 9, 9), np.uint8), labels=np.zeros(6, int))
    with pytest.raises(InputError, match="only the class '0'; at least two classes"):
        train_classes(tmp_path / "one.npz", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_patient_on_both_sides_is_refused_and_leaves_nothing(pictures, tmp_path):
    with np.load(pictures) as arrays:
        changed = dict(arrays)
    changed["test_patients"] = np.array(["p3"] * len(changed["test_images"]))
    np.savez(tmp_path / "leak.npz", **changed)
    with pytest.raises(InputError, match="Patient p3 stands on both sides"):
        train_classes(tmp_path / "leak.npz", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_damaged_image_is_named_and_stops_or_is_left_out(balls, tmp_path):
    import shutil

    shutil.copytree(balls, tmp_path / "data")
    bad = tmp_path / "data" / "images" / "case3.nii.gz"
    bad.write_bytes(bad.read_bytes()[:2000])
    with pytest.raises(InputError, match="case3.nii.gz"):
        train_segments(tmp_path / "data", tmp_path / "run", steps=2)
    assert not (tmp_path / "run").exists()

    class Listens(Context):
        def on_log(self, level, message):
            said.append(message)

    said = []
    results = train_segments(tmp_path / "data", tmp_path / "run", Listens("cpu"), steps=2, on_error="skip")
    assert any("case3" in m and "left out" in m for m in said)
    assert "7 cases" in results["report"].text


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_case_that_breaks_in_the_middle_of_an_epoch(balls, tmp_path, on_error):
    from MedImgAILib.core.model_card import ModelInput
    from MedImgAILib.training.augmentation import Augmentation
    from MedImgAILib.training.cache import Preparation
    from MedImgAILib.training.cases import Collection
    from MedImgAILib.training.sampling import Sampler
    from MedImgAILib.training.sources import read_collection

    collection: Collection = read_collection(balls, "segmentation", segments=("Shell", "Core"))
    inputs = (ModelInput("image", "MR"),)
    preparation = Preparation(inputs, ("Shell", "Core"), tmp_path, collection.segments, memory=0)
    cases = preparation.all(collection.cases, Context("cpu"))
    assert all(c.image is None for c in cases), "they lie on the disk"
    said = []

    class Listens(Context):
        def on_log(self, level, message):
            said.append(message)

    batch = PatchBatches(
        cases, (8, 8, 8), Sampler(np.zeros(8)), Augmentation(3, "none"), context=Listens("cpu"), on_error=on_error,
        load=preparation.loaded,
    )  # fmt: skip
    first = batch([0, 1, 2])
    broken = preparation.folder / cases[5].key / "image.npy"
    broken.write_bytes(broken.read_bytes()[:500])
    if on_error == "stop":
        with pytest.raises(InputError, match="'case5'.*is damaged"):
            batch(list(range(3, 11)))
        return
    assert "case5" not in batch(list(range(3, 11))).names
    assert sum("case5" in m for m in said) == 1, "it is named once"
    assert torch.equal(first.inputs, batch([0, 1, 2]).inputs) or "case5" in first.names


def test_labels_elsewhere_empty_labels_and_nan(balls, tmp_path):
    image, labels = ball(1)
    written(tmp_path / "images" / "a.nii.gz", image)
    elsewhere = sitk.GetImageFromArray(labels)
    elsewhere.SetOrigin((500, 0, 0))
    (tmp_path / "labels").mkdir()
    sitk.WriteImage(elsewhere, str(tmp_path / "labels" / "a.nii.gz"))
    with pytest.raises(InputError, match="does not lie where its image lies"):
        train_segments(tmp_path, tmp_path / "run", steps=1)
    written(tmp_path / "labels" / "a.nii.gz", labels * 0)
    with pytest.raises(InputError, match="empty|labelled voxel"):
        train_segments(tmp_path, tmp_path / "run2", steps=1)
    write_truncated(tmp_path)
    image[3, 4, 5] = np.nan
    written(tmp_path / "images" / "a.nii.gz", image)
    with pytest.raises(InputError, match="a.nii.gz contains NaN"):
        read_image(tmp_path / "images" / "a.nii.gz")


def write_truncated(folder):
    """Files that end too early, in every format that is read."""
    image, _ = ball(2)
    flat = image[0].clip(0, 255).astype(np.uint8)
    for suffix in (".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg", ".tif", ".bmp"):
        path = folder / f"cut{suffix}"
        sitk.WriteImage(sitk.GetImageFromArray(image if suffix in (".nii", ".nii.gz", ".nrrd", ".mha") else flat), path)
        read_image(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(InputError, match=f"cut{suffix} is damaged"):
            read_image(path)


def test_a_folder_with_something_else_is_not_touched(balls, tmp_path):
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(MedImgAIError, match="holds something else"):
        train_segments(balls, tmp_path, steps=1, existing="replace")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("given", [{}, {"data": "a", "table": "b"}])
def test_exactly_one_source_is_needed(given, tmp_path):
    with pytest.raises(InputError, match="exactly one"):
        registry()["train.segmentation"].execute({}, {"folder": str(tmp_path / "x")} | given, Context("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dynunet", "segresnet", "swin_unetr"])
@pytest.mark.parametrize("flat", [True, False])
def test_every_network_finds_segments(network, flat, balls, tmp_path):
    if flat:
        for n in range(6):
            image, labels = ball(n, 32)
            written(tmp_path / "data" / "images" / f"{n}.nii.gz", image[16:17])
            written(tmp_path / "data" / "labels" / f"{n}.nii.gz", labels[16:17])
    data = tmp_path / "data" if flat else balls
    train_segments(data, tmp_path / "run", network=network, steps=2, batch=2, augmentation="full")
    assert (tmp_path / "run" / "model" / "weights.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["resnet18", "resnet50", "densenet121", "efficientnet_b0", "vit"])
def test_every_network_tells_classes_apart(network, pictures, tmp_path):
    train_classes(pictures, tmp_path / "run", network=network, steps=2, batch=4)
    assert ModelPackage.load(tmp_path / "run" / "model").network() is not None
