"""Search of training settings: its numbers, what it picks and keeps, and a search that is stopped and goes on."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MedImgAILib.core import Cancelled, Context, InputError, MedImgAIError, OutputError, ParameterError, registry
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.training import search as method
from MedImgAILib.training.search import Between, OneOf, Result, drawn, schedule, space, successive_halving

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

SPACES = [space(kind, processor) for kind in ("segmentation", "classification") for processor in (True, False)]


# The method


@pytest.mark.parametrize(
    "total, rounds",
    [
        (9, [(9, 1), (3, 3), (1, 9)]),
        # Li et al. 2018, table 1 (R = 81, η = 3)
        (81, [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]),
        (81, [(27, 3), (9, 9), (3, 27), (1, 81)]),
        (81, [(9, 9), (3, 27), (1, 81)]),
        (81, [(6, 27), (2, 81)]),
        # its algorithm 1, which rounds down
        (81, [(34, 3), (11, 9), (3, 27), (1, 81)]),
        (81, [(15, 9), (5, 27), (1, 81)]),
        (81, [(1, 81)]),
    ],
)
def test_rounds_are_those_of_a_bracket_of_hyperband(total, rounds):
    assert [(r.trials, r.amount) for r in schedule(rounds[0][0], total)] == rounds


def test_amounts_have_a_least_and_epochs_may_be_broken():
    assert [r.amount for r in schedule(9, 2)] == [1, 1, 2]
    assert [r.amount for r in schedule(9, 20.0, 0.01, 4)] == [2.2222, 6.6667, 20.0]


@pytest.mark.parametrize("choices", SPACES)
def test_draws_stay_in_their_ranges_and_follow_the_seed(choices):
    defaults = dict.fromkeys(choices, "as ever")
    many = drawn(choices, defaults, 2001, 7)
    assert many[0] == defaults
    for name, choice in choices.items():
        values = [one[name] for one in many[1:]]
        if isinstance(choice, OneOf):
            counts = [values.count(v) for v in choice.values]
            assert sum(counts) == 2000 and min(counts) > 0.8 * 2000 / len(counts)
        else:
            assert choice.low <= min(values) and max(values) <= choice.high
            middle = np.sqrt(choice.low * choice.high) if choice.log else (choice.low + choice.high) / 2
            assert np.mean(np.array(values) < middle) == pytest.approx(0.5, abs=0.05)
    assert drawn(choices, defaults, 20, 7) == many[:20] and drawn(choices, defaults, 20, 8) != many[:20]


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_whatever_is_drawn_is_a_parameter_of_the_training(kind):
    task = registry()[f"train.{kind}"]
    for processor in (True, False):
        for settings in drawn(space(kind, processor), task.defaults(), 50, 1):
            assert task.checked_parameters(settings).items() >= settings.items()


def test_the_best_third_goes_on():
    rng = np.random.default_rng(5)
    scores = rng.random((3, 20))
    scores[0, 4] = np.nan  # lost

    def judge(trial, number):
        score = scores[number - 1, trial - 1]
        return Result(trial, number, 1, None if np.isnan(score) else score, failed="lost." * bool(np.isnan(score)))

    results = list(successive_halving(schedule(20, 9), judge))
    by_round = [[r.trial for r in results if r.round == n] for n in (1, 2, 3)]
    first = np.argsort(np.nan_to_num(-scores[0], nan=np.inf))[:6] + 1
    second = sorted(first, key=lambda t: -scores[1, t - 1])[:2]
    assert by_round == [list(range(1, 21)), list(first), second]
    everything_lost = successive_halving(schedule(9, 9), lambda t, n: Result(t, n, 1, failed="lost."))
    assert len(list(everything_lost)) == 9


def test_equals_are_told_apart_by_the_second_figure_then_by_length():
    results = [Result(1, 1, 1, 0.9, 0.2), Result(2, 1, 1, 0.9, 0.1), Result(2, 2, 3, 0.9, 0.1), Result(3, 1, 1, 0.8, 0)]
    assert [(r.trial, r.round) for r in sorted(results, key=lambda r: r.rank)] == [(2, 2), (2, 1), (1, 1), (3, 1)]
    assert Between(3e-4, 3e-2, log=True).draw(np.random.default_rng(0)) == float("0.00564")


# Searches on drawn pictures

ABSURD = 1e-7
FIXED = {"size": "small", "augmentation": "full", "loss": "dice_ce", "foreground_percent": 50.0}
SETTINGS = [FIXED | {"rate": 0.01}, FIXED | {"rate": ABSURD}, FIXED | {"rate": 0.02, "loss": "dice_focal"}]
CLASS_SETTINGS = [{"rate": rate, "mixup": mixup} for rate, mixup in ((0.003, 0.0), (0.01, 0.2), (0.02, 0.0))]


def written(path: Path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array[None]), str(path))


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> Path:
    """Ten noisy slices with a bright disc at a random place."""
    folder, rng = tmp_path_factory.mktemp("discs"), np.random.default_rng(0)
    j, i = np.mgrid[:24, :24]
    for n in range(10):
        middle = rng.uniform(7, 17, 2)
        labels = (np.hypot(j - middle[0], i - middle[1]) < 5).astype(np.uint8)
        written(folder / "images" / f"case{n}.nii.gz", (300 + 60.0 * labels + rng.normal(0, 15, (24, 24))).astype("f4"))
        written(folder / "labels" / f"case{n}.nii.gz", labels)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    rng, numbers = np.random.default_rng(0), np.arange(40) % 2
    images = rng.normal(120, 25, (40, 12, 12))
    images[numbers == 1, 4:8, 4:8] += 35
    path = tmp_path_factory.mktemp("pictures") / "set.npz"
    np.savez(path, images=images.clip(0, 255).astype(np.uint8), labels=numbers)
    return path


class Listens(Context):
    """Keeps what is said; cancels, or wants the best so far, when ``when(message)`` says so."""

    def __init__(self, cancels=lambda message: False, finishes=lambda message: False):
        super().__init__("cpu", 1)
        self.cancels, self.finishes, self.said, self.ends = cancels, finishes, [], False

    def on_log(self, level, message):
        self.said.append(message)

    def on_progress(self, fraction, message):
        if self.cancels(message):
            raise Cancelled
        self.ends = self.ends or self.finishes(message)

    def is_finishing(self):
        return self.ends


@pytest.fixture
def given_settings(monkeypatch):
    monkeypatch.setattr(method, "drawn", lambda choices, defaults, count, seed: SETTINGS[:count])


def search_discs(data, folder, context=None, **parameters):
    values = {"data": str(data), "folder": str(folder), "segments": "Disc", "trials": 3, "steps": 36} | parameters
    return registry()["train.search"].execute({}, values, context or Listens())


def search_pictures(table, folder, context=None, **parameters):
    values = {"kind": "classification", "table": str(table), "folder": str(folder), "trials": 3, "epochs": 1.5}
    return registry()["train.search"].execute({}, values | parameters, context or Listens())


@pytest.fixture(scope="module")
def searched(discs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method, "drawn", lambda choices, defaults, count, seed: SETTINGS[:count])
        return search_discs(discs, folder), folder


def rows(results) -> list[dict]:
    """The table without the times."""
    columns = {k: v for k, v in results["results"].columns.items() if k != "minutes"}
    return [dict(zip(columns, values)) for values in zip(*(np.asarray(c).tolist() for c in columns.values()))]


def run_again(results, discs_or_pictures_folder):
    """The command of the report, parsed and run; its card."""
    from MedImgAILib.hosts.cli_arguments import parse

    line = next(line for line in results["report"].text.splitlines() if line.startswith("    medimgai "))
    words = shlex.split(line)
    task = registry()[words[1]]
    arguments = parse(task, words[2:])
    task.execute({}, arguments.parameters, Context("cpu", arguments.seed))
    assert Path(arguments.parameters["folder"]) == Path(f"{discs_or_pictures_folder}_best")
    return ModelPackage.load(Path(arguments.parameters["folder"]) / "model").card


def test_a_setting_that_cannot_learn_is_not_picked(searched):
    results, _ = searched
    table = rows(results)
    assert [(r["round"], r["steps"]) for r in table] == [(1, 12)] * 3 + [(2, 36)]
    absurd = [r for r in table if r["rate"] == ABSURD]
    assert len(absurd) == 1 and absurd[0]["score"] == min(r["score"] for r in table)
    best = [r for r in table if r["note"] == "best"]
    assert len(best) == 1 and best[0]["score"] == max(r["score"] for r in table) > 0.8
    assert best[0]["rate"] != ABSURD
    plot = results["scores"].table.columns
    np.testing.assert_array_equal(plot["trials"], [r["score"] for r in table])
    assert plot["best of the round"][0] == max(r["score"] for r in table if r["round"] == 1)


def test_the_best_model_is_kept_with_its_figure_and_the_others_are_not(searched):
    results, folder = searched
    card = ModelPackage.load(folder / "model").card
    assert card.metrics["mean Dice"] == max(r["score"] for r in rows(results))
    assert "chosen among 3" in card.limits and "a little too good" in card.limits
    assert not list(folder.rglob("*.pt")) and len(list(folder.rglob("*.safetensors"))) == 1
    assert len(list((folder / "cache").iterdir())) == 10, "all trials share the prepared cases"
    assert sorted(p.name for p in folder.glob("trial_*/*")) == ["round_1.json"] * 3 + ["round_2.json"]


def test_the_command_gives_the_same_model_and_score(searched):
    results, folder = searched
    card, kept = run_again(results, folder), ModelPackage.load(folder / "model").card
    assert card.metrics == kept.metrics and card.weights_sha256 == kept.weights_sha256
    text = results["report"].text
    assert "a little too good" in text and "--folds 5" in text and "test part" in text


def test_classes_are_searched_by_their_auc(pictures, tmp_path):
    results = search_pictures(pictures, tmp_path / "run", held_out_percent=30.0)
    table = rows(results)
    assert [r["epochs"] for r in table] == [0.5, 0.5, 0.5, 1.5] and table[0]["network"] == "compact"
    card = run_again(results, tmp_path / "run")
    assert card.metrics["AUC"] == max(r["score"] for r in table)
    assert card.weights_sha256 == ModelPackage.load(tmp_path / "run" / "model").card.weights_sha256


def test_a_search_that_was_killed_goes_on_without_training_again(searched, discs, tmp_path, given_settings):
    whole, _ = searched
    half = tmp_path / "run" / "trial_02" / "round_1" / "fold_1" / "last.pt"
    with pytest.raises(Cancelled):
        search_discs(discs, tmp_path / "run", Listens(cancels=lambda message: half.exists()))
    assert half.exists() and not (tmp_path / "run" / "model").exists()
    done = tmp_path / "run" / "trial_01" / "round_1.json"
    before = done.stat().st_mtime_ns
    context = Listens()
    assert rows(search_discs(discs, tmp_path / "run", context)) == rows(whole)
    assert done.stat().st_mtime_ns == before
    assert not any(m.startswith("Trial 1, round 1") for m in context.said)
    assert "Trial 2, round 1: Going on after step 12." in context.said
    kept = [ModelPackage.load(f / "model").card.weights_sha256 for f in (tmp_path / "run", searched[1])]
    assert kept[0] == kept[1]
    with pytest.raises(MedImgAIError, match="holds a training of other data or settings"):
        search_discs(discs, tmp_path / "run", steps=6)
    assert len(rows(search_discs(discs, tmp_path / "run", steps=1, trials=1, existing="replace"))) == 1
    assert sorted(p.name for p in (tmp_path / "run").glob("trial_*")) == ["trial_01"]


def test_stop_and_keep_ends_with_the_best_so_far_and_can_go_on(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(method, "drawn", lambda choices, defaults, count, seed: CLASS_SETTINGS[:count])
    first = search_pictures(pictures, tmp_path / "run", Listens(finishes=lambda m: m.startswith("Trial 1, round 1")))
    (only,) = rows(first)
    assert only["note"] == "best" and "ended early" in first["report"].text
    assert ModelPackage.load(tmp_path / "run" / "model").card.metrics["AUC"] == only["score"]
    second = search_pictures(pictures, tmp_path / "run", Listens(finishes=lambda m: m.startswith("Trial 3, round 1")))
    assert len(rows(second)) == 2
    whole = search_pictures(pictures, tmp_path / "run")
    assert rows(whole) == rows(search_pictures(pictures, tmp_path / "other"))
    names = (tmp_path / "run" / "model", tmp_path / "other" / "model")
    assert len({ModelPackage.load(p).card.weights_sha256 for p in names}) == 1
    assert not list((tmp_path / "run").rglob("*.pt"))


def test_a_loss_that_is_no_number_loses_the_trial_but_not_the_search(discs, tmp_path, monkeypatch, given_settings):
    from MedImgAILib.training import segmentation_run

    real = segmentation_run.segmentation_loss

    def poisoned(name, **options):
        loss = real(name, **options)
        return loss if name == "dice_ce" else lambda *given: loss(*given) * float("nan")

    monkeypatch.setattr(segmentation_run, "segmentation_loss", poisoned)
    context = Listens()
    table = rows(search_discs(discs, tmp_path / "run", context, steps=6))
    lost = [r for r in table if r["loss"] == "dice_focal"]
    assert len(lost) == 1 and np.isnan(lost[0]["score"])
    assert lost[0]["note"] == "The loss is not a number at step 1 (try a lower learning rate or full precision)."
    assert any(m.startswith("Trial 3 is lost: The loss") for m in context.said) and len(table) == 4
    monkeypatch.setattr(segmentation_run, "segmentation_loss", lambda n, **o: lambda *g: real(n, **o)(*g) * np.nan)
    with pytest.raises(MedImgAIError, match="^All 3 trials failed; the first: The loss is not a number at step 1"):
        search_discs(discs, tmp_path / "lost", steps=6)
    assert not (tmp_path / "lost" / "model").exists()


# Input that is not as it should be


def test_values_that_cannot_be_are_refused_and_leave_nothing(discs, pictures, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(ParameterError, match="trials|Trials"):
        search_discs(discs, run, trials=0)
    with pytest.raises(ParameterError, match="no folder was given"):
        search_discs(discs, "")
    with pytest.raises(InputError, match="either a data folder or a data table"):
        search_discs(discs, run, table=str(pictures))
    with pytest.raises(InputError, match="either a data folder or a data table"):
        search_discs("", run)
    with pytest.raises(InputError, match="There is no data set at"):
        search_discs(tmp_path / "nowhere", run)
    with pytest.raises(InputError, match="classification only"):
        search_discs("", run, table=str(pictures))
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_judge_are_refused_and_leave_nothing(discs, tmp_path):
    run, data = tmp_path / "run", tmp_path / "data"
    with pytest.raises(InputError, match="are of one patient; a search needs two or more"):
        search_discs(discs, run, patient_pattern="(case)")
    images = np.random.default_rng(0).integers(0, 255, (8, 9, 9)).astype(np.uint8)
    np.savez(tmp_path / "one.npz", images=images, labels=np.zeros(8, int))
    with pytest.raises(InputError, match="only the class '0'"):
        search_pictures(tmp_path / "one.npz", run)
    labels = np.array([0, 1, 0, 1, 0, 0, 0, 0])
    np.savez(
        tmp_path / "part.npz", train_images=images[:4], train_labels=labels[:4], val_images=images[4:],
        val_labels=labels[4:],
    )  # fmt: skip
    with pytest.raises(InputError, match="have one class only"):
        search_pictures(tmp_path / "part.npz", run)
    for n in range(3):
        for part in ("images", "labels"):
            content = (discs / part / f"case{n}.nii.gz").read_bytes()
            (data / part).mkdir(parents=True, exist_ok=True)
            (data / part / f"case{n}.nii.gz").write_bytes(content[:60] if (n, part) == (1, "images") else content)
    with pytest.raises(InputError, match="case1.nii.gz"):
        search_discs(data, run)
    assert not run.exists()


def test_folders_of_others_and_damaged_results_are_refused(discs, tmp_path, given_settings):
    from MedImgAILib.training.exclusive import alone_in

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("do not delete")
    for existing in ("resume", "replace"):
        with pytest.raises(OutputError, match="holds something else"):
            search_discs(discs, foreign, existing=existing)
    assert [p.name for p in foreign.iterdir()] == ["thesis.txt"]
    with alone_in(tmp_path / "busy"), pytest.raises(OutputError, match="Another training is at work in the folder"):
        search_discs(discs, tmp_path / "busy")
    run = tmp_path / "run"
    search_discs(discs, run, trials=1, steps=1)
    record = run / "trial_01" / "round_1.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"weights": "0" * 64}))
    with pytest.raises(OutputError, match="The best trial's model is not in .*delete .*round_1.json to train it again"):
        search_discs(discs, run, trials=1, steps=1)
    record.write_text("{")
    with pytest.raises(OutputError, match="round_1.json is damaged; delete it to train this trial again"):
        search_discs(discs, run, trials=1, steps=1)
    record.unlink()
    assert rows(search_discs(discs, run, trials=1, steps=1))[0]["score"] == content["score"]


def test_several_processes_are_refused(discs, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MedImgAIError, match="runs in one process"):
        search_discs(discs, tmp_path / "run")
    assert not (tmp_path / "run").exists()
