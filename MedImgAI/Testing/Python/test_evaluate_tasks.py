"""The evaluation tasks: tables as users have them, intervals that hold the truth, subgroups, bad input, the report."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from MedImgAILib.core import Context, InputError, Table, registry


def run(task_id, inputs, **parameters):
    context = Context("cpu", seed=1)
    context.warnings = []
    context.on_log = lambda level, message: context.warnings.append(message)
    return registry()[task_id].execute(inputs, parameters, context), context.warnings


def made(n=200, seed=0, **columns):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-(2 * truth - 1 + rng.normal(0, 1.0, n))))
    return Table({"truth": truth, "probability": score, **columns}, "made")


def figure(table, name, column="value", interval=None):
    rows = [n for n, f in enumerate(table.columns["figure"]) if f == name]
    rows = [n for n in rows if interval is None or table.columns["interval"][n] == interval]
    return float(table.columns[column][rows[0]])


def test_one_column_and_a_column_for_each_class_say_the_same():
    one = made()
    names = np.where(one.columns["truth"] == 1, "cancer", "benign").tolist()
    p = one.columns["probability"]
    two = Table({"truth": names, "probability cancer": p, "probability benign": 1 - p}, "two")
    first, _ = run("evaluate.classification", {"predictions": one}, samples=100)
    second, _ = run("evaluate.classification", {"predictions": two}, samples=100, positive="cancer")
    for column in ("value", "lower", "upper"):
        np.testing.assert_allclose(first["figures"].columns[column], second["figures"].columns[column], atol=1e-12)
    assert list(second["confusion"].columns) == ["true class", "called benign", "called cancer"]


def test_delong_and_bootstrap_intervals_hold_the_true_area():
    """Normal scores one and a half standard deviations apart: the area is known; 95 % of intervals hold it."""
    from scipy.stats import norm

    true_area = norm.cdf(1.5 / np.sqrt(2))
    held = {"DeLong": 0, "bootstrap": 0}
    for seed in range(60):
        rng = np.random.default_rng(seed)
        truth = np.arange(120) < 50
        score = norm.cdf(rng.normal(1.5 * truth, 1))
        out, _ = run("evaluate.classification", {"predictions": Table({"truth": truth * 1, "probability": score})},
                     samples=200)  # fmt: skip
        for kind in held:
            low, high = (figure(out["figures"], "AUC", c, kind) for c in ("lower", "upper"))
            held[kind] += low <= true_area <= high
    assert all(52 <= count <= 60 for count in held.values()), held


def test_intervals_over_patients_are_wider_when_images_repeat():
    small = made(40, seed=3)
    repeated = {k: np.repeat(v, 5) for k, v in small.columns.items()}
    repeated["patient"] = np.repeat([f"p{n}" for n in range(40)], 5).tolist()
    table = Table(repeated, "repeated")
    naive, _ = run("evaluate.classification", {"predictions": table}, samples=300)
    fair, _ = run("evaluate.classification", {"predictions": table}, samples=300, patient_column="patient")
    widths = [figure(o["figures"], "F1", "upper") - figure(o["figures"], "F1", "lower") for o in (naive, fair)]
    assert 1.6 < widths[1] / widths[0] < 3.0  # √5 = 2.24
    assert "bootstrap over patients" in fair["figures"].columns["interval"]


def test_a_subgroup_that_falls_behind_is_flagged_and_only_that():
    rng = np.random.default_rng(5)
    truth, group = rng.integers(0, 2, 600), np.repeat(["A", "B", "C"], 200)
    noise = np.where(group == "B", 3.0, 0.6)
    score = 1 / (1 + np.exp(-2 * (2 * truth - 1 + rng.normal(0, 1, 600) * noise)))
    table = Table({"truth": truth, "probability": score, "scanner": group.tolist()}, "scans")
    out, warnings = run("evaluate.classification", {"predictions": table}, samples=100, group_columns="scanner")
    gaps = dict(zip(out["subgroups"].columns["subgroup"], out["subgroups"].columns["gap"]))
    assert "AUC −" in gaps["B"] and "accuracy −" in gaps["B"]
    assert gaps["A"] == gaps["C"] == ""
    assert any("'B' falls behind" in w for w in warnings)


def test_small_subgroups_are_not_judged():
    table = made(100, scanner=["new"] * 4 + ["old"] * 96)
    out, _ = run("evaluate.classification", {"predictions": table}, samples=100, group_columns="scanner")
    assert dict(zip(out["subgroups"].columns["subgroup"], out["subgroups"].columns["gap"]))["new"] == "too few to tell"


def test_several_classes():
    sk = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    names = np.array(["glioma", "metastasis", "abscess"])
    truth = rng.integers(0, 3, 150)
    p = rng.dirichlet((1, 1, 1), 150) * 0.5 + 0.5 * np.eye(3)[truth] * rng.random((150, 1))
    p /= p.sum(axis=1, keepdims=True)
    table = Table({"truth": names[truth], **{f"probability {n}": p[:, i] for i, n in enumerate(names)}}, "tumours")
    out, _ = run("evaluate.classification", {"predictions": table}, samples=100)
    wanted = sk.roc_auc_score(truth, p, multi_class="ovr", average="macro")
    assert figure(out["figures"], "mean AUC") == pytest.approx(wanted, abs=1e-9)
    assert out["confusion"].rows == 3 and "decision" not in out and len(out["roc"].series) == 3


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text.append(data)


def test_report_stands_alone_and_carries_the_note():
    table = made(100, ward=['<script>alert("x")</script>', "B"] * 50)
    out, _ = run("evaluate.classification", {"predictions": table}, samples=100, group_columns="ward")
    page = Page()
    page.feed(out["report"].text)
    text = " ".join(page.text)
    assert not page.links and "script" not in page.tags and page.tags.count("svg") == 4
    assert "For research only, not for diagnosis." in text and f"{figure(out['figures'], 'accuracy'):.4f}" in text


def test_one_class_only_gives_what_is_defined():
    table = Table({"truth": [1] * 20, "probability": np.linspace(0.2, 0.9, 20)}, "sick")
    with pytest.raises(InputError, match="positive"):
        run("evaluate.classification", {"predictions": Table({**table.columns, "truth": ["sick"] * 20})})
    out, warnings = run("evaluate.classification", {"predictions": table}, samples=100)
    assert np.isnan(figure(out["figures"], "AUC")) and figure(out["figures"], "sensitivity") > 0
    assert any("No case is truly '0'" in w for w in warnings) and "roc" not in out


@pytest.mark.parametrize(
    "columns, sentence",
    [
        ({"label": [0, 1], "probability": [0.1, 0.9]}, "no column 'truth'"),
        ({"truth": [0, 1], "score": [0.1, 0.9]}, "no column 'probability'"),
        ({"truth": [0, 1], "probability": [0.1, 90.0]}, "row 2"),
        ({"truth": [0, 1], "probability": [0.1, np.nan]}, "row 2"),
        ({"truth": ["a", ""], "probability": [0.1, 0.2]}, "row 2"),
        ({"truth": ["a", "b", "c"], "probability": [0.1, 0.2, 0.3]}, "3 classes"),
        ({"truth": ["a", "b"], "probability": ["x", "y"]}, "text"),
        ({"truth": ["a", "b"], "probability a": [0.4, 0.5], "probability b": [0.1, 0.5]}, "sum to 0.5"),
        ({"truth": ["a", "c"], "probability a": [0.4, 0.5], "probability b": [0.6, 0.5]}, "true class 'c'"),
        ({"truth": [], "probability": []}, "no rows"),
    ],
)
def test_bad_tables_are_refused_in_one_sentence(columns, sentence):
    with pytest.raises(InputError, match=sentence) as refusal:
        run("evaluate.classification", {"predictions": Table(columns, "bad")})
    assert str(refusal.value).endswith(".") and "\n" not in str(refusal.value)


def two_models(n=300):
    rng = np.random.default_rng(8)
    truth, cases = rng.integers(0, 2, n), [f"c{k}" for k in range(n)]
    latent = 2 * truth - 1 + rng.normal(0, 0.8, n)
    one = Table({"case": cases, "truth": truth, "probability": 1 / (1 + np.exp(-2 * latent))}, "good")
    worse = 1 / (1 + np.exp(-2 * (latent + rng.normal(0, 1.2, n))))
    return one, Table({"case": cases, "truth": truth, "probability": worse}, "worse")


def test_comparison_finds_the_better_one_whatever_the_order_of_rows():
    one, other = two_models()
    shuffled = np.random.default_rng(0).permutation(one.rows)
    other_shuffled = Table(
        {k: np.array(v)[shuffled] for k, v in other.columns.items() if k != "truth"}, "worse"
    )  # fmt: skip
    out, _ = run("evaluate.compare", {"first": one, "second": other}, samples=200)
    again, _ = run("evaluate.compare", {"first": one, "second": other_shuffled}, samples=200)
    assert out["tests"].columns["p"][0] < 1e-3 and out["differences"].columns["difference"][0] > 0
    for name in ("tests", "differences"):
        for key, column in out[name].columns.items():
            assert np.array_equal(again[name].columns[key], column, equal_nan=not isinstance(column, tuple))


def test_comparison_of_other_cases_is_refused():
    one, other = two_models()
    fewer = Table({k: v[:-1] for k, v in other.columns.items()}, "fewer")
    with pytest.raises(InputError, match="not the same cases"):
        run("evaluate.compare", {"first": one, "second": fewer})
    flipped = Table({**other.columns, "truth": 1 - other.columns["truth"]}, "flipped")
    with pytest.raises(InputError, match="disagree about the truth"):
        run("evaluate.compare", {"first": one, "second": flipped})
    twice = Table({**other.columns, "case": ("c0", *other.columns["case"][:-1])}, "twice")
    with pytest.raises(InputError, match="twice"):
        run("evaluate.compare", {"first": one, "second": twice})
