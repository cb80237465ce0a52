"""Fusion of classifiers: published examples by hand, scikit-learn as a peer, missing answers and bad tables."""

import numpy as np
import pytest
from MedImgAIFusionLib.decision.classification import FuseClassifiers
from MedImgAIFusionLib.decision.evidence import belief, combine, dempster_shafer
from MedImgAIFusionLib.decision.stacking import features, fit, predict
from MedImgAILib.core import Context, InputError, ParameterError, Table


class Listener(Context):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def run(tables, truth=None, context=None, **parameters):
    inputs = {"tables": tables} | ({"truth": truth} if truth is not None else {})
    return FuseClassifiers().execute(inputs, parameters, context or Context())


def table(name="", **columns):
    return Table({key.replace("_", " "): values for key, values in columns.items()}, name)


def row(result, number=0, output="decisions"):
    return {name: column[number] for name, column in result[output].columns.items()}


DOCTORS = (
    table("first", probability_meningitis=[0.99], probability_tumour=[0.01], probability_concussion=[0.0]),
    table("second", probability_meningitis=[0.0], probability_tumour=[0.01], probability_concussion=[0.99]),
)
"""Zadeh LA. A simple view of the Dempster-Shafer theory of evidence. AI Magazine 1986;7(2):85-90."""


def test_zadehs_two_doctors_agree_on_what_both_think_unlikely():
    found = row(run(DOCTORS, method="dempster_shafer"))
    assert found["decision"] == "tumour" and found["belief tumour"] == pytest.approx(1)
    assert found["conflict"] == pytest.approx(0.9999)
    cautious = row(run(DOCTORS, method="dempster_shafer", conflict="yager"))
    assert cautious["belief tumour"] == pytest.approx(0.0001) and cautious["ignorance"] == pytest.approx(0.9999)
    assert cautious["plausibility meningitis"] == pytest.approx(0.9999)
    # Shafer's discounting by 0.9: 0.891, 0.009 and 0.1 of ignorance each.
    doubted = row(run(DOCTORS, method="dempster_shafer", weights="0.9, 0.9"))
    conflict = 0.891 * 0.9 + 0.009 * 0.891
    assert doubted["conflict"] == pytest.approx(conflict)
    assert doubted["belief meningitis"] == pytest.approx(0.891 * 0.1 / (1 - conflict))
    assert doubted["belief tumour"] == pytest.approx((0.009**2 + 2 * 0.009 * 0.1) / (1 - conflict))
    assert doubted["ignorance"] == pytest.approx(0.01 / (1 - conflict))
    assert row(run(DOCTORS, method="product"))["decision"] == "tumour"
    assert row(run(DOCTORS, method="mean"))["probability meningitis"] == pytest.approx(0.495)


def test_masses_of_sets_are_combined_by_hand():
    first = table("first", **{"mass_a": [0.4], "mass_a|b": [0.5]})  # 0.1 of ignorance
    second = table("second", **{"mass_b|c": [0.6], "mass_c": [0.3], "mass_a|b|c": [0.1]})
    found = row(run([first, second], method="dempster_shafer"))
    conflict = 0.4 * 0.6 + 0.4 * 0.3 + 0.5 * 0.3
    left = 1 - conflict
    assert found["conflict"] == pytest.approx(conflict)
    assert found["belief a"] == pytest.approx(0.4 * 0.1 / left)
    assert found["belief b"] == pytest.approx(0.5 * 0.6 / left)
    assert found["belief c"] == pytest.approx(0.1 * 0.3 / left)
    ab, bc, abc = 0.5 * 0.1 / left, 0.1 * 0.6 / left, 0.1 * 0.1 / left
    assert found["plausibility b"] == pytest.approx(found["belief b"] + ab + bc + abc)
    assert found["probability b"] == pytest.approx(found["belief b"] + ab / 2 + bc / 2 + abc / 3)
    assert found["ignorance"] == pytest.approx(abc) and found["decision"] == "b"


def test_the_order_of_the_evidence_does_not_matter():
    rng = np.random.default_rng(0)
    sets = [frozenset(s) for s in ((0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2))]
    bodies = [dict(zip(sets, rng.dirichlet(np.ones(6), 20).T)) for _ in range(4)]
    said = np.ones((4, 20), bool)
    for rule in ("dempster", "yager"):
        one, conflict = dempster_shafer(bodies, 3, said, rule=rule)
        other, same = dempster_shafer(bodies[::-1], 3, said, rule=rule)
        np.testing.assert_allclose(conflict, same)
        for low, high in zip(belief(one, 3), belief(other, 3)):
            np.testing.assert_allclose(low, high)
        np.testing.assert_allclose(sum(one.values()), 1)
    _, lost = combine(*bodies[:2])
    assert (lost > 0).all()


def test_complete_contradiction_is_undecided():
    listener = Listener()
    tables = [
        table(probability_a=[1.0, 1.0], probability_b=[0.0, 0.0]),
        table(probability_a=[0.0, 1.0], probability_b=[1.0, 0]),
    ]
    for method in ("dempster_shafer", "product"):
        result = run(tables, method=method, context=listener)["decisions"].columns
        assert result["decision"] == ("undecided", "a")
        np.testing.assert_allclose(result["probability a"], [0.5, 1])
        assert "Undecided are 1 cases" in listener.warnings[-1]


