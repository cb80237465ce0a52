"""The two U-Nets of nnU-Net v2, with its names of weights, for model packages made of its result folders.

PlainConvUNet: Isensee et al. 2021, Nat Methods 18:203. ResidualEncoderUNet: Isensee et al. 2024, MICCAI (nnU-Net
Revisited), whose blocks are those of He T et al. 2019, CVPR ("ResNet-D"). Functions build torch modules, so that torch
is imported only when one is built. Lists go from full resolution down; extents are in the order of the array's axes.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass


def PlainConvUNet(dimensions: int, in_channels: int, **arguments):  # noqa: N802
    """A U-Net of stacked convolutions.

    Parameters
    ----------
    dimensions : 2 or 3
    in_channels : int
    arguments
        Those of :func:`_shape_and_layers`.
    """
    shape, parts = _shape_and_layers(dimensions, **arguments)
    stages, channels = [], in_channels
    for width, kernel, stride, count in shape.stages():
        stages.append(parts.sequence([parts.stack(count, channels, width, kernel, stride)]))
        channels = width
    return parts.u_net(parts.holder(stages=parts.sequence(stages)), shape)


def ResidualEncoderUNet(  # noqa: N802
    dimensions: int, in_channels: int, stem_channels: int | None = None, **arguments
):
    """A U-Net whose encoder has residual blocks behind a stem, of ``features[0]`` channels if none are given.

    Further parameters as of :func:`PlainConvUNet`.
    """
    shape, parts = _shape_and_layers(dimensions, **arguments)
    channels = stem_channels or shape.features[0]
    stem = parts.stack(1, in_channels, channels, shape.kernels[0], [1] * dimensions)
    stages = []
    for width, kernel, stride, count in shape.stages():
        stages.append(parts.residual_stage(count, channels, width, kernel, stride))
        channels = width
    return parts.u_net(parts.holder(stem=stem, stages=parts.sequence(stages)), shape)


def _shape_and_layers(
    dimensions: int,
    classes: int,
    features: list[int],
    kernels: list[list[int]],
    strides: list[list[int]],
    blocks: list[int],
    decoder_blocks: list[int],
    **layers,
) -> tuple[_Shape, _Parts]:
    """What both networks take.

    Parameters
    ----------
    dimensions : 2 or 3
    classes : int
    features, kernels, strides, blocks : list
        Of each stage: channels, extents of the kernel, steps at its beginning, number of convolutions or blocks.
    decoder_blocks : list of int
        Number of convolutions of each stage of the decoder, from the coarsest up.
    layers
        Those of :class:`_Parts`.
    """
    if len(decoder_blocks) != len(features) - 1:
        raise ValueError(f"{len(features)} stages need {len(features) - 1} of the decoder")
    return _Shape(classes, features, kernels, strides, blocks, decoder_blocks), _Parts(dimensions, **layers)


@dataclass(frozen=True)
class _Shape:
    """How many layers of which size; see :func:`_shape_and_layers`."""

    classes: int
    features: list
    kernels: list
    strides: list
    blocks: list
    decoder_blocks: list

    def stages(self):
        """(channels, kernel, step, count) of each stage of the encoder."""
        return zip(self.features, self.kernels, self.strides, self.blocks, strict=True)

    def decoder_stages(self):
        """(channels below, channels, kernel, step, count) of each stage of the decoder, from the coarsest up."""
        for n, count in enumerate(self.decoder_blocks):
            yield self.features[-1 - n], self.features[-2 - n], self.kernels[-2 - n], self.strides[-1 - n], count


class _Parts:
    """Makes the modules that both networks consist of.

    Parameters
    ----------
    dimensions : 2 or 3
    conv_bias : bool
    norm : "instance", "batch" or None
    norm_eps : float
    norm_affine : bool
    activation : "leaky_relu" or "relu"
    slope : float
        Of the leaky one.
    """

    def __init__(
        self, dimensions, conv_bias=True, norm="instance", norm_eps=1e-5, norm_affine=True, activation="leaky_relu",
        slope=0.01,
    ):  # fmt: skip
        from torch import nn

        self.nn, self.one, self.conv_bias = nn, [1] * dimensions, conv_bias
        self.conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.up = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
        self.pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dimensions]
        kinds = {
            "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
            "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
        }
        kind = kinds[norm][dimensions] if norm else None
        self.norm = (lambda channels: kind(channels, eps=norm_eps, affine=norm_affine)) if kind else None
        self.activation = {
            "leaky_relu": lambda: nn.LeakyReLU(slope, inplace=True), "relu": lambda: nn.ReLU(inplace=True),
        }[activation]  # fmt: skip

    def sequence(self, modules):
        return self.nn.Sequential(*modules)

    def holder(self, **modules):
        """A module with these children, called one after another by its owner."""
        return self._named(self.nn.Module(), modules)

    def chain(self, **modules):
        """A module that calls its only child."""
        (name,) = modules

        class Chain(self.nn.Module):
            def forward(self, x):
                return getattr(self, name)(x)

        return self._named(Chain(), modules)

    @staticmethod
    def _named(owner, modules):
        for name, module in modules.items():
            owner.add_module(name, module)
        return owner

    def convolution(self, before, after, kernel, stride, active=True, bias=None):
        """Convolution, normalisation and, if ``active``, activation; they are called as they are listed."""
        parts = {
            "conv": self.conv(
                before, after, kernel, stride, [(k - 1) // 2 for k in kernel],
                bias=self.conv_bias if bias is None else bias,
            ),
            "norm": self.norm(after) if self.norm else None,
            "nonlin": self.activation() if active else None,
        }  # fmt: skip
        return self.nn.Sequential(OrderedDict((name, part) for name, part in parts.items() if part is not None))

    def stack(self, count, before, after, kernel, stride):
        """``count`` convolutions; the first takes the step."""
        return self.chain(convs=self._repeated(self.convolution, count, before, after, kernel, stride))

    def residual_stage(self, count, before, after, kernel, stride):
        """``count`` residual blocks; the first takes the step."""
        return self.chain(blocks=self._repeated(self.residual_block, count, before, after, kernel, stride))

    def _repeated(self, make, count, before, after, kernel, stride):
        first = make(before, after, kernel, stride)
        return self.sequence([first, *(make(after, after, kernel, self.one) for _ in range(count - 1))])

    def residual_block(self, before, after, kernel, stride):
        nn, parts = self.nn, self

        class Block(nn.Module):
            """Two convolutions with a shortcut that averages where the block steps."""

            def __init__(self):
                super().__init__()
                self.conv1 = parts.convolution(before, after, kernel, stride)
                self.conv2 = parts.convolution(after, after, kernel, parts.one, active=False)
                self.nonlin2 = parts.activation()
                skip = [parts.pool(stride, stride)] if any(s != 1 for s in stride) else []
                if before != after:
                    skip.append(parts.convolution(before, after, parts.one, parts.one, active=False, bias=False))
                self.skip = nn.Sequential(*skip)

            def forward(self, x):
                return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))

        return Block()

    def u_net(self, encoder, shape: _Shape):
        import torch

        nn, parts = self.nn, self

        class UNet(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = encoder
                stages, ups, heads = [], [], []
                for below, width, kernel, step, count in shape.decoder_stages():
                    ups.append(parts.up(below, width, step, step, bias=parts.conv_bias))
                    stages.append(parts.stack(count, 2 * width, width, kernel, parts.one))
                    heads.append(parts.conv(width, shape.classes, 1))
                self.decoder = parts.holder(
                    stages=nn.ModuleList(stages), transpconvs=nn.ModuleList(ups), seg_layers=nn.ModuleList(heads)
                )

            def forward(self, x):
                x = self.encoder.stem(x) if hasattr(self.encoder, "stem") else x
                kept = []
                for stage in self.encoder.stages:
                    x = stage(x)
                    kept.append(x)
                kept.pop()
                for up, stage in zip(self.decoder.transpconvs, self.decoder.stages):
                    x = stage(torch.cat([up(x), kept.pop()], dim=1))
                return self.decoder.seg_layers[-1](x)

        return UNet()
