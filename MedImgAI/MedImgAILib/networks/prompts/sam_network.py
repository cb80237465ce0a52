"""The Segment Anything network as the package transformers builds it, for the allow-list of model packages."""

from __future__ import annotations


def Sam(vision: dict | None = None, prompt: dict | None = None, decoder: dict | None = None):  # noqa: N802
    """``transformers.SamModel`` with untrained weights; SAM, MedSAM and their like are instances of it.

    Parameters
    ----------
    vision, prompt, decoder : dict, optional
        What differs from the ViT-B of Kirillov et al. 2023: arguments of ``SamVisionConfig``,
        ``SamPromptEncoderConfig`` and ``SamMaskDecoderConfig``.
    """
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    return SamModel(
        SamConfig(
            vision_config=SamVisionConfig(**(vision or {})),
            prompt_encoder_config=SamPromptEncoderConfig(**(prompt or {})),
            mask_decoder_config=SamMaskDecoderConfig(**(decoder or {})),
        )
    )
