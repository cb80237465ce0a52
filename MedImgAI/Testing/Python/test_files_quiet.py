"""Keeping libraries quiet leaves the program as it was: its warnings on, its descriptors where they were."""

import os
import subprocess
import sys

import pytest
from MedImgAILib.hosts.files.quiet import silence


@pytest.mark.parametrize("shown", [True, False])
def test_itk_warns_again_afterwards(shown):
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    try:
        with pytest.raises(KeyError), silence():
            assert not sitk.ProcessObject.GetGlobalWarningDisplay()
            raise KeyError
        assert sitk.ProcessObject.GetGlobalWarningDisplay() is shown
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def test_descriptors_are_the_same_afterwards(capfd):
    with silence():
        os.write(1, b"hidden")
        os.write(2, b"hidden")
    os.write(1, b"out")
    os.write(2, b"error")
    assert capfd.readouterr() == ("out", "error")


def test_program_without_a_console(tmp_path):
    """As Slicer on Windows, where descriptors 1 and 2 do not exist."""
    answer = tmp_path / "answer"
    script = (
        "import os, pathlib; from MedImgAILib.hosts.files.quiet import silence\n"
        "os.close(1); os.close(2)\n"
        "with silence(): pass\n"
        "def is_open(n):\n"
        "    try: os.fstat(n); return True\n"
        "    except OSError: return False\n"
        f"pathlib.Path({str(answer)!r}).write_text(str([is_open(1), is_open(2)]))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", script], check=False, env=environment, timeout=60)
    assert answer.read_text() == "[False, False]"
