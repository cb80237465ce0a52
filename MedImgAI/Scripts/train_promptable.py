"""Trains the promptable network that is shipped with MedImgAI, and writes its model package.

python MedImgAI/Scripts/train_promptable.py DATA STATE --minutes 11        # again and again: it resumes
python MedImgAI/Scripts/train_promptable.py DATA STATE --package FOLDER    # when it is done
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from promptable_samples import correct, first_prompt, load_cases, sample

ROUNDS = 2
"""Answers to each picture: the first and that to a correction."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with ct, brain, ms_multimodal and brain_tumour")
    parser.add_argument("state", type=Path, help="file in which the training stands, .pt")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop after so long")
    parser.add_argument("--steps", type=int, default=6000, help="of the whole training")
    parser.add_argument("--rate", type=float, default=3e-3, help="of learning")
    parser.add_argument("--package", type=Path, help="write the model package here, and do not train")
    arguments = parser.parse_args()
    if arguments.package:
        write_package(arguments)
    else:
        train(arguments)


def train(arguments):
    """Go on until the steps or the minutes are over."""
    import torch
    from MedImgAILib.networks.prompts.network import PromptNet

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    network = PromptNet().to(memory_format=torch.channels_last_3d)
    average = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=arguments.rate, weight_decay=1e-4)
    step = 0
    if arguments.state.exists():
        saved = torch.load(arguments.state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step = saved["average"], saved["step"]
    cases = load_cases(arguments.data)
    rng = np.random.default_rng([step, 1])
    until = time.monotonic() + 60 * arguments.minutes
    scores, started = [], time.monotonic()
    while step < arguments.steps and time.monotonic() < until:
        share = step / arguments.steps
        warm = min(1.0, (step + 1) / 200)
        for group in optimizer.param_groups:
            group["lr"] = float(arguments.rate * warm * (0.5 * (1 + np.cos(np.pi * share)) + 0.005))
        size, batch = (64, 1) if rng.random() < 0.15 else (48, 2)
        scores.append(_step(network, optimizer, cases, rng, size, batch))
        step += 1
        keep = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in network.state_dict().items():
                average[name].lerp_(value, 1 - keep)
        if step % 50 == 0:
            dice = " ".join(f"{d:.3f}" for d in np.mean(scores, axis=0))
            print(
                f"step {step}: Dice of each round {dice}; {(time.monotonic() - started) / 50:.2f} s a step", flush=True
            )
            scores, started = [], time.monotonic()
            _save(arguments.state, network, optimizer, average, step)
    _save(arguments.state, network, optimizer, average, step)


def _save(path, network, optimizer, average, step):
    import torch

    draft = path.with_suffix(".part")
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average, "step": step}
    torch.save(state, draft)
    draft.replace(path)


def _step(network, optimizer, cases, rng, size, batch):
    """One batch; returns the Dice of each round."""
    import torch
    from MedImgAILib.networks.prompts.channels import channels

    drawn = [sample(cases, rng, size) for _ in range(batch)]
    images = torch.from_numpy(np.stack([d[0] for d in drawn])[:, None]).to(memory_format=torch.channels_last_3d)
    targets = torch.from_numpy(np.stack([d[1] for d in drawn])[:, None]).float()
    marks = [first_prompt(d[1], rng) for d in drawn]
    loss, dice = 0.0, []
    with torch.autocast("cpu", torch.bfloat16):
        embedding = network.embed(images)
    for number in range(ROUNDS):
        prompts = torch.from_numpy(np.stack([channels((size,) * 3, **m) for m in marks])).to(
            memory_format=torch.channels_last_3d
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.answer(embedding, prompts).float()
        likely = torch.sigmoid(logits)
        entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        overlap = 2 * (likely * targets).sum((1, 2, 3, 4)) + 1
        soft = overlap / (likely.sum((1, 2, 3, 4)) + targets.sum((1, 2, 3, 4)) + 1)
        loss = loss + entropy + (1 - soft).mean()
        found = (likely > 0.5).float()
        sizes = found.sum((1, 2, 3, 4)) + targets.sum((1, 2, 3, 4))
        dice.append(float((2 * (found * targets).sum((1, 2, 3, 4)) / sizes).mean()))
        if number < ROUNDS - 1:
            for n, (mark, (_, target)) in enumerate(zip(marks, drawn)):
                correct(mark, likely[n, 0].detach().numpy() > 0.5, target, rng)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return dice


def write_package(arguments):
    """The averaged weights in half precision, with their card, measured on images that were not learnt from."""
    import torch
    from MedImgAILib.core.model_package import ModelPackage
    from MedImgAILib.networks.prompts.network import PromptNet
    from promptable_card import card
    from promptable_measuring import measure

    saved = torch.load(arguments.state, weights_only=True)
    weights = {k: v.half() for k, v in saved["average"].items()}
    network = PromptNet().eval()
    network.load_state_dict({k: v.float() for k, v in weights.items()})
    metrics = measure(network, arguments.data)
    package = ModelPackage.create(arguments.package, card(saved["step"], metrics), weights)
    print(f"Wrote {package.folder} after {saved['step']} steps: {metrics}")


if __name__ == "__main__":
    main()
