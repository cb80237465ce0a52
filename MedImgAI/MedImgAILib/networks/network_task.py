"""Segmentation by a model package."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np

from ..core import (
    BooleanParameter,
    ChoiceParameter,
    IntegerParameter,
    ModelError,
    ParameterError,
    Segmentation,
    SegmentationPort,
    TablePort,
    Task,
    TextParameter,
    VolumePort,
)
from ..core.model_card import ModelCard, ModelInput, ModelOutput
from ..core.model_package import ModelPackage
from .confidence import KINDS, chosen_variations, measures
from .installed import find_package
from .matching import match_inputs, warn_of_unlikely

_FEW = 4
"""Up to so many channels, probabilities are brought back to the image's grid in place of labels."""
_PROBABILITIES = 512 << 20
"""Bytes that they may take."""


class NetworkSegmentation(Task):
    """Prepares the images as the package's card says, applies its network and brings the labels back."""

    id = "segment.network"
    title = "Network from a model package"
    group = "Segmentation"
    summary = "Applies a segmentation network from a model package to one or several images of a patient."
    references = (
        "Isensee F, Jaeger PF, Kohl SAA, et al. nnU-Net: a self-configuring method for deep learning-based biomedical "
        "image segmentation. Nat Methods 2021; 18:203-211.",
    )
    keywords = ("deep learning", "inference", "sliding window", "model", "MeshNet", "U-Net")

    inputs = (
        VolumePort(
            "images", "Images",
            "One image for each input that the model's card names, in that order or with names that contain theirs.",
            components=(), multiple=True,
        ),
    )  # fmt: skip
    parameters = (
        TextParameter(
            "model", "Model", "", "Folder of the model package, or the id of a model that was downloaded.",
            kind="folder",
        ),
        BooleanParameter(
            "uncertainty", "Uncertainty", False,
            "Whether to give the entropy of the class probabilities too: 0 where the network is sure, 1 for a guess.",
        ),
        ChoiceParameter(
            "variation", "Ask again", "none",
            "Whether to ask the network several times, about a varied image or with its dropout at work: the mean "
            "decides, and the sizes tell how far the answers differ. Takes as many times as long.", choices=KINDS,
        ),
        IntegerParameter(
            "passes", "Times", 4, "How often the network is asked at most; all mirrored images together are 8.",
            minimum=2, maximum=64, enabled_when=("variation", tuple(k for k in KINDS if k != "none")),
        ),
        BooleanParameter(
            "reduced_precision", "Half precision", True,
            "Whether to compute in half precision on a graphics card, which is faster.", advanced=True,
        ),
        BooleanParameter(
            "cpu_bfloat16", "bfloat16 on the processor", False,
            "Whether to compute with numbers of 16 bits on processors that have instructions for it: up to several "
            "times as fast; a few voxels in a thousand change their label.", advanced=True,
        ),
        BooleanParameter(
            "skip_empty", "Skip empty parts", True,
            "Whether windows without any image, where all voxels have its lowest value, count as background.",
            advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segments", "What the model finds, on the grid of the first image."),
        VolumePort("entropy", "Uncertainty", "Entropy relative to that of chance, 0…1.", optional=True),
        TablePort(
            "measures",
            "Sizes",
            "Volume of each segment in mL; with uncertainty its mean entropy; with several passes the interval of its "
            "volumes and its disagreement, 1 less the mean Dice of each pass with the result.",
        ),
    )

    requirements = ("torch>=2.2", "safetensors>=0.4")
    uses_device = True
    orientation_tolerance = 1e-2
    """Rounding in the resampling decides where two classes are all but equal."""

    def validate(self, inputs, parameters):
        if not parameters.model:
            raise ParameterError("Model: no folder was given; choose a model package.")
        package = find_package(parameters.model)
        card = package.card
        if package.runs_code and not self.isolated:
            raise ModelError(f"The model '{card.title}' is TorchScript; use the task 'Network from TorchScript'.")
        if not card.outputs or card.outputs[0].kind != "segmentation":
            raise ModelError(f"The model '{card.title}' does not give segments; choose one for segmentation.")
        match_inputs(inputs.images, card)

    def example(self):
        from ..core.examples import example_volume

        return {"images": [example_volume()]}, {"model": str(_example_package())}

    def run(self, inputs, parameters, context):
        from .preparation import keep_largest

        package = find_package(parameters.model)
        card = package.card
        images = match_inputs(inputs.images, card, context)
        context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        with context.part(0.0, 0.15) as part:
            part.progress(0.0, "Preparing the images")
            array, first = _prepared(images, card, part)
        with context.part(0.15, 0.9) as part:
            few = _are_few(len(card.outputs[0].segments) + 1, first)
            result = _infer(package, array, parameters, part, few)
        with context.part(0.9, 1.0) as part:
            part.progress(0.0, "Bringing the result back")
            image = images[0]
            with part.part(0.0, 0.6) as inner:
                labels = (
                    first.back(result.labels)
                    if result.probabilities is None
                    else first.back_likely(result.probabilities, card.inference, inner)
                )
            labels = keep_largest(labels, card.inference.largest)
            _warn_of_brain(labels, image, card, part)
            part.progress(0.6)
            segmentation = Segmentation.from_labels(labels, image.geometry, card.outputs[0].segments, card.title)
            entropy = None
            if result.entropy is not None:
                entropy = image.with_array(first.back(result.entropy), name=f"{image.name} uncertainty")
        return {
            "segmentation": segmentation,
            "entropy": entropy,
            "measures": measures(segmentation, entropy, result, first.geometry.voxel_volume_mm3 / 1000),
        }


def _prepared(images, card: ModelCard, context):
    from .preparation import prepare_all

    for volume, wanted in zip(images, card.inputs):
        warn_of_unlikely(volume, wanted, context)
    prepared = prepare_all(images, card.inputs, context)
    return np.concatenate([p.array for p in prepared]), prepared[0]


def _warn_of_brain(labels, image, card: ModelCard, context):
    """A model that finds the brain, or all its tissues, is asked whether what it found can be one."""
    from ..segment.brain_shape import is_brain, warn_of_doubts

    if is_brain(card.outputs[0].segments):
        warn_of_doubts(labels > 0, image.geometry.spacing_kji, image.label, context)


def _are_few(channels: int, prepared) -> bool:
    """Whether probabilities are interpolated: the labels' borders then lie between the model's voxels."""
    return channels <= _FEW and 2 * channels * math.prod(prepared.geometry.shape) <= _PROBABILITIES and (
        prepared.is_between_voxels()
    )  # fmt: skip


def _infer(package: ModelPackage, array, parameters, context, probabilities=False):
    import torch

    from ..core.model_networks import combined
    from .sliding_window import Plan, infer
    from .variations import mirrored

    rules = package.card.inference
    window = None
    if rules.mode == "sliding_window":
        window = rules.window[::-1] if rules.window else "auto"
    if rules.dimensions == 2 and window != "auto":
        window = (1, *(window or array.shape[1:])[1:])
    torch.manual_seed(context.seed)
    trusted = getattr(parameters, "trust", False)
    if parameters.uncertainty or parameters.variation != "none":
        # Members of an ensemble one by one, so that their differences show.
        networks = [combined([n], rules.channels) for n in package.networks(context.device, trusted)]
    else:
        networks = [package.network(context.device, trusted)]
    extents = array.shape[1:] if window in (None, "auto") else window
    plan = Plan(
        window, rules.overlap, reduced_precision=parameters.reduced_precision,
        cpu_bfloat16=parameters.cpu_bfloat16, activation=rules.activation, threshold=rules.threshold,
        entropy=parameters.uncertainty, probabilities=probabilities, dimensions=rules.dimensions,
        empty_value=float(array.min()) if parameters.skip_empty and rules.mode == "sliding_window" else None,
        variations=mirrored(rules.mirrored)
        if parameters.variation == "none"
        else chosen_variations(
            parameters.variation, parameters.passes, networks, extents, rules.dimensions, context.seed, context
        ),
    )  # fmt: skip
    result = infer(networks, array, plan, context, context.device)
    known = {s.label for s in package.card.outputs[0].segments}
    if not set(np.unique(result.labels).tolist()) - {0} <= known:
        raise ModelError(f"The network of '{package.card.id}' gives labels that its card does not name.")
    return result


_example_folder: tempfile.TemporaryDirectory | None = None


def _example_package() -> Path:
    """A tiny network in a temporary folder: bright is one class, very bright another, judged on a neighbourhood."""
    global _example_folder
    if _example_folder is not None:
        return Path(_example_folder.name) / "model"
    import torch

    from ..core.model_inference import Inference
    from ..core.model_intensity import Intensity
    from .anatomy import segments

    network = torch.nn.Conv3d(1, 3, 3, padding=1)
    with torch.no_grad():
        # Unequal along the axes, so that a wrong order shows; the classes win below, between and above two values.
        kernel = torch.rand((3, 3, 3), generator=torch.Generator().manual_seed(1))
        network.weight[:] = kernel / kernel.sum() * torch.tensor([0.0, 10.0, 20.0]).reshape(3, 1, 1, 1, 1)
        network.bias[:] = torch.tensor([0.0, -4.0, -12.0])
    card = ModelCard(
        id="example",
        version="1.0.0",
        title="Example",
        task="segmentation",
        inputs=(ModelInput("image", "MR", 1, (1.57, 1.57, 1.57), "LPS", Intensity("percentiles", lower=1, upper=99)),),
        outputs=(ModelOutput("segmentation", "segmentation", segments("Grey matter", "White matter")),),
        architecture="torch.Conv3d",
        arguments={"in_channels": 1, "out_channels": 3, "kernel_size": 3, "padding": 1},
        inference=Inference(window=(16, 16, 16)),
        license="Apache-2.0",
        citation="None.",
        training_data="None; its numbers were chosen; the spacing makes no voxel centres fall on borders.",
        intended_use="Tests.",
        limits="It knows nothing.",
    )
    folder = tempfile.TemporaryDirectory(prefix="medimgai-example-")
    ModelPackage.create(Path(folder.name) / "model", card, network.state_dict())
    _example_folder = folder
    return Path(folder.name) / "model"
