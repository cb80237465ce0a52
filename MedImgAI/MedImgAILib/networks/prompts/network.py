"""A small promptable network: everything that depends on the image alone is computed once.

The encoder looks at the image at five resolutions. The decoder, a fifth of the work, joins its features with the
prompts and with how alike each voxel is to those that were pointed at. This division is that of Kirillov et al. 2023
(Segment Anything, ICCV); prompts as channels follow Sakinis et al. 2019 (arXiv:1903.08205).
"""

from __future__ import annotations

PROMPTS = 5
"""Channels of a prompt, see :mod:`.channels`."""
STRIDE = 16
"""Extents of the image must be multiples of it."""


def PromptNet(channels: list[int] = (8, 16, 32, 48, 64), decoded: list[int] = (8, 12, 16, 24, 32)):  # noqa: N802
    """The network; ``embed(image)`` and ``answer(embedding, prompts)`` are its two halves, ``forward`` both.

    Parameters
    ----------
    channels : list of int
        Of the encoder from full resolution down, each half the last.
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

        def __init__(self, before, after, size=3):
            super().__init__(
                nn.Conv3d(before, after, size, padding=size // 2, bias=False),
                nn.InstanceNorm3d(after, affine=True),
                nn.LeakyReLU(0.01, inplace=True),
            )

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.ModuleList()
            before = 1
            for level, after in enumerate(channels):
                layers = [Block(before, after), Block(after, after)]
                if level == 1:
                    layers.append(Block(after, after))
                self.encoder.append(nn.Sequential(*layers))
                before = after
            # What is kept of an image is as narrow as the decoder is.
            self.keep = nn.ModuleList(nn.Conv3d(c, d, 1) for c, d in zip(channels, decoded))
            self.join = nn.ModuleList(nn.Conv3d(d + PROMPTS + 2, d, 1) for d in decoded)
            self.rise = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b in zip(decoded, decoded[1:]))
            self.refine = nn.ModuleList(Block(d, d) for d in decoded)
            self.last = nn.Conv3d(decoded[0], 1, 1)

        def embed(self, image):
            """What the decoder needs to know of ``image``: the image, and features of length 1 for each resolution."""
            kept, x = [image], image
            for level, (encode, keep) in enumerate(zip(self.encoder, self.keep)):
                x = encode(functional.max_pool3d(x, 2) if level else x)
                kept.append(functional.normalize(keep(x), dim=1).to(x.dtype))
            return kept

        def answer(self, embedding, prompts):
            """Logits for an embedded image."""
            image, *kept = embedding
            if image.device.type == "cpu":
                prompts = prompts.to(memory_format=torch.channels_last_3d)  # its pooling is several times as fast
            pyramid = [prompts.to(kept[0].dtype)]
            while len(pyramid) < len(kept):
                # The strongest mark of a block counts, or a click would fade with each level.
                pyramid.append(functional.max_pool3d(pyramid[-1], 2))
            x = None
            for level in reversed(range(len(kept))):
                features, marks = kept[level], pyramid[level]
                likeness = self._likeness(features, marks) if level else self._contrast(image, marks)
                joined = self.join[level](torch.cat([features, marks, likeness], dim=1))
                if x is not None:
                    joined = joined + functional.interpolate(self.rise[level](x), scale_factor=2, mode="nearest")
                x = self.refine[level](functional.leaky_relu(joined, 0.01))
            return self.last(x)

        def forward(self, image, prompts):
            return self.answer(self.embed(image), prompts)

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
            mean = self._mean_at(image, marks)[:, :, 0, None, None, None].to(marks.dtype)
            has = (marks[:, :2].flatten(2).amax(2) > 0)[:, :, None, None, None]
            return (image.to(marks.dtype) - mean) * has

    return Network()
