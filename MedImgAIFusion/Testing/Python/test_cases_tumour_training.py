"""Training of the brain-tumour case study that was ended goes on, and says what it was validated on."""

import json
import re

import numpy as np
import pytest
from MedImgAIFusionLib.cases import tumour_rounds, tumour_train
from MedImgAIFusionLib.cases.tumour import without
from MedImgAIFusionLib.cases.tumour_example import example_folder
from MedImgAIFusionLib.cases.tumour_report import validated
from MedImgAIFusionLib.cases.tumour_train import TrainBrainTumour
from MedImgAILib.core import Cancelled, Context, InputError, ParameterError
from MedImgAILib.core.model_package import ModelPackage

pytest.importorskip("torch")
pytest.importorskip("sklearn")
SHORT = {"spacing_mm": 4.0, "steps": 4, "patch": 8}


def train(folder, context=None, **changes):
    parameters = {"data": str(example_folder()), "model": str(folder / "model")} | SHORT | changes
    return TrainBrainTumour().execute({}, parameters, context or Context("cpu", 3))


class Ended(Context):
    """Ends at the second patient, as a kill would; what it wrote stays."""

    def curve(self, name, x, y):
        if name.endswith("patient2"):
            raise Cancelled


class Finishing(Context):
    """The user asks for what is there so far."""

    def is_finishing(self):
        return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder)


def test_rounds_that_are_done_are_not_done_again(whole, tmp_path, monkeypatch):
    with pytest.raises(Cancelled):
        train(tmp_path, Ended("cpu", 3))
    assert [p.name for p in (tmp_path / "model.unfinished").iterdir()] == ["round_1.json"]
    curves = []
    learn = tumour_train.learn
    monkeypatch.setattr(tumour_train, "learn", lambda *given: curves.append(given[-1]) or learn(*given))
    again = train(tmp_path)
    assert curves == ["Loss/without patient2", "Loss/all"]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    for name, values in whole[1]["cases"].columns.items():
        np.testing.assert_array_equal(again["cases"].columns[name], values)
    shas = [ModelPackage.load(folder / "model").card.weights_sha256 for folder in (whole[0], tmp_path)]
    assert shas[0] == shas[1]


def test_rounds_of_other_settings_or_damaged_ones_are_done_again(tmp_path):
    rounds = tumour_rounds.Rounds(tmp_path / "kept", "one")
    rounds.keep(0, tumour_rounds.Round({"case": "a", "Dice whole tumour": float("nan")}, [("a", "<img>")]))
    found = rounds.read(0)
    assert found.row["case"] == "a" and np.isnan(found.row["Dice whole tumour"])
    assert found.pictures == [("a", "<img>")] and rounds.read(1) is None
    assert tumour_rounds.Rounds(tmp_path / "kept", "two").read(0) is None
    (tmp_path / "kept/round_1.json").write_text("{")
    assert rounds.read(0) is None
    (tmp_path / "kept/round_1.json").write_text(json.dumps({"identity": "one"}))
    assert rounds.read(0) is None
    (tmp_path / "kept/mine.txt").write_text("mine")
    rounds.remove()
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["mine.txt"]


def test_the_identity_is_of_images_labels_settings_and_seed():
    from types import SimpleNamespace

    parameters = SimpleNamespace(**TrainBrainTumour().defaults() | {"data": str(example_folder())} | SHORT)
    cases = tumour_train.collect(parameters, ["T1c", "FLAIR"], Context("cpu"))
    settings = tumour_train.Settings(steps=4)
    known = tumour_rounds.identity_of(cases, ["T1c"], settings, 1)
    assert known == tumour_rounds.identity_of(list(cases), ["T1c"], tumour_train.Settings(steps=4), 1)
    changed = [tumour_rounds.identity_of(cases, ["T1c"], tumour_train.Settings(steps=5), 1),
               tumour_rounds.identity_of(cases, ["T1c"], settings, 2),
               tumour_rounds.identity_of(cases[::-1], ["T1c"], settings, 1)]  # fmt: skip
    cases[0].labels.flat[np.flatnonzero(cases[0].labels)[0]] = 0
    changed.append(tumour_rounds.identity_of(cases, ["T1c"], settings, 1))
    assert known not in changed and len(set(changed)) == 4


def test_stop_and_keep_judges_what_is_there(tmp_path):
    """Asked in the first round: its network is kept, one patient is judged, and the summary says so."""
    out = train(tmp_path, Finishing("cpu", 3))
    assert out["cases"].columns["case"] == ("patient1",)
    assert "of 1 patients; judged on 1, each left out" in out["summary"].text
    assert "1 patients (patient2)" in ModelPackage.load(tmp_path / "model").card.training_data


