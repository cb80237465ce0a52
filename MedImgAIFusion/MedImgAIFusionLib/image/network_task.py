"""Image fusion by a network trained on the pair at hand."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import IntegerParameter, Table, TablePort, Task, Volume, VolumePort
from MedImgAILib.core.geometry import inverse_order

from . import metrics, network
from .methods import saliency
from .tasks import on_grid, pictures_of, scaled

_MOST_SLICES = 8
"""That the network is trained on."""


class NetworkFusion(Task):
    """Unsupervised: the images are their own reference."""

    id = "fusion.image_network"
    title = "Image fusion by a network"
    group = "Image fusion"
    summary = (
        "Trains a small network on the two images at hand to show everywhere the one with more to see, judged by how "
        "much of both images is kept; needs no training data."
    )
    references = (
        "Xu H, Ma J, Jiang J, Guo X, Ling H. U2Fusion: a unified unsupervised image fusion network. IEEE Trans Pattern "
        "Anal Mach Intell 2022;44:502-518. doi:10.1109/TPAMI.2020.3012548",
        "Sheikh HR, Bovik AC. Image information and visual quality. IEEE Trans Image Process 2006;15:430-444",
        "Xydeas CS, Petrović V. Objective image fusion performance measure. Electron Lett 2000;36:308-309",
    )
    keywords = ("deep learning", "self-supervised", "unsupervised", "merge", "multi-modal", "PET", "CT", "MR")
    requirements = ("torch>=2.2",)
    uses_device = True
    can_finish_early = True
    orientation_tolerance = 5e-3

    inputs = (
        VolumePort("first", "First image", "Its grid is that of the result."),
        VolumePort("second", "Second image", "Registered to the first; brought to its grid."),
    )
    parameters = (
        IntegerParameter(
            "steps", "Training steps", 60, "More steps follow the figures of merit further.", minimum=0, maximum=5000
        ),
    )
    outputs = (
        VolumePort("fused", "Fused image", "0…1 on the first image's grid."),
        TablePort("metrics", "Metrics", "How much of both images the result keeps.", optional=True),
    )

    def example(self):
        from MedImgAILib.core.examples import example_inputs

        return example_inputs(self), {"steps": 4}

    def run(self, inputs, parameters, context):
        order = inputs.first.geometry.canonical_order()
        first = inputs.first.reordered(*order)
        with context.part(0.0, 0.1) as part:
            second, covered = on_grid(inputs.second, first, part)
        images = [scaled(first), scaled(second)]
        spacing = first.geometry.spacing_kji
        guess = saliency(images[0], spacing) - saliency(images[1], spacing)
        axis, (guess, *stacks) = pictures_of((guess, *images), spacing)
        device = context.device
        context.progress(0.15, "Training")
        with context.part(0.15, 0.8) as part:
            net = self._train(stacks, guess, parameters.steps, device, part)
        fused = np.empty_like(stacks[0])
        for number in range(len(fused)):
            context.progress(0.8 + 0.15 * number / len(fused), "Fusing")
            slices = (stack[number] for stack in stacks)
            fused[number] = network.apply(net, *slices, guess[number], device)
        # Where there is no second image the first stands alone.
        fused = np.where(np.moveaxis(covered, axis, 0), fused, stacks[0])
        figures = metrics.evaluate(255 * fused, [255 * stack for stack in stacks])
        table = Table({"metric": list(figures), "value": list(figures.values())}, name="Fusion metrics")
        array = np.ascontiguousarray(np.moveaxis(fused, 0, axis))
        result = Volume(array, first.geometry, name=f"{inputs.first.name} + {inputs.second.name}".strip(" +"))
        return {"fused": result.reordered(*inverse_order(*order)), "metrics": table}

    @staticmethod
    def _train(stacks, guess, steps, device, context):
        useful = [n for n in range(len(guess)) if all(np.ptp(stack[n]) > 0 for stack in stacks)]
        if not useful:
            context.warn("The images have no slice where both show anything; nothing was learned from them.")
        places = np.linspace(0, len(useful) - 1, min(_MOST_SLICES, len(useful))).round().astype(int)
        chosen = [useful[n] for n in np.unique(places)]

        def report(step, loss, gains):
            context.curve("Loss", step, loss)
            for name, gain in zip(("MI", "SCD", "VIF", "Qabf", "SSIM"), gains, strict=True):
                context.curve(f"Relative to the maximum/{name}", step, gain)
            context.progress((step + 1) / steps, "Training")
            return context.finish_early

        slices = [(*(stack[n] for stack in stacks), guess[n]) for n in chosen]
        return network.train(slices, steps, context.seed, device, report)
