"""Segmentation of one structure by pointing at it."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from ...core import (
    BooleanParameter,
    ChoiceParameter,
    InputError,
    ModelError,
    PointsPort,
    Segment,
    Segmentation,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    TextParameter,
    VolumePort,
)
from ...core.geometry import inverse_order
from ...core.model_package import ModelPackage
from ..installed import SHIPPED, find_package
from .given import Prompts
from .memory import answers, embeddings, key_of

BUILT_IN = SHIPPED / "promptable"


class PromptSegmentation(Task):
    """What the user points at, as a segment. The image is looked at once; a further prompt is answered quickly."""

    id = "segment.prompts"
    title = "Segment by pointing"
    group = "Segmentation"
    summary = "Segments what you point at: points inside and outside of a structure, a box around it, or scribbles."
    references = (
        "Kirillov A, Mintun E, Ravi N, et al. Segment Anything. ICCV 2023: 4015-4026.",
        "Sakinis T, Milletari F, Roth H, et al. Interactive segmentation of medical images through fully convolutional "
        "neural networks. arXiv:1903.08205, 2019.",
        "He Y, Guo P, Tang Y, et al. VISTA3D: a unified segmentation foundation model for 3D medical imaging. "
        "CVPR 2025.",
    )
    keywords = ("interactive", "prompt", "click", "promptable", "SAM", "Segment Anything", "VISTA3D", "MedSAM")

    inputs = (
        VolumePort("image", "Image", "The image."),
        PointsPort("inside", "Points inside", "Points of the structure.", optional=True),
        PointsPort("outside", "Points outside", "Points that do not belong to it.", optional=True),
        PointsPort("box", "Box", "A region of interest (ROI) around it, or two opposite corners.", optional=True),
        SegmentationPort(
            "scribbles", "Scribbles",
            "Painted voxels of the structure; those in a segment called Background or Outside do not belong to it.",
            optional=True,
        ),
    )  # fmt: skip
    parameters = (
        ChoiceParameter(
            "action", "Action", "segment", "Whether the prompts are answered, or the answer before is restored.",
            choices={"segment": "Answer the prompts", "undo": "Undo the latest answer"},
        ),
        TextParameter(
            "model", "Model", "", "Folder or id of a promptable model (own, VISTA3D or SAM); empty: the built-in one.",
            kind="folder",
        ),
        TextParameter("name", "Name", "Structure", "Name of the segment."),
        BooleanParameter(
            "reduced_precision", "Half precision", True,
            "Whether to compute in half precision on a graphics card or a processor that has it, which is faster.",
            advanced=True,
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Segment", "The structure, on the grid of the image."),
        TablePort("measures", "Size", "Volume in mL.", optional=True),
    )

    requirements = ("torch>=2.2", "safetensors>=0.4")
    uses_device = True
    orientation_tolerance = 1e-2

    def example(self):
        from ...core import Points
        from ...core.examples import example_volume

        image = example_volume()
        peak = np.array(np.unravel_index(image.array.argmax(), image.array.shape))
        inside = Points(image.geometry.ras(peak[None, ::-1]))
        box = Points(image.geometry.ras(np.array([peak - 5, peak + 5])[:, ::-1]))
        return {"image": image, "inside": inside, "box": box}, {"model": str(_example_package())}

    def validate(self, inputs, parameters):
        package = _package(parameters.model)
        if _adapter(package.card.architecture) is None:
            raise ModelError(f"The model '{package.card.title}' takes no prompts; use the task 'segment.network'.")
        if parameters.action == "segment":
            prompts = Prompts.collect(inputs.inside, inputs.outside, inputs.box, inputs.scribbles)
            prompts.check(inputs.image.geometry, inputs.image.in_sentence)

    def run(self, inputs, parameters, context):
        import torch

        package = _package(parameters.model)
        card, image = package.card, inputs.image
        context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        started, misses = time.perf_counter(), embeddings.misses
        torch.manual_seed(context.seed)
        key = key_of(image), card.weights_sha256, context.device, parameters.reduced_precision
        if parameters.action == "undo":
            mask = answers.back(key)
            if mask is None:
                raise InputError("There is no earlier answer for this image and model to go back to.")
        else:
            prompts = Prompts.collect(inputs.inside, inputs.outside, inputs.box, inputs.scribbles)
            network = embeddings.get((*key, "network"), lambda: package.network(context.device))
            adapter = _adapter(card.architecture)(network, card, context.device, parameters.reduced_precision)
            misses = embeddings.misses
            mask = adapter.segment(image, prompts, embeddings, key, context)
            answers.add(key, mask)
        segment = Segment(parameters.name.strip() or "Structure", 1, (0.9, 0.6, 0.2))
        segmentation = Segmentation.from_labels(mask.astype(np.uint8), image.geometry, [segment], segment.name)
        known = "The image was known already" if embeddings.misses == misses else "The image was looked at"
        context.log(f"{known}; answered in {time.perf_counter() - started:.2f} s.")
        volume = mask.sum() * image.geometry.voxel_volume_mm3 / 1000
        columns = {"segment": (segment.name,), "volume": np.array([volume])}
        return {
            "segmentation": segmentation,
            "measures": Table(columns, f"{segment.name} size", {"volume": "mL"}),
        }


def _package(model: str) -> ModelPackage:
    if model.strip():
        return find_package(model)
    if not BUILT_IN.is_dir():
        raise ModelError("The built-in promptable model is not installed here; choose a model package.")
    return ModelPackage.load(BUILT_IN)


class _Own:
    """Our own network on an image in any order."""

    def __init__(self, network, card, device, reduced_precision):
        from .own import OwnNetwork

        self._own = OwnNetwork(network, device, reduced_precision)

    def segment(self, image, prompts, kept, key, context):
        from ...core import Volume

        mask = self._own.segment(image.canonical(), prompts, kept, key, context)
        back = inverse_order(*image.geometry.canonical_order())
        return np.ascontiguousarray(Volume(mask, image.canonical().geometry).reordered(*back).array)


def _adapter(architecture: str):
    """The class that answers prompts with networks of this architecture, None if they take none."""
    if architecture == "medimgai.PromptNet":
        return _Own
    if architecture == "monai.vista3d132":
        from .vista import Vista3D

        return Vista3D
    if architecture == "medimgai.Sam":
        from .sam import SegmentAnything

        return SegmentAnything
    return None


_example_folder: tempfile.TemporaryDirectory | None = None


def _example_package() -> Path:
    """A small network with random weights in a temporary folder."""
    global _example_folder
    if _example_folder is None:
        import torch

        from ...core.model_card import ModelCard, ModelInput, ModelOutput
        from .network import PromptNet

        arguments = {"channels": [4, 8, 8, 8], "decoded": [4, 8, 8, 8]}
        with torch.random.fork_rng():
            torch.manual_seed(3)
            state = PromptNet(**arguments).state_dict()
        card = ModelCard(
            id="example.prompts",
            version="1.0.0",
            title="Example",
            task="segmentation",
            inputs=(ModelInput("image", "any"),),
            outputs=(ModelOutput("segmentation", "segmentation", (Segment("Structure", 1),)),),
            architecture="medimgai.PromptNet",
            arguments=arguments,
            license="Apache-2.0",
            citation="None.",
            training_data="None; its numbers are random.",
            intended_use="Tests.",
            limits="It knows nothing.",
        )
        folder = tempfile.TemporaryDirectory(prefix="medimgai-example-")
        ModelPackage.create(Path(folder.name) / "model", card, state)
        _example_folder = folder
    return Path(_example_folder.name) / "model"
