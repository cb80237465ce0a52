"""What is optimised, how, and in which precision."""

from __future__ import annotations


def trained_parameters(network) -> list:
    return [p for p in network.parameters() if p.requires_grad]


def training_mode(network):
    """Training mode, but for parts that are frozen as a whole: their normalisation shall not drift."""
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(p.requires_grad for p in own):
            module.eval()


def optimizer_for(network, settings):
    """The optimizer; weights of one dimension (biases, normalisation) do not decay."""
    import torch

    parameters = trained_parameters(network)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.rate)


def half_precision(wanted: str, device: str):
    """``(type or None, whether the loss must be scaled)`` for the precision wanted on a device."""
    import torch

    if wanted == "full":
        return None, False
    if device.startswith("cuda"):
        return (torch.bfloat16, False) if torch.cuda.is_bf16_supported() else (torch.float16, True)
    fast = torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()
    if device == "cpu" and (wanted == "half" or fast):
        return torch.bfloat16, False
    return None, False
