"""The one number that is added to the background's score."""

from __future__ import annotations

import numpy as np
import pytest
from MedImgAILib.training.decision import SHIFTS, background_bias, best_shift, overlaps_by_shift, shifted

torch = pytest.importorskip("torch")


def test_overlaps_are_those_of_the_shifted_scores():
    """Against scikit-learn's F1 score, which is the Dice of a label, of labels from shifted scores."""
    f1_score = pytest.importorskip("sklearn.metrics").f1_score
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, (4, 6, 7, 8))
    truth = rng.integers(0, 3, (6, 7, 8))  # the last segment is nowhere
    probabilities = np.exp(scores) / np.exp(scores).sum(0)
    found = overlaps_by_shift(probabilities, truth)
    assert found.shape == (len(SHIFTS), 3) and 0.0 in SHIFTS
    for row, shift in zip(found, SHIFTS):
        labels = (scores + shift * np.eye(4)[0].reshape(4, 1, 1, 1)).argmax(0)
        wanted = f1_score(truth.ravel(), labels.ravel(), labels=[1, 2, 3], average=None, zero_division=np.nan)
        assert row == pytest.approx(wanted, abs=1e-12)
    empty = overlaps_by_shift(np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2))]), np.zeros((2, 2, 2), int))
    assert np.isnan(empty).all()


@pytest.mark.parametrize("seen, wanted", [(10.0, 0.0), (11.0, 0.5), (12.0, 1.0), (9.0, -0.5)])
def test_a_ball_seen_too_large_is_made_smaller_by_what_its_edge_needs(seen, wanted):
    """Scores fall off linearly, by 0.5 a voxel, about a radius that is not the true one of 10."""
    k, j, i = np.meshgrid(*(np.arange(31) - 15,) * 3, indexing="ij")
    radius = np.sqrt(k**2 + j**2 + i**2)
    inside = 1 / (1 + np.exp(0.5 * (radius - seen)))
    overlaps = overlaps_by_shift(np.stack([1 - inside, inside]), (radius < 10).astype(int))[None]
    assert best_shift(overlaps, lambda dice: dice.mean()) == pytest.approx(wanted)
    assert best_shift(np.full((2, len(SHIFTS), 1), np.nan), lambda dice: float("nan")) == 0.0


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", ["dynunet", "segresnet", "swin_unetr", "unet"])
def test_the_bias_raises_the_background_alone(name, dimensions):
    pytest.importorskip("monai")
    from MedImgAILib.core.model_networks import build
    from MedImgAILib.training.networks import segmentation_network
    from MedImgAILib.training.planning import ImageFacts, plan_patches

    shape = (32, 32, 32) if dimensions == 3 else (1, 64, 64)
    facts = ImageFacts(shape, (1.0, 1.0, 1.0), np.arange(9.0), 0.0, 9.0)
    plan = plan_patches([[facts]] * 8, ["image"], ["MR"])
    torch.manual_seed(0)
    network = build(*segmentation_network(name, plan, 1, 3)).eval()
    example = torch.randn(1, 1, *((64,) * plan.dimensions if name == "swin_unetr" else plan.patch[-plan.dimensions :]))
    bias = background_bias(network, example)
    if name == "unet":  # its last unit adds what came before to its last layer
        assert bias is None
        return
    with torch.inference_mode():
        before = network(example)
        network.load_state_dict(shifted(network.state_dict(), bias, 0.75))
        change = (network(example) - before).movedim(1, -1)
    assert torch.allclose(change, torch.tensor([0.75, 0.0, 0.0]), atol=1e-4)
