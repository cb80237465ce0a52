"""Image fusion by a network: its figures against the exact ones, what it may show, and its life in a run."""

import numpy as np
import pytest
from MedImgAIFusionLib.image import metrics
from MedImgAIFusionLib.image.methods import METHODS, saliency
from MedImgAILib.core import Context, Geometry, InputError, Volume
from MedImgAILib.core.examples import example_volume

torch = pytest.importorskip("torch")
from MedImgAIFusionLib.image import network  # noqa: E402
from MedImgAIFusionLib.image.network_task import NetworkFusion  # noqa: E402
from MedImgAIFusionLib.image.soft_metrics import Sources  # noqa: E402


def pictures(size=80):
    """Two pictures with a bright object each and texture, 0…1."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    head = np.hypot(x, y) < 0.4 * size
    texture = gaussian_filter(rng.normal(size=(2, size, size)), (0, 1.2, 1.2))
    first = head * (0.25 + 0.25 * texture[0]) + 0.7 * (np.abs(np.hypot(x, y) - 0.42 * size) < 2.5)
    second = head * (0.5 + 0.5 * texture[1]) * (1 + 0.5 * (np.hypot(x - 8, y + 6) < 9))
    return [np.clip(v, 0, 1).astype(np.float32) for v in (first, second)]


def guess_of(first, second):
    return (saliency(first[None], (1.0, 1.0, 1.0)) - saliency(second[None], (1.0, 1.0, 1.0)))[0]


def figures(fused, pair):
    found = metrics.evaluate(np.rint(255 * fused)[None], [np.rint(255 * p)[None] for p in pair])
    return np.array([found[name] for name in Sources.NAMES])


def tensor(array):
    return torch.from_numpy(255 * np.asarray(array, np.float32))[None, None]


class Watched(Context):
    def __init__(self, stop_after=None):
        super().__init__(device="cpu")
        self.points, self.warnings, self.stop_after = {}, [], stop_after

    def on_curve(self, name, x, y):
        self.points.setdefault(name, []).append((x, y))

    def warn(self, message):
        self.warnings.append(message)

    def is_finishing(self):
        return self.stop_after is not None and len(self.points.get("Loss", ())) >= self.stop_after


@pytest.mark.parametrize("method", ["maximum", "weighted", "salient", "guided"])
def test_differentiable_figures_follow_the_exact_ones(method):
    pair = pictures()
    fused = np.clip(METHODS[method]([p[None] for p in pair], (1.0, 1.0, 1.0))[0], 0, 1)
    found = Sources(*(tensor(p) for p in pair)).measure(tensor(fused)).numpy()
    exact = figures(fused, pair)
    # MI has a quarter of the grey levels; orientations wrap; the SSIM has larger constants.
    for number, tolerance in ((1, 1e-2), (2, 2e-2), (3, 5e-2), (4, 0.12)):
        assert found[number] == pytest.approx(exact[number], abs=tolerance), Sources.NAMES[number]


def test_figures_of_all_methods_are_ranked_as_exactly():
    pair = pictures()
    fused = [np.clip(METHODS[m]([p[None] for p in pair], (1.0, 1.0, 1.0))[0], 0, 1) for m in METHODS]
    sources = Sources(*(tensor(p) for p in pair))
    soft = np.stack([sources.measure(tensor(f)).numpy() for f in fused])
    exact = np.stack([figures(f, pair) for f in fused])
    for number, name in enumerate(Sources.NAMES):
        assert np.corrcoef(soft[:, number], exact[:, number])[0, 1] > 0.9, name


def test_training_improves_what_it_is_judged_by():
    pair = pictures(56)
    losses = []
    example = (*pair, guess_of(*pair))
    net = network.train([example], 25, 0, "cpu", lambda step, loss, gains: losses.append(loss))
    assert losses[-1] < 0.9 * losses[0]
    before, after = (
        figures(network.apply(n, *example, "cpu"), pair) for n in (network.train([example], 0, 0, "cpu"), net)
    )
    plain = figures(np.maximum(*pair), pair)
    gain = (after - before) / plain
    assert gain.sum() > 0 and gain[[1, 4]].min() > -0.02


def test_the_network_shows_nothing_that_is_in_neither_image():
    pair = pictures()
    example = (*pair, guess_of(*pair))
    net = network.train([example], 5, 0, "cpu")
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, 0, 1)
    fused = network.apply(net, *example, "cpu")
    low, high = np.minimum(*pair), np.minimum(sum(pair), 1)
    assert (fused >= low - 1e-5).all() and (fused <= high + 1e-5).all()
    assert (fused[(pair[0] == 0) & (pair[1] == 0)] == 0).all()


def volumes(shape=(3, 64, 64)):
    pair = pictures(shape[-1])
    grid = Geometry.from_spacing(shape, (1.0, 1.0, 4.0))
    return [Volume(np.repeat(p[None], shape[0], axis=0)[:, : shape[1]], grid, n) for p, n in zip(pair, ("CT", "MR"))]


def test_a_run_is_watched_and_can_be_ended_early():
    first, second = volumes()
    context = Watched(stop_after=4)
    outputs = NetworkFusion().execute({"first": first, "second": second}, {"steps": 50}, context)
    assert [x for x, _ in context.points["Loss"]] == [0, 1, 2, 3]
    assert {"Relative to the maximum/VIF", "Relative to the maximum/Qabf"} <= set(context.points)
    assert outputs["fused"].provenance["finished_early"] and outputs["fused"].name == "CT + MR"
    assert outputs["metrics"].columns["metric"][:2] == ("MI", "SCD")


def test_units_and_odd_shapes_do_not_matter():
    first, second = volumes()
    plain = NetworkFusion().execute({"first": first, "second": second}, {"steps": 2}, Watched())["fused"].array
    hounsfield = first.with_array((first.array * 2000 - 1000).astype(np.int16), units="HU")
    other = NetworkFusion().execute({"first": hounsfield, "second": second}, {"steps": 2}, Watched())["fused"].array
    np.testing.assert_allclose(other, plain, atol=0.02)
    for shape in ((1, 64, 41), (5, 7, 64), (1, 9, 13)):
        pair = [v.with_array(v.array, name=v.name) for v in volumes((shape[0], 64, 64))]
        grid = pair[0].geometry.cropped((0, 0, 0), shape)
        cut = [Volume(v.array[:, : shape[1], : shape[2]], grid) for v in pair]
        fused = NetworkFusion().execute(dict(zip(("first", "second"), cut)), {"steps": 1}, Watched())["fused"].array
        assert fused.shape == shape and np.isfinite(fused).all()


def test_constant_and_foreign_images_are_dealt_with():
    image = example_volume()
    flat = image.with_array(np.full(image.array.shape, 7.0, np.float32), name="flat")
    context = Watched()
    fused = NetworkFusion().execute({"first": image, "second": flat}, {"steps": 3}, context)["fused"].array
    assert np.isfinite(fused).all() and "nothing was learned" in context.warnings[0]
    away = image.transformed([[1, 0, 0, 500], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    with pytest.raises(InputError, match="does not overlap"):
        NetworkFusion().execute({"first": image, "second": away}, {}, Watched())
