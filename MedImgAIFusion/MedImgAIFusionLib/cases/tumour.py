"""The brain-tumour case study: any part of T1, T1c, T2 and FLAIR in, parts, volumes and a report out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from MedImgAILib.core import (
    ParameterError,
    SegmentationPort,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    TransformPort,
    VolumePort,
)

from ..model.cases import Patient, prepare
from ..model.package import load_joint, on_source
from ..model.training import infer
from .exam import INPUTS, MODALITIES, PARAMETERS, given_images, prepare_exam
from .tumour_regions import PARTS, TISSUES, RegionClassifier, nested, regions_of, tissue_table
from .tumour_report import report_html
from .tumour_rounds import alone_figure
from .tumour_train import REFERENCES, REGIONS, REQUIREMENTS, metric_name

LARGEST_SHARE = 25.0
"""Per cent of the brain: larger tumours with their oedema are all but unknown (BraTS: up to about 350 mL)."""


class BrainTumour(Task):
    """Registration, bias correction, skull stripping, segmentation by a joint network, region classification."""

    id = "cases.brain_tumour"
    title = "Brain-tumour analysis"
    group = "Case studies"
    summary = "Outlines a glioma's parts from any of T1, T1c, T2 and FLAIR, measures them, and writes a report."
    references = REFERENCES
    keywords = ("glioma", "BraTS", "oedema", "enhancing", "MRI", "case study")
    requirements = REQUIREMENTS
    uses_device = True
    orientation_tolerance = 2e-2

    inputs = INPUTS
    parameters = (
        TextParameter("model", "Model", "", "Folder that 'Train brain-tumour analysis' made.", kind="folder"),
        *PARAMETERS,
    )
    outputs = (
        TextPort("report", "Report", "HTML page with pictures, volumes and limits."),
        SegmentationPort("segmentation", "Tumour", "Whole tumour, core and enhancing tumour on the reference's grid."),
        TablePort("measures", "Volumes", "Volume of each part and its share of the brain."),
        TablePort("regions", "Region tissue", "What small regions of the tumour are made of.", optional=True),
        VolumePort("uncertainty", "Uncertainty", "Entropy relative to that of chance, 0…1.", optional=True),
        SegmentationPort("brain_mask", "Brain", "What was kept of the head.", optional=True),
        *(VolumePort(f"{n}_brain", f"{t} brain", "Registered, corrected, stripped.", optional=True)
          for n, t in MODALITIES.items()),
        *(TransformPort(f"{n}_transform", f"{t} transform", "To the reference, where it was moved.", optional=True)
          for n, t in MODALITIES.items()),
    )  # fmt: skip

    def validate(self, inputs, parameters):
        if not parameters.model:
            raise ParameterError("Model: no folder was given; train one with 'Train brain-tumour analysis'.")
        images = given_images(inputs)
        card = load_joint(parameters.model).card
        known = [i.name for i in card.inputs]
        if [s.name for s in card.outputs[0].segments] != list(TISSUES):
            raise ParameterError(f"Model: '{card.title}' does not outline the parts of a tumour; choose another.")
        if not any(name in known for name in images):
            raise ParameterError(f"Model: '{card.title}' takes {', '.join(known)}, and none of them was given.")

    def example(self):
        from .tumour_example import example_images, example_model

        return example_images(), {"model": str(example_model()), "bias": "none"}

    def run(self, inputs, parameters, context):
        package = load_joint(parameters.model)
        card = package.card
        known = [i.name for i in card.inputs]
        with context.part(0.0, 0.6) as part:
            exam = prepare_exam(given_images(inputs), inputs.brain, parameters, part)
        missing = [name for name in known if name not in exam.images]
        unused = [name for name in exam.images if name not in known]
        notes = list(exam.notes)
        if missing:
            notes.append(without(missing, [name for name in known if name in exam.images], card))
        if unused:
            notes.append(f"The network was not trained with {', '.join(unused)}, which it does not use.")
        context.used_model(f"{card.id} {card.version}", card.weights_sha256)
        spacing = card.inputs[0].spacing_mm
        case = prepare(Patient("exam", exam.images), known, spacing[0] if spacing else 0.0)
        with context.part(0.6, 0.85) as part:
            shares = infer(package.network(context.device), case.array, part)
        context.progress(0.85, "Measuring")
        reference = exam.reference
        tissues, uncertainty = on_source(shares, case.geometry, reference, card.outputs[0].segments, "Tumour")
        labels = np.where(exam.brain, tissues.layers[0], 0).astype(np.uint8)
        regions = self._regions(parameters, known, case, shares)
        measures = measure(labels, exam.brain, reference.geometry.voxel_volume_mm3)
        share = float(measures.columns["share of brain"][0])
        if share > LARGEST_SHARE:
            doubt = f"The outline takes {share:.0f} % of the brain, which no tumour does; do not believe it."
            notes.insert(0, doubt)
            context.warn(doubt)
        segmentation = nested(labels, reference.geometry, "Tumour")
        outputs = {
            "report": Text(report_html(exam, labels, measures, regions, notes, card), "Brain-tumour report"),
            "segmentation": segmentation,
            "measures": measures,
            "regions": regions,
            "uncertainty": uncertainty,
            "brain_mask": brain_segmentation(exam),
        }
        for name, title in MODALITIES.items():
            outputs[f"{name}_brain"] = exam.images.get(title)
            outputs[f"{name}_transform"] = exam.transforms.get(title)
        return outputs

    def _regions(self, parameters, known, case, shares) -> Table | None:
        path = Path(parameters.model) / REGIONS
        if not path.is_file():
            return None
        classifier = RegionClassifier.from_json(path.read_text("utf-8"))
        found = regions_of(case.array, shares.argmax(0) > 0, case.geometry.spacing_kji)
        return tissue_table(classifier.probabilities(found.features))


def without(missing, shown, card) -> str:
    """What it means that images are missing, in a sentence or two."""
    text = f"The network went without {', '.join(missing)}."
    score = card.metrics.get(metric_name(alone_figure(shown[0]))) if len(shown) == 1 else None
    if score is not None:
        text += f" With {shown[0]} alone the whole tumour had a Dice of {score:.2f} in patients left out of training."
    if not {"FLAIR", "T2"} & set(shown):
        text += " Without FLAIR and T2 oedema is hardly seen."
    return text


def measure(labels: np.ndarray, brain: np.ndarray, voxel_mm3: float) -> Table:
    """Volume of each part in mL, and its share of the brain in per cent."""
    volumes = np.array([np.isin(labels, values).sum() * voxel_mm3 / 1000 for values in PARTS.values()])
    share = 100 * volumes / max(brain.sum() * voxel_mm3 / 1000, 1e-9)
    return Table(
        {"part": tuple(PARTS), "volume": volumes, "share of brain": share}, "Tumour volumes",
        units={"volume": "mL", "share of brain": "%"},
    )  # fmt: skip


def brain_segmentation(exam):
    """The brain as a segmentation."""
    from MedImgAILib.core import Segment, Segmentation
    from MedImgAILib.core.terminology import BRAIN

    segment = Segment("Brain", 1, (0.98, 0.98, 0.88), BRAIN)
    return Segmentation.from_labels(exam.brain.view(np.uint8), exam.reference.geometry, [segment], "Brain")
