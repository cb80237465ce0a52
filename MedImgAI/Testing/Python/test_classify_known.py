"""Nearest known cases as evidence: kept by every training, found as a plain search finds them, private on request."""

import hashlib
import json

import numpy as np
import pytest
from MedImgAILib.classify import known
from MedImgAILib.classify.diagnosis import Diagnosis, load_diagnosis
from MedImgAILib.core import Context, ModelError, Table, Text, registry

pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("sklearn")


def run(task_id, inputs, **parameters):
    return registry()[task_id].execute(inputs, parameters, Context("cpu", seed=1))


def test_the_nearest_are_those_of_scikit_learn():
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(0)
    embeddings, asked = rng.normal(size=(200, 24)) * rng.uniform(1, 50, (200, 1)), rng.normal(size=(7, 24))
    truth, names = rng.integers(0, 2, 200), [f"case {n}" for n in range(200)]
    diagnosis = known.with_known(Diagnosis(("well", "sick")), embeddings, truth, names)
    assert diagnosis.embeddings.dtype == np.float16
    table = known.similar_cases(diagnosis, asked, 4, [f"new {n}" for n in range(7)]).columns
    distances, places = NearestNeighbors(n_neighbors=4, metric="cosine").fit(embeddings).kneighbors(asked)
    np.testing.assert_allclose(table["likeness"], 1 - distances.ravel(), atol=2e-3)
    assert sum(found == f"case {place}" for found, place in zip(table["case"], places.ravel())) >= 26
    assert table["of"][::4] == tuple(f"new {n}" for n in range(7))
    assert all(c == ("well", "sick")[truth[int(n.split()[1])]] for n, c in zip(table["case"], table["class"]))


def test_each_class_has_its_share():
    truth = np.r_[np.zeros(900, int), np.ones(50, int)]
    places = known.chosen(truth, 2)
    assert np.bincount(truth[places]).tolist() == [200, 50] and len(set(places)) == 250
    assert (np.diff(places) > 0).all()


def test_names_can_be_hashed_or_left_out():
    arguments = Diagnosis(("a", "b")), np.eye(2), np.array([0, 1]), ["Smith^John", "Doe^Jane"]
    hashed = known.with_known(*arguments, "hashed")
    assert hashed.names[0] == hashlib.sha256(b"Smith^John").hexdigest()[:10]
    assert not len(known.with_known(*arguments, "none").embeddings)
    assert known.similar_cases(Diagnosis(("a", "b")), np.eye(2), 3) is None


def pictures(folder, count=24):
    rng = np.random.default_rng(0)
    truth = np.arange(count) % 2
    images = rng.normal(100, 20, (count, 16, 16)) + 60 * truth[:, None, None] * (np.arange(16) > 7)
    images = np.clip(images, 0, 255).astype(np.uint8)
    np.savez(folder / "set.npz", train_images=images, train_labels=truth)
    return images, truth


@pytest.mark.parametrize("naming", ["names", "hashed", "none"])
def test_a_trained_network_knows_its_training_cases_again(tmp_path, naming):
    from MedImgAILib.core import Geometry, Volume
    from MedImgAILib.training.sources import read_collection

    images, truth = pictures(tmp_path)
    run("train.classification", {}, data=str(tmp_path / "set.npz"), folder=str(tmp_path / "run"), steps=4, batch=4,
        held_out_percent=25.0, precision="full", workers=0, augmentation="none", known_cases=naming)  # fmt: skip
    model = str(tmp_path / "run/model")
    kept = load_diagnosis(model)
    if naming == "none":
        assert not len(kept.embeddings) and not kept.names
        return
    assert len(kept.embeddings) == 24 and kept.embeddings.dtype == np.float16
    grid = Geometry.from_spacing((1, 16, 16), (1.0, 1.0, 1.0), (0, 0, 0), np.diag([-1.0, -1.0, 1.0]))
    out = run("classify.apply", {"images": [Volume(images[5][None], grid, "again")]}, model=model, neighbours=3)
    similar = out["similar"].columns
    assert len(similar["case"]) == 3 and similar["likeness"][0] > 0.999
    assert similar["class"][0] == str(truth[5])
    ids = {case.id for case in read_collection(str(tmp_path / "set.npz"), "classification").cases}
    hashes = {hashlib.sha256(name.encode()).hexdigest()[:10] for name in ids}
    assert set(kept.names) == (hashes if naming == "hashed" else ids)


def table(count=40, seed=0, named=True):
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    columns = {"case": [f"p{seed}-{n}" for n in range(count)], "truth": [("well", "sick")[t] for t in truth]}
    return Table(columns | {f"f{k}": rng.normal(truth * 2.0, 1.0) for k in range(4)}, "features")


def test_a_classifier_of_features_names_similar_cases():
    given = table()
    out = run("classify.train_features", {"features": given}, folds=4, inner_folds=2, positive="sick")
    new = table(3, seed=1)
    similar = run("classify.apply_features", {"features": new, "trained": out["trained"]}, neighbours=2)["similar"]
    values = np.stack([given.columns[f"f{k}"] for k in range(4)], 1)
    center, scale = values.mean(0), values.std(0)
    own = (values - center) / scale
    asked = (np.stack([new.columns[f"f{k}"] for k in range(4)], 1) - center) / scale
    likeness = own @ asked.T / np.linalg.norm(own, axis=1)[:, None] / np.linalg.norm(asked, axis=1)
    for n in range(3):
        best = np.argsort(-likeness[:, n])[:2]
        assert similar.columns["case"][2 * n : 2 * n + 2] == tuple(f"p0-{b}" for b in best)
        np.testing.assert_allclose(similar.columns["likeness"][2 * n : 2 * n + 2], likeness[best, n], atol=2e-3)
    none = run("classify.train_features", {"features": given}, folds=4, inner_folds=2, known_cases="none")
    assert "p0-1" not in none["trained"].text and "p0-1" in out["trained"].text
    assert "similar" not in run("classify.apply_features", {"features": new, "trained": none["trained"]})


@pytest.mark.parametrize("change", [
    {"float16": "!"}, {"float16": "AAAA"}, {"shape": [3, 4]}, {"shape": None}, {"shape": [160]},
])  # fmt: skip
def test_damaged_known_cases_are_refused_in_one_sentence(change):
    out = run("classify.train_features", {"features": table()}, folds=2, inner_folds=2)
    content = json.loads(out["trained"].text)
    arrays = content["diagnosis"]["arrays"]
    arrays["embeddings"] = arrays["embeddings"] | change
    with pytest.raises(ModelError, match="damaged|no calibration"):
        run("classify.apply_features", {"features": table(2, 1), "trained": Text(json.dumps(content), "bad")})
