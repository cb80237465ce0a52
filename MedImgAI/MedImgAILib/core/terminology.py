"""Standard codes for segments, written as Slicer's terminologies write them.

Codes are SNOMED CT ("SCT"), as in Slicer's "3D Slicer General Anatomy list" and DICOM PS3.16.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import InputError

SEGMENTATION_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
ANATOMIC_CONTEXT = "Anatomic codes - DICOM master list"


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8): scheme designator, value, meaning."""

    scheme: str = ""
    value: str = ""
    meaning: str = ""

    def __bool__(self) -> bool:
        return bool(self.value)

    def __str__(self) -> str:
        return f"{self.scheme}^{self.value}^{self.meaning}"

    @classmethod
    def parse(cls, text: str) -> Code:
        """Read ``scheme^value^meaning``; empty parts give an empty code."""
        parts = (text.split("^") + ["", "", ""])[:3]
        return cls(*(p.strip() for p in parts))


TISSUE_CATEGORY = Code("SCT", "85756007", "Tissue")
ANATOMY_CATEGORY = Code("SCT", "123037004", "Anatomical Structure")
LESION_CATEGORY = Code("SCT", "49755003", "Morphologically Altered Structure")


@dataclass(frozen=True)
class Terminology:
    """What a segment is: category, type, optional modifier, and where it is (region, region modifier)."""

    category: Code = TISSUE_CATEGORY
    type: Code = Code("SCT", "85756007", "Tissue")
    modifier: Code = Code()
    region: Code = Code()
    region_modifier: Code = Code()

    def serialize(self) -> str:
        """The string of a Slicer segment's ``Segmentation.TerminologyEntry`` tag."""
        codes = [str(c) for c in (self.category, self.type, self.modifier)]
        regions = [str(c) for c in (self.region, self.region_modifier)]
        return "~".join([SEGMENTATION_CONTEXT, *codes, ANATOMIC_CONTEXT, *regions])

    @classmethod
    def parse(cls, text: str) -> Terminology:
        """Read a ``Segmentation.TerminologyEntry`` tag.

        Raises
        ------
        InputError
            If the text has no category and type.
        """
        parts = text.split("~")
        if len(parts) < 3:
            raise InputError(f"'{text[:60]}' is not a terminology entry of Slicer.")
        parts += [""] * (7 - len(parts))
        category, kind, modifier, region, region_modifier = (Code.parse(parts[n]) for n in (1, 2, 3, 5, 6))
        return cls(category, kind, modifier, region, region_modifier)


def anatomy(value: str, meaning: str) -> Terminology:
    """An anatomical structure by SNOMED CT code."""
    return Terminology(ANATOMY_CATEGORY, Code("SCT", value, meaning))


TISSUE = Terminology()
BRAIN = anatomy("12738006", "Brain")
GREY_MATTER = anatomy("389081007", "Gray Matter")
WHITE_MATTER = anatomy("389080008", "White Matter")
LUNG = anatomy("39607008", "Lung")
BONE = Terminology(TISSUE_CATEGORY, Code("SCT", "272673000", "Bone"))
MASS = Terminology(LESION_CATEGORY, Code("SCT", "4147007", "Mass"))
