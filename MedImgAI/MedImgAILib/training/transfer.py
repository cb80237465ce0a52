"""Starting from a model package: its weights where they fit, all or only a part of them trained further."""

from __future__ import annotations

from dataclasses import replace

from ..core import Context, ModelError
from ..core.model_card import ModelCard
from ..core.model_package import ModelPackage
from .planning import Plan

TUNING = ("all", "head", "frozen_encoder", "lora")
_DECODER = (
    "up",
    "out",
    "output",
    "head",
    "classifier",
    "class_layers",
    "fc",
    "_fc",
    "final",
    "last",
    "decoder",
    "heads",
)


def start_from(network, package: ModelPackage, context: Context) -> int:
    """Copy the weights of a package whose names and shapes fit; returns how many of the network's values they are.

    Raises
    ------
    ModelError
        If less than a third fit, so that it is another network.
    """
    source = package.networks("cpu")[0].state_dict()
    own = network.state_dict()
    fitting = {
        name: source[name] for name, value in own.items() if name in source and source[name].shape == value.shape
    }  # fmt: skip
    values = sum(v.numel() for v in fitting.values())
    total = sum(v.numel() for v in own.values())
    if 3 * values < total:
        raise ModelError(
            f"The model '{package.card.title}' is another network ({package.card.architecture}): only "
            f"{100 * values // max(total, 1)} % of the weights fit; choose the same kind of network."
        )
    network.load_state_dict({**own, **fitting})
    context.used_model(f"{package.card.id} {package.card.version}", package.card.weights_sha256)
    context.log(f"{100 * values // total} % of the weights come from '{package.card.title}'.")
    return values


def as_prepared(plan: Plan, card: ModelCard) -> Plan:
    """The plan with the inputs of a package, which its weights have learnt to see.

    Raises
    ------
    ModelError
        If the package takes other images.
    """
    wanted = [i.channels for i in card.inputs]
    if wanted != [i.channels for i in plan.inputs] or card.inference.dimensions != plan.dimensions:
        raise ModelError(
            f"The model '{card.title}' takes {len(wanted)} images of {sum(wanted)} channels in "
            f"{card.inference.dimensions} dimensions, which these data are not; choose another one to start from."
        )
    sizes = [i.size for i in card.inputs if i.size is not None]
    return replace(plan, inputs=card.inputs, patch=tuple(sizes[0][::-1]) if sizes else plan.patch)


def freeze(network, tuning: str, rank: int = 8):
    """Choose what is trained.

    Parameters
    ----------
    network : torch.nn.Module
    tuning : str
        all             everything
        head            the last layer with weights
        frozen_encoder  what comes after the encoder: modules whose name says that they lead up or out
        lora            low-rank additions to every layer (see :mod:`.lora`), and the last layer
    rank : int
        Of the low-rank additions.

    Raises
    ------
    ModelError
        If the network has no part that can be told to be its decoder.
    """
    if tuning == "all":
        return
    if tuning == "lora":
        from .lora import add_low_rank

        add_low_rank(network, rank)
    else:
        for parameter in network.parameters():
            parameter.requires_grad_(False)
    if tuning == "frozen_encoder":
        chosen = [m for name, m in network.named_modules() if _is_decoder(name)] + _ways_up(network)
        if not chosen:
            raise ModelError("No part of this network can be told to be its decoder; train all of it, or use LoRA.")
        for module in chosen:
            module.requires_grad_(True)
    head = last_layer(network)
    head.requires_grad_(True)


def last_layer(network):
    """The last module with weights of its own that is a convolution or linear layer."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    return [m for m in network.modules() if isinstance(m, kinds)][-1]


def _is_decoder(name: str) -> bool:
    parts = name.split(".")
    return any(part.startswith(_DECODER) for part in parts)


def _ways_up(network) -> list:
    """The upward parts of MONAI's nested U-Net: what follows a shortcut around the deeper levels."""
    import torch

    found = []
    for module in network.modules():
        children = list(module.children())
        if isinstance(module, torch.nn.Sequential):
            for before, after in zip(children, children[1:]):
                if type(before).__name__ == "SkipConnection":
                    found.append(after)
    return found
