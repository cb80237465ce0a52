"""``slicer.packaging`` and ``PyTorchUtils`` with programmable outcomes; nothing is ever installed."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import subprocess
import sys
import types
from importlib import metadata

import slicer
from packaging.requirements import InvalidRequirement, Requirement


@dataclasses.dataclass
class Packages:
    """What the next installation does; a test sets it.

    ``outcome`` is "accepted", "declined", "failed" or "restart" (installed, but an already imported package was
    updated). ``missing`` and ``present`` override what is really installed, by distribution name.
    """

    outcome: str = "accepted"
    missing: set[str] = dataclasses.field(default_factory=set)
    present: set[str] = dataclasses.field(default_factory=set)
    installed: list[str] = dataclasses.field(default_factory=list)
    requesters: list[str | None] = dataclasses.field(default_factory=list)
    in_progress: bool = False
    torch_installed: bool = True

    def reset(self):
        self.__init__()


PACKAGES = Packages()


def _requirements(requirements) -> list[Requirement]:
    if isinstance(requirements, str):
        requirements = requirements.split()
    elif isinstance(requirements, Requirement):
        requirements = [requirements]
    return [entry if isinstance(entry, Requirement) else Requirement(entry) for entry in requirements]


def load_requirements(path) -> list[Requirement]:
    """The requirements of a file, without comments."""
    lines = (line.split("#")[0].strip() for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("-")]


def _satisfied(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name in PACKAGES.missing:
        return False
    if requirement.name in PACKAGES.present:
        return True
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


def pip_check(req) -> bool:
    """Whether every requirement is satisfied."""
    return all(_satisfied(requirement) for requirement in _requirements(req))


def isPipInstallInProgress() -> bool:
    """Whether an installation runs in the background."""
    return PACKAGES.in_progress


def pip_install(requirements, constraints=None, skip_packages=None, blocking=True, show_progress=True, requester=None,
                completion_callback=None, **_options):  # fmt: skip
    """Pretend to install: RuntimeError while another runs, CalledProcessError if it is to fail."""
    if PACKAGES.in_progress:
        raise RuntimeError("Another pip installation is in progress")
    if PACKAGES.outcome == "failed":
        raise subprocess.CalledProcessError(1, "pip install")
    for requirement in _requirements(requirements):
        PACKAGES.installed.append(str(requirement))
        PACKAGES.missing.discard(requirement.name)
        PACKAGES.present.add(requirement.name)
    if completion_callback:
        completion_callback(0)
    return [] if skip_packages is not None else None


def pip_uninstall(requirements, **_options):
    """Pretend to remove."""
    for requirement in _requirements(requirements):
        PACKAGES.present.discard(requirement.name)
        PACKAGES.missing.add(requirement.name)


def pip_ensure(requirements, constraints=None, skip_packages=None, prompt_install=True, prompt_restart=True,
               requester=None, skip_in_testing=True, show_progress=True):  # fmt: skip
    """Ask, then install what is missing.

    Raises
    ------
    RuntimeError
        The user declined.
    subprocess.CalledProcessError
        The installation failed.
    """
    missing = [requirement for requirement in _requirements(requirements) if not pip_check(requirement)]
    if not missing:
        return None
    if skip_in_testing and slicer.app.testingEnabled():
        logging.info("Testing mode: pip_ensure skipped")
        return None
    PACKAGES.requesters.append(requester)
    if prompt_install:
        from .state import STATE

        names = "\n".join(f"- {requirement}" for requirement in missing)
        accepted = PACKAGES.outcome != "declined"
        if not STATE.ask("question", "Python packages need to be installed. Continue?", accepted, detailedText=names):
            raise RuntimeError("User declined package installation")
    skipped = pip_install([str(r) for r in missing], constraints, skip_packages, requester=requester)
    if PACKAGES.outcome == "restart" and prompt_restart and slicer.util.confirmYesNoDisplay(
        "1 updated package was already loaded in memory and may not work correctly until Slicer is restarted."
    ):  # fmt: skip
        slicer.util.restart()
    return skipped


class PyTorchUtilsLogic:
    """The logic of the PyTorch extension's module."""

    def __init__(self):
        self.moduleName = "PyTorchUtils"

    @staticmethod
    def torchInstalled() -> bool:
        return PACKAGES.torch_installed

    @property
    def torch(self):
        return self.importTorch()

    def importTorch(self):
        return _torch() if self.torchInstalled() else self.installTorch()

    def installTorch(
        self,
        askConfirmation=False,
        forceComputationBackend=None,
        torchVersionRequirement=None,
        torchvisionVersionRequirement=None,
    ):
        """The torch module, or None if the user declined."""
        if askConfirmation and PACKAGES.outcome == "declined":
            return None
        if PACKAGES.outcome == "failed":
            raise subprocess.CalledProcessError(1, "light_the_torch install torch")
        PACKAGES.installed.append("torch" + (torchVersionRequirement or ""))
        PACKAGES.torch_installed = True
        return _torch()

    def getDevice(self):
        return "cpu"

    @property
    def cuda(self) -> bool:
        return False


def _torch():
    return types.SimpleNamespace(__version__="2.13.0", cuda=types.SimpleNamespace(is_available=lambda: False))


def provide_pytorch_extension(present: bool = True) -> None:
    """Make ``import PyTorchUtils`` work, as with the PyTorch extension, or fail, as in a bare Slicer."""
    sys.modules.pop("PyTorchUtils", None)
    if present:
        module = types.ModuleType("PyTorchUtils")
        module.PyTorchUtilsLogic = PyTorchUtilsLogic
        sys.modules["PyTorchUtils"] = module
        slicer.modules.pytorchutils = types.SimpleNamespace(name="PyTorchUtils", logic=PyTorchUtilsLogic)
    elif hasattr(slicer.modules, "pytorchutils"):
        del slicer.modules.pytorchutils


def packaging_module() -> types.ModuleType:
    """The module ``slicer.packaging``."""
    module = types.ModuleType("slicer.packaging")
    for member in (load_requirements, pip_check, isPipInstallInProgress, pip_install, pip_uninstall, pip_ensure):
        setattr(module, member.__name__, member)
    module.Requirement, module.InvalidRequirement = Requirement, InvalidRequirement
    module.CalledProcessError = subprocess.CalledProcessError
    return module
