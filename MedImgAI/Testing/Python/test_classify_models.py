"""Models end to end: trained on a shifted set, applied to pictures however stored, to views and to data sets."""

from __future__ import annotations

import numpy as np
import pytest
from MedImgAILib.classify import robust_training, shift
from MedImgAILib.classify.picture import as_picture, picture_order
from MedImgAILib.core import Context, Geometry, InputError, MedImgAIError, OutputError, Volume, registry
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks.installed import SHIPPED
from MedImgAILib.training.exclusive import LOCK
from task_comparison import ORDERS
from testing_data import data_path

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("sklearn")
LPS = np.diag([-1.0, -1.0, 1.0])


def run(task_id, inputs, **parameters):
    return registry()[task_id].execute(inputs, parameters, Context("cpu", seed=1))


def pictures(n=120, seed=0):
    """Class 1 has a bright spot in the upper left; how bright the whole picture is says nothing."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    images = rng.normal(0, 8, (n, 16, 16)) + rng.uniform(60, 150, (n, 1, 1))
    images[:, 2:7, 2:7] += 70.0 * truth[:, None, None]
    return np.clip(images, 0, 255).astype(np.uint8), truth


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robust")
    images, truth = pictures()
    others, known = pictures(40, seed=5)
    np.savez(folder / "set.npz", train_images=images, train_labels=truth, val_images=others, val_labels=known,
             test_images=others, test_labels=known)  # fmt: skip
    parameters = {"data": str(folder / "set.npz"), "folder": str(folder / "run"), "epochs": 40, "members": 2,
                  "width": 4, "size": 16, "strength": 0.2}  # fmt: skip
    out = run("classify.train_robust", {}, **parameters)
    return folder, parameters, out


def test_training_learns_and_leaves_a_package_only(trained):
    folder, _, out = trained
    figures = out["figures"].columns
    assert figures["judged on"] == ("held-out folds", "most misleading fold", "validation part of the data")
    assert min(figures["AUC"]) > 0.9
    assert {p.name for p in (folder / "run").iterdir()} <= {"model", LOCK}
    assert {p.name for p in (folder / "run/model").iterdir()} == {
        "model.json", "weights.safetensors", "weights_2.safetensors", "diagnosis.safetensors",
    }  # fmt: skip
    assert out["predictions"].rows == 120, "the validation and test parts are no training data"


def test_a_data_set_is_classified_by_part(trained):
    folder, _, _ = trained
    model = str(folder / "run/model")
    out = run("classify.apply_set", {}, data=str(folder / "set.npz"), model=model, part="test")["predictions"].columns
    assert len(out["case"]) == 40 and set(out["truth"]) == {"0", "1"}
    assert np.mean([a == b for a, b in zip(out["called"], out["truth"])]) > 0.85
    np.testing.assert_allclose(out["probability 0"] + out["probability 1"], 1, atol=1e-9)
    small = folder / "small.npz"
    np.savez(small, images=pictures(4)[0], labels=pictures(4)[1])
    with pytest.raises(InputError, match="no case of the part"):
        run("classify.apply_set", {}, data=str(small), model=model, part="test")


def test_a_picture_is_judged_alike_however_it_is_stored_and_lies(trained):
    """All storage orders, as a coronal or sagittal slice, larger, and in other units."""
    folder, _, _ = trained
    model = str(folder / "run/model")
    array = pictures(2, seed=8)[0][1].astype(np.float32)[None]

    def probability(volume):
        return run("classify.apply", {"images": [volume]}, model=model)["probabilities"].columns["probability"][1]

    axial = Volume(array, Geometry.from_spacing(array.shape, (1, 1, 1), directions=LPS), "picture")
    wanted = probability(axial)
    assert wanted > 0.5
    for axes, flips in ORDERS[::5]:
        assert probability(axial.reordered(axes, flips)) == pytest.approx(wanted, abs=1e-5)
    coronal = np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # i to left, j to inferior
    sagittal = np.array([[0, 0, 1.0], [-1, 0, 0], [0, -1, 0]])  # i to posterior, j to inferior
    for directions in (coronal, sagittal):
        volume = Volume(array, Geometry.from_spacing(array.shape, (1, 1, 1), directions=directions), "slice")
        assert np.array_equal(as_picture(volume).array, array)
        assert probability(volume) == pytest.approx(wanted, abs=1e-5)
        for axes, flips in ORDERS[::9]:
            assert np.array_equal(as_picture(volume.reordered(axes, flips)).array, array)
    large = np.kron(array, np.ones((1, 12, 12), np.float32)) * 20 - 1000
    volume = Volume(large, Geometry.from_spacing(large.shape, (0.1, 0.1, 1), directions=LPS), "large")
    assert probability(volume) == pytest.approx(wanted, abs=0.15)


def test_the_map_of_a_coronal_picture_lies_on_it(trained):
    folder, _, _ = trained
    array = pictures(2, seed=8)[0][1].astype(np.float32)[None]
    coronal = Geometry.from_spacing(array.shape, (2, 1, 3), (5, 6, 7), np.array([[-1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
    for axes, flips in [((0, 1, 2), (False,) * 3), *ORDERS[::12]]:
        volume = Volume(array, coronal, "slice").reordered(axes, flips)
        out = run("explain.classification", {"images": [volume]}, model=str(folder / "run/model"), method="occlusion",
                  target="1", sanity_check=False)["saliency"]  # fmt: skip
        assert out.geometry.same_grid(volume.geometry)
        shown = out.array.transpose(picture_order(volume.geometry)[0])
        shown = np.flip(shown, [a for a, f in enumerate(picture_order(volume.geometry)[1]) if f])[0]
        peak = np.unravel_index(shown.argmax(), shown.shape)
        assert max(peak) <= 8, f"the spot is in the upper left, not at {peak}"


def test_views_are_pooled_and_listed(trained):
    folder, _, _ = trained
    array, _ = pictures(4, seed=3)
    views = [
        Volume(a[None].astype(np.float32), Geometry.from_spacing((1, 16, 16), directions=LPS), name)
        for a, name in zip(array, ("left CC", "left MLO", "right CC", "right MLO"))
    ]
    model = str(folder / "run/model")
    each = [
        run("classify.apply", {"images": [v]}, model=model)["probabilities"].columns["probability"][1] for v in views
    ]
    out = run("classify.apply", {"images": views}, model=model, pooling="max")
    assert out["probabilities"].columns["probability"][1] == pytest.approx(max(each), abs=1e-6)
    assert out["parts"].columns["part"] == tuple(v.name for v in views)
    assert "Pooled from 4 views" in out["summary"].text and out["similar"].rows == 5
    assert "not for diagnosis" in out["summary"].text


def test_another_calibration_and_prevalence_are_used(trained):
    folder, _, out = trained
    calibration = run("classify.calibrate", {"predictions": out["predictions"]}, sensitivity=0.99)["calibration"]
    between = pictures(2, seed=8)[0][:1].astype(np.float32)
    between[:, 2:7, 2:7] += 22.0  # a faint spot
    image = Volume(between, Geometry.from_spacing((1, 16, 16), directions=LPS))
    model = str(folder / "run/model")
    summary = run("classify.apply", {"images": [image], "calibration": calibration}, model=model)["summary"].text
    assert "sensitivity of 99 %" in summary
    rare, common = (
        run("classify.apply", {"images": [image]}, model=model, prevalence=p)["probabilities"].columns["probability"][1]
        for p in (0.01, 0.9)
    )
    assert rare < common and rare / (1 - rare) / (common / (1 - common)) == pytest.approx(0.01 / 0.99 / 9, rel=1e-3)


def test_deep_features_feed_training_on_features(trained):
    folder, _, _ = trained
    array, truth = pictures(30, seed=2)
    images = [
        Volume(a[None].astype(np.float32), Geometry.from_spacing((1, 16, 16), directions=LPS), f"c{n}")
        for n, a in enumerate(array)
    ]
    table = run("classify.deep_features", {"images": images}, model=str(folder / "run/model"))["features"]
    columns = dict(table.columns) | {"truth": truth}
    from MedImgAILib.core import Table

    out = run("classify.train_features", {"features": Table(columns, "deep")}, folds=3, inner_folds=2)
    at = out["figures"].columns["figure"].index("accuracy")
    assert out["figures"].columns["value"][at] > 0.85


def test_a_killed_training_goes_on_and_ends_the_same(trained, tmp_path):
    _, parameters, _ = trained
    images, truth = pictures(60)
    data = robust_training.Pictures(
        np.stack([robust_training.INTENSITY.apply(i) for i in images]), truth, ("a", "b"), tuple(map(str, range(60)))
    )
    recipe = robust_training.Recipe(2, 4, batch=16, network={"width": 4, "first_stride": 2, "first_kernel": 5})
    held_out = robust_training.folds_of(data, recipe)[0]
    whole, _ = robust_training.train_member(data, held_out, 0, recipe, None, Context("cpu"))

    class Killed(Context):
        def on_progress(self, fraction, message):
            if fraction > 0.6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        robust_training.train_member(data, held_out, 0, recipe, tmp_path / "m", Killed("cpu"))
    again, _ = robust_training.train_member(data, held_out, 0, recipe, tmp_path / "m", Context("cpu"))
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_ended_early_only_whole_networks_are_kept(trained, tmp_path):
    """Asked in the first network, that one is kept as it is; asked in the second, the first alone."""
    _, parameters, _ = trained
    parameters = {**parameters, "epochs": 8}
    whole = run("classify.train_robust", {}, **{**parameters, "folder": str(tmp_path / "whole")})
    first = ModelPackage.load(tmp_path / "whole/model").card.weights_sha256

    class Finishing(Context):
        begin, at, warnings = 0.0, 0.0, ()

        def on_progress(self, fraction, message):
            self.at = fraction

        def is_finishing(self):
            return self.at > self.begin

        def warn(self, message):
            self.warnings += (message,)

    for name, begin in (("one", 0.1), ("two", 0.55)):
        context = Finishing("cpu", seed=1)
        context.begin = begin
        task = registry()["classify.train_robust"]
        out = task.execute({}, {**parameters, "folder": str(tmp_path / name)}, context)
        card = ModelPackage.load(tmp_path / name / "model").card
        assert card.members == () and "1 of 2 networks" in context.warnings[-1]
        assert (card.weights_sha256 == first) == (name == "two")
        assert set(out["figures"].columns["judged on"]) == {"held-out folds", "validation part of the data"}
        judged = np.flatnonzero(whole["predictions"].columns["fold"] == 1)
        assert out["predictions"].columns["case"] == tuple(whole["predictions"].columns["case"][n] for n in judged)
        assert "how much worse is not known" in card.limits


def test_no_patient_is_divided_between_the_networks(tmp_path):
    images, truth = pictures(60)
    prepared = np.stack([robust_training.INTENSITY.apply(i) for i in images])
    names = tuple(map(str, range(60)))
    recipe = robust_training.Recipe(3)
    alone = robust_training.Pictures(prepared, truth, ("a", "b"), names)
    known = robust_training.Pictures(prepared, truth, ("a", "b"), names, tuple(f"p{60 - n}" for n in range(60)))
    for one, other in zip(robust_training.folds_of(alone, recipe), robust_training.folds_of(known, recipe)):
        np.testing.assert_array_equal(one, other)
    assert alone.digest() == known.digest()
    whose = np.random.default_rng(0).integers(0, 20, 60)
    shared = robust_training.Pictures(prepared, truth, ("a", "b"), names, tuple(f"p{n}" for n in whose))
    folds = robust_training.folds_of(shared, recipe)
    assert np.array_equal(np.sort(np.concatenate(folds)), np.arange(60)) and shared.digest() != alone.digest()
    assert sum(len(set(whose[fold])) for fold in folds) == len(set(whose))
    few = robust_training.Pictures(prepared, truth, ("a", "b"), names, tuple("pq"[n % 2] for n in range(60)))
    with pytest.raises(InputError, match="choose fewer, or add patients"):
        robust_training.folds_of(few, recipe)
    import SimpleITK as sitk

    rows = ["image,label,patient,split"]
    for n, image in enumerate(images):
        sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / f"{n}.png"))
        rows.append(f"{n}.png,{truth[n]},p{n // 2},{('train', 'val')[n % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(InputError, match="on both sides of the split"):
        run("classify.train_robust", {}, data=str(tmp_path / "t.csv"), folder=str(tmp_path / "run"), size=16)
    assert not (tmp_path / "run").exists()


def test_folders_of_others_are_left_alone(trained, tmp_path):
    _, parameters, _ = trained
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="thesis.txt"):
        run("classify.train_robust", {}, **{**parameters, "folder": str(tmp_path)})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("labels, sentence", [([0] * 30, "at least two"), ([0] * 25 + [1] * 5, "'1' has 5 cases")])
def test_too_little_to_learn_from_is_refused(tmp_path, labels, sentence):
    np.savez(tmp_path / "set.npz", images=pictures(30)[0], labels=np.array(labels))
    with pytest.raises(InputError, match=sentence):
        run("classify.train_robust", {}, data=str(tmp_path / "set.npz"), folder=str(tmp_path / "run"), size=16)
    assert not (tmp_path / "run").exists()


def test_the_misleading_normals_are_in_the_last_fold():
    """Bright normals among dark ones, where brightness means disease, are what misleads."""
    rng = np.random.default_rng(0)
    truth = np.r_[np.zeros(100, int), np.ones(100, int)]
    level = np.where(truth == 1, 0.8, 0.2)
    level[:20] = 0.7
    images = rng.normal(level[:, None, None], 0.05, (200, 18, 18)).astype(np.float32)
    folds = shift.shifted_folds(images, truth, 2, 5)
    assert sorted(np.concatenate(folds).tolist()) == list(range(200))
    assert set(folds[-1][truth[folds[-1]] == 0]) == set(range(20))
    assert all((truth[f] == 1).sum() == 20 for f in folds)


def test_disturbed_pictures_keep_their_shape_and_differ():
    images = torch.rand((6, 1, 20, 24), generator=torch.Generator().manual_seed(0))
    one, other = (shift.disturbed(images, torch.Generator().manual_seed(s)) for s in (1, 2))
    assert one.shape == images.shape and torch.isfinite(one).all() and not torch.allclose(one, other)
    assert torch.equal(one, shift.disturbed(images, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("model", ["", "/no/such/folder", "no_such_model"])
def test_models_that_are_not_there_are_refused(model):
    image = Volume(np.zeros((1, 16, 16), np.float32), Geometry.from_spacing((1, 16, 16)), "x")
    with pytest.raises(MedImgAIError) as refusal:
        run("classify.apply", {"images": [image]}, model=model)
    assert str(refusal.value).endswith(".")


def test_the_shipped_model_knows_pneumonia():
    """By its name, on the validation part, which it was not chosen by."""
    if not (SHIPPED / "pneumonia_chest_xray").is_dir():
        pytest.skip("the model was left out of this build")
    path = data_path("cxr/pneumoniamnist_train_val.npz")
    assert sum(p.stat().st_size for p in (SHIPPED / "pneumonia_chest_xray").iterdir()) <= 4_000_000
    out = run("classify.apply_set", {}, data=str(path), model="pneumonia_chest_xray", part="validation")["predictions"]
    truth = np.array([t == "pneumonia" for t in out.columns["truth"]])
    called = np.array([c == "pneumonia" for c in out.columns["called"]])
    from MedImgAILib.evaluate.metrics import Ranking

    assert Ranking(truth, out.columns["probability pneumonia"]).auc() > 0.985
    assert ((called == truth)[truth].mean() + (called == truth)[~truth].mean()) / 2 > 0.93
