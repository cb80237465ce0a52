"""The networks that a model package may name, and nothing else."""

from __future__ import annotations

import importlib
import importlib.util

from .errors import MissingPackageError, ModelError
from .model_files import FILES

_MONAI = "monai>=1.4"
_TORCH = "torch>=2.2"

NETWORKS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    f"monai.{name}": ("monai.networks.nets", name, (_TORCH, _MONAI))
    for name in (
        "AttentionUnet", "BasicUNet", "BasicUNetPlusPlus", "DenseNet121", "DenseNet169", "DenseNet201", "DynUNet",
        "FlexibleUNet", "RegUNet", "SegResNet", "SegResNetDS", "SegResNetVAE", "SwinUNETR", "UNet", "UNETR", "VNet",
        "ViT", "VoxelMorphUNet", "EfficientNetBN", "resnet10", "resnet18", "resnet34", "resnet50", "resnet101",
    )
} | {
    f"torch.{name}": ("torch.nn", name, (_TORCH,))
    for name in ("Conv1d", "Conv2d", "Conv3d", "Linear")
} | {
    f"medimgai.{name}": ("MedImgAILib.networks.architectures", name, (_TORCH,))
    for name in ("MeshNet", "WNet")
} | {
    "medimgai.MultimodalUNet": ("MedImgAILib.networks.multimodal_unet", "MultimodalUNet", (_TORCH,)),
    "medimgai.ContrastUNet": ("MedImgAILib.networks.contrast_unet", "ContrastUNet", (_TORCH,)),
    "medimgai.ResidualUNet": ("MedImgAILib.networks.residual_unet", "ResidualUNet", (_TORCH,)),
} | {
    "medimgai.PromptNet": ("MedImgAILib.networks.prompts.network", "PromptNet", (_TORCH,)),
    "medimgai.Sam": ("MedImgAILib.networks.prompts.sam_network", "Sam", (_TORCH, "transformers>=4.40")),
    "monai.vista3d132": ("monai.networks.nets", "vista3d132", (_TORCH, _MONAI)),
} | {
    "medimgai.CompactResNet": ("MedImgAILib.classify.architectures", "CompactResNet", (_TORCH,)),
} | {
    "medimgai.VisionTransformer": (
        "MedImgAILib.networks.vision_transformer", "VisionTransformer", (_TORCH, _MONAI)
    ),
} | {
    f"nnunet.{name}": ("MedImgAILib.networks.nnunet_networks", name, (_TORCH,))
    for name in ("PlainConvUNet", "ResidualEncoderUNet")
} | {
    f"public.{name}": ("MedImgAILib.networks.public_networks", name, (_TORCH,))
    for name in ("FlairUNet", "HDBET", "SAENet")
} | {
    "public.Hippodeep": ("MedImgAILib.networks.hippodeep_network", "Hippodeep", (_TORCH,)),
}  # fmt: skip
"""Card name → (module, class, requirements). A network of our own is added here, in the product, by its module."""

_FIXED_ARGUMENTS = {"monai.EfficientNetBN": {"pretrained": False}}
"""Arguments whose default in the library would fetch other weights."""
_REFUSED_ARGUMENTS = ("pretrained", "device")
"""Arguments that would fetch other weights or place the network elsewhere."""


def build(name: str, arguments: dict):
    """An untrained network; imports torch or MONAI.

    Raises
    ------
    ModelError
        If the class is not on the list or does not take the arguments.
    MissingPackageError
        If its library is not installed.
    """
    check_network(name, arguments)
    module, attribute, requirements = NETWORKS[name]
    missing = tuple(r for r in requirements if importlib.util.find_spec(r.partition(">")[0]) is None)
    if missing:
        raise MissingPackageError(f"The network '{name}' needs packages that are not installed: {missing}.", missing)
    try:
        arguments = _FIXED_ARGUMENTS.get(name, {}) | arguments
        return getattr(importlib.import_module(module), attribute)(**arguments)
    except Exception as error:
        raise ModelError(f"The network '{name}' cannot be built with the card's arguments ({error}).") from error


def check_network(name: str, arguments: dict):
    """Refuse a class that is not on the list and arguments that reach outside.

    Raises
    ------
    ModelError
    """
    if name in FILES:
        return
    if name not in NETWORKS:
        raise ModelError(f"The model package asks for '{name[:80]}', which is not a network that MedImgAI may load.")
    for argument in _REFUSED_ARGUMENTS:
        if arguments.get(argument):
            raise ModelError(f"The model package sets '{argument}', which is not allowed; weights come with it alone.")


def combined(networks: list, channels=None):
    """One module whose output is the mean of the networks' outputs, of the chosen ``channels`` in that order.

    A mean over an ensemble commutes with the blending of windows, so that it may be taken within each.
    """
    if len(networks) == 1 and channels is None:
        return networks[0]
    import torch

    class Combined(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.callables = networks
            self.members = torch.nn.ModuleList(n for n in networks if isinstance(n, torch.nn.Module))

        def forward(self, x):
            total = self.callables[0](x)
            for network in self.callables[1:]:
                total = total + network(x)
            mean = total / len(self.callables)
            return mean if channels is None else mean[:, list(channels)]

    return Combined().eval()
