"""MONAI's vision transformer with scores as its only output."""

from __future__ import annotations


def VisionTransformer(  # noqa: N802
    in_channels: int,
    image_size: list[int],
    patch_size: list[int],
    classes: int,
    dimensions: int = 2,
    width: int = 192,
    layers: int = 6,
    heads: int = 6,
):
    """A vision transformer (Dosovitskiy et al. 2021, ICLR), small by default; MONAI must be installed.

    Parameters
    ----------
    in_channels, classes : int
    image_size, patch_size : list of int
        In voxels, without or with K by ``dimensions``; the image must be whole patches.
    dimensions : 2 or 3
    width, layers, heads : int
        Features of a patch, layers, attention heads; the width is a multiple of the heads.

    Returns
    -------
    torch.nn.Module
        (B, in_channels, …) images → (B, classes) scores.
    """
    import torch
    from monai.networks.nets import ViT

    class Scores(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer = ViT(
                in_channels, image_size, patch_size, hidden_size=width, mlp_dim=4 * width, num_layers=layers,
                num_heads=heads, classification=True, num_classes=classes, spatial_dims=dimensions,
                post_activation="none",
            )  # fmt: skip

        def forward(self, x):
            return self.transformer(x)[0]

    return Scores()
