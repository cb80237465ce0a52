"""Network architectures of our own code, which the allow-list of model packages names.

They are functions that build torch modules, so that torch is imported only when one is built.
"""

from __future__ import annotations


def MeshNet(  # noqa: N802
    channels: int,
    classes: int,
    dilations: list[int],
    in_channels: int = 1,
    activation: str = "relu",
    instance_norm: bool = False,
    bias: bool = True,
):
    """Dilated 3×3×3 convolutions at full resolution and a 1×1×1 one at the end (Fedorov et al. 2017, IJCNN).

    Parameters
    ----------
    channels, classes, in_channels : int
    dilations : list of int
        One for each layer before the last.
    activation : "relu", "elu" or "gelu"
    instance_norm : bool
        Whether each channel is normalised, without learned scale, before the activation.
    bias : bool
        Of all layers but the last, which always has one.
    """
    from torch import nn

    kind = {"relu": nn.ReLU, "elu": nn.ELU, "gelu": nn.GELU}[activation]
    arguments = {} if activation == "gelu" else {"inplace": True}
    layers = []
    for dilation in dilations:
        layers.append(nn.Conv3d(in_channels, channels, 3, padding=dilation, dilation=dilation, bias=bias))
        if instance_norm:
            layers.append(nn.GroupNorm(channels, channels, affine=False))
        layers.append(kind(**arguments))
        in_channels = channels
    return nn.Sequential(*layers, nn.Conv3d(channels, classes, 1))


def WNet(classes: int = 1, in_channels: int = 3, channels: list[int] = (8, 16, 32)):  # noqa: N802
    """Two small U-Nets, the second fed with the image and the first one's scores too.

    Galdran et al. 2022, Sci Rep 12:6174.

    Parameters
    ----------
    classes, in_channels : int
    channels : list of int
        Of each level, from full resolution down.
    """
    import torch
    from torch import nn

    class Block(nn.Module):
        """Two convolutions with a shortcut around them."""

        def __init__(self, before, after):
            super().__init__()
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))
            layers = []
            for inputs in (before, after):
                layers += [nn.Conv2d(inputs, after, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(after)]
            self.block = nn.Sequential(*layers)

        def forward(self, x):
            return self.block(x) + self.shortcut(x)

    class Up(nn.Module):
        """Doubles the resolution and joins what was kept at it."""

        def __init__(self, before, after):
            super().__init__()
            self.up = nn.ConvTranspose2d(before, after, 2, stride=2)
            self.bridge = nn.Sequential(nn.Conv2d(after, after, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(after))
            self.block = Block(2 * after, after)

        def forward(self, x, kept):
            return self.block(torch.cat([self.up(x), self.bridge(kept)], dim=1))

    class UNet(nn.Module):
        def __init__(self, inputs):
            super().__init__()
            pairs = list(zip(channels, channels[1:]))
            self.first = Block(inputs, channels[0])
            self.down = nn.ModuleList(Block(a, b) for a, b in pairs)
            self.up = nn.ModuleList(Up(b, a) for a, b in reversed(pairs))
            self.last = nn.Conv2d(channels[0], classes, 1)

        def forward(self, x):
            x = self.first(x)
            kept = []
            for down in self.down:
                kept.append(x)
                x = down(nn.functional.max_pool2d(x, 2))
            for up in self.up:
                x = up(x, kept.pop())
            return self.last(x)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.coarse, self.fine = UNet(in_channels), UNet(in_channels + classes)

        def forward(self, x):
            return self.fine(torch.cat([x, self.coarse(x)], dim=1))

    return Twice()
