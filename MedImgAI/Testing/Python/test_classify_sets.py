"""Data sets, networks of several views, deep features, calibration: against the network and published formulas."""

import numpy as np
import pytest
from MedImgAILib.classify.calibration import softmax
from MedImgAILib.classify.diagnosis import Diagnosis
from MedImgAILib.core import (
    Context,
    Geometry,
    InputError,
    MedImgAIError,
    ParameterError,
    Segment,
    Table,
    Text,
    Volume,
    registry,
)
from MedImgAILib.core.geometry import inverse_order
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_inference import Inference
from MedImgAILib.core.model_intensity import Intensity
from MedImgAILib.core.model_networks import build
from MedImgAILib.core.model_package import DIAGNOSIS, ModelPackage

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
LPS = np.diag([-1.0, -1.0, 1.0])
CLASSES = ("well", "sick")


def run(task_id, inputs, context=None, **parameters):
    return registry()[task_id].execute(inputs, parameters, context or Context("cpu", seed=1))


def package(folder, inputs=("image",), diagnosis=None):
    """A network of random weights that takes 12 × 12 pictures as they are."""
    arguments = {"dimensions": 2, "channels": len(inputs), "classes": 2, "width": 4, "stages": 2}
    torch.manual_seed(3)
    network = build("medimgai.CompactResNet", arguments).eval()
    with torch.no_grad():
        network.head.weight *= 5  # so that its answers differ
    wanted = tuple(ModelInput(n, "MG", 1, None, "LPS", Intensity("none"), None, (12, 12, 1), "stretch") for n in inputs)
    card = ModelCard(
        id="views", version="1.0.0", title="Views", task="classification", inputs=wanted,
        outputs=(ModelOutput("class", "classes", tuple(Segment(c, n) for n, c in enumerate(CLASSES, 1))),),
        architecture="medimgai.CompactResNet", arguments=arguments, inference=Inference(mode="whole", dimensions=2),
        license="Apache-2.0", citation="None.", training_data="None.", intended_use="Tests.", limits="All.",
    )  # fmt: skip
    files = {DIAGNOSIS: diagnosis.to_bytes()} if diagnosis else {}
    ModelPackage.create(folder, card, network.state_dict(), files)
    return str(folder), network


def scores(network, *channels):
    with torch.no_grad():
        return network(torch.from_numpy(np.stack(channels).astype(np.float32))[None]).double().numpy()[0]


def picture(values, name=""):
    return Volume(values.astype(np.float32), Geometry.from_spacing(values.shape, directions=LPS), name)


def test_a_network_of_two_views_gets_each_in_its_place(tmp_path):
    model, network = package(tmp_path / "model", ("CC", "MLO"))
    rng = np.random.default_rng(0)
    cc, mlo = rng.uniform(0, 1, (12, 12)), np.tile(np.linspace(0, 1, 12), (12, 1))
    expected = softmax(scores(network, cc, mlo))
    assert abs(expected - softmax(scores(network, mlo, cc))).max() > 1e-3
    views = [picture(cc[None], "left CC"), picture(mlo[None], "left MLO")]
    for images in (views, views[::-1]):
        found = run("classify.apply", {"images": images}, model=model)["probabilities"].columns["probability"]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    with pytest.raises(InputError, match="takes 2 images, not 1"):
        run("classify.apply", {"images": views[:1]}, model=model)
    warnings = []

    class Listening(Context):
        def warn(self, message):
            warnings.append(message)

    unnamed = [v.with_array(v.array, name=n) for v, n in zip(views, "ab")]
    run("classify.apply", {"images": unnamed}, Listening("cpu"), model=model)
    assert "names do not tell which is which" in warnings[0]


