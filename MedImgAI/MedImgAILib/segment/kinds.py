"""What a new segment may be called: standard terms with their colours, offered by the segmentation tasks."""

from __future__ import annotations

from ..core import ChoiceParameter, Segment, Terminology
from ..core.terminology import BONE, BRAIN, GREY_MATTER, LUNG, MASS, TISSUE, WHITE_MATTER

KINDS: dict[str, tuple[str, Terminology, tuple[float, float, float]]] = {
    "tissue": ("Tissue", TISSUE, (0.50, 0.68, 0.50)),
    "bone": ("Bone", BONE, (0.95, 0.84, 0.57)),
    "brain": ("Brain", BRAIN, (0.98, 0.98, 0.88)),
    "grey_matter": ("Grey matter", GREY_MATTER, (0.78, 0.71, 0.53)),
    "white_matter": ("White matter", WHITE_MATTER, (0.98, 0.98, 0.88)),
    "lung": ("Lung", LUNG, (0.77, 0.65, 0.63)),
    "mass": ("Mass", MASS, (0.56, 0.93, 0.56)),
}


def kind_parameter() -> ChoiceParameter:
    """The parameter with which a task lets the user say what the new segment is."""
    return ChoiceParameter(
        "segment", "Segment", "tissue", "What the segment is: gives it its name, colour and terminology code.",
        choices={key: name for key, (name, _, _) in KINDS.items()},
    )  # fmt: skip


def new_segment(kind: str, label: int = 1) -> Segment:
    """The segment of one of :data:`KINDS`."""
    name, terminology, color = KINDS[kind]
    return Segment(name, label, color, terminology)
