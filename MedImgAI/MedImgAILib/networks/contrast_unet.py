"""Tissues of the brain in images of any contrast: a coarse look for the places, a fine one for the borders."""

from __future__ import annotations


def ContrastUNet(  # noqa: N802
    coarse: list[int], fine: list[int], contrast: float = 0.03
):
    """Two small U-Nets, between which the image is brought to a contrast that is always the same.

    The first sees the image at half the resolution and says where the tissues are, about. From the values that it finds
    there, fluid, grey and white matter get their local means, and the image is scaled twice so that grey matter is 0
    and white 1, and that fluid is 0 and grey matter 1, whatever is bright in it (as an atlas gives a mixture model its
    first means: Ashburner and Friston 2005, NeuroImage 26:839). The second draws the borders.

    Parameters
    ----------
    coarse, fine : list of int
        Channels of the levels of the two, see :func:`ResidualUNet`.
    contrast : float
        Differences of means that are smaller than this, in units of the image, are not stretched to 1.

    Returns
    -------
    torch.nn.Module
        (B, 1, K, J, I) of about 0…1 to scores (B, 5, K, J, I): background, fluid, grey and white matter, which exclude
        each other, and the brain. In training (B, 10, K, J, I), the first U-Net's scores being the last five.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    from .residual_unet import ResidualUNet

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.coarse = ResidualUNet(coarse, 5)
            self.fine = ResidualUNet(fine, 5, 3 + 5)

        def forward(self, x):
            half = functional.avg_pool3d(x, 2, ceil_mode=True, count_include_pad=False)
            first = functional.interpolate(self.coarse(half).float(), x.shape[2:], mode="trilinear")
            with torch.no_grad():
                likely = torch.cat([first[:, :4].softmax(dim=1), first[:, 4:].sigmoid()], dim=1)
                evened = alike(x.float(), likely[:, 1:4], contrast)
            second = self.fine(torch.cat([x, evened, likely], dim=1))
            return torch.cat([second, first], dim=1) if self.training else second

    return Network()


def alike(image, likely, contrast: float, reach: int = 7):
    """An image scaled so that its tissues have the same values in any contrast.

    Parameters
    ----------
    image : (B, 1, K, J, I) tensor
    likely : (B, 3, K, J, I) tensor
        Probabilities of fluid, grey and white matter.
    contrast : float
        As of :func:`ContrastUNet`.
    reach : int
        Means are taken over so many blocks of four voxels along each axis.

    Returns
    -------
    (B, 2, K, J, I) tensor
        Grey matter 0 and white 1; fluid 0 and grey matter 1; within -3…4.
    """
    import torch
    from torch.nn import functional

    weight = likely**2
    sums = torch.cat([weight * image, weight], dim=1)
    sums = functional.avg_pool3d(sums, 4, ceil_mode=True, count_include_pad=False)
    whole = sums.mean(dim=(2, 3, 4), keepdim=True)
    size = [min(reach, n - (n + 1) % 2) for n in sums.shape[2:]]
    near = functional.avg_pool3d(sums, size, 1, [n // 2 for n in size])
    # Where there is little of a tissue about, its mean is that of the whole image.
    near = near + 0.02 * whole / (whole[:, 3:].repeat(1, 2, 1, 1, 1) + 1e-3)
    means = functional.interpolate(near[:, :3] / (near[:, 3:] + 1e-6), image.shape[2:], mode="trilinear")
    fluid, grey, white = means.split(1, dim=1)

    def scaled(low, high):
        step = high - low
        return ((image - low) * step / (step**2 + contrast**2)).clamp(-3, 4)

    return torch.cat([scaled(grey, white), scaled(fluid, grey)], dim=1)
