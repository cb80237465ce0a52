"""A training in a process of its own, which tests kill or start several times: FOLDER RESULT [team]."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch
from MedImgAILib.core import Context
from MedImgAILib.training.checkpoints import save_state
from MedImgAILib.training.distributed import team
from MedImgAILib.training.loop import train
from MedImgAILib.training.losses import classification_loss

sys.path.insert(0, str(Path(__file__).parent))
from test_training_loop import SETTINGS, batch, network, validate  # noqa: E402


def main(folder: str, result: str, kind: str = ""):
    torch.set_num_threads(1)
    settings = replace(SETTINGS, steps=400, validate_every=40)
    net = network()
    if kind == "team":
        # Without what depends on the share of a batch that a process sees: batch statistics and dropout.
        settings = replace(SETTINGS, steps=20)
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    with team("cpu") as (members, device):
        print("begin", flush=True)
        done = train(
            net, batch, classification_loss(), settings, validate, Path(folder), Context("cpu"), "a", members, device
        )
        if members.leads:
            save_state(Path(result), {"state": done.state, "size": members.size})


if __name__ == "__main__":
    main(*sys.argv[1:])
