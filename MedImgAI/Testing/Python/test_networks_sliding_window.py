"""Streaming inference against MONAI's inferer and against whole-volume results."""

import numpy as np
import pytest
from MedImgAILib.core import Cancelled, Context, ModelError, ResourceError
from MedImgAILib.networks import memory, precision, sliding_window
from MedImgAILib.networks.heads import find_head
from MedImgAILib.networks.sliding_window import Plan, infer
from MedImgAILib.networks.variations import Variation, variations
from MedImgAILib.networks.windows import gaussian_importance, window_starts

torch = pytest.importorskip("torch")


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(size=(2, 40, 33, 27)).astype(np.float32)


@pytest.fixture
def network():
    """Looks at neighbours, so that windows differ where they overlap; ends with a pointwise layer."""
    torch.manual_seed(0)
    layers = torch.nn.Conv3d(2, 3, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv3d(3, 7, 1)
    return torch.nn.Sequential(*layers).eval()


def blended(network, image, window, overlap):
    """(C, K, J, I) scores by the definition, in double precision, all at once."""
    sums = weights = 0
    importance = gaussian_importance(window).double().numpy()
    for k in window_starts(image.shape[1], window[0], overlap):
        for j in window_starts(image.shape[2], window[1], overlap):
            for i in window_starts(image.shape[3], window[2], overlap):
                part = np.s_[:, k : k + window[0], j : j + window[1], i : i + window[2]]
                with torch.no_grad():
                    values = network(torch.from_numpy(image[part][None]))[0].double().numpy()
                if isinstance(sums, int):
                    sums, weights = np.zeros((len(values), *image.shape[1:])), np.zeros(image.shape[1:])
                sums[part] += values * importance
                weights[part[1:]] += importance
    return sums / weights


@pytest.mark.parametrize("split_head", [True, False])
@pytest.mark.parametrize(("window", "overlap"), [((16, 12, 10), 0.5), ((16, 33, 9), 0.25), ((7, 12, 10), 0.7)])
def test_labels_are_those_of_the_definition(network, image, window, overlap, split_head):
    wanted = blended(network, image, window, overlap)
    plan = Plan(window, overlap, batch=3, split_head=split_head, entropy=True, confidence=True, probabilities=True)
    got = infer(network, image, plan)
    np.testing.assert_array_equal(got.labels, wanted.argmax(0))
    likely = np.exp(wanted) / np.exp(wanted).sum(0)
    np.testing.assert_allclose(got.probabilities, likely, atol=1e-3)
    np.testing.assert_allclose(got.confidence, likely.max(0), atol=1e-5)
    np.testing.assert_allclose(got.entropy, -(likely * np.log(likely)).sum(0) / np.log(7), atol=1e-5)


@pytest.mark.parametrize("shape", [(40, 33, 27), (10, 33, 40), (5, 6, 7)])
@pytest.mark.parametrize("opaque", [False, True])
def test_labels_are_monais(network, shape, opaque):
    inferers = pytest.importorskip("monai.inferers")
    image = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    window = (16, 14, 12)
    with torch.no_grad():
        scores = inferers.sliding_window_inference(torch.from_numpy(image[None]), window, 2, network, 0.5, "gaussian")
    function = (lambda x: network(x)) if opaque else network
    got = infer(function, image, Plan(window, 0.5)).labels
    np.testing.assert_array_equal(got, scores[0].argmax(0))


def test_importance_is_monais():
    utilities = pytest.importorskip("monai.data.utils")
    for window in ((16, 14, 12), (5, 64, 1), (96, 96, 96)):
        wanted = utilities.compute_importance_map(window, mode="gaussian", sigma_scale=0.125)
        assert torch.equal(gaussian_importance(window), wanted)


def test_slab_in_a_file_gives_the_same(network, image):
    plan = Plan((16, 12, 10), split_head=False)
    in_file = infer(network, image, Plan((16, 12, 10), split_head=False, slab_bytes=0))
    np.testing.assert_array_equal(in_file.labels, infer(network, image, plan).labels)


def test_head_is_found_and_put_back(network, image):
    head = find_head(network, torch.zeros(1, 2, 8, 8, 8))
    assert (head.features, head.classes) == (3, 7)
    before = network(torch.from_numpy(image[None]))
    infer(network, image, Plan((16, 12, 10)))
    assert torch.equal(network(torch.from_numpy(image[None])), before)
    narrow = torch.nn.Sequential(torch.nn.Conv3d(2, 8, 1), torch.nn.Conv3d(8, 3, 1))
    assert find_head(narrow, torch.zeros(1, 2, 8, 8, 8)) is None, "it would cost memory"
    followed = torch.nn.Sequential(torch.nn.Conv3d(2, 8, 1), torch.nn.Softmax(1))
    assert find_head(followed, torch.zeros(1, 2, 8, 8, 8)) is None, "it is not the last"


@pytest.mark.parametrize("split_head", [True, False])
def test_memory_does_not_grow_with_the_classes(split_head, monkeypatch):
    """Of the buffers that outlive a window, an opaque network's sums grow; those before a head do not."""
    image = np.zeros((1, 64, 64, 64), np.float32)
    held = []

    class Watched(sliding_window.Slab):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            held.append(sum(t.untyped_storage().nbytes() for t in (*self.sums, self.weights)))

    monkeypatch.setattr(sliding_window, "Slab", Watched)
    for classes in (3, 60):
        infer(torch.nn.Conv3d(1, classes, 1).eval(), image, Plan((32,) * 3, split_head=split_head))
    assert held[1] == held[0] if split_head else held[1] > 10 * held[0]


def test_whole_volume(network, image):
    with torch.no_grad():
        wanted = network(torch.from_numpy(image[None]))[0].argmax(0)
    np.testing.assert_array_equal(infer(network, image, Plan()).labels, wanted)


def test_sigmoid_and_threshold():
    image = np.linspace(-3, 3, 8 * 8 * 8, dtype=np.float32).reshape(1, 8, 8, 8)
    got = infer(torch.nn.Identity(), image, Plan((4, 4, 4), activation="sigmoid", threshold=0.7, probabilities=True))
    probability = 1 / (1 + np.exp(-image))
    np.testing.assert_array_equal(got.labels, (probability > 0.7)[0])
    np.testing.assert_allclose(got.probabilities, probability, atol=1e-3)


def test_slices_one_by_one():
    image = np.random.default_rng(0).normal(size=(1, 5, 16, 12)).astype(np.float32)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 3, 3, padding=1).eval()
    with torch.no_grad():
        wanted = network(torch.from_numpy(image).transpose(0, 1)).argmax(1)
    np.testing.assert_array_equal(infer(network, image, Plan((1, 16, 12), dimensions=2)).labels, wanted)