def test_votes_means_and_products_of_kittlers_rules():
    tables = [
        table(probability_a=[0.9], probability_b=[0.1]),
        table(probability_a=[0.45], probability_b=[0.55]),
        table(probability_a=[0.4], probability_b=[0.6]),
    ]
    assert row(run(tables, method="majority"))["decision"] == "b"
    assert row(run(tables, method="majority"))["probability b"] == pytest.approx(2 / 3)
    assert row(run(tables, method="majority", weights="3, 1, 1"))["decision"] == "a"
    assert row(run(tables, method="mean"))["probability a"] == pytest.approx(1.75 / 3)
    product = row(run(tables, method="product"))["probability a"]
    assert product == pytest.approx(0.9 * 0.45 * 0.4 / (0.9 * 0.45 * 0.4 + 0.1 * 0.55 * 0.6))
    weighted = row(run(tables, method="product", weights="2, 1, 0"))["probability a"]
    assert weighted == pytest.approx(0.9**2 * 0.45 / (0.9**2 * 0.45 + 0.1**2 * 0.55))
    # A tie of votes goes to the class that is likelier on the whole.
    assert row(run(tables[:2], method="majority"))["decision"] == "a"


def scores(classes, seed=0, cases=150, count=3):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, cases)
    probabilities = []
    for number in range(count):
        logits = rng.normal(0, 1 + 0.6 * number, (cases, classes)) + 1.5 * np.eye(classes)[truth]
        probabilities.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return truth, np.stack(probabilities)


def tables_of(probabilities, truth):
    names = [f"c{n}" for n in range(probabilities.shape[2])]
    tables = [
        Table({f"probability {name}": own[:, n] for n, name in enumerate(names)}, f"classifier {r}")
        for r, own in enumerate(probabilities)
    ]
    return tables, Table({"truth": [names[t] for t in truth]}, "truth")


class Known:
    """A scikit-learn classifier that says what it was given; cases are passed by number."""

    def __new__(cls, probabilities):
        from sklearn.base import BaseEstimator, ClassifierMixin

        class Given(ClassifierMixin, BaseEstimator):
            def __init__(self, given=None):
                self.given = given
                self.classes_ = np.arange(given.shape[1])

            def fit(self, x, y=None):
                return self

            def predict_proba(self, x):
                return self.given[np.asarray(x)[:, 0]]

            def predict(self, x):
                return self.predict_proba(x).argmax(axis=1)

        return Given(probabilities)


