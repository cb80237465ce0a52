"""The networks that can be trained: their classes on the allow-list and their arguments, from a plan."""

from __future__ import annotations

from .planning import Plan

SEGMENTATION = {
    "dynunet": "Dynamic U-Net (nnU-Net's)",
    "unet": "Residual U-Net",
    "segresnet": "SegResNet",
    "swin_unetr": "Swin UNETR",
}
CLASSIFICATION = {
    "compact": "Compact ResNet (for processors)",
    "resnet10": "ResNet-10",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "densenet121": "DenseNet-121",
    "efficientnet_b0": "EfficientNet-B0",
    "vit": "Vision transformer",
}
SIZES = {"small": 16, "medium": 24, "large": 32}
_WINDOW = 32
"""Extents of Swin UNETR must be multiples of this."""


def segmentation_network(kind: str, plan: Plan, channels: int, classes: int, size: str = "small"):
    """``(class, arguments)`` for a model card.

    Parameters
    ----------
    kind : str
        One of :data:`SEGMENTATION`.
    plan : Plan
    channels, classes : int
        Of the input; of the output, background included.
    size : str
        One of :data:`SIZES`: features at full resolution.
    """
    first = SIZES[size]
    most = 320 if plan.dimensions == 3 else 512
    filters = [min(most, first * 2**n) for n in range(len(plan.strides))]
    strides, kernels = [list(s) for s in plan.strides], [list(k) for k in plan.kernels]
    if kind == "dynunet":
        arguments = {
            "spatial_dims": plan.dimensions, "in_channels": channels, "out_channels": classes, "kernel_size": kernels,
            "strides": strides, "upsample_kernel_size": strides[1:], "filters": filters,
            "norm_name": ["INSTANCE", {"affine": True}],
        }  # fmt: skip
        # Of small images the deep levels see so little that supervising them only takes time.
        supervised = min(2, len(strides) - 4)
        if supervised > 0:
            arguments |= {"deep_supervision": True, "deep_supr_num": supervised}
        return "monai.DynUNet", arguments
    if kind == "unet":
        return "monai.UNet", {
            "spatial_dims": plan.dimensions, "in_channels": channels, "out_channels": classes, "channels": filters,
            "strides": strides[1:], "num_res_units": 2, "norm": ["INSTANCE", {"affine": True}],
        }  # fmt: skip
    if kind == "segresnet":
        levels = len(strides)
        return "monai.SegResNet", {
            "spatial_dims": plan.dimensions, "in_channels": channels, "out_channels": classes, "init_filters": first,
            "blocks_down": [1] + [2] * (levels - 1), "blocks_up": [1] * (levels - 1),
            "norm": ["INSTANCE", {"affine": True}],
        }  # fmt: skip
    if kind == "swin_unetr":
        # Its feature size must be a multiple of 12.
        return "monai.SwinUNETR", {
            "in_channels": channels, "out_channels": classes, "feature_size": {16: 12, 24: 24, 32: 48}[first],
            "spatial_dims": plan.dimensions,
        }  # fmt: skip
    raise ValueError(f"there is no network '{kind}'")


def patch_for(kind: str, plan: Plan) -> tuple:
    """The patch that a network takes: the planned one, or the next larger that fits it."""
    divisor = divisor_for(kind, plan)
    full = (1, *divisor) if plan.dimensions == 2 else divisor
    patch = [-(-p // d) * d for p, d in zip(plan.patch, full)]
    if kind == "swin_unetr" and max(patch) < 2 * _WINDOW:
        patch[-1] = 2 * _WINDOW  # its deepest features need more than one place to be normalised
    return tuple(int(p) for p in patch)


def divisor_for(kind: str, plan: Plan) -> tuple:
    """What the extents of a batch must be multiples of, without K in two dimensions."""
    if kind == "swin_unetr":
        return (_WINDOW,) * plan.dimensions
    return (2 ** (len(plan.strides) - 1),) * plan.dimensions if kind == "segresnet" else plan.divisor


def classification_network(kind: str, plan: Plan, channels: int, classes: int):
    """``(class, arguments)`` for a model card; see :data:`CLASSIFICATION`.

    Small images (less than 65 voxels along their shortest edge) are not reduced before the first block.
    """
    extents = plan.patch[1:] if plan.dimensions == 2 else plan.patch
    small = min(extents) < 65
    if kind.startswith("resnet"):
        arguments = {"spatial_dims": plan.dimensions, "n_input_channels": channels, "num_classes": classes}
        if small:
            arguments |= {"conv1_t_size": 3, "conv1_t_stride": 1, "no_max_pool": True}
        return f"monai.{kind}", arguments
    if kind == "densenet121":
        arguments = {"spatial_dims": plan.dimensions, "in_channels": channels, "out_channels": classes}
        if min(extents) < 33:
            arguments["block_config"] = [6, 12, 24]  # the fourth block would see nothing any more
        return "monai.DenseNet121", arguments
    if kind == "compact":
        return "medimgai.CompactResNet", {"dimensions": plan.dimensions, "channels": channels, "classes": classes}
    if kind == "efficientnet_b0":
        return "monai.EfficientNetBN", {
            "model_name": "efficientnet-b0", "pretrained": False, "spatial_dims": plan.dimensions,
            "in_channels": channels, "num_classes": classes,
        }  # fmt: skip
    if kind == "vit":
        patch = [_patch_edge(n) for n in extents]
        return "medimgai.VisionTransformer", {
            "in_channels": channels, "image_size": [int(n) for n in extents], "patch_size": patch,
            "classes": classes, "dimensions": plan.dimensions,
        }  # fmt: skip
    raise ValueError(f"there is no network '{kind}'")


def _patch_edge(extent: int) -> int:
    """The divisor of an extent nearest to a fourteenth of it, so that there are about 14 patches along it."""
    divisors = [d for d in range(1, extent + 1) if extent % d == 0]
    return min(divisors, key=lambda d: abs(d - extent / 14))


def least_edge(kind: str) -> int:
    """Voxels that an image must have along each edge for a network."""
    return 64 if kind.startswith("efficientnet") else 8
