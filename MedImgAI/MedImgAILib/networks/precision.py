"""Where a network computes faster with numbers of 16 bits."""

from __future__ import annotations

from contextlib import nullcontext


def computes_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX-512 BF16 or AMX); elsewhere it would be slower."""
    import torch

    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


def reduced(network, device: str, wanted: bool, on_cpu: bool):
    """The context in which to call ``network``, and whether its numbers are reduced in it.

    Parameters
    ----------
    network : callable
    device : str
    wanted : bool
        Half precision on a graphics card: bfloat16 where the card has it, else float16.
    on_cpu : bool
        bfloat16 on processors that have it, for networks with convolutions.
    """
    import torch

    if device == "cuda" and wanted:
        dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast("cuda", dtype), True
    if device == "cpu" and on_cpu and _convolves(network) and computes_bfloat16():
        return torch.autocast("cpu", torch.bfloat16), True
    return nullcontext(), False


def _convolves(network) -> bool:
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.Conv3d)
    return isinstance(network, torch.nn.Module) and any(
        isinstance(m, kinds) and max(m.kernel_size) > 1 and m.out_channels >= 4 for m in network.modules()
    )


def arranged(network, windows):
    """Network and windows in the memory layout that is fastest in 16 bits: channels last."""
    import torch

    layout = torch.channels_last_3d if windows.ndim == 5 else torch.channels_last
    if isinstance(network, torch.nn.Module):
        network.to(memory_format=layout)
    return windows.to(memory_format=layout)
