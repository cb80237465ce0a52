"""How far everything is from what was pointed at: drawn corridors, and a minimum spanning tree."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")


def test_ways_through_the_image():
    """A corridor with a corner between dark walls: along it the tolerance is small; across the wall it is not."""
    from MedImgAILib.networks.prompts import paths

    image = np.zeros((5, 20, 20), np.float32)
    image[:, 2:8, 2:18] = image[:, 2:18, 12:18] = 1
    seeds = np.zeros((1, 2, 5, 20, 20), bool)
    seeds[0, 0, 2, 5, 4] = True
    tolerance, distance = paths.from_points(torch.from_numpy(image)[None, None], torch.from_numpy(seeds))
    end, wall = (2, 16, 15), (2, 16, 6)
    assert tolerance[0, 0][end] < 0.01 and tolerance[0, 0][wall] > 0.99
    assert distance[0, 0][end] < 0.8 and distance[0, 0][wall] > 1
    assert (tolerance[0, 1] == paths.FAR).all() and (distance[0, 1] == paths.FAR).all()


@pytest.mark.parametrize("seed", range(3))
def test_tolerance_is_that_of_a_minimum_spanning_tree(seed):
    """The best way's worst voxel, by SciPy: the largest edge between two voxels on the minimum spanning tree."""
    from MedImgAILib.networks.prompts import paths
    from scipy.ndimage import uniform_filter
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

    image = uniform_filter(np.random.default_rng(seed).random((7, 8, 9)), 3).astype(np.float32)
    seeds = np.zeros((1, 1, *image.shape), bool)
    seeds[0, 0, 3, 4, 5] = True
    smooth = uniform_filter(image, 3, mode="nearest")
    off = np.abs(smooth - smooth[3, 4, 5]).ravel()
    index = np.arange(image.size).reshape(image.shape)
    pairs = []
    for step in np.ndindex(3, 3, 3):
        shift = np.array(step) - 1
        a = index[tuple(slice(max(0, -n), m - max(0, n)) for n, m in zip(shift, image.shape))]
        b = index[tuple(slice(max(0, n), m - max(0, -n)) for n, m in zip(shift, image.shape))]
        # As the sweeps go: to the 26 neighbours.
        if shift.any():
            pairs.append(np.stack([a.ravel(), b.ravel()]))
    first, second = np.concatenate(pairs, axis=1)
    weights = np.maximum(off[first], off[second]) + 1e-9
    tree = minimum_spanning_tree(coo_array((weights, (first, second)), shape=(image.size,) * 2))
    tree = tree + tree.T
    order, before = breadth_first_order(tree, index[3, 4, 5], directed=False)
    wanted = np.zeros(image.size)
    for node in order[1:]:
        wanted[node] = max(wanted[before[node]], off[node])
    got = paths.from_points(torch.from_numpy(image)[None, None], torch.from_numpy(seeds))[0][0, 0].numpy()
    # Ways that wind more often than the sweeps follow are found too long, never too short.
    assert (got.ravel() >= wanted - 1e-6).all()
    assert (np.abs(got.ravel() - wanted) < 1e-5).mean() > 0.97
