"""Terminology and colours for the names that other programs give to their labels.

Codes and colours are those of the "3D Slicer General Anatomy list" of Slicer's Terminologies module where it has them.
"""

from __future__ import annotations

import re

from ...core import Segment, Terminology
from ...core.terminology import ANATOMY_CATEGORY, LESION_CATEGORY, Code

_ANATOMY = {
    "spleen": ("78961009", "Spleen", (157, 108, 162)),
    "liver": ("10200004", "Liver", (221, 130, 101)),
    "kidney": ("64033007", "Kidney", (185, 102, 83)),
    "gallbladder": ("28231008", "Gallbladder", (139, 150, 98)),
    "stomach": ("69695003", "Stomach", (216, 132, 105)),
    "pancreas": ("15776009", "Pancreas", (249, 180, 111)),
    "aorta": ("15825003", "Aorta", (224, 97, 76)),
    "esophagus": ("32849002", "Esophagus", (211, 171, 143)),
    "bladder": ("89837001", "Bladder", (222, 154, 132)),
    "adrenal gland": ("23451007", "Adrenal gland", (249, 186, 150)),
    "duodenum": ("38848004", "Duodenum", (255, 253, 229)),
    "small bowel": ("30315005", "Small Intestine", (205, 167, 142)),
    "small intestine": ("30315005", "Small Intestine", (205, 167, 142)),
    "colon": ("71854001", "Colon", (204, 168, 143)),
    "heart": ("80891009", "Heart", (206, 110, 84)),
    "lung": ("39607008", "Lung", (197, 165, 145)),
    "lung upper lobe": ("45653009", "Upper lobe of lung", (202, 164, 140)),
    "lung lower lobe": ("90572001", "Lower lobe of lung", (224, 186, 162)),
    "lung middle lobe": ("72481006", "Middle lobe of right lung", (202, 164, 140)),
    "trachea": ("44567001", "Trachea", (182, 228, 255)),
    "prostate": ("41216001", "Prostate", (230, 158, 140)),
    "brain": ("12738006", "Brain", (250, 250, 225)),
    "spinal cord": ("2748008", "Spinal cord", (244, 214, 49)),
    "thyroid": ("69748006", "Thyroid", (62, 162, 114)),
    "thyroid gland": ("69748006", "Thyroid", (62, 162, 114)),
    "clavicle": ("51299004", "Clavicle", (255, 238, 170)),
    "clavicula": ("51299004", "Clavicle", (255, 238, 170)),
    "sternum": ("56873002", "Sternum", (244, 217, 154)),
    "skull": ("89546000", "Skull", (241, 213, 144)),
    "rib": ("113197003", "Rib", (253, 232, 158)),
    "hippocampus": ("5366008", "Hippocampus", (220, 216, 20)),
    "brain stem": ("119238007", "Brain stem", (119, 159, 176)),
    "accumbens area": ("427667007", "Nucleus accumbens", (255, 165, 0)),
    "ventraldc": ("87563008", "Ventral diencephalon", (165, 42, 42)),
    "3rd ventricle": ("49841001", "Third ventricle", (204, 182, 142)),
    "cerebellum cortex": ("25991003", "Cerebellar cortex", (230, 148, 34)),
    "amygdala": ("4958002", "Amygdala", (98, 153, 112)),
    "thalamus": ("119406000", "Thalamus", (145, 92, 109)),
    "caudate": ("11000004", "Caudate nucleus", (188, 65, 28)),
    "putamen": ("89278009", "Putamen", (166, 84, 94)),
    "pallidum": ("14738005", "Globus pallidus", (132, 83, 53)),
    "lateral ventricle": ("66720007", "Lateral ventricle", (88, 106, 215)),
    "cerebral white matter": ("68523003", "Cerebral White Matter", (250, 250, 225)),
    "cerebellum white matter": ("33060004", "Cerebellar white matter", (194, 195, 164)),
    "cerebral cortex": ("40146001", "Cerebral Grey Matter", (128, 174, 128)),
    "4th ventricle": ("35918002", "Fourth ventricle", (88, 106, 215)),
    "left ventricle": ("87878005", "Left Ventricle", (152, 55, 13)),
    "right ventricle": ("53085002", "Right Ventricle", (181, 85, 57)),
}
_SYNONYMS = {
    "oesophagus": "esophagus", "urinary bladder": "bladder", "gall bladder": "gallbladder", "kideny": "kidney",
    "lv pool": "left ventricle", "rv pool": "right ventricle", "ribs": "rib",
}  # fmt: skip
_LESIONS = {
    "edema": ("79654002", "Edema", (140, 224, 228)),
    "oedema": ("79654002", "Edema", (140, 224, 228)),
    "necrosis": ("6574001", "Necrosis", (216, 191, 216)),
}
_MASSES = ("tumor", "tumour", "mass", "neoplasm", "glioma", "lesion")
_MASS = ("4147007", "Mass", (144, 238, 144))
_SIDES = {"right": Code("SCT", "24028007", "Right"), "left": Code("SCT", "7771000", "Left")}


def segment(name: str, label: int) -> Segment:
    """A segment with the terminology that its name stands for, or that of tissue where it is not known.

    Parameters
    ----------
    name : str
        As ``kidney_right``, "Left Kidney", "Tumor core".
    label : int
    """
    words = re.sub(r"[\W_]+", " ", name).strip().lower()
    side = next((s for s in _SIDES if re.search(rf"\b{s}\b", words) and f"{s} ventricle" not in words), None)
    plain = re.sub(r"\b(left|right)\b", " ", words) if side else words
    plain = " ".join(plain.split())
    plain = _SYNONYMS.get(plain, plain)
    shown = " ".join(name.replace("_", " ").split()) or f"Label {label}"
    shown = shown[0].upper() + shown[1:]
    if plain in _ANATOMY:
        code, meaning, color = _ANATOMY[plain]
        modifier = _SIDES[side] if side and plain != "lung middle lobe" else Code()
        terminology = Terminology(ANATOMY_CATEGORY, Code("SCT", code, meaning), modifier)
    elif plain in _LESIONS or any(word in _MASSES for word in plain.split()):
        code, meaning, color = _LESIONS.get(plain, _MASS)
        terminology = Terminology(LESION_CATEGORY, Code("SCT", code, meaning))
    else:
        terminology, color = Terminology(), _color(label)
    return Segment(shown, label, tuple(c / 255 for c in color), terminology)


def segments(names: dict[int, str]) -> tuple[Segment, ...]:
    """Segments of labels and their names; names that occur twice get their label's number."""
    result, seen = [], set()
    for label, name in sorted(names.items()):
        one = segment(name, label)
        if one.name in seen:
            one = segment(f"{one.name} {label}", label)
        seen.add(one.name)
        result.append(one)
    return tuple(result)


def _color(label: int) -> tuple[int, int, int]:
    """Colours that differ from one label to the next: steps of the golden angle around the wheel."""
    import colorsys

    return tuple(round(255 * c) for c in colorsys.hsv_to_rgb(label * 0.618 % 1, 0.55, 0.9))
