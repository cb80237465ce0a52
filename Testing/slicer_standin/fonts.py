"""A font for offscreen Qt: without one every character is a box."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtGui import QFont, QFontDatabase
from PySide6.QtWidgets import QApplication


def ensure() -> None:
    """Use DejaVu Sans, from the system or from matplotlib, at the size Slicer's panels have."""
    if "DejaVu Sans" not in QFontDatabase.families():
        import matplotlib

        for path in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuSans*.ttf"):
            QFontDatabase.addApplicationFont(str(path))
    QApplication.setFont(QFont("DejaVu Sans", 9))
    QApplication.setStyle("Fusion")
