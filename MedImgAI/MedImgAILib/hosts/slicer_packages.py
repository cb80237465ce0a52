"""Optional Python packages inside Slicer: installed at the point of use and only with the user's consent.

PyTorch comes through the PyTorch extension alone, which picks the build for the graphics card; everything else
through ``slicer.packaging``. What Slicer itself brings is never replaced.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from ..core.errors import MissingPackageError
from ..core.packages import distribution_name

logger = logging.getLogger("MedImgAI")

_PROTECTED = {"numpy": "numpy", "scipy": "scipy", "SimpleITK": "SimpleITK", "vtk": "vtk", "pydicom": "pydicom"}
"""Distributions that Slicer brings, with the module each gives."""
_TORCH = ("torch", "torchvision", "torchaudio")


class PackagesDeclined(MissingPackageError):
    """The user does not want the packages installed."""


class InstallationFailed(MissingPackageError):
    """The packages could not be installed."""


class RestartNeeded(MissingPackageError):
    """The packages were installed, but older versions are in use until Slicer is restarted."""


def ensure(task, ask: bool = True) -> bool:
    """Make sure that the packages a task needs are installed, asking the user first.

    Parameters
    ----------
    task : Task
    ask : bool
        Whether to ask before installing; False only where the user has agreed already.

    Returns
    -------
    bool
        Whether something was installed: a worker process started before does not see it.

    Raises
    ------
    MissingPackageError
        With a sentence that says what to do: outside the Slicer application, when declined
        (:class:`PackagesDeclined`), failed (:class:`InstallationFailed`) or done but not usable before a restart
        (:class:`RestartNeeded`).
    """
    missing = task.missing_packages()
    if not missing:
        return False
    slicer = _slicer_application()
    if slicer is None or slicer.app.testingEnabled():
        task.require_packages()
    before = _versions_in_use()
    torch = [r for r in missing if _canonical(distribution_name(r)) in _TORCH]
    others = [r for r in missing if r not in torch]
    if torch:
        torch_utils = _torch_utils(task, missing)
        if ask and not _user_agrees(slicer, task, missing):
            raise _declined(task, missing)
        ask = False
        _install_torch(torch_utils, task, torch)
    if others:
        _install_others(task, others, ask)
    importlib.invalidate_caches()
    if still := task.missing_packages():
        raise _failed(task, still)
    after = {name: _version(name) for name in before}
    if changed := sorted(name for name, version in before.items() if after[name] != version):
        raise RestartNeeded(
            f"The packages for '{task.title}' were installed; restart Slicer before you use it, because "
            f"{', '.join(changed)} was updated while in use."
        )
    return True


def write_constraints(path: Path) -> list[str]:
    """Write pip constraints that keep what is installed of Slicer's own packages and of PyTorch.

    Returns
    -------
    list of str
        Protected packages that are there but unknown to pip, so that no constraint holds them: to be skipped.
    """
    lines, unknown_to_pip = [], []
    for name, module in _PROTECTED.items():
        if version := _version(name):
            lines.append(f"{name}=={version}")
        elif module in sys.modules or importlib.util.find_spec(module) is not None:
            unknown_to_pip.append(name)
    for name in _TORCH:
        version = _version(name)
        # "<0" lets pip fail rather than bring a build of PyTorch that the PyTorch extension did not choose.
        lines.append(f"{name}=={version}" if version else f"{name}<0")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return unknown_to_pip


def _slicer_application():
    """The ``slicer`` package if this is the Slicer application, else None."""
    try:
        import slicer
    except ImportError:
        return None
    return slicer if getattr(slicer, "app", None) is not None else None


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _versions_in_use() -> dict[str, str]:
    """Version of each distribution of which a module is imported."""
    names = {
        name
        for module, distributions in metadata.packages_distributions().items()
        if module in sys.modules
        for name in distributions
    }
    return {name: version for name in names if (version := _version(name))}


def _torch_utils(task, missing):
    try:
        return importlib.import_module("PyTorchUtils")
    except ImportError:
        raise MissingPackageError(
            f"'{task.title}' needs PyTorch: install the extension 'PyTorch' in the Extensions Manager, "
            "restart Slicer and run again.",
            missing,
        ) from None


def _user_agrees(slicer, task, missing) -> bool:
    return slicer.util.confirmOkCancelDisplay(
        f"'{task.title}' needs Python packages that are not installed: {', '.join(missing)}.\n\n"
        "Downloading and installing them can take several minutes and changes Slicer's Python environment. Continue?",
        "MedImgAI - Install Python Packages",
    )


def _install_torch(torch_utils, task, requirements):
    wanted = next((r for r in requirements if _canonical(distribution_name(r)) == "torch"), "torch")
    installed = _version("torch")
    if installed:
        raise InstallationFailed(
            f"'{task.title}' needs {wanted}, but torch {installed} is installed; update it in the module "
            "'PyTorch Utils', restart Slicer and run again.",
            tuple(requirements),
        )
    specifier = wanted[len(distribution_name(wanted)) :].strip() or None
    try:
        torch = torch_utils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=specifier)
    except Exception as error:
        # The extension lets through whatever pip, light-the-torch or the import of torch raise.
        raise _failed(task, requirements) from error
    if torch is None:
        raise _declined(task, requirements)


def _install_others(task, requirements, ask):
    from subprocess import CalledProcessError

    import slicer.packaging

    with tempfile.TemporaryDirectory(prefix="medimgai-") as folder:
        constraints = Path(folder) / "constraints.txt"
        skip = write_constraints(constraints)
        try:
            slicer.packaging.pip_ensure(
                list(requirements),
                constraints=constraints,
                skip_packages=skip or None,
                prompt_install=ask,
                prompt_restart=False,
                requester="MedImgAI",
            )
        except CalledProcessError as error:
            raise _failed(task, requirements) from error
        except RuntimeError as error:
            if "declined" in str(error):
                raise _declined(task, requirements) from None
            # No PythonSlicer, or another installation is under way.
            raise _failed(task, requirements) from error


def _declined(task, requirements) -> PackagesDeclined:
    return PackagesDeclined(
        f"'{task.title}' was not run, because {', '.join(requirements)} may not be installed; nothing was changed.",
        tuple(requirements),
    )


def _failed(task, requirements) -> InstallationFailed:
    return InstallationFailed(
        f"'{task.title}' was not run, because {', '.join(requirements)} could not be installed; check the network "
        "connection and see the log for details.",
        tuple(requirements),
    )
