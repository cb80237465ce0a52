"""Several processes that train one network, started by ``torchrun``."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass


@dataclass(frozen=True)
class Team:
    """The processes of a training; this one is ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def wrap(self, network, device: str):
        """The network, its gradients averaged over the team."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(network, [device] if device.startswith("cuda") else None)

    def without_exchange(self, wrapped):
        """Context in which gradients only add up here."""
        return nullcontext() if self.size == 1 else wrapped.no_sync()

    def agreed(self, value):
        """The leader's value (a plain object) in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def mean(self, value: float) -> float:
        """The mean over the team."""
        if self.size == 1:
            return value
        import torch
        import torch.distributed as dist

        total = torch.tensor([value], dtype=torch.float64)
        if dist.get_backend() == "nccl":
            total = total.cuda()
        dist.all_reduce(total)
        return float(total.item()) / self.size


@contextmanager
def team(device: str):
    """The team that torchrun has started (its variables RANK, WORLD_SIZE, LOCAL_RANK), or a team of one.

    Yields
    ------
    Team, str
        And the device of this process: its own graphics card where there are several.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team(), device
        return
    import torch
    import torch.distributed as dist

    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    started = not dist.is_initialized()
    if started:
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size()), device
    finally:
        if started:
            dist.destroy_process_group()
