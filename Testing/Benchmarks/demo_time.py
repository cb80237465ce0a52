"""How long ``make demo`` takes once everything is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .measuring import row, seconds

_SCRIPT = Path(__file__).resolve().parents[2] / "Demo" / "run_demo.py"


def rows() -> list[dict]:
    """Wall time of the whole demo.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.
    """
    value = seconds(lambda: subprocess.run([sys.executable, str(_SCRIPT)], check=True))
    return [row("demo, from start to report", value, "< 300", "s")]