@pytest.mark.parametrize("voting, method", [("hard", "majority"), ("soft", "mean")])
def test_votes_are_those_of_scikit_learn(voting, method):
    ensemble = pytest.importorskip("sklearn.ensemble")
    truth, probabilities = scores(4)
    x = np.arange(len(truth))[:, None]
    peer = ensemble.VotingClassifier([(str(n), Known(p)) for n, p in enumerate(probabilities)], voting=voting,
                                     weights=[1, 2.5, 0.5]).fit(x, truth)  # fmt: skip
    result = run(tables_of(probabilities, truth)[0], method=method, weights="1, 2.5, 0.5")["decisions"].columns
    assert list(result["decision"]) == [f"c{n}" for n in peer.predict(x)]
    if voting == "soft":
        found = np.stack([result[f"probability c{n}"] for n in range(4)], axis=1)
        np.testing.assert_allclose(found, peer.predict_proba(x), atol=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("strength", [1.0, 0.05])
def test_stacking_is_that_of_scikit_learn(classes, strength):
    ensemble = pytest.importorskip("sklearn.ensemble")
    linear = pytest.importorskip("sklearn.linear_model")
    truth, probabilities = scores(classes)
    x = np.arange(len(truth))[:, None]
    last = linear.LogisticRegression(C=strength, tol=1e-8, max_iter=5000)
    peer = ensemble.StackingClassifier(
        [(str(n), Known(p)) for n, p in enumerate(probabilities)], last, cv="prefit", stack_method="predict_proba"
    ).fit(x, truth)
    values = features(probabilities)
    np.testing.assert_allclose(values, peer.transform(x))
    model = fit(values, truth, classes, strength)
    np.testing.assert_allclose(predict(values, model), peer.predict_proba(x), atol=2e-4)


def test_stacking_judges_cases_by_models_that_never_saw_them():
    truth, probabilities = scores(2, cases=300)
    tables, known = tables_of(probabilities, truth)
    found = run(tables, known, method="stacking")
    rows = found["classifiers"].columns
    assert rows["accuracy"][-1] >= rows["accuracy"][:3].max() - 0.01
    # Answers that have nothing to do with the truth cannot be learned.
    noise = np.random.default_rng(5).dirichlet([1, 1], (3, 300))
    tables, known = tables_of(noise, truth)
    assert run(tables, known, method="stacking")["classifiers"].columns["accuracy"][-1] < 0.6
    # Cases without truth are decided by what was learned from the others.
    tables, _ = tables_of(probabilities, truth)
    part = Table({"truth": [f"c{t}" if n < 200 else "" for n, t in enumerate(truth)]}, "truth")
    decided = run(tables, part, method="stacking")["decisions"].columns["decision"]
    assert np.mean([d == f"c{t}" for d, t in zip(decided[200:], truth[200:])]) > 0.75


def test_missing_answers_leave_the_others_to_decide():
    first = table("first", case=["a", "b", "c"], probability_x=[0.9, 0.2, 0.3], probability_y=[0.1, 0.8, 0.7])
    second = table("second", case=["c", "a", "d"], probability_x=[0.9, np.nan, 0.6], probability_y=[0.1, np.nan, 0.4])
    for method in ("majority", "mean", "product", "dempster_shafer"):
        listener = Listener()
        result = run([first, second], method=method, context=listener)["decisions"].columns
        assert result["case"] == ("a", "b", "c", "d") and result["decision"] == ("x", "y", "x", "x"), method
        assert result["answers"].tolist() == [1, 1, 2, 1]
        assert listener.warnings == ["Cases without an answer: first (1), second (2)."]
    assert row(run([first, second], method="mean"), 0)["probability x"] == pytest.approx(0.9)
    nobody = table("third", case=["e"], probability_x=[np.nan], probability_y=[np.nan])
    assert row(run([first, nobody], method="dempster_shafer"), 3)["decision"] == "undecided"


def test_decisions_and_single_probabilities_can_be_mixed():
    tables = [
        table("reader", decision=["ill", "well", ""]),
        table("network", probability=[0.8, 0.1, 0.7]),
        table("rules", probability_well=[0.3, 0.6, 0.2], probability_ill=[0.7, 0.4, 0.8]),
    ]
    result = run(tables, Table({"truth": ["ill", "well", "ill"]}), positive="ill")
    columns = result["decisions"].columns
    assert columns["decision"] == ("ill", "well", "ill")
    assert columns["probability ill"] == pytest.approx([(1 + 0.8 + 0.7) / 3, 0.5 / 3, 0.75])
    rows = result["classifiers"].columns
    assert rows["classifier"] == ("reader", "network", "rules", "fused") and rows["cases"].tolist() == [2, 3, 3, 3]
    assert rows["accuracy"].tolist() == [1, 1, 1, 1]
    assert result["chart"].table.columns["accuracy"].tolist() == [1, 1, 1, 1]


def test_the_result_can_be_evaluated():
    from MedImgAILib.evaluate.classification import EvaluateClassification

    truth, probabilities = scores(3)
    fused = run(*tables_of(probabilities, truth))["decisions"]
    figures = EvaluateClassification().execute({"predictions": fused}, {"samples": 100}, Context())["figures"].columns
    accuracy = figures["value"][figures["figure"].index("accuracy")]
    assert accuracy == pytest.approx(np.mean(probabilities.mean(axis=0).argmax(axis=1) == truth))


@pytest.mark.parametrize(
    "tables, message",
    [
        ([table(probability_a=[1.2], probability_b=[0]), DOCTORS[0]], "1.2 in row 1"),
        ([table(probability_a=[0.5], probability_b=[0.1]), DOCTORS[0]], "sums to 0.6, not 1"),
        ([table(mass_a=[0.9], mass_b=[0.3]), DOCTORS[0]], "sums to 1.2"),
        ([table("t", x=[1.0]), DOCTORS[0]], "'t' has neither"),
        ([table(probability_a=["high"], probability_b=["low"]), DOCTORS[0]], "text in column 'probability a'"),
        ([table(probability_a=[1, 1], probability_b=[0, 0]), DOCTORS[0]], "1, 2 rows and no column 'case'"),
        ([table(case=["1"], decision=["a"]), DOCTORS[0]], "no column 'case' though others have"),
        ([table(case=["1", "1"], decision=["a", "b"]), table(case=["1"], decision=["a"])], "the case '1' twice"),
        ([table(decision=["a"], truth=["a"]), table(decision=["b"], truth=["b"])], "'a' in one table and 'b'"),
        ([table(decision=["a"], truth=["z"]), table(decision=["b"])], "true class 'z'"),
        ([table(probability=[0.5]), DOCTORS[0]], "name the positive class"),
        ([Table({}), DOCTORS[0]], "no rows"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(tables, message):
    with pytest.raises(InputError, match=message):
        run(tables)


def test_bad_weights_and_missing_truth_are_refused():
    for weights in ("1", "a, b", "-1, 1", "0, 0", "inf, 1"):
        with pytest.raises(ParameterError, match="Weights"):
            run(DOCTORS, weights=weights)
    with pytest.raises(ParameterError, match="0…1"):
        run(DOCTORS, weights="2, 1", method="dempster_shafer")
    with pytest.raises(InputError, match="known truth for every classifier"):
        run(DOCTORS, weights="accuracy")
    with pytest.raises(InputError, match="at least two true classes"):
        run(DOCTORS, method="stacking")