def test_more_than_256_classes():
    image = np.full((1, 4, 4, 4), 1.0, np.float32)
    network = torch.nn.Conv3d(1, 300, 1)
    with torch.no_grad():
        network.weight[:, 0, 0, 0, 0] = torch.arange(300)
        network.bias[:] = 0
    assert (infer(network, image, Plan((4, 4, 4))).labels == 299).all()


def test_empty_windows_are_not_computed(network, image):
    image[:, 20:] = 0
    seen = []

    def counting(x):
        seen.append(len(x))
        return network(x)

    got = infer(counting, image, Plan((10, 33, 27), 0.0, empty_value=0.0))
    assert sum(seen) == 2 and not got.labels[20:].any() and got.labels[:20].any()


def test_progress_of_every_window_and_cancel(network, image):
    fractions = []

    class Stops(Context):
        def on_progress(self, fraction, message):
            fractions.append(fraction)

        def is_cancelled(self):
            return len(fractions) > 5

    with pytest.raises(Cancelled):
        infer(network, image, Plan((10, 11, 9)), Stops("cpu"))
    count = len(window_starts(40, 10, 0.5)) * len(window_starts(33, 11, 0.5)) * len(window_starts(27, 9, 0.5))
    np.testing.assert_allclose(fractions, np.arange(1, 7) / count)
    assert "forward" not in vars(network[2]), "the head is put back after a cancel"