@pytest.mark.parametrize("pooling", ["mean", "max", "noisy_or"])
def test_slices_of_a_volume_are_pooled_alike_alone_and_in_a_set(tmp_path, pooling):
    from MedImgAILib.core.itk import itk_image
    from SimpleITK import WriteImage

    model, network = package(tmp_path / "model")
    rng = np.random.default_rng(1)
    volumes = {f"{c}/{n}": rng.uniform(0, 1, (3, 12, 12)) for n, c in enumerate(CLASSES)}
    for name, values in volumes.items():
        (tmp_path / "set" / name).parent.mkdir(parents=True)
        WriteImage(itk_image(picture(values)), str(tmp_path / "set" / f"{name}.nii.gz"))
    table = run("classify.apply_set", {}, data=str(tmp_path / "set"), model=model, pooling=pooling)["predictions"]
    columns = table.columns
    for number, truth in enumerate(columns["truth"]):
        values = volumes[f"{truth}/{CLASSES.index(truth)}"]
        each = softmax(np.stack([scores(network, v) for v in values]))
        expected = {
            "mean": softmax(np.log(each).mean(0)), "max": each[each[:, 1].argmax()],
            "noisy_or": np.array([each[:, 0].prod(), 1 - each[:, 0].prod()]),
        }[pooling]  # fmt: skip
        found = [columns[f"probability {c}"][number] for c in CLASSES]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert columns["called"][number] == CLASSES[int(expected[1] >= 0.5)]
        alone = run("classify.apply", {"images": [picture(values)]}, model=model, pooling=pooling)
        np.testing.assert_allclose(alone["probabilities"].columns["probability"], expected, atol=1e-5)
    assert "possible" not in columns, "there are no calibration cases"


def test_a_set_takes_another_calibration_and_says_which_classes_are_possible(tmp_path):
    model, network = package(tmp_path / "model")
    rng = np.random.default_rng(2)
    images = rng.integers(0, 255, (6, 12, 12)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.array([0, 1] * 3))
    logits = np.stack([np.zeros(300), rng.normal(0, 2, 300)], 1)
    truth = (rng.random(300) < softmax(logits / 3)[:, 1]).astype(int)
    diagnosis = Diagnosis.fitted(logits, truth, CLASSES, "temperature", 0.9)
    given = {"calibration": Text(diagnosis.to_text(), "calibration")}
    parameters = {"data": str(tmp_path / "set.npz"), "model": model, "coverage": 0.8}
    columns = run("classify.apply_set", given, **parameters)["predictions"].columns
    raw = np.stack([scores(network, image) for image in images])
    p = softmax(raw / diagnosis.temperature)
    np.testing.assert_allclose(columns["probability sick"], p[:, 1], atol=1e-5)
    assert columns["called"] == tuple(CLASSES[int(v >= diagnosis.threshold)] for v in p[:, 1])
    assert columns["truth"] == CLASSES * 3, "numbers of the data set become the model's names"
    possible = diagnosis.sets(p, 0.8)
    for text, row in zip(columns["possible"], possible):
        assert text == (" or ".join(c for c, held in zip(CLASSES, row) if held) or "none")
    other = Diagnosis(("a", "b")).to_text()
    with pytest.raises(ParameterError, match="it is for a, b"):
        run("classify.apply_set", {"calibration": Text(other, "other")}, **parameters)
    np.savez(tmp_path / "set.npz", images=images, labels=np.array([0, 7] * 3))
    with pytest.raises(InputError, match="class '7'; the model tells well, sick apart"):
        run("classify.apply_set", {}, **parameters)
    with pytest.raises(ParameterError, match="no path was given"):
        run("classify.apply_set", {}, **parameters | {"data": " "})


