"""Architectures of public weights, with their publishers' names of weights where that costs nothing.

Functions build torch modules, so that torch is imported only when one is built.
"""

from __future__ import annotations


def FlairUNet(in_channels: int = 3, classes: int = 1, features: int = 32):  # noqa: N802
    """A plain two-dimensional U-Net with batch normalisation (Buda et al. 2019, Comput Biol Med 109:218).

    Parameters
    ----------
    in_channels, classes : int
    features : int
        Channels at full resolution; they double on each of four levels down.
    """
    from collections import OrderedDict

    import torch
    from torch import nn

    def block(before, after, name):
        layers = []
        for number, channels in ((1, before), (2, after)):
            layers += [
                (f"{name}conv{number}", nn.Conv2d(channels, after, 3, padding=1, bias=False)),
                (f"{name}norm{number}", nn.BatchNorm2d(after)),
                (f"{name}relu{number}", nn.ReLU(inplace=True)),
            ]
        return nn.Sequential(OrderedDict(layers))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            before = in_channels
            for level in range(1, 5):
                width = features << (level - 1)
                setattr(self, f"encoder{level}", block(before, width, f"enc{level}"))
                setattr(self, f"upconv{level}", nn.ConvTranspose2d(2 * width, width, 2, stride=2))
                setattr(self, f"decoder{level}", block(2 * width, width, f"dec{level}"))
                before = width
            self.bottleneck = block(before, 2 * before, "bottleneck")
            self.conv = nn.Conv2d(features, classes, 1)

        def forward(self, x):
            kept = []
            for level in range(1, 5):
                x = getattr(self, f"encoder{level}")(x)
                kept.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.bottleneck(x)
            for level in range(4, 0, -1):
                x = torch.cat([getattr(self, f"upconv{level}")(x), kept.pop()], dim=1)
                x = getattr(self, f"decoder{level}")(x)
            return self.conv(x)

    return UNet()


def HDBET(in_channels: int = 1, classes: int = 2, features: int = 21):  # noqa: N802
    """HD-BET's network of version 1: a residual U-Net, normalised before each activation (Isensee et al. 2019).

    Its scores come before the softmax. Hum Brain Mapp 40:4952.

    Parameters
    ----------
    in_channels, classes : int
    features : int
        Channels at full resolution; they double on each of four levels down.
    """
    import torch
    from torch import nn
    from torch.nn.functional import interpolate, leaky_relu

    def norm(channels):
        return nn.InstanceNorm3d(channels, affine=True)

    class Context(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.bn_1, self.bn_2 = norm(channels), norm(channels)
            self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
            self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

        def forward(self, x):
            inner = self.conv1(leaky_relu(self.bn_1(x)))
            return self.conv2(leaky_relu(self.bn_2(inner))) + x

    class Down(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.bn = norm(channels)
            self.downsample = nn.Conv3d(channels, 2 * channels, 3, 2, 1)

        def forward(self, x):
            x = leaky_relu(self.bn(x))
            return x, self.downsample(x)

    class Up(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.upsample_conv = nn.Conv3d(2 * channels, channels, 3, padding=1)
            self.bn = norm(channels)

        def forward(self, x):
            x = interpolate(x, scale_factor=2, mode="trilinear", align_corners=True)
            return leaky_relu(self.bn(self.upsample_conv(x)))

    class Local(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.conv1 = nn.Conv3d(2 * channels, 2 * channels, 3, padding=1)
            self.bn_1 = norm(2 * channels)
            self.conv2 = nn.Conv3d(2 * channels, channels, 1)
            self.bn_2 = norm(channels)

        def forward(self, x):
            return leaky_relu(self.bn_2(self.conv2(leaky_relu(self.bn_1(self.conv1(x))))))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.init_conv = nn.Conv3d(in_channels, features, 3, padding=1)
            for level in range(1, 6):
                setattr(self, f"context{level}", Context(features << (level - 1)))
            for level in range(1, 5):
                setattr(self, f"down{level}", Down(features << (level - 1)))
                setattr(self, f"up{level}", Up(features << (4 - level)))
            for level in range(1, 4):
                setattr(self, f"loc{level}", Local(features << (4 - level)))
            self.bn_after_context5 = norm(16 * features)
            self.end_conv_1 = nn.Conv3d(2 * features, 2 * features, 3, padding=1)
            self.end_conv_1_bn = norm(2 * features)
            self.end_conv_2 = nn.Conv3d(2 * features, 2 * features, 3, padding=1)
            self.end_conv_2_bn = norm(2 * features)
            self.seg_layer = nn.Conv3d(2 * features, classes, 1, bias=False)

        def forward(self, x):
            x, kept = self.init_conv(x), []
            for level in range(1, 5):
                skip, x = getattr(self, f"down{level}")(getattr(self, f"context{level}")(x))
                kept.append(skip)
            x = leaky_relu(self.bn_after_context5(self.context5(x)), 0.1)
            for level in range(1, 5):
                x = torch.cat([kept.pop(), getattr(self, f"up{level}")(x)], dim=1)
                x = getattr(self, f"loc{level}")(x) if level < 4 else x
            x = leaky_relu(self.end_conv_1_bn(self.end_conv_1(x)), 0.1)
            return self.seg_layer(leaky_relu(self.end_conv_2_bn(self.end_conv_2(x)), 0.1))

    return Network()


def SAENet(classes: int, features: list[int]):  # noqa: N802
    """brainchop's spatial autoencoder: dilated convolutions, half of them at half resolution.

    Parameters
    ----------
    classes : int
    features : list of int
        Channels of each of the three parts: before, at and after half resolution.
    """
    from torch import nn

    first, middle, last = features
    layers, before = [], 1
    for dilation in (1, 2, 4, 6, 8):
        layers += [nn.Conv3d(before, first, 3, padding=dilation, dilation=dilation), nn.SiLU()]
        before = first
    layers += [nn.Conv3d(before, middle, 3, 2, 1), nn.SiLU()]
    for dilation in (10, 12, 16, 12, 10):
        layers += [nn.Conv3d(middle, middle, 3, padding=dilation, dilation=dilation), nn.SiLU()]
    layers.append(nn.ConvTranspose3d(middle, last, 2, 2))
    for dilation in (8, 6, 4, 2, 1):
        layers += [nn.Conv3d(last, last, 3, padding=dilation, dilation=dilation), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv3d(last, classes, 1))
