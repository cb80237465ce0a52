"""The last layer of a network, taken off so that what is accumulated does not grow with the number of classes.

Blending windows is linear, and so is a 1×1×1 convolution at the end of a network: the weighted mean of its outputs is
its output for the weighted mean of its inputs. So the few feature channels before it are blended, and it is applied
to finished planes only.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np


class Head:
    """A pointwise linear layer, apart from its network.

    Parameters
    ----------
    module : torch.nn.Conv1d, Conv2d or Conv3d
        With a kernel of one voxel.
    """

    def __init__(self, module):
        self.module = module
        self.classes, self.features = module.weight.shape[:2]

    def apply(self, features, weight):
        """Scores of the classes, times ``weight``.

        Parameters
        ----------
        features : (F, N) tensor
            Sum of weighted features.
        weight : (N,) tensor
            Sum of the weights.

        Returns
        -------
        (C, N) tensor
        """
        import torch

        matrix = self.module.weight.detach().reshape(self.classes, self.features).to(features)
        if self.module.bias is None:
            return matrix @ features
        matrix = torch.cat([matrix, self.module.bias.detach().to(features)[:, None]], dim=1)
        if features.device.type != "cpu" or self.features > 4:
            return matrix @ torch.cat([features, weight[None]])
        # For a few features NumPy is as fast on one core, and need not wait for cores that others use.
        rows = [*features.numpy(), weight.numpy()]
        scores = np.multiply.outer(matrix[:, 0].numpy(), rows[0])
        for column, row in zip(matrix.numpy().T[1:], rows[1:]):
            scores += np.multiply.outer(column, row)
        return torch.from_numpy(scores)

    @contextmanager
    def removed(self):
        """Within the block the network ends before this layer."""
        self.module.forward = lambda features: features
        try:
            yield
        finally:
            del self.module.forward


def find_head(network, example) -> Head | None:
    """The pointwise linear layer at the end of ``network``, if it has one with fewer inputs than classes.

    Parameters
    ----------
    network : callable
        Only a torch module can be looked into.
    example : (B, channels, …) tensor
        A small input for one forward pass.
    """
    import torch

    if not isinstance(network, torch.nn.Module):
        return None
    kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    candidates = [
        m for m in network.modules()
        if type(m) in kinds and set(m.kernel_size) == set(m.stride) == {1} and m.groups == 1
        and not any(m.padding) and m.out_channels > m.in_channels and "forward" not in vars(m)
    ]  # fmt: skip
    outputs = {m: [] for m in candidates}
    hooks = [m.register_forward_hook(lambda m, _, out: outputs[m].append(out)) for m in candidates]
    try:
        with torch.inference_mode():
            result = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    for module, seen in outputs.items():
        if len(seen) == 1 and seen[0] is result:
            return Head(module)
    return None
