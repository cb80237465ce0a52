"""Training on drawn exams: well above chance on others, at chance with shuffled labels, patients never divided."""

import json
import re

import numpy as np
import pytest
from listening import Listening
from MedImgAILib.classify.feature_training import parts
from MedImgAILib.core import Context, InputError, ModelError, ParameterError, VolumePort
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.evaluate.delong import auc_interval
from MedImgAILib.hosts.files import read_file
from MedImgAILib.mammography.exams import positive_classes, read_exams
from MedImgAILib.mammography.phantom import drawn_exam, volume_of, write_exams
from MedImgAILib.mammography.screening import BreastScreening
from MedImgAILib.mammography.train_task import TrainBreastScreening
from testing_data import data_path
from testing_dicom import new_dataset, set_pixels

SMALL = {"shape": (170, 100), "pixel_mm": 1.0}
PIXEL = 1.0


def figure(table, name):
    values = {row[1]: row[2:5] for row in zip(*list(table.columns.values())[:5])}
    return values[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("exams")
    write_exams(path, 40, seed=1, **SMALL)
    return path


def train(table, **parameters):
    return TrainBreastScreening().execute({}, {"table": str(table), "pixel_mm": PIXEL} | parameters, Listening())


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    model = tmp_path_factory.mktemp("model") / "package"
    return train(folder / "exams.csv", model=str(model)), model


def test_on_patients_not_seen_it_is_well_above_chance(trained):
    results, model = trained
    value, low, _ = figure(results["figures"], "AUC")
    assert value > 0.9 and low > 0.8
    card = ModelPackage.load(model).card
    assert card.metrics["AUC"] == pytest.approx(value, abs=1e-3) and card.metrics["AUC lower"] > 0.7
    assert "160 pictures of 80 breasts of 40 patients" in card.training_data and "40 patients are few" in card.limits
    predictions = results["predictions"].columns
    patients, folds = np.array(predictions["patient"]), predictions["fold"]
    assert all(len(set(folds[patients == p])) == 1 for p in set(patients)) and set(folds) == {1, 2, 3, 4, 5}


def test_on_other_exams_the_stored_model_is_right(trained):
    _, model = trained
    rng = np.random.default_rng(77)
    truth, score, right = [], [], []
    for number in range(12):
        side = ("left", "right", "")[number % 3]
        volumes = {name: volume_of(image, PIXEL) for name, image in drawn_exam(rng, side, **SMALL).items()}
        result = BreastScreening().execute(volumes, {"model": str(model), "pixel_mm": PIXEL}, Context("cpu"))
        table = result["breasts"].columns
        truth += [side == name.lower() for name in table["breast"]]
        score += list(table["probability cancer"])
        views = result["views"].columns
        diseased = [bool(side) and view.lower().startswith(side) for view in views["view"]]
        right += [(p >= 0.5) == sick for p, sick in zip(views["probability cancer"], diseased)]
    assert auc_interval(np.array(truth), np.array(score))[0] > 0.9
    assert np.mean(right) > 0.75


def test_with_shuffled_labels_it_is_at_chance(folder):
    lines = (folder / "exams.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    sides = {(image.split("_")[1], patient): label for image, patient, label in rows}
    labels = np.random.default_rng(5).permutation(list(sides.values()))
    drawn = dict(zip(sides, labels))
    shuffled = [f"{i},{p},{drawn[i.split('_')[1], p]}" for i, p, _ in rows]
    (folder / "shuffled.csv").write_text("\n".join([lines[0], *shuffled]))
    value, low, high = figure(train(folder / "shuffled.csv")["figures"], "AUC")
    assert low < 0.5 < high and 0.3 < value < 0.7


def test_a_patient_is_never_divided(folder):
    whose = np.repeat(np.arange(10), 4)
    for learnt, judged in parts(np.tile([0, 1, 0, 1], 10), whose, 5, 0):
        assert not set(whose[learnt]) & set(whose[judged])
    lines = (folder / "exams.csv").read_text().splitlines()
    told = [f"{line},{'test' if n % 8 == 1 else 'train'}" for n, line in enumerate(lines[1:])]
    (folder / "leak.csv").write_text("\n".join([f"{lines[0]},split", *told]))
    with pytest.raises(InputError, match="on both sides of the split"):
        train(folder / "leak.csv")


def test_a_test_part_is_judged_by_itself(folder, tmp_path):
    lines = (folder / "exams.csv").read_text().splitlines()
    told = [f"{line},{'test' if line.split(',')[1] >= 'p030' else 'train'}" for line in lines[1:]]
    (folder / "parts.csv").write_text("\n".join([f"{lines[0]},split", *told]))
    results = train(folder / "parts.csv", folds=3, model=str(tmp_path / "model"), name="2 views, " + "long " * 30)
    assert len(ModelPackage.load(tmp_path / "model").card.id) == 80
    assert set(results["figures"].columns["judged on"]) == {"cross-validation", "test part"}
    held = np.array([name.split()[0] >= "p030" for name in results["predictions"].columns["case"]])
    np.testing.assert_array_equal(results["predictions"].columns["fold"] == 0, held)


def test_the_report_tells_probability_operating_point_and_validation(trained):
    _, model = trained
    exam = drawn_exam(np.random.default_rng(8), "right", **SMALL)
    volumes = {name: volume_of(image, PIXEL) for name, image in exam.items()}
    result = BreastScreening().execute(volumes, {"model": str(model), "pixel_mm": PIXEL}, Context("cpu"))
    text = re.sub(r"<[^>]+>", " ", result["report"].text)
    assert "Right breast: probability of cancer" in text and "called cancer" in text
    assert "operating point for a sensitivity of 90 %" in text
    assert "validated by cross-validation on patients that it had not learnt from: AUC" in text
    assert "40 patients are few" in text and "For research only" in text and "no probability" not in text
    reasons = result["reasons"].columns
    assert set(reasons["breast"]) == {"Left", "Right"} and len(reasons["feature"]) == 10
    own = [reasons["contribution"][n] for n in range(10) if reasons["breast"][n] == "Right"]
    assert np.all(np.diff(np.abs(own)) <= 1e-12) and max(own) > 0.3


def test_an_exam_unlike_all_that_was_seen_is_not_known(trained):
    _, model = trained
    volume = volume_of(drawn_exam(np.random.default_rng(8), **SMALL)["left_cc"].astype(float) ** 3, PIXEL)
    volume.array[:, ::3] *= 0.3
    result = BreastScreening().execute({"left_cc": volume}, {"model": str(model), "pixel_mm": PIXEL}, Context("cpu"))
    assert result["breasts"].columns["possible"] == ("does not know (unlike its cases)",)
    assert "unlike all that the model has seen in" in result["report"].text


def test_the_real_exam_with_a_model_of_drawings(trained):
    _, model = trained
    read = {
        f"{'left' if n[0] == 'L' else 'right'}_{n[2:].lower()}": read_file(
            data_path(f"mammo/0_{n}.png"), VolumePort("i", "I"), spacing_mm=(0.07, 0.07)
        )
        for n in ("L-CC", "R-CC")
    }
    result = BreastScreening().execute(read, {"model": str(model)}, Context("cpu"))
    assert all(0 <= p <= 1 for p in result["breasts"].columns["probability cancer"])
    assert set(result["breasts"].columns["possible"]) == {"does not know (unlike its cases)"}


def test_folders_of_classes_and_patients_in_names(tmp_path):
    write_exams(tmp_path, 2, seed=4, **SMALL)
    for line in (tmp_path / "exams.csv").read_text().splitlines()[1:]:
        image, _, label = line.split(",")
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / image).rename(tmp_path / "data" / label / image)
    entries, notes = read_exams(str(tmp_path / "data"), r"(p\d+)_")
    assert not notes and {e.patient for e in entries} == {"p000", "p001"}
    assert len({e.breast for e in entries}) == 4 and {e.label for e in entries} == {"cancer", "normal"}
    _, notes = read_exams(str(tmp_path / "data"))
    assert "No patient is named" in notes[0]


def test_columns_of_view_and_side_and_several_images_of_a_breast(tmp_path):
    write_exams(tmp_path, 1, **SMALL)
    names = sorted(p.name for p in tmp_path.glob("*.png"))
    for number, name in enumerate(names):
        (tmp_path / name).rename(tmp_path / f"{number}.png")
    table = tmp_path / "t.csv"
    table.write_text("image,label,patient,side,view,exam\n0.png,0,a,L,CC,1\n1.png,1,a,right,R-MLO,2\n2.png,,a,,,\n")
    entries, notes = read_exams(str(table))
    assert [e.breast for e in entries] == [("a", "1", "left"), ("a", "2", "right")]
    assert entries[1].projection == "mlo" and "2.png" in notes[0]
    table.write_text("image1;image2;class;patient;laterality\n0.png;1.png;benign;b;L\n2.png;3.png;malignant;b;R\n")
    entries, _ = read_exams(str(table))
    assert [e.path.name for e in entries] == ["0.png", "1.png", "2.png", "3.png"]
    assert len({e.breast for e in entries}) == 2
    table.write_text("image,label,view\n0.png,0,XCCL\n1.png,1,CC\n")
    with pytest.raises(InputError, match="xccl"):
        read_exams(str(table))
    entries, notes = read_exams(str(table), skip=True)
    assert [e.path.name for e in entries] == ["1.png"] and "1 pictures were left out" in notes[0]
    table.write_text("image,label,view\n0.png,0,XCCL\n1.png,1,ML\n")
    with pytest.raises(InputError, match="no picture with a label"):
        read_exams(str(table), skip=True)


def test_which_labels_are_positive():
    assert positive_classes(["normal", "cancer"], "") == ("cancer",)
    assert positive_classes(["0", "1"], "") == ("1",)
    assert positive_classes(["normal", "benign", "malignant"], "benign, malignant") == ("benign", "malignant")
    for labels, wanted, words in (
        (["a", "b"], "", "say which"), (["a"], "", "two classes"), (["a", "b"], "c", "no label"),
        (["a", "b"], "a, b", "say which"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            positive_classes(labels, wanted)


def test_a_breast_is_positive_if_a_view_is(tmp_path):
    from MedImgAILib.mammography.training import breasts_of, measured

    write_exams(tmp_path, 2, seed=4, **SMALL)
    text = (
        (tmp_path / "exams.csv").read_text().replace("p001_right_mlo.png,p001,normal", "p001_right_mlo.png,p001,cancer")
    )
    (tmp_path / "exams.csv").write_text(text)
    pictures, _ = measured(read_exams(str(tmp_path / "exams.csv"))[0], PIXEL, False, Context("cpu"))
    breasts = breasts_of(pictures, ("cancer",))
    assert dict(zip(breasts.names, breasts.truth)) == {
        "p000 left": 0, "p000 right": 0, "p001 left": 1, "p001 right": 1
    }  # fmt: skip
    assert all(bag.shape == (2, len(breasts.features)) for bag in breasts.bags)
    ours = breasts.features.index("mass_likeness_highest_beyond_other_breast")
    np.testing.assert_allclose(breasts.bags[2][:, ours], -breasts.bags[3][:, ours])


def test_a_bad_picture_is_named_and_can_be_left_out(folder):
    lines = (folder / "exams.csv").read_text().splitlines()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "bad.csv").write_text("\n".join([*lines[:49], "broken.png,p012,normal"]))
    with pytest.raises(InputError, match=r"broken.png"):
        train(folder / "bad.csv")
    results = train(folder / "bad.csv", on_error="skip", folds=2)
    assert results["measures"].rows == 48 and "1 pictures were left out" in results["report"].text


def test_wrong_choices_are_told(folder, trained, tmp_path):
    table = str(folder / "exams.csv")
    for parameters, words in (
        ({}, "either a folder"),
        ({"table": table, "data": str(folder)}, "either a folder"),
        ({"table": table, "model": str(folder)}, "exists already"),
        ({"table": table, "learner": "network"}, "Training folder"),
        ({"table": table, "model": str(tmp_path / "nowhere" / "model")}, "nowhere does not exist"),
        ({"table": table, "model": str(tmp_path / "new"), "name": " "}, "give it a title"),
    ):
        with pytest.raises(ParameterError, match=words):
            TrainBreastScreening().execute({}, parameters, Context("cpu"))
    with pytest.raises(InputError, match="fold"):
        train(table, folds=50)
    volume = volume_of(drawn_exam(np.random.default_rng(8), **SMALL)["left_cc"], PIXEL)
    with pytest.raises(ModelError):
        BreastScreening().execute({"left_cc": volume}, {"model": "pneumonia_chest_xray"}, Context("cpu"))
    package = trained[1]
    copy = tmp_path / "damaged"
    ModelPackage.load(package).save(copy)
    text = (copy / "features.json").read_text()
    (copy / "features.json").write_text(text.replace("breast_area_cm2", "breast_area_cm3"))
    with pytest.raises(ModelError, match="not the one that the model card names"):
        BreastScreening().execute({"left_cc": volume}, {"model": str(copy)}, Context("cpu"))
    assert json.loads(text)["format"] == "medimgai-feature-classifier"


def test_a_model_of_features_is_refused_where_images_are_wanted(trained):
    from MedImgAILib.classify.apply_task import Classify

    volume = volume_of(drawn_exam(np.random.default_rng(8), **SMALL)["left_cc"], PIXEL)
    with pytest.raises(ModelError, match="takes measured features"):
        Classify().execute({"images": [volume]}, {"model": str(trained[1])}, Context("cpu"))


def test_headers_are_read_in_training(tmp_path):
    for number, (side, view) in enumerate((("L", "CC"), ("R", "MLO"))):
        image = drawn_exam(np.random.default_rng(number), **SMALL)["left_mlo" if view == "MLO" else "left_cc"]
        folder = tmp_path / ("normal", "cancer")[number]
        folder.mkdir()
        data = new_dataset("1.2.840.10008.5.1.4.1.1.1.2", Modality="MG", PatientID=f"x{number}")
        data.ImageLaterality, data.ViewPosition = side, view
        set_pixels(data, image)
        data.save_as(folder / "a.dcm")
    entries, _ = read_exams(str(tmp_path))
    found = {(e.patient, e.side, e.projection) for e in entries}
    assert found == {("x0", "left", "cc"), ("x1", "right", "mlo")}
    assert all(e.read().provenance["dicom"]["mammography"]["laterality"] in "LR" for e in entries)
    table = tmp_path / "t.csv"
    table.write_text("image,label,split\nnormal/a.dcm,0,train\ncancer/a.dcm,1,test\n")
    assert [e.patient for e in read_exams(str(table))[0]] == ["x0", "x1"]
    (tmp_path / "empty").mkdir()
    table.write_text("image,label,patient\nnormal/a.dcm,0,a\nempty,1,b\n")
    with pytest.raises(InputError, match="0 DICOM series"):
        read_exams(str(table))[0][1].read()
    data.PatientID = "x0"
    data.save_as(tmp_path / "cancer" / "IM0001")
    table.write_text("image,label,split\nnormal/a.dcm,0,train\ncancer/IM0001,1,test\n")
    with pytest.raises(InputError, match="Patient x0 stands on both sides"):
        read_exams(str(table))


def test_a_network_of_pictures_answers_as_it_was_judged(tmp_path):
    """The test part's probabilities are those that the stored model gives the same pictures; repeated, it goes on."""
    pytest.importorskip("torch")
    lines = write_exams(tmp_path, 6, seed=1, **SMALL).read_text().splitlines()
    told = [f"{line},{'test' if line.split(',')[1] >= 'p004' else 'train'}" for line in lines[1:]]
    (tmp_path / "parts.csv").write_text("\n".join([f"{lines[0]},split", *told]))
    parameters = {
        "learner": "network",
        "folder": str(tmp_path / "run"),
        "epochs": 1.0,
        "resolution_mm": 4.0,
        "folds": 2,
    }
    out = train(tmp_path / "parts.csv", model=str(tmp_path / "one"), **parameters)
    again = train(tmp_path / "parts.csv", model=str(tmp_path / "two"), **parameters)
    cards = [ModelPackage.load(tmp_path / name).card for name in ("one", "two")]
    assert cards[0].weights_sha256 == cards[1].weights_sha256 and len(cards[0].members) == 1
    found, same = (dict(zip(o["predictions"].columns["case"], o["predictions"].columns["probability cancer"]))
                   for o in (out, again))  # fmt: skip
    assert found == same
    fold = dict(zip(out["predictions"].columns["case"], out["predictions"].columns["fold"]))
    assert all(fold[f"p00{n} left"] == fold[f"p00{n} right"] == 0 for n in (4, 5)) and set(fold.values()) == {0, 1, 2}
    for patient in ("p004", "p005"):
        entries = [e for e in read_exams(str(tmp_path / "parts.csv"))[0] if e.patient == patient]
        exam = {f"{e.side}_{e.projection}": e.read() for e in entries}
        result = BreastScreening().execute(exam, {"model": str(tmp_path / "one"), "pixel_mm": PIXEL}, Context("cpu"))
        shown = dict(zip(result["breasts"].columns["breast"], result["breasts"].columns["probability cancer"]))
        assert shown == pytest.approx({s: found[f"{patient} {s.lower()}"] for s in ("Left", "Right")}, abs=1e-6)


def test_the_network_sees_the_breast_and_its_map_returns_to_the_place():
    from MedImgAILib.mammography.network import on_picture, prepared
    from MedImgAILib.mammography.phantom import drawn
    from MedImgAILib.mammography.view import examine

    image, truth = drawn(oblique=True, mass=(230, 90))
    result = examine("right_mlo", volume_of(image[:, ::-1], 0.4), 0.0, 0.5, Context("cpu"))
    seen = prepared(result, 1.0)
    assert seen.shape == (224, 128) and seen.min() == 0 and 0.9 < seen.max() <= 1
    back = on_picture(seen, result, 1.0)
    assert back[~result.breast].max() == 0 and np.corrcoef(back[truth["breast"]], image[truth["breast"]])[0, 1] > 0.9
    brightest = np.unravel_index(np.argmax(back), back.shape)
    assert np.hypot(brightest[0] - 230, brightest[1] - 90) * 0.4 < 3
