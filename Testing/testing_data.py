"""Where tests find the real images; they are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def data_path(relative: str) -> Path:
    """Path of a development image, below ``$MEDIMGAI_TEST_DATA`` or ``../shared/data``; skips the test without it."""
    path = Path(os.environ.get("MEDIMGAI_TEST_DATA", _BESIDE)) / relative
    if not path.exists():
        pytest.skip(f"{relative} is not in the test data folder; set MEDIMGAI_TEST_DATA")
    return path
