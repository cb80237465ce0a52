"""The U-Net for any contrast: what its second look is given does not depend on what is bright and what is dark."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from MedImgAILib.networks.contrast_unet import ContrastUNet, alike  # noqa: E402


@pytest.fixture
def tissues():
    """Probabilities (1, 3, K, J, I) of three layers, uncertain at their borders, and the layers."""
    depth = torch.arange(48.0)[:, None, None].expand(48, 40, 36)
    layers = (depth / 16).long().clamp(max=2)
    near = torch.stack([torch.exp(-0.5 * ((depth - middle) / 6) ** 2) for middle in (8.0, 24.0, 40.0)])
    return (near / near.sum(dim=0))[None], layers


@pytest.mark.parametrize("values", [(0.2, 0.6, 0.8), (0.9, 0.6, 0.4), (0.3, 0.7, 0.5)])
def test_tissues_get_the_same_values_in_any_contrast(tissues, values):
    likely, layers = tissues
    image = torch.tensor(values)[layers][None, None]
    matter, fluid = alike(image, likely, 1e-3)[0]
    # The means are mixed a little where tissues are uncertain.
    assert matter[layers == 1].mean() == pytest.approx(0, abs=0.25)
    assert matter[layers == 2].mean() == pytest.approx(1, abs=0.25)
    assert fluid[layers == 0].mean() == pytest.approx(0, abs=0.25)
    assert fluid[layers == 1].mean() == pytest.approx(1, abs=0.25)


def test_turning_the_contrast_over_changes_nothing(tissues):
    likely, layers = tissues
    image = torch.tensor((0.2, 0.6, 0.8))[layers][None, None] + 0.02 * torch.randn(layers.shape)
    first, second = alike(image, likely, 1e-4), alike(0.9 - 0.7 * image, likely, 1e-4)
    np.testing.assert_allclose(first.numpy(), second.numpy(), atol=0.02)


def test_shading_is_followed(tissues):
    likely, layers = tissues
    layers, likely = layers.repeat(1, 4, 1), likely.repeat(1, 1, 1, 4, 1)
    image = torch.tensor((0.2, 0.6, 0.8))[layers][None, None] * torch.linspace(0.6, 1.4, layers.shape[1])[:, None]
    matter = alike(image, likely, 1e-3)[0, 0]
    for part in (slice(0, 40), slice(120, 160)):
        assert matter[:, part][layers[:, part] == 2].mean() - matter[:, part][layers[:, part] == 1].mean() > 0.6


def test_flat_images_stay_finite(tissues):
    for image in (torch.zeros((1, 1, 48, 40, 36)), torch.ones((1, 1, 48, 40, 36))):
        assert torch.isfinite(alike(image, tissues[0], 0.03)).all()
        assert torch.isfinite(alike(image, torch.zeros_like(tissues[0]), 0.03)).all()


@pytest.mark.parametrize("shape", [(33, 41, 27), (16, 16, 16), (5, 30, 9)])
def test_scores_have_the_extents_of_the_image(shape):
    network = ContrastUNet([4, 6, 8], [4, 6])
    image = torch.rand((2, 1, *shape))
    assert network(image).shape == (2, 10, *shape), "both looks, in training"
    with torch.inference_mode():
        assert network.eval()(image).shape == (2, 5, *shape)
