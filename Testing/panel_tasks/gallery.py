"""A task with every kind of input, parameter and output that the panel can show."""

import numpy as np
from MedImgAILib.core import (
    BooleanParameter,
    ChoiceParameter,
    FloatParameter,
    IntegerParameter,
    Plot,
    PlotPort,
    PointsPort,
    RangeParameter,
    Segment,
    Segmentation,
    SegmentationPort,
    Series,
    Table,
    TablePort,
    Task,
    Text,
    TextParameter,
    TextPort,
    VolumePort,
)


class Gallery(Task):
    id = "test.gallery"
    title = "Gallery"
    group = "Test"
    summary = "Shows <everything> & more."
    references = ("Doe J. A paper. doi:10.1000/xyz123.", "https://example.org/page.")
    keywords = ("zebra",)
    uses_device = True

    inputs = (
        VolumePort("image", "Image", "Any volume."),
        VolumePort("others", "Others", "More volumes.", multiple=True, minimum_count=2),
        PointsPort("seeds", "Seeds", optional=True),
    )
    parameters = (
        FloatParameter("sigma_mm", "Width", 1.5, "How wide.", "mm", minimum=0.0, maximum=10.0, decimals=1),
        FloatParameter("open_end", "Open end", 0.125, decimals=3, minimum=0.0),
        IntegerParameter("count", "Count", 3, minimum=1, maximum=9),
        IntegerParameter("any_count", "Any count", -4),
        BooleanParameter("flag", "Flag", False),
        ChoiceParameter("mode", "Mode", "plain", choices={"plain": "Plain", "fancy": "Fancy"}),
        IntegerParameter("frills", "Frills", 2, minimum=0, maximum=5, enabled_when=("mode", ("fancy",))),
        RangeParameter("range", "Range", (10.0, 20.0), "Inclusive.", "HU", bounds_from="image", decimals=1),
        TextParameter("label", "Label", "abc", advanced=True),
        TextParameter("model", "Model", "", kind="file", suffixes=(".json",), advanced=True),
        TextParameter("folder", "Folder", "", kind="folder", advanced=True),
    )
    outputs = (
        SegmentationPort("segmentation", "Segmentation"),
        TablePort("table", "Table", optional=True),
        PlotPort("plot", "Plot", optional=True),
        TextPort("text", "Text", optional=True),
    )

    def run(self, inputs, parameters, context):
        image = inputs.image
        low, high = parameters.range
        context.warn("This is only a test.")
        context.progress(0.5, "Half way")
        labels = ((image.array >= low) & (image.array <= high)).astype(np.uint8)
        table = Table({"x": np.arange(3.0), "y": np.arange(3.0) ** 2})
        return {
            "segmentation": Segmentation.from_labels(labels, image.geometry, [Segment("Found", 1)]),
            "table": table,
            "plot": Plot(table, [Series("y", "x")], title="Square"),
            "text": Text(f"{len(inputs.others)} others, {parameters.label}"),
        }
