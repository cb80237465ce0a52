"""Codes of segments mean what they are said to mean, as far as DICOM's context groups know them."""

import json
import re
from pathlib import Path

import pytest
from MedImgAILib.networks import anatomy, catalogue
from pydicom.sr import _concepts_dict

KNOWN: dict[str, set[str]] = {}
for entries in _concepts_dict.concepts["SCT"].values():
    for value, (meaning, _groups) in entries.items():
        KNOWN.setdefault(value, set()).add(meaning)


def words(text):
    return set(re.findall(r"[a-z]{3,}", text.lower().replace("grey", "gray")))


def pairs():
    """(code, what it is said to be) of the code's tables and of the catalogue."""
    for path in (anatomy.__file__, catalogue.__file__):
        for match in re.finditer(r'anatomy\("(\d+)",\s*"([^"]+)"', Path(path).read_text("utf-8")):
            yield match[1], match[2]


@pytest.mark.parametrize("code, meaning", sorted(set(pairs())))
def test_a_code_means_what_is_written(code, meaning):
    if code not in KNOWN:
        pytest.skip("not in DICOM's context groups")
    assert any(words(meaning) & words(known) for known in KNOWN[code]), KNOWN[code]


def test_codes_of_the_catalogue_are_those_of_the_tables():
    path = catalogue.__file__.replace("catalogue.py", "catalogue.json")
    codes = set(re.findall(r'"SCT\^(\d+)', json.dumps(json.loads(Path(path).read_text("utf-8")))))
    assert codes and "24010005" not in codes
    unknown = [code for code in codes if code not in KNOWN and code not in dict(pairs())]
    assert len(unknown) <= len(codes) // 4, unknown
