"""Learning from another model's answers beside the labels, and from unlabelled cases by its answers alone.

A small network learns from a large one or an ensemble (knowledge distillation, Hinton et al. 2015, arXiv:1503.02531),
and unlabelled cases count too, with the teacher's answers in place of labels (Lee 2013, ICML workshop; Xie et al. 2020,
CVPR). Teacher and network see the same changed sample (Beyer et al. 2022, CVPR).
"""

from __future__ import annotations

from ..core import ParameterError
from ..core.model_package import ModelPackage
from .losses import soft_dice_loss

UNLABELLED = 255
"""Label of all voxels of a case whose labels are not known."""


class Teacher:
    """A segmentation model whose answers are learnt.

    Parameters
    ----------
    package : ModelPackage
    names : sequence of str
        Of the segments to learn; the teacher must find the same.
    patch : (K, J, I)
    dimensions : 2 or 3
    device : str

    Raises
    ------
    ParameterError
        If the model finds other segments, gives no softmax, or does not take the patches.
    """

    def __init__(self, package: ModelPackage, names, patch, dimensions: int, device: str):
        import torch

        card = package.card
        found = {s.name: s.label for s in card.outputs[0].segments} if card.task == "segmentation" else {}
        if set(found) != set(names) or card.inference.activation != "softmax":
            raise ParameterError(
                f"Teacher: '{card.title}' is no model that tells exactly {', '.join(names)} apart; choose another one."
            )
        self.order = [0, *(found[name] for name in names)]
        self.title, self.digests = card.title, (card.weights_sha256, *card.members)
        self.network = package.network(device)
        extents = patch[3 - dimensions :]
        channels = sum(i.channels for i in card.inputs)
        try:
            given = tuple(self(torch.zeros((1, channels, *extents), device=device)).shape)
        except (RuntimeError, ValueError, IndexError) as error:
            raise ParameterError(
                f"Teacher: '{card.title}' does not take patches of {'×'.join(str(n) for n in extents[::-1])} voxels."
            ) from error
        if given != (1, len(self.order), *extents):
            raise ParameterError(f"Teacher: '{card.title}' gives answers of another size than its images.")

    def __call__(self, inputs):
        """(B, 1 + segments, …) probabilities for (B, C, …) samples, in the order of the names."""
        import torch

        with torch.no_grad():
            return torch.softmax(self.network(inputs).float(), dim=1)[:, self.order]


def taught(loss, share: float):
    """A loss of scores, labels and a teacher's probabilities.

    Labelled samples have ``1 - share`` of ``loss`` and ``share`` of the teacher's part, unlabelled ones the latter
    alone: the Kullback-Leibler divergence from the teacher, and soft Dice loss against the labels that it would give.

    Parameters
    ----------
    loss : callable
        ``loss(scores, labels)``, a mean over the samples.
    share : float
        From 0 to 1.
    """

    def combined(scores, labels, answers):
        import torch

        unknown = (labels == UNLABELLED).flatten(1).any(dim=1)
        last = scores[:, 0] if scores.ndim == labels.ndim + 2 else scores  # deep supervision: full resolution first
        total = 0.0
        for which, own in ((~unknown, 1 - share), (unknown, 0.0)):
            count = int(which.sum())
            if not count:
                continue
            part = (1 - own) * _distance(last[which].float(), answers[which]) if own < 1 else 0.0
            if own:
                part = part + own * loss(scores[which], labels[which])
            total = total + part * (count / len(labels))
        return torch.as_tensor(total)

    return combined


def _distance(scores, answers):
    import torch

    logs = torch.log_softmax(scores, dim=1)
    divergence = (answers * (answers.clamp(min=1e-8).log() - logs)).sum(dim=1).mean()
    return divergence + soft_dice_loss(scores, answers.argmax(dim=1))
