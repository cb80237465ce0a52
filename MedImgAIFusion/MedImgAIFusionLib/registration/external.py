"""elastix and ANTs as engines: they run in a process of their own and exchange files, so that a crash or a cancel of
theirs touches nothing here, and so that they may live in another Python whose packages they need."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, InputError, MissingPackageError, ResourceError, TextParameter
from MedImgAILib.core.geometry import LPS_FROM_RAS
from MedImgAILib.core.itk import itk_image
from MedImgAILib.core.packages import is_satisfied

from . import external_ants, external_elastix
from .diffeomorphic import Result

PROGRAMS = {
    "elastix": ("elastix", "itk-elastix>=0.20", external_elastix),
    "ants": ("ANTs", "antspyx>=0.5", external_ants),
}
"""Name for messages, package and script of each engine."""
PYTHON = TextParameter(
    "engine_python", "Python of the engine", "",
    "Another Python in which elastix (itk-elastix) or ANTs (antspyx) is installed; empty for this one.",
    kind="file", advanced=True, enabled_when=("engine", ("elastix", "ants")),
)  # fmt: skip


def check(engine: str, python: str):
    """Raise :class:`MissingPackageError` unless the engine is installed here, or :class:`InputError` for no Python."""
    name, package, _ = PROGRAMS[engine]
    if python and not Path(python).is_file():
        raise InputError(f"There is no Python at '{python}'; give the path of its program or leave it empty.")
    if not python and not is_satisfied(package, metadata):
        raise MissingPackageError(
            f"{name} needs the Python package {package}, which is not installed; install it, give the path of a Python "
            "that has it, or use the built-in engine.",
            (package,),
        )


def linear(engine, python, model, fixed, moving, masks, context: Context) -> np.ndarray:
    """(4, 4) fixed RAS to moving RAS of a rigid or affine registration from the aligned centres.

    Parameters
    ----------
    engine : "elastix" or "ants"
    python : str
        Path of the Python to run; this one if empty.
    model : "rigid" or "affine"
    fixed, moving : scalar Volume
    masks : pair of (K, J, I) bool arrays on the images' grids, or None
    context : Context

    Raises
    ------
    ResourceError
        If the engine fails.
    """
    with tempfile.TemporaryDirectory(prefix="medimgai-") as folder:
        _run(engine, python, model, fixed, moving, masks, Path(folder), context)
        found = np.array(json.loads((Path(folder) / "matrix.json").read_text()))
    return LPS_FROM_RAS @ found @ LPS_FROM_RAS


def deformable(engine, python, fixed, moving, masks, context: Context) -> Result:
    """The fields of a deformable registration of two images on one grid: elastix' B-splines or ANTs' SyN.

    Parameters and errors as :func:`linear`; where the engine gives no inverse field, it is computed here.
    """
    import SimpleITK as sitk

    from . import fields

    with tempfile.TemporaryDirectory(prefix="medimgai-") as folder:
        _run(engine, python, "deformable", fixed, moving, masks, Path(folder), context)
        found = {}
        for name in ("to_moving", "to_fixed"):
            path = Path(folder) / f"{name}.mha"
            if path.exists():
                found[name] = _in_voxels(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), fixed.geometry)
    forth = found["to_moving"]
    back = fields.inverse(forth, guess=found.get("to_fixed"))
    return Result(fixed.geometry, forth, back, tuple(slice(0, n) for n in forth.shape[1:]))


def _in_voxels(vectors, geometry):
    """(K, J, I, 3) LPS mm as (3, K, J, I) float32 voxels along k, j, i."""
    to_kji = geometry.ras_to_ijk[2::-1, :3] @ LPS_FROM_RAS[:3, :3]
    return np.ascontiguousarray(np.einsum("cx,kjix->ckji", to_kji, vectors), np.float32)


def _run(engine, python, kind, fixed, moving, masks, folder, context):
    import SimpleITK as sitk

    name, _, script = PROGRAMS[engine]
    for title, volume, mask in (("fixed", fixed, masks[0]), ("moving", moving, masks[1])):
        sitk.WriteImage(itk_image(volume, np.float32), str(folder / f"{title}.mha"))
        if mask is not None:
            sitk.WriteImage(
                itk_image(volume.with_array(mask.astype(np.uint8)), np.uint8), str(folder / f"{title}_mask.mha")
            )
    # Given as text, so that nothing beside the script can be mistaken for a module that the engine imports.
    source = Path(script.__file__).read_text(encoding="utf-8")
    command = [python or sys.executable, "-c", source, str(folder), kind, str(context.seed + 1)]
    context.progress(0.05, f"{name} is registering")
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        try:
            while True:
                try:
                    process.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    context.check()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    text = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip()
    if text:
        context.log(f"{name} said:\n{text[-4000:]}")
    if process.returncode:
        said = text.splitlines()[-1] if text else f"exit code {process.returncode}"
        raise ResourceError(f"{name} could not register these images ({said[:150].rstrip('.')}); see the log.")
    context.progress(1.0, f"{name} has finished")