def test_report_and_card_say_what_it_was_validated_on(whole, tmp_path):
    folder, out = whole
    report = out["report"].text
    assert len(re.findall("<img", report)) == 2 * 2 * 2 and "patient2, FLAIR, by the network" in report
    card = ModelPackage.load(folder / "model").card
    mean = np.mean(out["cases"].columns["region balanced accuracy"])
    assert card.metrics["region_balanced_accuracy"] == pytest.approx(mean, abs=1e-4)
    assert f"in {100 * mean:.0f} % of the blocks" in validated(card)
    alone = out["cases"].columns["Dice whole tumour FLAIR alone"]
    assert card.metrics["dice_whole_tumour_flair_alone"] == pytest.approx(np.mean(alone), abs=1e-4)
    assert f"FLAIR alone the whole tumour had a Dice of {np.mean(alone):.2f}" in without(["T1c"], ["FLAIR"], card)
    assert "oedema is hardly seen" in without(["FLAIR"], ["T1c"], card)
    assert "each left out of its training" in card.training_data
    with pytest.raises(ParameterError, match="nowhere does not exist"):
        train(tmp_path / "nowhere")
    unjudged = train(tmp_path, leave_one_out=False)
    assert "no estimates" in unjudged["summary"].text
    assert "was not validated" in validated(ModelPackage.load(tmp_path / "model").card)


def test_one_modality_alone_is_what_the_network_says_of_it():
    from types import SimpleNamespace

    import torch

    class Sees(torch.nn.Module):
        """Tumour where the second modality is above 1; without it nothing."""

        def forward(self, x):
            score = torch.nan_to_num(x[:, 1:2], nan=-9.0) - 1
            return torch.cat([torch.zeros_like(score), 50 * score, *[torch.full_like(score, -99.0)] * 2], 1)

    rng = np.random.default_rng(0)
    parameters = SimpleNamespace(**TrainBrainTumour().defaults() | {"data": str(example_folder())} | SHORT)
    case = tumour_train.collect(parameters, ["T1c", "FLAIR"], Context("cpu"))[0]
    case.array[1] = np.where(case.labels > 0, 2.0, rng.uniform(-1, 0.5, case.labels.shape))
    row = tumour_rounds.judge(Sees(), _Calls(), case, ["T1c", "FLAIR"], Context("cpu")).row
    assert row["Dice whole tumour"] == row["Dice whole tumour FLAIR alone"] == 1.0
    assert row["Dice whole tumour T1c alone"] == 0.0
    case.array[0] = np.nan
    row = tumour_rounds.judge(Sees(), _Calls(), case, ["T1c", "FLAIR"], Context("cpu")).row
    assert np.isnan(row["Dice whole tumour T1c alone"]), "who has no T1c says nothing of it"


def test_a_patient_who_is_there_twice_is_left_out_as_one(tmp_path, monkeypatch):
    folder = example_folder()
    rows = ["patient,T1c,FLAIR,labels"]
    for name, place in (("a", "patient1"), ("b", "patient2"), ("a", "patient2")):
        rows.append(",".join([name, *(str(folder / place / f"{file}.nrrd") for file in ("T1c", "FLAIR", "labels"))]))
    (tmp_path / "t.csv").write_text("\n".join(rows))
    learnt = []
    learn = tumour_train.learn
    monkeypatch.setattr(
        tumour_train, "learn", lambda cases, *given: learnt.append([c.name for c in cases]) or learn(cases, *given)
    )
    out = train(tmp_path, data=str(tmp_path / "t.csv"), steps=1)
    assert learnt == [["b"], ["a", "a"], ["b"], ["a", "b", "a"]]
    assert "of 2 patients" in out["summary"].text
    assert "2 patients (a, b); figures are means of 2" in ModelPackage.load(tmp_path / "model").card.training_data
    (tmp_path / "t.csv").write_text("\n".join([rows[0], rows[1], rows[3]]))
    with pytest.raises(InputError, match="two patients or more"):
        train(tmp_path / "other", data=str(tmp_path / "t.csv"), model="")


def test_modalities_are_called_as_the_analysis_calls_them(tmp_path):
    train(tmp_path, modalities="flair, t1C, FLAIR", steps=1, leave_one_out=False)
    assert [i.name for i in ModelPackage.load(tmp_path / "model").card.inputs] == ["FLAIR", "T1c"]
    for text in ("T1c, PET", " , "):
        with pytest.raises(ParameterError, match="choose from T1, T1c, T2, FLAIR"):
            train(tmp_path / "other", modalities=text)


def test_labels_of_one_tissue_are_refused_before_anything_is_learnt(tmp_path, monkeypatch):
    monkeypatch.setattr(tumour_rounds, "train", lambda *given: pytest.fail("a network was trained"))
    with pytest.raises(InputError, match="one tissue only"):
        train(tmp_path, core="", enhancing="")


class _Calls:
    def probabilities(self, features):
        return np.tile([1.0, 0.0, 0.0], (len(features), 1))
