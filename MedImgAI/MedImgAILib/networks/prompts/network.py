"""A small promptable network: everything that depends on the image alone is computed once.

The encoder looks at the image at four resolutions, the finest of which is half that of the image. The decoder joins its
features with the prompts, with how alike each voxel is to those that were pointed at, and with how far it is from them
along the best way through the image (:mod:`.paths`). The division is that of Kirillov et al. 2023 (Segment Anything,
ICCV); prompts as channels follow Sakinis et al. 2019 (arXiv:1903.08205), geodesic distances as prompts Wang et al. 2019
(DeepIGeoS, IEEE TPAMI 41:1559).
"""

from __future__ import annotations

from . import paths

PROMPTS = 5
"""Channels of a prompt, see :mod:`.channels`."""
STRIDE = 16
"""Extents of the image must be multiples of it."""


def PromptNet(channels: list[int] = (16, 24, 40, 64), decoded: list[int] = (16, 20, 28, 40)):  # noqa: N802
    """The network; ``embed(image)`` and ``answer(embedding, prompts)`` are its two halves, ``forward`` both.

    Parameters
    ----------
    channels : list of int
        Of the encoder from half the resolution down, each half the last.
    decoded : list of int
        Of the decoder at the same resolutions.

    Notes
    -----
    ``image`` is (B, 1, K, J, I) with its 1st and 99th percentile about 0 and 1, ``prompts`` (B, 5, K, J, I); the
    answer (B, 1, K, J, I) is a logit.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Sequential):
        """Convolution, normalisation of each image and channel, leaky rectifier."""

        def __init__(self, before, after, stride=1):
            super().__init__(
                nn.Conv3d(before, after, 3, stride, 1, bias=False),
                nn.InstanceNorm3d(after, affine=True),
                nn.LeakyReLU(0.01, inplace=True),
            )

    given = PROMPTS + 4  # and the two distances from the points inside and outside

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            befores = (1, *channels)
            self.encoder = nn.ModuleList(
                nn.Sequential(Block(before, after, 2), Block(after, after)) for before, after in zip(befores, channels)
            )
            # What is kept of an image is as narrow as the decoder is.
            self.keep = nn.ModuleList(nn.Conv3d(c, d, 1) for c, d in zip(channels, decoded))
            self.join = nn.ModuleList(nn.Conv3d(d + given + 2, d, 1) for d in decoded)
            self.rise = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in zip(decoded, decoded[1:]))
            self.refine = nn.ModuleList(nn.Sequential(Block(d, d), Block(d, d)) for d in decoded)
            self.risen, self.fine = nn.Conv3d(decoded[0] + 4, 8, 1), nn.Conv3d(1 + PROMPTS + 2, 8, 1)
            self.last = nn.Conv3d(8, 1, 1)

        def embed(self, image):
            """What the decoder needs to know of ``image``: the image, and features of length 1 for each resolution."""
            kept, x = [image], image
            for encode, keep in zip(self.encoder, self.keep):
                x = encode(x)
                kept.append(functional.normalize(keep(x), dim=1).to(x.dtype))
            return kept

        def answer(self, embedding, prompts):
            """Logits for an embedded image."""
            image, *kept = embedding
            if image.device.type == "cpu":
                prompts = prompts.to(memory_format=torch.channels_last_3d)  # its pooling is several times as fast
            half = torch.cat([functional.max_pool3d(prompts, 2).float(), self._reach(image, prompts)], dim=1)
            pyramid = [half.to(kept[0].dtype)]
            while len(pyramid) < len(kept):
                # The strongest mark of a block counts, or a click would fade with each level.
                pyramid.append(functional.max_pool3d(pyramid[-1], 2))
            x = None
            for level in reversed(range(len(kept))):
                features, marks = kept[level], pyramid[level]
                joined = self.join[level](torch.cat([features, marks, self._likeness(features, marks)], dim=1))
                if x is not None:
                    joined = joined + functional.interpolate(self.rise[level](x), scale_factor=2, mode="nearest")
                x = self.refine[level](functional.leaky_relu(joined, 0.01))
            x = self.risen(torch.cat([x, pyramid[0][:, PROMPTS:].to(x.dtype)], dim=1))
            x = functional.interpolate(x, scale_factor=2, mode="trilinear")
            fine = [image, prompts, self._contrast(image, prompts)]
            x = x + self.fine(torch.cat([f.to(x.dtype) for f in fine], dim=1))
            return self.last(functional.leaky_relu(x, 0.01))

        def forward(self, image, prompts):
            return self.answer(self.embed(image), prompts)

        @staticmethod
        def _reach(image, prompts):
            """(B, 4, …) at half the resolution: 1 at the points, falling with tolerance and distance from them."""
            with torch.no_grad():
                seeds = functional.max_pool3d(prompts[:, :2], 2) > 0.98
                tolerance, distance = paths.from_points(functional.avg_pool3d(image.float(), 2), seeds.contiguous())
                return torch.cat([torch.exp(-tolerance / 0.15), torch.exp(-distance / 0.7)], dim=1)

        @staticmethod
        def _mean_at(values, marks):
            """(B, 2, C) means of ``values`` where the positive and the negative points are."""
            weight = marks[:, :2].flatten(2)
            total = torch.matmul(weight, values.flatten(2).transpose(1, 2).to(weight.dtype)).float()
            return total / weight.float().sum(2, keepdim=True).clamp(min=1e-3)

        def _likeness(self, features, marks):
            """(B, 2, …) cosine between each voxel's features and the mean at the points; 0 without points."""
            mean = functional.normalize(self._mean_at(features, marks), dim=2).to(features.dtype)
            return torch.matmul(mean, features.flatten(2)).unflatten(2, features.shape[2:])

        def _contrast(self, image, marks):
            """(B, 2, …) how much brighter each voxel is than the points; 0 without points."""
            mean = self._mean_at(image.float(), marks.float())[:, :, 0, None, None, None]
            has = (marks[:, :2].flatten(2).amax(2) > 0)[:, :, None, None, None]
            return (image.float() - mean) * has

    return Network()
