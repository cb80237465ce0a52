"""hippodeep's three networks as one: head priors, alignment with a template, hippocampi in a box about them.

Thyreau et al. 2018, Med Image Anal 43:214. The names of the weights are the publisher's, each network's behind its own
prefix.
"""

from __future__ import annotations

import numpy as np

COARSE = 64
"""Voxels along each axis that the first two networks see, whatever the image's extents."""
_TEMPLATE = np.array([[-20 / 7, 0, 0, 90], [0, 24 / 7, 0, -126], [0, 0, 20 / 7, -72], [0, 0, 0, 1.0]])
"""Voxels of the template's grid of 64³ to its space in mm."""
_BOX = np.array([[-1.0, 0, 0, 54], [0, 1, 0, -59], [0, 0, 1, -45], [0, 0, 0, 1]])
"""Voxels of the box about both hippocampi to the template's space in mm."""
_BOX_SHAPE = (107, 72, 68)
_RIGHT, _LEFT = slice(6, 54), slice(-54, -6)
"""Where each hippocampus lies in the box along the first axis; the left one is shown mirrored."""


def Hippodeep():  # noqa: N802
    """Takes (1, 1, X, Y, Z) images whose axes run to the left, to the front and upwards, of mean 0 and deviation 1.

    Gives the logarithm of the probabilities of background, left and right hippocampus on the same voxels.
    """
    import torch
    from torch import nn
    from torch.nn import functional as f

    class Head(nn.Module):
        """A U-Net that gives brain, cortex, cerebrum and one more prior."""

        def __init__(self):
            super().__init__()
            widths = ((1, 8, 8), (8, 16, 24), (24, 24, 32), (32, 48, 48))
            for n, (before, middle, after) in enumerate(widths):
                setattr(self, f"conv{n}a", nn.Conv3d(before, middle, 3, padding=1))
                setattr(self, f"conv{n}b", nn.Conv3d(middle, after, 3, padding=1))
                setattr(self, f"bn{n}a", nn.BatchNorm3d(after))
            for n, (before, middle, kept, after) in enumerate(((24, 16, 8, 8), (24, 24, 24, 24), (48, 24, 32, 24))):
                setattr(self, f"conv{n}u", nn.Conv3d(before, middle, 3, padding=1))
                setattr(self, f"conv{n}v", nn.Conv3d(middle + kept, after, 3, padding=1))
                setattr(self, f"bn{n}u", nn.BatchNorm3d(after))
            self.conv1x = nn.Conv3d(8, 4, 1)

        def forward(self, x):
            kept = []
            for n in range(4):
                x = f.max_pool3d(x, 2) if n else x
                x = f.elu(getattr(self, f"conv{n}a")(x))
                x = f.elu(getattr(self, f"bn{n}a")(getattr(self, f"conv{n}b")(x)))
                kept.append(x)
            kept.pop()
            for n in (2, 1, 0):
                x = f.elu(getattr(self, f"conv{n}u")(f.interpolate(x, scale_factor=2)))
                x = torch.cat([x, kept.pop()], dim=1)
                x = f.elu(getattr(self, f"bn{n}u")(getattr(self, f"conv{n}v")(x)))
            return torch.sigmoid(self.conv1x(x))

    class Affine(nn.Module):
        """The matrix that carries the template's coordinates (-1…1, rows) to the image's."""

        def __init__(self):
            super().__init__()
            for n, (before, after) in enumerate(((2, 16), (16, 16), (16, 32), (32, 64)), start=1):
                setattr(self, f"convaff{n}", nn.Conv3d(before, after, 3, padding=1))
            for n, extent in ((2, 32), (3, 16), (4, 8)):
                setattr(self, f"bnaff{n}", nn.LayerNorm([extent] * 3))
            self.convaff5 = nn.Conv3d(64, 128, 1)
            self.convaff6 = nn.Conv3d(128, 12, 4)

        def forward(self, x):
            x = f.max_pool3d(f.relu(self.convaff1(x)), 2)
            for n in (2, 3, 4):
                x = f.relu(getattr(self, f"bnaff{n}")(getattr(self, f"convaff{n}")(x)))
                x = f.max_pool3d(x, 2)
            x = self.convaff6(f.relu(self.convaff5(x))).reshape(3, 4)
            return (torch.cat([x, x[:1] * 0]) + torch.eye(4, device=x.device)).T

    class Hippocampus(nn.Module):
        """One hippocampus in a box of 48×72×64 voxels; gives the inner 44×68×60."""

        def __init__(self):
            super().__init__()
            self.conv0a_0 = nn.Conv3d(1, 16, (1, 1, 3))
            self.conv0a_1 = nn.Conv3d(16, 16, (1, 3, 1))
            self.conv0a = nn.Conv3d(16, 16, (3, 1, 1))
            self.convf1 = nn.Conv3d(16, 48, 3)
            self.bn1, self.bn2 = nn.BatchNorm3d(48), nn.BatchNorm3d(48)
            for name in ("convout0", "convout1", "convout2p", "convout2", "convlx3", "convlx5"):
                setattr(self, name, nn.Conv3d(48, 48, 3, padding=1))
            self.convlx7 = nn.Conv3d(48, 16, 3, padding=1)
            self.convlx8 = nn.Conv3d(16, 1, 1)
            self.blur = nn.Conv3d(1, 1, 7, padding=3)
            self.conv_extract = nn.Conv3d(48, 47, 3, padding=1)
            self.convmix = nn.Conv3d(48, 16, 3, padding=1)
            self.convout1x = nn.Conv3d(16, 1, 1)

        def forward(self, x):
            x = f.relu(self.conv0a(f.relu(self.conv0a_1(f.relu(self.conv0a_0(x))))))
            fine = f.relu(self.convf1(x))
            first = f.max_pool3d(fine, 2)
            x = f.relu(self.convout1(f.relu(self.convout0(self.bn1(first)))) + first)
            second = f.max_pool3d(x, 2)
            x = f.relu(self.convout2(f.relu(self.convout2p(self.bn2(second)))) + second)
            x = f.interpolate(f.relu(self.convlx3(x)), scale_factor=2)
            x = f.interpolate(f.relu(self.convlx5(x)), scale_factor=2)
            rough = torch.sigmoid(self.convlx8(f.relu(self.convlx7(x))))
            x = f.leaky_relu(self.conv_extract(torch.sigmoid(self.blur(rough)) * fine))
            return torch.sigmoid(self.convout1x(f.relu(self.convmix(torch.cat([rough, x], dim=1)))))

    class Network(nn.Module):
        needs_whole_image = True

        def __init__(self):
            super().__init__()
            self.head, self.affine, self.hippocampus = Head(), Affine(), Hippocampus()

        def forward(self, x):
            with torch.autocast(x.device.type, enabled=False):  # places in half precision miss by voxels
                return self._found(x.float())

        def _found(self, x):
            coarse = f.interpolate(x, (COARSE,) * 3, mode="trilinear", align_corners=True)
            priors = self.head(coarse)
            to_image = self.affine(priors[:, [1, 3]] * priors[:, :1])
            to_image = torch.tensor(_box_to_template(), dtype=x.dtype, device=x.device) @ to_image
            box = _sampled(x, to_image, _BOX_SHAPE)
            box = (box - box.mean()) / box.std(unbiased=False)
            found = x.new_zeros((1, 2, *_BOX_SHAPE))
            for channel, (part, mirror) in enumerate(((_LEFT, True), (_RIGHT, False))):
                side = box[:, :, part, :, 2:-2]
                side = side.flip(2) if mirror else side
                one = self.hippocampus(side)
                one = one.flip(2) if mirror else one
                sure = ((one - 0.5) * 2 + 0.5).clamp(0, 1) * (one > 0.5)
                found[:, channel : channel + 1, part, :, 2:-2][:, :, 2:-2, 2:-2, 2:-2] = sure
            likely = _sampled(found, torch.linalg.inv(to_image), x.shape[2:])
            likely = likely * (likely >= 32 / 255)
            both = torch.cat([(1 - likely.sum(1, keepdim=True)).clamp(min=0), likely], dim=1)
            return both.clamp(min=1e-6).log()

    def _sampled(image, matrix, shape):
        """``image`` at the points of a grid of ``shape``, carried by the (4, 4) ``matrix`` of rows, -1…1 each."""
        x, y, z = (torch.linspace(-1, 1, n, dtype=image.dtype, device=image.device) for n in shape)
        result = []
        for plane in x.split(16):  # the points of a whole image would take many times its memory
            places = torch.stack(torch.meshgrid(plane, y, z, indexing="ij"), dim=-1)
            places = places @ matrix[:3, :3] + matrix[3, :3]
            result.append(f.grid_sample(image, places[None].flip(-1), align_corners=True))
        return torch.cat(result, dim=2)

    return Network()


def _box_to_template() -> np.ndarray:
    """(4, 4), for rows: the box's coordinates (-1…1) to the template's (-1…1)."""

    def voxels(shape):
        half = (np.array(shape) - 1) / 2
        return np.block([[np.diag(half), half[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])

    matrix = np.linalg.inv(_TEMPLATE @ voxels((COARSE,) * 3)) @ _BOX @ voxels(_BOX_SHAPE)
    return matrix.T
