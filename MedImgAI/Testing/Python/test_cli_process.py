"""The command as a process of its own: interruption, quick start, and the batch script inside Slicer."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from MedImgAILib.core import Geometry, Volume
from MedImgAILib.hosts import cli
from MedImgAILib.hosts.files import read_file, write_file

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = os.pathsep.join(str(ROOT / name) for name in ("MedImgAI", "MedImgAIReconstruct", "MedImgAIFusion"))


@pytest.fixture
def image(tmp_path) -> str:
    array = np.random.default_rng(0).integers(-50, 100, (6, 8, 10)).astype(np.int16)
    write_file(Volume(array, Geometry.from_spacing(array.shape, (1.0, 1.2, 2.0))), tmp_path / "in.nrrd")
    return str(tmp_path / "in.nrrd")


def run(code: str, *arguments, **options):
    environment = dict(os.environ, PYTHONPATH=LIBRARIES)
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts if os.name == "posix" else None, **options,
    )  # fmt: skip


def heed_interrupts():
    """A shell lets what it starts in the background ignore Ctrl-C, and so would the process under test."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


SLOW = """
import sys, time
from MedImgAILib.core import Task, VolumePort, registry
from MedImgAILib.hosts import cli
class Slow(Task):
    id = "test.slow"
    inputs = (VolumePort("image", "Image"),)
    outputs = (VolumePort("result", "Result"),)
    def run(self, inputs, parameters, context):
        for n in range(600):
            context.progress(n / 600)
            time.sleep(0.05)
        return {"result": inputs.image.with_array(inputs.image.array.copy())}
task = Slow()
task.library = "MedImgAILib"
registry().tasks[task.id] = task
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c(image, tmp_path):
    arguments = ["test.slow", "--input", image, "--output", str(tmp_path / "o.nrrd")]
    process = run(SLOW, *arguments, start_new_session=True)
    assert "0 %" in process.stderr.readline()
    time.sleep(0.5)
    started = time.monotonic()
    # A terminal interrupts the whole group of processes.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - started < 3
    assert "Error: Cancelled; nothing was written." in errors and "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["in.nrrd"]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_ctrl_c_with_the_worker(tmp_path):
    big = np.random.default_rng(0).normal(size=(60, 200, 200)).astype(np.float32)
    write_file(Volume(big, Geometry.from_spacing(big.shape)), tmp_path / "in.nrrd")
    arguments = ["enhance.median", "--input", str(tmp_path / "in.nrrd"), "--radius-mm", "5", "--runner", "worker"]
    code = "import sys; from MedImgAILib.hosts import cli; sys.exit(cli.main(sys.argv[1:]))"
    process = run(code, *arguments, "--output", str(tmp_path / "o.nrrd"), start_new_session=True)
    assert "0 %" in process.stderr.readline()
    time.sleep(1.0)
    started = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - started < 5
    assert "Error: Cancelled; nothing was written." in errors and "Traceback" not in errors
    assert [p.name for p in tmp_path.iterdir()] == ["in.nrrd"]


def test_nothing_slow_is_imported_to_list_or_explain(tmp_path):
    code = (
        "import sys\nfrom MedImgAILib.hosts import cli\n"
        "cli.main(['tasks']); cli.main(['enhance.gaussian', '--help'])\n"
        "slow = {'torch', 'scipy', 'SimpleITK', 'vtk', 'pydicom', 'slicer', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    process = run(code)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


BATCH = """
import runpy, sys, types
slicer, util = types.ModuleType("slicer"), types.ModuleType("slicer.util")
slicer.app, slicer.util = object(), util
util.exit = lambda code=0: print("slicer exits with", code)
if sys.argv.pop(1) == "slicer":
    sys.modules.update({"slicer": slicer, "slicer.util": util})
script = sys.argv.pop(1)
sys.argv[0] = script
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("host", ["slicer", "python"])
def test_batch_script_writes_the_same_voxels(image, tmp_path, host):
    script = str(ROOT / "MedImgAI" / "Scripts" / "medimgai_batch.py")
    arguments = ["enhance.gaussian", "--input", image, "--sigma-mm", "1.5", "--output"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", BATCH, host, script, *arguments, str(tmp_path / "batch.nrrd")]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("slicer exits with 0\n" if host == "slicer" else "")
    assert cli.main([*arguments, str(tmp_path / "command.nrrd"), "--quiet"]) == 0
    np.testing.assert_array_equal(read_file(tmp_path / "batch.nrrd").array, read_file(tmp_path / "command.nrrd").array)
    command[-1] = str(tmp_path / "gone" / "batch.nrrd")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ("slicer exits with 2" in done.stdout) if host == "slicer" else done.returncode == 2
    assert "Error: The folder" in done.stderr
