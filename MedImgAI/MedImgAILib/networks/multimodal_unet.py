"""A U-Net with an encoder of its own for each modality, which computes with whichever of them are there."""

from __future__ import annotations


def MultimodalUNet(modalities: int, classes: int, channels: list[int] = (12, 24, 48)):  # noqa: N802
    """Separate encoders, fused at every level by learned weights, and one decoder.

    At each level and in each channel the modalities' features are averaged with weights that the network computes from
    them, as a softmax over those that are there (attention); beside the mean their spread is handed on. Both are
    defined for any number of modalities from one on (Havaei et al. 2016, HeMIS, MICCAI: 469-477), so that one network
    serves every subset.

    Parameters
    ----------
    modalities, classes : int
    channels : list of int
        Of each level, from full resolution down; each level halves the resolution.

    Returns
    -------
    torch.nn.Module
        (B, modalities, K, J, I) to scores (B, classes, K, J, I). A modality with NaN is missing in that
        item of the batch. ``encode`` gives the fused features of full resolution before the last layer.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    def block(before, after):
        layers = []
        for inputs in (before, after):
            layers += [
                nn.Conv3d(inputs, after, 3, padding=1, bias=False), nn.BatchNorm3d(after),
                nn.LeakyReLU(0.01),
            ]  # fmt: skip
        return nn.Sequential(*layers)

    class Encoder(nn.Module):
        """The features of one modality at each level."""

        def __init__(self):
            super().__init__()
            pairs = zip((1, *channels[:-1]), channels)
            self.blocks = nn.ModuleList(block(a, b) for a, b in pairs)

        def forward(self, x):
            levels = []
            for number, one in enumerate(self.blocks):
                x = one(functional.max_pool3d(x, 2, ceil_mode=True) if number else x)
                levels.append(x)
            return levels

    class Fusion(nn.Module):
        """Weighted mean and spread over the modalities that are there, joined to as many channels as each has."""

        def __init__(self, count):
            super().__init__()
            self.weights = nn.ModuleList(nn.Conv3d(count, count, 1) for _ in range(modalities))
            self.join = nn.Conv3d(2 * count, count, 1)

        def forward(self, features, present):
            there = present.t()[:, :, None, None, None, None]
            stack = torch.stack(features)
            scores = torch.stack([w(f) for w, f in zip(self.weights, features)])
            shares = torch.softmax(scores.masked_fill(~there, -1e4), dim=0) * there
            mean = (shares * stack).sum(0)
            spread = (shares * (stack - mean) ** 2).sum(0)
            return self.join(torch.cat([mean, spread], dim=1))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoders = nn.ModuleList(Encoder() for _ in range(modalities))
            self.fusions = nn.ModuleList(Fusion(c) for c in channels)
            self.up = nn.ModuleList(block(a + b, b) for a, b in reversed(list(zip(channels[1:], channels))))
            self.last = nn.Conv3d(channels[0], classes, 1)

        def _spread(self, levels, level, here, shape):
            """One level's features with 0 for the items of the batch that lack the modality."""
            if levels is not None and bool(here.all()):
                return levels[level]
            for _ in range(level):
                shape = [-(-n // 2) for n in shape]
            like = self.last.weight
            blank = torch.zeros((len(here), channels[level], *shape), dtype=like.dtype, device=like.device)
            return blank if levels is None else blank.index_put((here.nonzero()[:, 0],), levels[level])

        def encode(self, x):
            present = torch.isfinite(x).flatten(2).all(dim=2)
            shape = x.shape[2:]
            found = []
            for number, encoder in enumerate(self.encoders):
                # Only where the modality is there, so that what is missing neither costs time nor enters statistics.
                here = present[:, number]
                levels = encoder(x[here, number : number + 1]) if bool(here.any()) else None
                found.append([self._spread(levels, level, here, shape) for level in range(len(channels))])
            fused = []
            for level, fusion in enumerate(self.fusions):
                fused.append(fusion([levels[level] for levels in found], present))
            y = fused.pop()
            for up in self.up:
                kept = fused.pop()
                y = functional.interpolate(y, size=kept.shape[2:], mode="trilinear", align_corners=False)
                y = up(torch.cat([y, kept], dim=1))
            return y

        def forward(self, x):
            return self.last(self.encode(x))

    return Network()
