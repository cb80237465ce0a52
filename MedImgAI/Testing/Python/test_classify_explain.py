"""Attribution maps against MONAI, captum and analytic truth; the explanation task on real shapes of input."""

from __future__ import annotations

import numpy as np
import pytest
from MedImgAILib.classify import attribution
from MedImgAILib.core import Context, Geometry, MedImgAIError, Volume, registry

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


def network(kind: str, dimensions: int):
    torch.manual_seed(3)
    if kind == "compact":
        from MedImgAILib.classify.architectures import CompactResNet

        made = CompactResNet(dimensions, 1, 3, width=4, local_contrast=True)
    else:
        nets = pytest.importorskip("monai.networks.nets")
        made = nets.DenseNet121(dimensions, 1, 3, init_features=4, growth_rate=4, block_config=(2, 2))
    for module in made.modules():  # running statistics that are not those of no data
        if hasattr(module, "running_mean"):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def sample(dimensions: int):
    shape = (1, 1, 40, 53) if dimensions == 2 else (1, 1, 36, 40, 33)
    return torch.rand(shape, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind, layer", [("compact", "body"), ("densenet", "class_layers.relu")])
@pytest.mark.parametrize("plus_plus", [False, True])
def test_grad_cam_is_that_of_monai(kind, layer, dimensions, plus_plus):
    visualize = pytest.importorskip("monai.visualize")
    net, x = network(kind, dimensions), sample(dimensions)
    assert attribution.spatial_layer(net, x) == layer
    peer = (visualize.GradCAMpp if plus_plus else visualize.GradCAM)(net, layer, postprocessing=lambda v: v)
    for channel in range(3):
        wanted = peer(x, class_idx=channel)[0, 0].detach().numpy()
        got = attribution.class_activation(net, x, channel, "", plus_plus)
        assert got.shape == x.shape[2:]
        np.testing.assert_allclose(got, wanted, atol=1e-5 * max(wanted.max(), 1e-3), rtol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_integrated_gradients_sum_to_the_change_of_the_score(dimensions):
    net, shape = network("compact", dimensions), (14, 16, 12)[:dimensions]
    x = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(5))
    baseline = torch.full_like(x, 0.3)
    got, gap = attribution.integrated_gradients(net, x, 1, baseline, steps=100)
    with torch.no_grad():
        difference = float(net(x)[0, 1] - net(baseline)[0, 1])
    assert float(got.sum()) == pytest.approx(difference, rel=0.03) and gap < 0.03


def test_integrated_gradients_are_those_of_captum():
    captum = pytest.importorskip("captum.attr")
    net, x = network("compact", 2), sample(2)
    got, _ = attribution.integrated_gradients(net, x, 2, None, steps=20)
    wanted = captum.IntegratedGradients(net).attribute(x, 0.0, target=2, n_steps=20, method="gausslegendre")
    wanted = wanted[0, 0].detach().numpy()
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_integrated_gradients_of_a_linear_network_are_weight_times_image():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    x = torch.rand((1, 1, 6, 8), generator=torch.Generator().manual_seed(0))
    got, gap = attribution.integrated_gradients(net, x, 1, None, steps=4)
    np.testing.assert_allclose(got, (net[1].weight[1].detach().reshape(6, 8) * x[0, 0]).numpy(), atol=1e-6)
    assert gap < 1e-5


def test_occlusion_of_a_linear_network_is_what_the_window_held():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    x = torch.rand((1, 1, 6, 8), generator=torch.Generator().manual_seed(0))
    got = attribution.occlusion(net, x, 0, (2, 2), (2, 2), 0.0)
    parts = (net[1].weight[0].detach().reshape(6, 8) * x[0, 0]).numpy().reshape(3, 2, 4, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(got, np.kron(parts, np.ones((2, 2))), atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_occlusion_is_that_of_captum(dimensions):
    captum = pytest.importorskip("captum.attr")
    net, shape = network("compact", dimensions), (11, 12, 8)[:dimensions]
    x = torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(2))
    window, stride = (5, 6, 4)[:dimensions], (3, 3, 2)[:dimensions]
    got = attribution.occlusion(net, x, 1, window, stride, 0.25)
    with torch.no_grad():
        wanted = captum.Occlusion(net).attribute(
            x, (1, *window), strides=(1, *stride), baselines=0.25, target=1, perturbations_per_eval=8
        )
    np.testing.assert_allclose(got, wanted[0, 0].numpy(), atol=1e-5)


def test_random_weights_leave_the_trained_network_as_it_was():
    net, x = network("compact", 2), sample(2)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    last, everything = (attribution.randomised(net, n, 1) for n in (1, None))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(last.stem[0].weight, net.stem[0].weight) and not torch.equal(last.head.weight, net.head.weight)
    assert not torch.equal(everything.stem[0].weight, net.stem[0].weight)
    assert torch.isfinite(everything(x)).all()


def test_rank_correlation_is_spearmans():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one = np.round(rng.normal(size=(9, 11)), 1)
    other = one + rng.normal(size=(9, 11))
    wanted = spearmanr(one.ravel(), other.ravel()).statistic
    assert attribution.rank_correlation(one, other) == pytest.approx(wanted, abs=1e-12)
    assert attribution.rank_correlation(one, np.ones_like(one)) == 0


def blob_package(folder, dimensions):
    """A network that was taught to find a bright blob, and where it looks must be the blob."""
    from MedImgAILib.classify.architectures import CompactResNet
    from MedImgAILib.core.data import Segment
    from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
    from MedImgAILib.core.model_inference import Inference
    from MedImgAILib.core.model_intensity import Intensity
    from MedImgAILib.core.model_package import ModelPackage

    torch.manual_seed(0)
    arguments = {"dimensions": dimensions, "width": 8 if dimensions == 2 else 4, "stages": 2, "dropout": 0.0}
    net, rng = CompactResNet(**arguments), np.random.default_rng(0)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(60):
        truth = rng.integers(0, 2, 12)
        batch = np.stack([blob(rng, t, dimensions)[0] for t in truth])[:, None]
        loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(batch)), torch.from_numpy(truth))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    size = (SIZE, SIZE, 1) if dimensions == 2 else (SIZE,) * 3
    card = ModelCard(
        id="blob", version="1.0.0", title="Blob", task="classification",
        inputs=(ModelInput("image", "MR", 1, None, None, Intensity("none"), None, size, "stretch"),),
        outputs=(ModelOutput("class", "classes", (Segment("none", 1), Segment("blob", 2))),),
        architecture="medimgai.CompactResNet", arguments=arguments,
        inference=Inference(mode="whole", dimensions=dimensions), license="Apache-2.0", citation="None.",
        training_data="Made up.", intended_use="Tests.", limits="Knows blobs.",
    )  # fmt: skip
    return ModelPackage.create(folder, card, net.eval().state_dict())


