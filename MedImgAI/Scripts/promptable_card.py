"""The card of the promptable network that ``train_promptable.py`` trains."""

from __future__ import annotations

from MedImgAILib.core import Segment
from MedImgAILib.core.model_card import ModelCard, ModelInput, ModelOutput
from MedImgAILib.core.model_intensity import Intensity


def card(steps: int, metrics: dict[str, float]) -> ModelCard:
    """The card after so many steps, with what was measured on images that took no part in the training."""
    return ModelCard(
        id="promptable",
        version="0.2.0",
        title="Promptable network (MedImgAI)",
        task="segmentation",
        inputs=(ModelInput("image", "any", 1, None, "RAS", Intensity("percentiles", lower=1, upper=99)),),
        outputs=(ModelOutput("segmentation", "segmentation", (Segment("Structure", 1, (0.9, 0.6, 0.2)),)),),
        architecture="medimgai.PromptNet",
        license="Apache-2.0",
        citation="MedImgAI contributors. MedImgAI, promptable network, 2026.",
        training_data=(
            f"{steps} steps on random shapes and on crops of labelled images, of which almost half were repainted with "
            "random intensities: the abdominal CT and the aorta CT of TotalSegmentator's tests (Apache-2.0; their "
            "labels are that program's output, not drawn by hand), the ICBM152 and Colin27 templates (BSD; tissue and "
            "brain masks), FLAIR and T2 of one patient with multiple sclerosis (CC-BY, Lesjak 2017; lesions by three "
            "raters), PyRadiomics' brain tumour (BSD) and 35 hippocampi (Medical Segmentation Decathlon, CC-BY-SA "
            "4.0)."
        ),
        metrics=metrics,
        intended_use="Research: a first outline of one connected structure from clicks, a box or scribbles.",
        limits=(
            "Small and trained briefly on few images; thin, branching and faint structures are found badly, and "
            "every answer needs to be looked at. The metrics are mean Dice on images that took no part in the "
            "training, with simulated clicks; hippocampi of other patients did."
        ),
    )
