"""Names, colours and SNOMED CT codes of what the public networks find."""

from __future__ import annotations

from ..core import Segment, Terminology
from ..core.terminology import BRAIN, GREY_MATTER, WHITE_MATTER, anatomy

_STRUCTURES: dict[str, tuple[str | Terminology, tuple[int, int, int]]] = {
    "Cerebral white matter": ("68523003", (245, 245, 245)),
    "Cerebral cortex": ("40146001", (205, 62, 78)),
    "Lateral ventricle": ("66720007", (120, 18, 134)),
    "Inferior horn of lateral ventricle": ("53118009", (196, 58, 250)),
    "Cerebellar white matter": ("33060004", (220, 248, 164)),
    "Cerebellar cortex": ("25991003", (230, 148, 34)),
    "Thalamus": ("42695009", (0, 118, 14)),
    "Caudate nucleus": ("11000004", (122, 186, 220)),
    "Putamen": ("89278009", (236, 13, 176)),
    "Globus pallidus": ("14738005", (12, 48, 255)),
    "Third ventricle": ("49841001", (204, 182, 142)),
    "Fourth ventricle": ("35918002", (42, 204, 164)),
    "Brain stem": ("119238007", (119, 159, 176)),
    "Hippocampus": ("5366008", (220, 216, 20)),
    "Amygdala": ("4958002", (103, 255, 255)),
    "Nucleus accumbens": ("427667007", (255, 165, 0)),
    "Ventral diencephalon": ("87563008", (165, 42, 42)),
    "Brain": (BRAIN, (250, 250, 225)),
    "Grey matter": (GREY_MATTER, (200, 180, 135)),
    "White matter": (WHITE_MATTER, (250, 250, 225)),
    "Cerebrospinal fluid": (anatomy("280371009", "Brain cerebrospinal fluid pathway"), (85, 188, 255)),
    "Retinal vessels": (anatomy("59820001", "Blood vessel"), (216, 101, 79)),
    "Retinal arteries": (anatomy("51114001", "Artery"), (216, 101, 79)),
    "Retinal veins": (anatomy("29092000", "Vein"), (0, 151, 206)),
    "Optic disc rim": (anatomy("81016008", "Optic disc"), (255, 220, 140)),
    "Optic cup": (anatomy("81016008", "Optic disc"), (240, 150, 60)),
    "Crossing or uncertain vessel": (anatomy("59820001", "Blood vessel"), (140, 120, 190)),
}

SUBCORTICAL = tuple(_STRUCTURES)[:17]
"""The labels 1…17 of the networks trained on FreeSurfer's segmentation, left and right together."""


def segments(*names: str) -> tuple[Segment, ...]:
    """Segments labelled 1, 2, … in the order given."""
    result = []
    for label, name in enumerate(names, start=1):
        code, color = _STRUCTURES[name]
        terminology = anatomy(code, name) if isinstance(code, str) else code
        result.append(Segment(name, label, tuple(c / 255 for c in color), terminology))
    return tuple(result)
