"""The report on a data set before training."""

from __future__ import annotations

from ..core import (
    ChoiceParameter,
    InputError,
    SegmentationPort,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)
from . import options
from .sources import read_collection, scene_classification, scene_segmentation


class DataReport(Task):
    """Reads every case once; a case that cannot be read is named and does not stop the report."""

    id = "train.data_report"
    title = "Data report"
    group = "Training"
    summary = "Looks through a data set before training: sizes, values, balance, duplicates, missing and damaged parts."
    references = (
        "Roberts M, Driggs D, Thorpe M, et al. Common pitfalls and recommendations for using machine learning to "
        "detect and prognosticate for COVID-19 using chest radiographs and CT scans. Nat Mach Intell 2021; 3:199-217.",
        "Zauner C. Implementation and benchmarking of perceptual image hash functions. Thesis, Hagenberg 2010.",
    )
    keywords = ("training", "quality", "duplicates", "leak", "class balance")

    inputs = (
        VolumePort(
            "images", "Images", "Images of the scene; all channels of the first case first.", components=(),
            multiple=True, optional=True, allow_nan=True,
        ),
        SegmentationPort("segmentations", "Segmentations", "One for each case.", multiple=True, optional=True),
        TablePort("labels", "Labels", "Columns image (its name), label and, if known, patient.", optional=True),
    )  # fmt: skip
    parameters = (
        *options.DATA,
        ChoiceParameter(
            "kind", "For", "segmentation", "What shall be trained with the data.",
            choices={"segmentation": "Segmentation", "classification": "Classification"},
        ),
        TextParameter("segments", "Segments", "", "Names of labels 1, 2, … with commas, where the files have none."),
        *options.ORIGIN,
    )  # fmt: skip
    outputs = (
        TextPort("report", "Report", "Counts, balance and what is wrong."),
        TablePort("cases", "Cases", "Size, spacing, values and label of each case."),
        TablePort("classes", "Classes", "Cases and volume of each class or segment."),
    )

    def validate(self, inputs, parameters):
        given = [bool(parameters.data), bool(parameters.table), bool(inputs.images)]
        if sum(given) != 1:
            raise InputError("Data: give exactly one of a data folder, a data table, or images of the scene.")
        if inputs.images and not inputs.segmentations and inputs.labels is None:
            raise InputError("Images: segmentations, or a table of labels, of the scene are needed too.")

    def example(self):
        from ..core.examples import example_segmentation, example_volume

        images = [example_volume(f"image {n}", seed=n) for n in range(3)]
        return {"images": images, "segmentations": [example_segmentation(f"truth {n}") for n in range(3)]}, {}

    def run(self, inputs, parameters, context):
        from .report import as_text, examine

        if inputs.images and inputs.segmentations:
            collection = scene_segmentation(inputs.images, inputs.segmentations)
        elif inputs.images:
            collection = scene_classification(inputs.images, inputs.labels)
        else:
            names = tuple(n.strip() for n in parameters.segments.split(",") if n.strip())
            collection = read_collection(
                parameters.data or parameters.table, parameters.kind, parameters.label_column,
                parameters.patient_pattern, names,
            )  # fmt: skip
        found = examine(collection, context)
        return {
            "report": Text(as_text(collection, found), "Data report"), "cases": found.cases, "classes": found.classes,
        }  # fmt: skip
