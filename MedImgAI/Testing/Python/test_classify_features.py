"""Training on feature tables: the Wisconsin set, no leak between patients, bags, saved models, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from MedImgAILib.classify.feature_training import CLASSIFIERS, parts
from MedImgAILib.core import Context, InputError, MissingPackageError, ModelError, Table, Text, registry

datasets = pytest.importorskip("sklearn.datasets")


def train(table, **parameters):
    return registry()["classify.train_features"].execute({"features": table}, parameters, Context("cpu", seed=0))


def apply(table, trained, **parameters):
    task = registry()["classify.apply_features"]
    return task.execute({"features": table, "trained": trained}, parameters, Context("cpu"))["predictions"].columns


def figure(out, name, column="value"):
    return float(out["figures"].columns[column][out["figures"].columns["figure"].index(name)])


def wisconsin():
    data = datasets.load_breast_cancer()
    columns = {"truth": tuple(data.target_names[t] for t in data.target)}
    return Table(columns | {name: data.data[:, n] for n, name in enumerate(data.feature_names)}, "Wisconsin")


def made(n=60, seed=0, **columns):
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    features = {"size": rng.normal(2.5 * truth, 1), "noise": rng.normal(0, 1, n)}
    return Table({"truth": np.where(truth, "sick", "well").tolist(), **columns, **features}, "made")


def test_wisconsin_is_told_apart_as_published():
    """At least 97 % by nested cross-validation, and the interval holds the value."""
    out = train(wisconsin(), positive="malignant", folds=5, inner_folds=3)
    assert figure(out, "accuracy") >= 0.97 and figure(out, "AUC") > 0.99
    assert figure(out, "accuracy", "lower") < figure(out, "accuracy") < figure(out, "accuracy", "upper")


@pytest.mark.parametrize("classifier", list(CLASSIFIERS))
def test_a_saved_model_says_what_the_trained_one_says(classifier, monkeypatch):
    from MedImgAILib.classify import feature_training

    monkeypatch.setattr(feature_training, "_TREES", 10)
    out = train(made(), classifier=classifier, folds=3, inner_folds=2)
    text = out["trained"].text
    json.loads(text)
    other = made(200, seed=9)
    found = apply(Table({k: v for k, v in other.columns.items() if k != "truth"}, "other"), Text(text))
    right = np.mean([c == t for c, t in zip(found["called"], other.columns["truth"])])
    assert right > 0.82  # 2.5 standard deviations apart: 89 % at best
    np.testing.assert_allclose(found["probability sick"] + found["probability well"], 1, atol=1e-9)


def test_a_model_without_information_is_no_better_than_chance():
    """Choosing within the folds must not leak: on noise the area stays near one half."""
    rng = np.random.default_rng(3)
    columns = {"truth": rng.permutation(np.arange(80) % 2)} | {f"n{k}": rng.normal(0, 1, 80) for k in range(60)}
    out = train(Table(columns, "noise"), folds=5, inner_folds=3)
    assert 0.3 < figure(out, "AUC") < 0.7


def test_a_patient_is_never_on_both_sides():
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 30, 120)
    truth = patients % 2
    for learnt, judged in parts(truth, patients, 5, 0):
        assert not set(patients[learnt]) & set(patients[judged])
    # Every patient has a number of its own: learnt by heart, it would tell the class of the other rows.
    columns = {"truth": (patients // 3) % 2, "patient": patients, **{f"is {p}": patients == p for p in range(30)}}
    columns = {k: v * 1.0 if k.startswith("is") else v for k, v in columns.items()}
    leaking = train(Table({k: v for k, v in columns.items() if k != "patient"}, "t"), folds=5, inner_folds=2)
    fair = train(Table(columns, "t"), folds=5, inner_folds=2)
    assert figure(leaking, "accuracy") > 0.9 > 0.75 > figure(fair, "accuracy")


def test_cases_without_a_patient_are_patients_of_their_own():
    """A column of numbers with gaps has become one of floating-point numbers, which are not to be shortened."""
    patients = np.where(np.arange(60) < 30, 1234560.0 + np.arange(60), np.nan)
    table = made(patient=patients)
    whole = train(made(), folds=3, inner_folds=2)
    found = train(table, folds=3, inner_folds=2)
    np.testing.assert_array_equal(
        found["predictions"].columns["probability sick"], whole["predictions"].columns["probability sick"]
    )
    known = train(made(case=1234560.0 + np.arange(60)), folds=3, inner_folds=2)["predictions"].columns["case"]
    assert known[:2] == ("1234560", "1234561") and len(known) == 60


def test_a_support_vector_machine_of_few_cases():
    """With too few cases to choose by, it does not choose; with too few to learn from, it says so."""
    out = train(made(16), classifier="svm", folds=2, inner_folds=2)
    assert figure(out, "AUC") > 0.5
    few = made(16)
    columns = {**few.columns, "truth": ["well"] * 12 + ["sick"] * 4}
    with pytest.raises(InputError, match="has 2 cases of a class where the classifier needs 3"):
        train(Table(columns, "few"), classifier="svm", folds=2)


def test_the_figures_are_those_of_the_operating_point():
    table = made(80, seed=4)
    assert figure(train(table, folds=4, inner_folds=2), "sensitivity") < 0.95
    out = train(table, folds=4, inner_folds=2, sensitivity=0.975)
    assert figure(out, "sensitivity") == pytest.approx(0.975)


def test_a_constant_feature_says_nothing():
    """The deviation of sixty times 0.1 is not 0 but 1e-17, by which nothing may be divided."""
    pytest.importorskip("torch")
    given = bags(10)
    rows = given.rows
    model = train(Table({**given.columns, "same": np.full(rows, 0.1)}, "t"), pooling="attention", folds=2)["trained"]
    usual, other = (
        apply(Table({**given.columns, "same": np.full(rows, value)}, "t"), model)["probability sick"]
        for value in (0.1, 0.1001)
    )
    np.testing.assert_allclose(usual, other, atol=0.01)


def test_attention_without_torch_is_told(monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "torch" else found(name, *a))
    with pytest.raises(MissingPackageError, match="choose another pooling"):
        train(bags(), pooling="attention")


def bags(n=40, seed=0, rows=6):
    """In sick cases one row of six is unusual; the mean over the rows hides it in noise."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    values = rng.normal(0, 1, (n, rows, 3))
    values[np.arange(n), rng.integers(0, rows, n), 0] += 5.0 * truth
    case = np.repeat([f"c{k}" for k in range(n)], rows)
    columns = {"case": case.tolist(), "truth": np.repeat(np.where(truth, "sick", "well"), rows).tolist()}
    return Table(columns | {f"f{k}": values[:, :, k].ravel() for k in range(3)}, "bags")


