"""The residual U-Net, its evening-out of photographs, and images from label maps, against what they must obey."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedImgAILib.networks.residual_unet import ResidualUNet, evened  # noqa: E402
from MedImgAILib.networks.synthesis import Synthesis, patches, smoothed, synthetic_image  # noqa: E402


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


PLAIN = Synthesis(typical=1, jitter=0, spread=0, thick=1, coarse=1, shading=0, noise=0)


@pytest.mark.parametrize("values", [(0.0, 0.3, 0.9), (0.0, 0.9, 0.3)])
def test_labels_get_their_typical_values(values):
    labels = torch.zeros((40, 40, 40), dtype=torch.int64)
    labels[:, 8:24], labels[:, 24:] = 1, 2
    image = synthetic_image(labels, torch.tensor([values]), generator(), PLAIN)
    # Only the random gamma is left, which keeps the order and 0 and 1.
    one, other = image[:, 14:18].mean(), image[:, 32:].mean()
    assert float(torch.log(one) / torch.log(other)) == pytest.approx(np.log(values[1]) / np.log(values[2]), rel=1e-3)


def test_each_kind_of_contrast_is_met():
    labels = torch.ones((12, 12, 12), dtype=torch.int64)
    contrasts = torch.tensor([[0.0, 0.2], [0.0, 0.8], [0.0, -1.0]])
    # The gamma lies within a factor e of 1, nearly always.
    found = np.array([float(synthetic_image(labels, contrasts, generator(n), PLAIN).mean()) for n in range(200)])
    assert 0.15 < np.mean(found < 0.35) < 0.6 and 0.2 < np.mean(found > 0.7) < 0.7
    assert ((found > 0.4) & (found < 0.65)).any(), "drawn freely"


def test_contrasts_vary_and_the_seed_decides():
    labels = torch.randint(0, 5, (6, 6, 6), generator=generator()).repeat_interleave(4, 0)
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    contrasts = torch.full((1, 5), -1.0)
    images = [synthetic_image(labels, contrasts, generator(seed)) for seed in range(40)]
    assert torch.equal(images[3], synthetic_image(labels, contrasts, generator(3)))
    brighter = [float(i[labels == 1].mean() > i[labels == 2].mean()) for i in images]
    assert 0.2 < np.mean(brighter) < 0.8
    assert all(torch.isfinite(i).all() for i in images)


def test_smoothed_is_a_gaussian_along_the_axes_asked_for():
    from scipy.ndimage import gaussian_filter

    image = torch.rand((20, 24, 28), generator=generator(2))
    for sigmas in ((0.8, 0.0, 1.7), (0.4, 2.0, 0.6)):
        wanted = gaussian_filter(image.double().numpy(), sigmas, mode="nearest", truncate=3)
        np.testing.assert_allclose(smoothed(image, sigmas).numpy(), wanted, atol=0.015)


def test_patches_are_smooth_and_of_the_share_asked_for():
    found = [patches((48, 40, 44), generator(n), 8, 0.2).numpy() for n in range(8)]
    assert np.mean(found) == pytest.approx(0.2, abs=0.02)
    along = np.mean([(f[1:] != f[:-1]).mean() for f in found])
    assert 0 < along < 0.25 * 2 * 0.2 * 0.8, "far fewer changes than independent voxels have"
