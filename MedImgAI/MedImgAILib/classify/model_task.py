"""What the tasks that ask a classification package have in common."""

from __future__ import annotations

from ..core import FloatParameter, ParameterError, Task, TextParameter, TextPort
from ..core.errors import listed
from .classifier import Classifier, classification_package
from .diagnosis import Diagnosis

MODEL = TextParameter(
    "model", "Model", "",
    "Folder of a model package for classification, or the name of one that comes with the program "
    "(pneumonia_chest_xray).", kind="folder",
)  # fmt: skip
DATA = TextParameter(
    "data", "Data", "", "A .npz file as MedMNIST has them, a .csv table of paths and labels, or the path of a folder "
    "with one folder for each class.", kind="file",
)  # fmt: skip
CALIBRATION = TextPort(
    "calibration", "Calibration", "From 'Calibrate a classifier'; replaces the model's.", optional=True
)
DECISION = (
    FloatParameter(
        "coverage", "Coverage", 0.95,
        "How often the set of possible classes shall hold the true one; several or none mean 'do not know'.",
        minimum=0.5, maximum=0.999, step=0.01, decimals=3,
    ),
    FloatParameter(
        "prevalence", "Prevalence", 0.0,
        "Of two classes: share of the positive one among patients like this; 0 keeps what the model assumes.",
        minimum=0.0, maximum=0.999, step=0.05, decimals=3, advanced=True,
    ),
)  # fmt: skip
GUO = "Guo C, Pleiss G, Sun Y, Weinberger KQ. On calibration of modern neural networks. ICML 2017: 1321-1330."


class ModelTask(Task):
    """Asks the model package in the parameter ``model``."""

    group = "Classification"
    requirements = ("torch>=2.2", "safetensors>=0.4")
    uses_device = True
    orientation_tolerance = 1e-2

    def validate(self, inputs, parameters):
        package = classification_package(parameters.model)
        if getattr(parameters, "prevalence", 0.0) and len(package.card.outputs[0].segments) > 2:
            raise ParameterError("Prevalence: it is for models of two classes; leave it 0.")

    def example(self):
        from ..core.examples import example_volume
        from .example_package import example_package

        return {"images": [example_volume()]}, {"model": str(example_package())}

    @staticmethod
    def opened(inputs, parameters, context) -> tuple[Classifier, Diagnosis]:
        """The networks on the context's device, and their diagnosis, with the calibration that was given.

        Raises
        ------
        ModelError
            If the package or the calibration is damaged.
        ParameterError
            If the calibration is for other classes.
        """
        package = classification_package(parameters.model)
        context.used_model(f"{package.card.id} {package.card.version}", package.card.weights_sha256)
        classifier = Classifier(package, context.device)
        given = getattr(inputs, "calibration", None)
        if given is None:
            return classifier, classifier.diagnosis
        return classifier, replaced(classifier.diagnosis, Diagnosis.from_text(given.text), classifier.classes)


def replaced(own: Diagnosis, given: Diagnosis, classes) -> Diagnosis:
    """The given calibration with the known cases of the model's own.

    Raises
    ------
    ParameterError
        If it is for other classes.
    """
    from dataclasses import replace

    if given.classes != tuple(classes):
        raise ParameterError(
            f"Calibration: it is for {listed(given.classes)}; the model tells {listed(classes)} apart."
        )
    return replace(given, embeddings=own.embeddings, known=own.known, names=own.names)