@pytest.mark.parametrize("order", [((0, 1, 2), (False,) * 3), ((2, 0, 1), (True, False, True))])
def test_the_map_of_a_volume_of_pictures_shows_the_slice_that_counts(tmp_path, order):
    """A bright square in one slice of five, in any storage order: the map is strongest there, slice by slice."""
    model, _ = package(tmp_path / "model")
    values = np.full((5, 12, 12), 0.2)
    values[3, 2:5, 7:10] = 1.0
    volume = picture(values, "stack")
    alone = run("explain.classification", {"images": [picture(values[3:4])]}, model=model, method="occlusion",
                target="sick", sanity_check=False)["saliency"].array  # fmt: skip
    out = run("explain.classification", {"images": [volume.reordered(*order)]}, model=model, method="occlusion",
              target="sick", sanity_check=False)["saliency"]  # fmt: skip
    assert out.geometry.same_grid(volume.reordered(*order).geometry)
    found = out.reordered(*inverse_order(*order)).array
    np.testing.assert_allclose(found[3], alone[0], atol=1e-4)
    assert np.abs(found[3]).max() > 2 * np.abs(found[[0, 1, 2, 4]]).max()


def test_deep_features_are_what_the_last_layer_takes(tmp_path):
    model, network = package(tmp_path / "model")
    rng = np.random.default_rng(4)
    values = rng.uniform(0, 1, (2, 12, 12))
    found = run("classify.deep_features", {"images": [picture(values, "a"), picture(values[:1], "b")]}, model=model)
    columns = found["features"].columns
    assert columns["case"] == ("a", "a", "b") and columns["part"] == ("a, slice 1", "a, slice 2", "b")
    deep = np.stack([columns[f"deep {n + 1}"] for n in range(network.features)], 1)
    with torch.no_grad():
        logits = network.head(torch.from_numpy(deep).float()).numpy()
    np.testing.assert_allclose(logits, [scores(network, values[n]) for n in (0, 1, 0)], atol=1e-4)