SIZE = 16


def blob(rng, present, dimensions):
    image = rng.normal(0, 0.3, (SIZE,) * dimensions).astype(np.float32)
    center = rng.integers(4, 12, dimensions)
    if present:
        grid = np.stack(np.meshgrid(*(np.arange(SIZE),) * dimensions, indexing="ij"), axis=-1)
        image += 2 * np.exp(-(((grid - center) / 2.5) ** 2).sum(axis=-1)).astype(np.float32)
    return image, center


@pytest.fixture(scope="module", params=[2, 3])
def blobs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blob") / "model"
    blob_package(folder, request.param)
    image, center = blob(np.random.default_rng(77), True, request.param)
    array = image[None] if request.param == 2 else image
    geometry = Geometry.from_spacing(array.shape, (1.1, 1.3, 2.0), (5.0, -3.0, 8.0), np.eye(3))
    return str(folder), Volume(array, geometry, "blob image"), center


@pytest.mark.parametrize("method", list(attribution.METHODS))
def test_the_map_lies_on_the_image_and_shows_the_blob(blobs, method):
    folder, image, center = blobs
    task = registry()["explain.classification"]
    out = task.execute({"images": [image]}, {"model": folder, "method": method, "window_percent": 20}, Context("cpu"))
    saliency, checks = out["saliency"], dict(zip(out["checks"].columns["check"], out["checks"].columns["value"]))
    assert saliency.geometry.same_grid(image.geometry) and saliency.array.dtype == np.float32
    values = np.abs(saliency.array) if method == "integrated_gradients" else np.maximum(saliency.array, 0)
    values = values[0] if len(center) == 2 else values
    if method.startswith("grad_cam"):  # coarse: a voxel of the last layer is two of the image, and it likes edges
        found, far = np.array(np.unravel_index(values.argmax(), values.shape)), 5.0
    else:
        weights = values**2 / (values**2).sum()
        others = [tuple(a for a in range(values.ndim) if a != k) for k in range(values.ndim)]
        found, far = np.array([(weights.sum(axis=o) * np.arange(SIZE)).sum() for o in others]), 3.5
    assert 0 < np.abs(saliency.array).max() < np.inf
    if len(center) == 2 or not method.startswith("grad_cam"):  # the tiny network in 3-D is too coarse for Grad-CAM
        assert np.linalg.norm(found - center) < far, (found, center)
    assert abs(checks["rank correlation with all layers random"]) < 0.8