def test_maximum_and_attention_find_the_one_slice_that_matters():
    pytest.importorskip("torch")
    found = {how: figure(train(bags(), pooling=how, folds=4, inner_folds=2), "AUC") for how in ("max", "attention")}
    assert min(found.values()) > 0.9, found


def test_attention_is_the_published_formula_and_is_saved():
    torch = pytest.importorskip("torch")
    from MedImgAILib.classify.attention import AttentionModel

    rng = np.random.default_rng(0)
    model = AttentionModel(*(rng.normal(size=s) for s in ((4, 3), (4, 3), (4,), (2, 3), (2,))))
    bag = rng.normal(size=(5, 3))
    v, u, w, weights, offsets = (torch.from_numpy(p) for p in vars(model).values())
    h = torch.from_numpy(bag)
    shares = torch.softmax((torch.tanh(h @ v.T) * torch.sigmoid(h @ u.T)) @ w, dim=0)
    wanted = torch.softmax(weights @ (shares @ h) + offsets, dim=0)
    np.testing.assert_allclose(model.probabilities(bag)[0], wanted.numpy(), atol=1e-12)
    np.testing.assert_allclose(model.probabilities(bag)[1], shares.numpy(), atol=1e-12)
    out = train(bags(), pooling="attention", folds=2, inner_folds=2)
    found = apply(bags(30, seed=5), out["trained"])
    truth = bags(30, seed=5).columns["truth"][::6]
    assert np.mean([a == b for a, b in zip(found["called"], truth)]) > 0.8 and len(found["case"]) == 30


def test_missing_values_are_filled_and_said():
    table = made()
    size = np.array(table.columns["size"])
    size[:5] = np.nan
    out = train(Table({**table.columns, "size": size}, "gaps"), folds=3, inner_folds=2)
    assert figure(out, "AUC") > 0.85
    context = Context("cpu")
    warnings = []
    context.on_log = lambda level, message: warnings.append(message)
    registry()["classify.apply_features"].execute(
        {"features": Table({"size": size, "noise": table.columns["noise"]}), "trained": out["trained"]}, {}, context
    )
    assert any("5 missing values" in w for w in warnings)


def test_the_scale_of_the_features_does_not_matter():
    table = made()
    large = {k: np.asarray(v) * 1e7 + 3e9 if k == "size" else v for k, v in table.columns.items()}
    first, second = train(table, folds=3, inner_folds=2), train(Table(large, "large"), folds=3, inner_folds=2)
    for name in ("probability sick", "probability well"):
        np.testing.assert_allclose(first["predictions"].columns[name], second["predictions"].columns[name], atol=1e-3)


@pytest.mark.parametrize(
    "change, parameters, sentence",
    [
        ({"truth": ["sick"] * 60}, {}, "one class only"),
        ({"sex": ["F", "M"] * 30}, {}, "text in sex"),
        ({"truth": ["sick"] * 57 + ["well"] * 3}, {"folds": 5}, "3 patients only"),
        ({}, {"positive": "cat"}, "'cat' is none"),
        ({}, {"truth_column": "diagnosis"}, "no column 'diagnosis'"),
        ({"case": ["a"] * 60}, {}, "two values of its class"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(change, parameters, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        train(Table({**made().columns, **change}, "bad"), **parameters)
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def test_bad_models_are_refused_in_one_sentence():
    good = json.loads(train(made(), folds=2, inner_folds=2)["trained"].text)
    broken = ["", "{}", "[1]", json.dumps({**good, "format": "other"}), json.dumps({**good, "version": 99}),
              json.dumps({**good, "scales": [0.0, 1.0]}), json.dumps({**good, "features": ["size"]}),
              json.dumps({**good, "pooling": "sum"}), json.dumps({**good, "model": {}}),
              json.dumps({k: v for k, v in good.items() if k != "diagnosis"})]  # fmt: skip
    for text in broken:
        with pytest.raises(ModelError) as refusal:
            apply(made(), Text(text))
        assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
    with pytest.raises(InputError, match="lacks columns"):
        apply(Table({"size": [1.0]}, "less"), Text(json.dumps(good)))