@pytest.mark.parametrize("kind", ["point", "likelier", "unknown"])
def test_another_prevalence_keeps_sensitivity_and_coverage(tmp_path, kind):
    """The probabilities change; who is called at the operating point, and which classes are possible, does not."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 255, (120, 12, 12)).astype(np.uint8)
    _, network = package(tmp_path / "network")
    raw = np.stack([scores(network, image) for image in images])
    odds = raw[:, 1] - raw[:, 0]
    truth = (rng.random(120) < 1 / (1 + np.exp(-2 * (odds - odds.mean()) / odds.std()))).astype(int)
    diagnosis = Diagnosis.fitted(raw, truth, CLASSES, "isotonic", 0.8 if kind == "point" else None)
    model, _ = package(tmp_path / "model", diagnosis=None if kind == "unknown" else diagnosis)
    np.savez(tmp_path / "set.npz", images=images, labels=truth)
    parameters = {"data": str(tmp_path / "set.npz"), "model": model, "coverage": 0.8}
    image = {"images": [picture(images[:1])]}
    if kind == "unknown":
        for task, inputs, given in (("apply_set", {}, parameters), ("apply", image, {"model": model})):
            with pytest.raises(ParameterError, match="does not say which one its probabilities assume"):
                run(f"classify.{task}", inputs, **given, prevalence=0.02)
        return
    usual, rare = (
        run("classify.apply_set", {}, **parameters, prevalence=p)["predictions"].columns for p in (0.0, 0.02)
    )
    assert rare["possible"] == usual["possible"] and len(set(usual["possible"])) > 1
    p, q = usual["probability sick"], rare["probability sick"]
    inside = (p > 0.01) & (p < 0.99)
    ratio = (q / (1 - q) / (p / (1 - p)))[inside]
    np.testing.assert_allclose(ratio, 0.02 / 0.98 * (truth == 0).sum() / (truth == 1).sum(), rtol=1e-6)
    alone = run("classify.apply", image, model=model, prevalence=0.02)
    assert alone["probabilities"].columns["probability"][1] == pytest.approx(q[0], abs=1e-9)
    assert alone["probabilities"].columns["called"][1] == ("yes" if rare["called"][0] == "sick" else "no")
    sick = np.array([called == "sick" for called in rare["called"]])
    if kind == "likelier":
        assert np.array_equal(sick, q >= 0.5) and sick.sum() < usual["called"].count("sick")
    else:
        assert rare["called"] == usual["called"] and 0.8 <= sick[truth == 1].mean() < 1


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_calibration_is_judged_on_cases_that_it_has_not_seen(method):
    """A model three times too sure: the temperature is found, and the other half says what it is worth."""
    rng = np.random.default_rng(5)
    logits = np.stack([np.zeros(4000), rng.normal(0, 1.2, 4000)], 1)
    truth = (rng.random(4000) < softmax(logits)[:, 1]).astype(int)
    sure = softmax(3 * logits)
    table = Table({"truth": truth, "probability": sure[:, 1]}, "predictions")
    out = run("classify.calibrate", {"predictions": table}, method=method)
    figures = out["figures"].columns
    before, after = figures["expected calibration error"]
    assert before > 0.1 and after < 0.03
    honest = -np.log(softmax(logits)[np.arange(4000), truth]).mean()
    # Isotonic steps at the ends say 0 or 1, which costs likelihood where a case of the other half falls there.
    assert figures["log loss"][1] == pytest.approx(honest, abs=0.01 if method == "temperature" else 0.06)
    assert figures["log loss"][1] > honest - 1e-3, "no better than the truth, as where it is judged by what it learnt"
    assert figures["log loss"][0] == pytest.approx(-np.log(sure[np.arange(4000), truth]).mean())
    read = Diagnosis.from_text(out["calibration"].text)
    if method == "temperature":
        assert read.temperature == pytest.approx(3.0, rel=0.08)
    assert np.abs(read.calibrated(np.log(sure)) - softmax(logits)).mean() < 0.03
    curve = out["curve"].table.columns
    gap = np.nanmean(np.abs(curve["observed after"] - curve["predicted after"]))
    assert gap < np.nanmean(np.abs(curve["observed before"] - curve["predicted before"])) / 2
    wanted = run("classify.calibrate", {"predictions": table}, method=method, sensitivity=0.95)["calibration"].text
    chosen = Diagnosis.from_text(wanted)
    reached = (chosen.calibrated(np.log(sure))[truth == 1, 1] >= chosen.threshold).mean()
    assert 0.95 <= reached < 0.97
    few = Table({"truth": [0] * 10 + [1], "probability": np.linspace(0, 1, 11)}, "few")
    with pytest.raises(InputError, match="too few cases"):
        run("classify.calibrate", {"predictions": few})


def test_a_robust_training_keeps_names_and_the_wanted_sensitivity(tmp_path):
    """The test part is left aside with a warning, and names that do not fit the classes are refused at once."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(6)
    truth = np.arange(60) % 2
    images = np.clip(rng.normal(100, 30, (60, 16, 16)) + 25 * truth[:, None, None] * (np.arange(16) > 7), 0, 255)
    images = images.astype(np.uint8)
    np.savez(tmp_path / "set.npz", train_images=images, train_labels=truth, test_images=images, test_labels=truth)
    parameters = {"data": str(tmp_path / "set.npz"), "folder": str(tmp_path / "run"), "members": 2, "epochs": 2,
                  "width": 4, "size": 16, "sensitivity": 0.9}  # fmt: skip
    for names in ("one", "same, same"):
        with pytest.raises(MedImgAIError, match="2 different ones are needed"):
            run("classify.train_robust", {}, **parameters, class_names=names)
    with pytest.raises(MedImgAIError, match="give it a title"):
        run("classify.train_robust", {}, **parameters, name=" ")
    assert not (tmp_path / "run").exists(), "nothing was begun"
    parameters["name"] = "2 classes " + "of a long title " * 9
    warnings = []

    class Listening(Context):
        def warn(self, message):
            warnings.append(message)

    out = run("classify.train_robust", {}, Listening("cpu"), **parameters, class_names="well, sick")
    assert warnings == ["The test part of the data is left aside."] and out["predictions"].rows == 60
    assert 0.9 <= out["figures"].columns["sensitivity"][0] < 0.97
    card = ModelPackage.load(tmp_path / "run/model").card
    assert [s.name for s in card.outputs[0].segments] == ["well", "sick"]
    assert "30 of well, 30 of sick" in card.training_data
