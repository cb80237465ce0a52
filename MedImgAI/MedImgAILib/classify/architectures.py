"""Networks for classification that are small enough to train on a processor.

They are functions that build torch modules, so that torch is imported only when one is built.
"""

from __future__ import annotations


def CompactResNet(  # noqa: N802
    dimensions: int = 2,
    channels: int = 1,
    classes: int = 2,
    width: int = 16,
    stages: int = 3,
    blocks: int = 2,
    dropout: float = 0.2,
    local_contrast: bool = False,
    first_stride: int = 1,
    first_kernel: int = 3,
):
    """A residual network (He 2016, CVPR) whose width doubles at each stage; standardises each image itself.

    Parameters
    ----------
    dimensions : 2 or 3
    channels, classes : int
    width : int
        Features of the first stage.
    stages : int
        The image is halved from each to the next.
    blocks : int
        Residual blocks of each stage but the first, which has one.
    dropout : float
    local_contrast : bool
        Whether the network also sees the image with the brightness and contrast of each neighbourhood made equal, so
        that it depends less on how an image was exposed and windowed.
    first_stride, first_kernel : int
        Of the first convolution; a stride of 2 makes the network four times as fast.

    Returns
    -------
    torch.nn.Module
        (B, channels, …) images → (B, classes) scores.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    convolution, normalisation, pool, mean = {
        2: (nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, functional.avg_pool2d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.AvgPool3d, functional.avg_pool3d),
    }[dimensions]
    places = tuple(range(2, dimensions + 2))

    class Block(nn.Module):
        """Two convolutions beside a short cut."""

        def __init__(self, inside, outside, stride):
            super().__init__()
            self.first = convolution(inside, outside, 3, stride, 1, bias=False)
            self.first_norm = normalisation(outside)
            self.second = convolution(outside, outside, 3, 1, 1, bias=False)
            self.second_norm = normalisation(outside)
            self.shortcut = nn.Identity()
            if inside != outside:
                down = pool(stride, ceil_mode=True)
                self.shortcut = nn.Sequential(down, convolution(inside, outside, 1, bias=False), normalisation(outside))

        def forward(self, x):
            inner = functional.relu(self.first_norm(self.first(x)))
            return functional.relu(self.second_norm(self.second(inner)) + self.shortcut(x))

    def smooth(values):
        return mean(functional.pad(values, (3, 3) * dimensions, mode="replicate"), 7, 1)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            seen = channels * (2 if local_contrast else 1)
            self.stem = nn.Sequential(
                convolution(seen, width, first_kernel, first_stride, first_kernel // 2, bias=False),
                normalisation(width), nn.ReLU(),
            )  # fmt: skip
            layers = [Block(width, width, 1)]
            for stage in range(1, stages):
                inside = width << (stage - 1)
                layers += [Block(inside, 2 * inside, 2), *(Block(2 * inside, 2 * inside, 1) for _ in range(blocks - 1))]
            self.body = nn.Sequential(*layers)
            self.features = width << (stages - 1)
            self.head = nn.Linear(self.features, classes)

        def forward(self, x):
            x = (x - x.mean(places, keepdim=True)) / (x.std(places, keepdim=True) + 0.02)
            if local_contrast:
                residual = x - smooth(x)
                x = torch.cat([x, residual / (smooth(residual**2).sqrt() + 0.2)], dim=1)
            features = self.body(self.stem(x)).mean(places)
            return self.head(functional.dropout(features, dropout, self.training))

    return Network()
