"""Where models lie on this machine: those that come with the product, and those downloaded or imported."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from ..core import ModelError
from ..core.model_package import CARD, ModelPackage

FOLDER = "MEDIMGAI_MODELS"
_LIBRARY = Path(__file__).resolve().parents[1]
_IN_WHEEL = _LIBRARY / "Resources" / "Models"
SHIPPED = _IN_WHEEL if _IN_WHEEL.is_dir() else _LIBRARY.parent / "Resources" / "Models"
"""The packages that come with the product."""


def default_folder() -> Path:
    """``$MEDIMGAI_MODELS`` or ``MedImgAI/models`` in the user's cache folder."""
    if os.environ.get(FOLDER):
        return Path(os.environ[FOLDER])
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local")) / "MedImgAI/models"
    if sys.platform == "darwin":
        return home / "Library/Caches/MedImgAI/models"
    return Path(os.environ.get("XDG_CACHE_HOME", home / ".cache")) / "MedImgAI/models"


def find_package(text: str) -> ModelPackage:
    """The package in the folder ``text``, or the installed model of this id, or the one that came with the product.

    Raises
    ------
    ModelError
        If there is neither, or the package is damaged.
    """
    if re.fullmatch(r"[a-z][a-z0-9_.-]{0,79}", text) and not Path(text).exists():
        folder = next((f for f in (default_folder() / text, SHIPPED / text) if (f / CARD).exists()), None)
        if folder is None:
            raise ModelError(
                f"There is no folder and no installed model '{text}'; 'medimgai models' lists and fetches models."
            )
        return ModelPackage.load(folder)
    return ModelPackage.load(text)
