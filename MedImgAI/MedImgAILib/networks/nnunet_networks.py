"""The two U-Nets of nnU-Net v2, with its names of weights, for model packages made of its result folders.

PlainConvUNet: Isensee et al. 2021, Nat Methods 18:203. ResidualEncoderUNet: Isensee et al. 2024, MICCAI (nnU-Net
Revisited), whose blocks are those of He T et al. 2019, CVPR ("ResNet-D"). Functions build torch modules, so that torch
is imported only when one is built. Lists go from full resolution down; extents are in the order of the array's axes.
"""

from __future__ import annotations


def PlainConvUNet(  # noqa: N802
    dimensions: int,
    in_channels: int,
    classes: int,
    features: list[int],
    kernels: list[list[int]],
    strides: list[list[int]],
    blocks: list[int],
    decoder_blocks: list[int],
    conv_bias: bool = True,
    norm: str | None = "instance",
    norm_eps: float = 1e-5,
    norm_affine: bool = True,
    activation: str = "leaky_relu",
    slope: float = 0.01,
):
    """A U-Net of stacked convolutions.

    Parameters
    ----------
    dimensions : 2 or 3
    in_channels, classes : int
    features, kernels, strides, blocks : list
        Of each stage: channels, extents of the kernel, steps at its beginning, number of convolutions.
    decoder_blocks : list of int
        Number of convolutions of each stage of the decoder, from the coarsest up.
    conv_bias : bool
    norm : "instance", "batch" or None
    norm_eps : float
    norm_affine : bool
    activation : "leaky_relu" or "relu"
    slope : float
        Of the leaky one.
    """
    parts = _Parts(dimensions, conv_bias, norm, norm_eps, norm_affine, activation, slope)
    stages, channels = [], in_channels
    for width, kernel, stride, count in zip(features, kernels, strides, blocks, strict=True):
        stages.append(parts.sequence([parts.stack(count, channels, width, kernel, stride)]))
        channels = width
    encoder = parts.holder(stages=parts.sequence(stages))
    return parts.u_net(encoder, classes, features, kernels, strides, decoder_blocks)


def ResidualEncoderUNet(  # noqa: N802
    dimensions: int,
    in_channels: int,
    classes: int,
    features: list[int],
    kernels: list[list[int]],
    strides: list[list[int]],
    blocks: list[int],
    decoder_blocks: list[int],
    conv_bias: bool = True,
    norm: str | None = "instance",
    norm_eps: float = 1e-5,
    norm_affine: bool = True,
    activation: str = "leaky_relu",
    slope: float = 0.01,
    stem_channels: int | None = None,
):
    """A U-Net whose encoder has residual blocks; see :func:`PlainConvUNet`."""
    parts = _Parts(dimensions, conv_bias, norm, norm_eps, norm_affine, activation, slope)
    channels = stem_channels or features[0]
    stem = parts.stack(1, in_channels, channels, kernels[0], [1] * dimensions)
    stages = []
    for width, kernel, stride, count in zip(features, kernels, strides, blocks, strict=True):
        stages.append(parts.residual_stage(count, channels, width, kernel, stride))
        channels = width
    encoder = parts.holder(stem=stem, stages=parts.sequence(stages))
    return parts.u_net(encoder, classes, features, kernels, strides, decoder_blocks)


class _Parts:
    """Makes the modules that both networks consist of."""

    def __init__(self, dimensions, conv_bias, norm, norm_eps, norm_affine, activation, slope):
        from torch import nn

        self.nn, self.dimensions, self.conv_bias = nn, dimensions, conv_bias
        self.conv = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
        self.up = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dimensions]
        self.pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dimensions]
        norms = {
            "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
            "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
        }
        self._norm = norms[norm][dimensions] if norm else None
        self._norm_arguments = {"eps": norm_eps, "affine": norm_affine}
        self.activation = {
            "leaky_relu": lambda: nn.LeakyReLU(slope, inplace=True), "relu": lambda: nn.ReLU(inplace=True),
        }[activation]  # fmt: skip

    def sequence(self, modules):
        return self.nn.Sequential(*modules)

    def holder(self, **modules):
        """A module with these children, called one after another by its owner."""
        result = self.nn.Module()
        for name, module in modules.items():
            result.add_module(name, module)
        return result

    def convolution(self, before, after, kernel, stride, active=True, bias=None):
        nn, parts = self.nn, self

        class Convolution(nn.Module):
            """Convolution, normalisation, activation."""

            def __init__(self):
                super().__init__()
                padding = [(k - 1) // 2 for k in kernel]
                self.conv = parts.conv(
                    before, after, kernel, stride, padding, bias=parts.conv_bias if bias is None else bias
                )
                self.norm = parts._norm(after, **parts._norm_arguments) if parts._norm else None
                self.nonlin = parts.activation() if active else None

            def forward(self, x):
                x = self.conv(x)
                x = self.norm(x) if self.norm is not None else x
                return self.nonlin(x) if self.nonlin is not None else x

        return Convolution()

    def stack(self, count, before, after, kernel, stride):
        """``count`` convolutions; the first takes the step."""
        one = [1] * self.dimensions
        modules = [
            self.convolution(before if n == 0 else after, after, kernel, stride if n == 0 else one)
            for n in range(count)
        ]
        convs = self.sequence(modules)
        return self._chain(convs=convs)

    def residual_stage(self, count, before, after, kernel, stride):
        one = [1] * self.dimensions
        blocks = [
            self.residual_block(before if n == 0 else after, after, kernel, stride if n == 0 else one)
            for n in range(count)
        ]
        return self._chain(blocks=self.sequence(blocks))

    def residual_block(self, before, after, kernel, stride):
        nn, parts = self.nn, self
        one = [1] * self.dimensions

        class Block(nn.Module):
            """Two convolutions with a shortcut that averages where the block steps."""

            def __init__(self):
                super().__init__()
                self.conv1 = parts.convolution(before, after, kernel, stride)
                self.conv2 = parts.convolution(after, after, kernel, one, active=False)
                self.nonlin2 = parts.activation()
                skip = [parts.pool(stride, stride)] if any(s != 1 for s in stride) else []
                if before != after:
                    skip.append(parts.convolution(before, after, one, one, active=False, bias=False))
                self.skip = nn.Sequential(*skip)

            def forward(self, x):
                return self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))

        return Block()

    def _chain(self, **modules):
        """A module that calls its only child."""
        (name,) = modules
        nn = self.nn

        class Chain(nn.Module):
            def forward(self, x):
                return getattr(self, name)(x)

        result = Chain()
        result.add_module(name, modules[name])
        return result

    def u_net(self, encoder, classes, features, kernels, strides, decoder_blocks):
        import torch

        nn, parts = self.nn, self
        one = [1] * self.dimensions

        class UNet(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder = encoder
                stages, ups, heads = [], [], []
                for n, count in enumerate(decoder_blocks):
                    below, width = features[-1 - n], features[-2 - n]
                    step = strides[-1 - n]
                    ups.append(parts.up(below, width, step, step, bias=parts.conv_bias))
                    stages.append(parts.stack(count, 2 * width, width, kernels[-2 - n], one))
                    heads.append(parts.conv(width, classes, 1))
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

        if len(decoder_blocks) != len(features) - 1:
            raise ValueError(f"{len(features)} stages need {len(features) - 1} of the decoder")
        return UNet()