class Told(Context):
    """Keeps the warnings."""

    def __init__(self):
        super().__init__("cpu")
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def test_steps_down_when_memory_runs_out(network, image):
    def hungry(x):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return network(x)

    told = Told()
    got = infer(hungry, image, Plan((16, 12, 10), batch=8), told)
    np.testing.assert_array_equal(got.labels, infer(network, image, Plan((16, 12, 10), split_head=False)).labels)
    assert len(told.warnings) == 2 and "2 windows" in told.warnings[1]

    def insatiable(x):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes.")

    with pytest.raises(ResourceError, match="10×12×16 voxels"):
        infer(insatiable, image, Plan((16, 12, 10)), Told())


@pytest.mark.parametrize("window", [(96, 64, 64), None])
def test_smaller_windows_where_one_does_not_fit(network, window):
    image = np.random.default_rng(0).normal(size=(2, 100, 70, 66)).astype(np.float32)

    def hungry(x):
        if x[0, 0].numel() > 64 * 48 * 48:
            raise torch.OutOfMemoryError("out of memory")
        return network(x)

    told = Told()
    got = infer(hungry, image, Plan(window), told)
    tried = [w.split("windows of ")[1].split(" ")[0] for w in told.warnings]
    assert tried == ["48×48×64"] if window else tried[-1] in ("32×32×48", "48×48×64")
    used = tuple(int(n) for n in tried[-1].split("×"))[::-1]
    np.testing.assert_array_equal(got.labels, infer(network, image, Plan(used)).labels)


def test_goes_on_with_the_cpu(network, image, monkeypatch):
    """A device whose memory holds nothing, and a network that takes only the window it was made for."""

    def full(self, windows, variation):
        if self.device != "cpu":
            raise torch.OutOfMemoryError("out of memory")
        if self.window != (40, 33, 27):
            raise RuntimeError("wrong size of window")
        return forward(self, windows, variation)

    forward = sliding_window._Run._forward
    monkeypatch.setattr(sliding_window._Run, "_forward", full)
    plan = Plan((40, 33, 27), split_head=False)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: self)
    told = Told()
    got = infer(network, image, plan, told, device="mps")
    assert "windows of 27×32×32" in told.warnings[0] and "going on with the CPU" in told.warnings[-1]
    np.testing.assert_array_equal(got.labels, infer(network, image, plan).labels)


def test_window_by_the_free_memory(network, image, monkeypatch):
    """Windows shrink until their computation fits, before it is tried."""
    large = np.zeros((2, 140, 140, 100), np.float32)
    needed = memory.bytes_per_voxel(network, torch.zeros(1, 2, 16, 16, 16))
    # The widest layer gives 7 channels of 3: 40 bytes, and half as much again.
    assert needed == 60
    assert memory.fitting_window(large.shape[1:], needed, 1 << 40) == (128, 128, 128)
    assert memory.fitting_window(large.shape[1:], needed, 2 * 60 * 70**3) == (64, 64, 64)
    assert memory.fitting_window((20, 30, 25), needed, 1 << 40) == (32, 32, 32)
    assert memory.fitting_window((5, 140, 100), needed, 1 << 40, dimensions=2) == (1, 128, 128)
    monkeypatch.setattr(sliding_window, "free_memory", lambda device="cpu": 60 * 100**3)
    told = Told()
    assert infer(network, large, Plan(None), told).labels.shape == (140, 140, 100)
    assert "does not fit into the memory; going on with windows of 64×96×96" in told.warnings[0]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_window_chosen_here(dimensions):
    """ "auto" is the window that fits, in slices for 2-D networks."""
    kind = torch.nn.Conv2d if dimensions == 2 else torch.nn.Conv3d
    torch.manual_seed(0)
    network = kind(1, 3, 3, padding=1).eval()
    image = np.random.default_rng(0).normal(size=(1, 5, 60, 40)).astype(np.float32)
    wanted = infer(network, image, Plan((1, 64, 64) if dimensions == 2 else (64, 64, 64), dimensions=dimensions))
    got = infer(network, image, Plan("auto", dimensions=dimensions))
    np.testing.assert_array_equal(got.labels, wanted.labels)


