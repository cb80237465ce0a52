"""Application of a joint network to any part of its modalities."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from MedImgAILib.core import (
    ParameterError,
    Segment,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    TextParameter,
    VolumePort,
)
from MedImgAILib.core.model_package import ModelPackage

from .cases import Patient, match_images, prepare
from .package import load_joint, new_card, on_source
from .train_task import KEYWORDS, REFERENCES, REQUIREMENTS
from .training import Settings, infer


class ApplyJointNetwork(Task):
    """A joint network on whichever of its modalities a patient has."""

    id = "fusion.joint_network_apply"
    title = "Apply joint network"
    group = "Model fusion"
    summary = "Segments a patient by a joint network from any part of the modalities that it was trained on."
    references = REFERENCES
    keywords = KEYWORDS
    requirements = REQUIREMENTS
    uses_device = True
    orientation_tolerance = 1e-2
    """Rounding in the resampling decides where two classes are all but equal."""

    inputs = (
        VolumePort(
            "images", "Images", "Registered images, known by the modality in their names, or all in the model's order.",
            multiple=True,
        ),
    )  # fmt: skip
    parameters = (TextParameter("model", "Model", "", "Folder of the trained network.", kind="folder"),)
    outputs = (
        SegmentationPort("segmentation", "Segments", "On the grid of the first image that the model knows."),
        VolumePort("uncertainty", "Uncertainty", "Entropy relative to that of chance, 0…1.", optional=True),
        TablePort("measures", "Sizes", "Volume of each segment, and which modalities were there.", optional=True),
    )

    def example(self):
        from ..feature.examples import example_patient

        images, _ = example_patient()
        return {"images": images[:1]}, {"model": str(_example_package())}

    def validate(self, inputs, parameters):
        if not parameters.model:
            raise ParameterError("Model: no folder was given; choose the package of a joint network.")
        match_images(inputs.images, [i.name for i in load_joint(parameters.model).card.inputs])

    def run(self, inputs, parameters, context):
        package = load_joint(parameters.model)
        card = package.card
        modalities = [i.name for i in card.inputs]
        images = match_images(inputs.images, modalities)
        missing = [m for m in modalities if m not in images]
        if missing:
            context.log(f"Without {', '.join(missing)}.")
        for wanted in card.inputs:
            image = images.get(wanted.name)
            expected = {"CT": "HU", "PT": "SUV"}.get(wanted.modality, "")
            if image is not None and image.units and image.units != expected:
                context.warn(
                    f"{image.label} is in {image.units}, but the model's '{wanted.name}' "
                    f"{'is in ' + expected if expected else 'has no unit'}; the result may be wrong."
                )
        context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        context.progress(0.05, "Preparing the images")
        spacing = card.inputs[0].spacing_mm
        case = prepare(Patient(inputs.images[0].name, images), modalities, spacing[0] if spacing else 0.0)
        network = package.network(context.device)
        with context.part(0.2, 0.8) as part:
            shares = infer(network, case.array, part)
        context.progress(0.8, "Bringing the result back")
        segments = card.outputs[0].segments
        segmentation, uncertainty = on_source(shares, case.geometry, case.source, segments, card.title)
        counts = [int(np.count_nonzero(segmentation.mask(s))) for s in segments]
        columns = {
            "segment": [s.name for s in segments],
            "volume": np.array(counts) * (case.source.geometry.voxel_volume_mm3 / 1000),
            "modalities": [", ".join(m for m in modalities if m in images)] * len(segments),
        }
        measures = Table(columns, f"{card.title} sizes", {"volume": "mL"})
        return {"segmentation": segmentation, "uncertainty": uncertainty, "measures": measures}


_example_folder: tempfile.TemporaryDirectory | None = None


def _example_package() -> Path:
    """An untrained network of two modalities in a temporary folder."""
    global _example_folder
    if _example_folder is None:
        import torch
        from MedImgAILib.networks.multimodal_unet import MultimodalUNet

        settings = Settings(channels=(2, 4))
        card = new_card(
            ["bright", "dark"], ["", ""], (Segment("Brain", 1), Segment("Mass", 2)), 2.0, settings,
            "None; its weights are random.", {},
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = MultimodalUNet(2, 3, [2, 4])
        folder = tempfile.TemporaryDirectory(prefix="medimgai-joint-")
        ModelPackage.create(Path(folder.name) / "model", card, network.state_dict())
        _example_folder = folder
    return Path(_example_folder.name) / "model"
