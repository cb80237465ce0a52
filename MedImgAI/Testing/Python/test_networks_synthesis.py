"""The residual U-Net, its evening-out of photographs, and images from label maps, against what they must obey."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedImgAILib.networks.residual_unet import ResidualUNet, evened  # noqa: E402
from MedImgAILib.networks.synthesis import Synthesis, shells, synthetic_image  # noqa: E402


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("shape", "dimensions"), [((9, 14, 11), 3), ((1, 5, 16), 3), ((33, 70), 2)])
def test_scores_have_the_extents_of_the_image(shape, dimensions):
    network = ResidualUNet([4, 6, 8], 3, 2, dimensions, "batch").eval()
    with torch.inference_mode():
        assert network(torch.rand((2, 2, *shape))).shape == (2, 3, *shape)


def test_the_unet_sees_context_but_not_the_far_end():
    """Three levels of two 3×3 convolutions each: a change reaches at most 40 pixels."""
    network = ResidualUNet([4, 4, 4], 2, 1, 2, "batch").eval()
    image = torch.zeros((1, 1, 128, 128))
    changed = image.clone()
    changed[0, 0, 64, 64] = 5.0
    with torch.inference_mode():
        reached = (network(image) != network(changed)).any(dim=1)[0].nonzero()
    away = (reached - 64).abs().max().item()
    assert 12 < away <= 40


def test_evened_is_blind_to_brightness_contrast_and_shading():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160] - 79.5
    inside = np.hypot(x, y) < 75
    texture = 0.4 + 0.08 * np.sin(x / 3) * np.cos(y / 4) + rng.normal(0, 0.01, x.shape)
    first = np.where(inside, texture, 0)
    second = np.where(inside, (0.6 * texture + 0.1) * (1 + x / 1600), 0)
    a, b = (evened(torch.tensor(v, dtype=torch.float32)[None, None], 31)[0, 0].numpy() for v in (first, second))
    assert (a[~inside] == 0).all() and (b[~inside] == 0).all()
    assert np.corrcoef(a[inside], b[inside])[0, 1] > 0.99
    assert abs(a[inside].mean()) < 0.05 and a[inside].std() == pytest.approx(1, abs=0.1)
    assert b[inside].std() == pytest.approx(1, abs=0.1)


def test_labels_get_their_reference_values():
    labels = torch.zeros((40, 40, 40), dtype=torch.int64)
    labels[:, 8:24], labels[:, 24:] = 1, 2
    plain = Synthesis(like_reference=1, unlike_reference=0, jitter=0, spread=0, thick=1, shading=0, noise=0)
    reference = torch.tensor([0.0, 0.3, 0.9])
    image = synthetic_image(labels, reference, generator(), plain)
    # Only the random gamma is left, which keeps the order and 0 and 1.
    low, high = image[:, 14:18].mean(), image[:, 32:].mean()
    assert float(torch.log(low) / torch.log(high)) == pytest.approx(np.log(0.3) / np.log(0.9), rel=1e-3)
    opposite = Synthesis(like_reference=0, unlike_reference=1, jitter=0, spread=0, thick=1, shading=0, noise=0)
    image = synthetic_image(labels, reference, generator(), opposite)
    low, high = image[:, 14:18].mean(), image[:, 32:].mean()
    assert float(torch.log(low) / torch.log(high)) == pytest.approx(np.log(0.7) / np.log(0.1), rel=1e-3)


def test_contrasts_vary_and_the_seed_decides():
    labels = torch.randint(0, 5, (6, 6, 6), generator=generator()).repeat_interleave(4, 0)
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    reference = torch.full((5,), -1.0)
    images = [synthetic_image(labels, reference, generator(seed)) for seed in range(40)]
    assert torch.equal(images[3], synthetic_image(labels, reference, generator(3)))
    brighter = [float(i[labels == 1].mean() > i[labels == 2].mean()) for i in images]
    assert 0.2 < np.mean(brighter) < 0.8
    assert all(torch.isfinite(i).all() for i in images)


def test_shells_lie_about_the_brain_in_their_order():
    from scipy.ndimage import distance_transform_edt

    k, j, i = np.indices((60, 60, 60)) - 29.5
    radius = np.sqrt(k**2 + j**2 + i**2)
    distance = torch.from_numpy(distance_transform_edt(radius > 15).astype(np.float32))
    layers = shells(distance, generator(1), 7).numpy()
    assert (layers[radius <= 15] == 0).all() and (layers[radius > 46] == 0).all()
    assert set(np.unique(layers)) <= {0, 7, 8, 9, 10} and {8, 9, 10} <= set(np.unique(layers))
    means = [radius[layers == n].mean() for n in (8, 9, 10)]
    assert means == sorted(means)
