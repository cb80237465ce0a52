"""Brain extraction by the deepbet network."""

from __future__ import annotations

import numpy as np

from ..core import FloatParameter, Segment, Segmentation, SegmentationPort, TablePort, Task, VolumePort
from ..core.terminology import BRAIN
from .brain_shape import warn_of_doubts
from .cleanup import fill_holes, largest_component
from .measures import measure


class BrainExtraction(Task):
    """Two passes of a network: one on the whole head, coarse, finds the brain's box; one in the box outlines it.

    The networks come in the package ``deepbet`` (MIT licence) as TorchScript, which can run code of its own;
    therefore their hashes are checked, and they are loaded in the worker process only.
    """

    id = "segment.brain_extraction"
    title = "Brain extraction"
    group = "Segmentation"
    summary = "Outlines the brain in a T1-weighted MR image of the head; trained on healthy adults."
    references = (
        "Fisch L, Zumdick S, Barkhau C, et al. deepbet: fast brain extraction of T1-weighted MRI using convolutional "
        "neural networks. Comput Biol Med 2024; 179:108845.",
    )
    keywords = ("skull stripping", "brain mask", "BET", "deepbet", "T1")

    inputs = (
        VolumePort("image", "T1 image", "T1-weighted MR image of the whole head.", three_d=True, minimum_shape=32),
    )
    parameters = (
        FloatParameter(
            "threshold", "Probability", 0.5, "Voxels at least this likely to be brain are taken.",
            minimum=0.01, maximum=0.99, step=0.05,
        ),
    )  # fmt: skip
    outputs = (
        SegmentationPort("segmentation", "Brain mask", "The segment Brain on the grid of the image."),
        VolumePort("brain", "Brain image", "The image, 0 outside the brain.", optional=True),
        TablePort("measures", "Sizes", "Volume of the brain in mL and its mean value.", optional=True),
    )

    requirements = ("torch>=2.2", "deepbet>=1.0.2")
    uses_device = True
    isolated = True

    def example(self):
        from ..core.examples import example_head

        return {"image": example_head()}, {}

    def run(self, inputs, parameters, context):
        from ..core.geometry import inverse_order
        from .deepbet import brain_probability

        image = inputs.image
        # The network knows heads whose array runs left-right, posterior-anterior, inferior-superior.
        canonical = image.canonical()
        with context.part(0.0, 0.9):
            probability, box = brain_probability(canonical.array.transpose(2, 1, 0), context)
        context.progress(0.9, "Cleaning up")
        found = np.zeros(canonical.array.shape[::-1], bool)
        found[box] = fill_holes(largest_component(probability > parameters.threshold))
        mask = canonical.with_array(found.transpose(2, 1, 0))
        mask = mask.reordered(*inverse_order(*image.geometry.canonical_order())).array
        warn_of_doubts(mask, image.geometry.spacing_kji, image.label, context)
        segment = Segment("Brain", 1, (0.98, 0.98, 0.88), BRAIN)
        result = Segmentation.from_labels(np.ascontiguousarray(mask).view(np.uint8), image.geometry, [segment])
        brain = np.where(mask, image.array, np.zeros((), image.array.dtype))
        return {
            "segmentation": result,
            "brain": image.with_array(brain, units=image.units, display=image.display),
            "measures": measure(result, image),
        }