def test_the_sanity_check_tells_a_map_that_ignores_the_weights():
    """An edge detector is no explanation: it stays the same when the network forgets everything."""
    from types import SimpleNamespace

    from MedImgAILib.classify import explain_task

    warnings, context = [], Context("cpu")
    context.warn = warnings.append
    edges = np.random.default_rng(0).random((1, 12, 12)).astype(np.float32)
    original = explain_task._maps
    explain_task._maps = lambda *args: (edges, None)
    try:
        classifier = SimpleNamespace(networks=[torch.nn.Linear(2, 2)])
        asked = SimpleNamespace(method="grad_cam")
        rows = explain_task.ExplainClassification._sanity(classifier, [], 0, asked, edges, context)
    finally:
        explain_task._maps = original
    assert rows[1][2] == "no" and any("do not trust" in w for w in warnings)


@pytest.mark.parametrize(("method", "maps"), [("grad_cam", 5), ("occlusion", 1)])
def test_a_coarse_map_is_compared_with_several_random_networks(monkeypatch, method, maps):
    """Maps of few cells are alike or opposite by chance; the mean tells chance from dependence."""
    from types import SimpleNamespace

    from MedImgAILib.classify import explain_task

    values = np.random.default_rng(0).random((1, 12, 12)).astype(np.float32)
    drawn = iter([values, 1 - values] * 10)
    seeds = []
    monkeypatch.setattr(explain_task, "_maps", lambda *args: (next(drawn), None))
    monkeypatch.setattr(explain_task.attribution, "randomised", lambda network, layers, seed: seeds.append(seed))
    classifier, asked = SimpleNamespace(networks=[None]), SimpleNamespace(method=method)
    rows = explain_task.ExplainClassification._sanity(classifier, [], 0, asked, values, Context("cpu", 7))
    assert seeds == [7 + n for n in range(maps)] * 2
    expected = [0.2, -0.2] if maps == 5 else [1.0, -1.0]  # of 1 and −1 in turn
    np.testing.assert_allclose([r[1] for r in rows], expected, atol=1e-12)
    assert rows[1][2] == ("yes" if maps == 5 else "no")


def test_unknown_class_layer_and_model_are_refused(blobs, tmp_path):
    folder, image, _ = blobs
    task = registry()["explain.classification"]
    for parameters in ({"target": "cat"}, {"layer": "no.such"}, {"model": ""}, {"model": str(tmp_path)}):
        with pytest.raises(MedImgAIError) as refusal:
            task.execute({"images": [image]}, {"model": folder, **parameters}, Context("cpu"))
        assert str(refusal.value).endswith(".")
