"""The small residual U-Net of our own models, in two or three dimensions."""

from __future__ import annotations


def ResidualUNet(  # noqa: N802
    channels: list[int],
    classes: int,
    in_channels: int = 1,
    dimensions: int = 3,
    norm: str = "instance",
    evened_over: int = 0,
):
    """A U-Net (Ronneberger et al. 2015, MICCAI) of residual blocks that takes images of any size.

    Parameters
    ----------
    channels : list of int
        Of each level, from full resolution down; each level halves the resolution.
    classes, in_channels : int
    dimensions : 2 or 3
    norm : "instance" or "batch"
        Instance normalisation where every input is one whole image, batch normalisation where inputs are patches.
    evened_over : int
        If positive, two dimensions only: each channel's local mean over this many pixels is taken off and what is
        left divided by its local deviation, see :func:`evened`; the image itself is no input then.

    Returns
    -------
    torch.nn.Module
        (B, in_channels, …) to scores (B, classes, …) of the same extents.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    flat = dimensions == 2
    convolution = nn.Conv2d if flat else nn.Conv3d

    def normalised(count):
        if norm == "batch":
            return nn.BatchNorm2d(count) if flat else nn.BatchNorm3d(count)
        return nn.InstanceNorm2d(count, affine=True) if flat else nn.InstanceNorm3d(count, affine=True)

    class Block(nn.Module):
        """Two convolutions with a shortcut around them."""

        def __init__(self, before, after):
            super().__init__()
            self.first = nn.Sequential(convolution(before, after, 3, padding=1, bias=False), normalised(after))
            self.second = nn.Sequential(convolution(after, after, 3, padding=1, bias=False), normalised(after))
            self.shortcut = convolution(before, after, 1, bias=False)

        def forward(self, x):
            inner = functional.leaky_relu(self.first(x), 0.01)
            return functional.leaky_relu(self.second(inner) + self.shortcut(x), 0.01)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            pairs = list(zip(channels, channels[1:]))
            self.down = nn.ModuleList(Block(a, b) for a, b in [(in_channels, channels[0]), *pairs])
            self.squeeze = nn.ModuleList(convolution(b, a, 1) for a, b in reversed(pairs))
            self.up = nn.ModuleList(Block(2 * a, a) for a, _ in reversed(pairs))
            self.last = convolution(channels[0], classes, 1)

        def forward(self, x):
            extent = x.shape[2:]
            if evened_over:
                x = evened(x, evened_over)
            missing = [-n % 2 ** (len(channels) - 1) for n in extent]
            if any(missing):
                padding = [part for m in reversed(missing) for part in (0, m)]
                x = functional.pad(x, padding, mode="replicate")
            kept = []
            for level, block in enumerate(self.down):
                if level:
                    x = functional.max_pool2d(x, 2) if flat else functional.max_pool3d(x, 2)
                x = block(x)
                kept.append(x)
            kept.pop()
            for squeeze, block in zip(self.squeeze, self.up):
                x = functional.interpolate(squeeze(x), scale_factor=2, mode="nearest")
                x = block(torch.cat([kept.pop(), x], dim=1))
            return self.last(x)[(..., *(slice(n) for n in extent))]

    return UNet()


def evened(image, width: int, black: float = 0.06):
    """Zero mean and unit deviation over about ``width`` pixels, within the part that is not black; 0 outside.

    Parameters
    ----------
    image : (B, C, J, I) tensor
        White is 1.
    width : int
        Of the box over which, twice, the mean is taken.
    black : float
        What the brightest channel exceeds in the part that counts.
    """
    import torch
    from torch.nn import functional

    inside = (image.amax(dim=1, keepdim=True) > black).to(image)

    def local(values):
        for _ in range(2):
            for axis in (2, 3):
                half = min(width, values.shape[axis]) // 2
                size, padding = [1, 1], [0, 0]
                size[axis - 2], padding[axis - 2] = 2 * half + 1, half
                values = functional.avg_pool2d(values, size, 1, padding)
        return values

    share = local(inside).clamp(min=1e-3)
    off = (image - local(image * inside) / share) * inside
    spread = torch.sqrt(local(off * off) / share + 1e-6)
    return (off / spread).clamp(-5, 5) * inside