def test_ensemble_decides_by_the_mean_probability(image):
    torch.manual_seed(1)
    members = [torch.nn.Conv3d(2, 4, 3, padding=1).eval() for _ in range(3)]
    with torch.no_grad():
        each = [torch.softmax(m(torch.from_numpy(image[None])), 1)[0].numpy() for m in members]
    wanted = np.mean(each, axis=0)
    got = infer(members, image, Plan(None, entropy=True))
    np.testing.assert_array_equal(got.labels, wanted.argmax(0))
    np.testing.assert_allclose(got.entropy, -(wanted * np.log(wanted)).sum(0) / np.log(4), atol=1e-5)
    for number, one in enumerate(each):
        np.testing.assert_array_equal(got.votes.found[number], np.bincount(one.argmax(0).ravel(), minlength=4))
    labels = each[0].argmax(0)
    overlap = 2 * ((labels == 2) & (got.labels == 2)).sum() / ((labels == 2).sum() + (got.labels == 2).sum())
    assert got.votes.dice()[0, 2] == pytest.approx(overlap)


@pytest.mark.parametrize("kind", ["flips", "flips_turns"])
def test_variations_are_undone(kind):
    """A network that does not look at neighbours gives the same in each variation; one that does, the mean."""
    image = np.random.default_rng(0).normal(size=(2, 8, 12, 12)).astype(np.float32)
    chosen = tuple(variations(kind, 99, (8, 12, 12)))
    assert len(chosen) == (16 if kind == "flips_turns" else 8) and chosen[0] == Variation()
    torch.manual_seed(0)
    point = torch.nn.Conv3d(2, 5, 1).eval()
    got = infer(point, image, Plan((8, 8, 8), variations=chosen, entropy=True))
    plain = infer(point, image, Plan((8, 8, 8), entropy=True))
    np.testing.assert_array_equal(got.labels, plain.labels)
    np.testing.assert_allclose(got.entropy, plain.entropy, atol=1e-5)
    assert (got.votes.dice() == 1).all()
    wide = torch.nn.Conv3d(2, 5, 3, padding=1).eval()
    wanted = 0
    for v in chosen:
        seen = np.flip(image, [a + 1 for a in v.flips]) if v.flips else image
        seen = np.rot90(seen, v.turns, (2, 3)).copy()
        with torch.no_grad():
            values = torch.softmax(wide(torch.from_numpy(seen[None])), 1)[0].numpy()
        values = np.rot90(values, -v.turns, (2, 3))
        wanted = wanted + (np.flip(values, [a + 1 for a in v.flips]) if v.flips else values) / len(chosen)
    got = infer(wide, image, Plan(None, variations=chosen))
    np.testing.assert_array_equal(got.labels, wanted.argmax(0))


def test_dropout_differs_between_passes_and_repeats():
    image = np.ones((1, 12, 12, 12), np.float32)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 16, 1), torch.nn.Dropout3d(0.5), torch.nn.Conv3d(16, 3, 1)).eval()
    plan = Plan((8, 8, 8), variations=tuple(variations("dropout", 8, (8, 8, 8))), entropy=True)
    first, second = (infer(network, image, plan) for _ in range(2))
    np.testing.assert_array_equal(first.entropy, second.entropy)
    # Within a pass all windows drop the same channels, so that the constant image has one label throughout.
    assert ((first.votes.found == 0) | (first.votes.found == image.size)).all()
    assert (first.votes.found[0] != first.votes.found).any(), "the passes are not all alike"
    assert not network[1].training


def test_bfloat16_on_the_cpu(network, image, monkeypatch):
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 3, 1)).eval()
    types = []
    network[0].register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    plain = infer(network, image, Plan((16, 12, 10))).labels
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: True)
    fast = infer(network, image, Plan((16, 12, 10), cpu_bfloat16=True)).labels
    assert types[0] == torch.float32 and types[-1] == torch.bfloat16 and (plain == fast).mean() > 0.98
    monkeypatch.setattr(precision, "computes_bfloat16", lambda: False)
    np.testing.assert_array_equal(infer(network, image, Plan((16, 12, 10), cpu_bfloat16=True)).labels, plain)


def test_wrong_networks_are_refused(image):
    with pytest.raises(ModelError, match="it cannot be used for segments"):
        infer(torch.nn.MaxPool3d(2), image, Plan((16, 12, 10)))
    with pytest.raises(ModelError, match="cannot compute a window"):
        infer(torch.nn.Conv3d(5, 2, 1), image, Plan((16, 12, 10)))
