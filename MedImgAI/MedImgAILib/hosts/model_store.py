"""Where models lie on this machine, and how they get there: download, check, convert, import, remove.

Addresses are reached through the proxy that the environment names (``HTTPS_PROXY``, ``NO_PROXY``). The folder is
``$MEDIMGAI_MODELS``, else ``models`` in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ..core import Context, ModelError, OutputError
from ..core.model_archive import unpack_archive
from ..core.model_package import ModelPackage
from ..networks.catalogue import Entry, ModelFile
from ..networks.installed import default_folder
from ..networks.public_models import PUBLIC_MODELS, convert
from ..networks.tensors import sha256_of

MIRROR = "MEDIMGAI_MIRROR"
_BLOCK = 1 << 18
_TIMEOUT_S = 30
_MOST_BYTES = 8 << 30
_PARTS = "downloads"
_LICENSES = "licenses.json"


class LicenseNotAccepted(ModelError):
    """The user has not agreed to a model's licence yet; its text is in the sentence."""


class ModelStore:
    """The model packages in a folder; each lies in a sub-folder that has its id.

    Parameters
    ----------
    folder : Path, optional
    mirror : str, optional
        Address put before a file's path in place of its server (``https://mirror.example``), asked first; the
        environment variable ``MEDIMGAI_MIRROR`` if None.
    """

    def __init__(self, folder: Path | str | None = None, mirror: str | None = None):
        self.folder = Path(folder) if folder else default_folder()
        self.mirror = os.environ.get(MIRROR, "") if mirror is None else mirror

    def path(self, model_id: str) -> Path:
        """The folder of a model's package, whether it is there or not."""
        return self.folder / model_id

    def installed(self) -> list[ModelPackage]:
        """The packages that are here and sound, by id; damaged ones are left out."""
        packages = []
        for folder in sorted(self.folder.glob("*/model.json")):
            try:
                packages.append(ModelPackage.load(folder.parent))
            except ModelError as error:
                Context().warn(f"A model is left out: {error}")
        return packages

    def accept_license(self, entry: Entry):
        """Remember that the user agrees to the licence of a model."""
        accepted = self._accepted() | {entry.id: entry.license}
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{_LICENSES}.draft"
        draft.write_text(json.dumps(accepted, indent=1), encoding="utf-8")
        os.replace(draft, self.folder / _LICENSES)

    def is_license_accepted(self, entry: Entry) -> bool:
        return self._accepted().get(entry.id) == entry.license

    def _accepted(self) -> dict:
        try:
            return json.loads((self.folder / _LICENSES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    def get(self, entry: Entry, context: Context | None = None) -> ModelPackage:
        """The package of a catalogue entry, downloaded and converted at the first call.

        Raises
        ------
        LicenseNotAccepted
        ModelError
            If it cannot be fetched, is not what the catalogue says, or has no conversion; nothing is left then.
        OutputError
            If the folder cannot be written.
        Cancelled
            What was downloaded stays, and the next call resumes there.
        """
        context = context or Context()
        if (self.path(entry.id) / "model.json").exists():
            return ModelPackage.load(self.path(entry.id))
        if not self.is_license_accepted(entry):
            raise LicenseNotAccepted(f"The model '{entry.title}' has the licence {entry.license}; accept it first.")
        if not entry.is_ready:
            raise ModelError(
                f"The model '{entry.title}' cannot be downloaded by MedImgAI: {entry.note or entry.loader}."
            )
        (file,) = entry.files
        with context.part(0.0, 0.95) as part:
            path = self.download(file, part)
        try:
            package = self._install(path, entry.id)
        finally:
            path.unlink(missing_ok=True)
        context.progress(1.0)
        return package

    def _install(self, path: Path, model_id: str) -> ModelPackage:
        if model_id in PUBLIC_MODELS:
            return convert(path, self.path(model_id), model_id)
        return unpack_archive(path, self.path(model_id))

    def import_model(self, source: Path | str) -> ModelPackage:
        """Take in a package (folder or ZIP) or a public weight file from this machine.

        Raises
        ------
        ModelError
            If it is none of these; nothing is left then.
        OutputError
            If a model of the same id is here already.
        """
        source = Path(source)
        self._make_folder()
        if source.is_dir():
            package = ModelPackage.load(source)
            return package.save(self.path(package.card.id))
        if not source.is_file():
            raise ModelError(f"There is no file or folder {source}.")
        found = sha256_of(source)
        for model_id, model in PUBLIC_MODELS.items():
            if model.sha256 == found:
                return convert(source, self.path(model_id), model_id)
        draft = self.folder / f".import-{found[:16]}"
        shutil.rmtree(draft, ignore_errors=True)
        try:
            package = unpack_archive(source, draft)
            return package.save(self.path(package.card.id))
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def remove(self, model_id: str):
        """Delete a model."""
        if model_id != Path(model_id).name or not (self.path(model_id) / "model.json").exists():
            raise ModelError(f"There is no model '{model_id[:80]}' on this machine.")
        shutil.rmtree(self.path(model_id))

    def clear(self) -> int:
        """Delete all models and begun downloads, not what was accepted; returns the bytes freed."""
        freed = 0
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if (path / "model.json").exists() or path.name == _PARTS:
                freed += sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
                shutil.rmtree(path)
        return freed

    # Download

    def download(self, file: ModelFile, context: Context) -> Path:
        """Fetch a file, going on where an earlier try ended; from the mirror or the first address that answers.

        Raises
        ------
        ModelError
            If no address gives the file, or what came has another hash or size; that is deleted.
        """
        self._make_folder()
        part = self.folder / _PARTS / f"{(file.sha256 or file.name)[:40]}.part"
        urls = list(file.urls)
        if self.mirror:
            urls.insert(0, self.mirror.rstrip("/") + urlsplit(file.urls[0]).path)
        reasons = []
        for url in urls:
            try:
                self._fetch(url, file, part, context)
            except (urllib.error.URLError, OSError, ValueError) as error:
                reasons.append(f"{urlsplit(url).netloc}: {getattr(error, 'reason', error)}")
                continue
            if file.sha256 and sha256_of(part) != file.sha256:
                part.unlink()
                reasons.append(f"{urlsplit(url).netloc}: the file has another SHA-256 than the catalogue says")
                continue
            return part
        raise ModelError(f"The file {file.name} could not be downloaded ({'; '.join(reasons)}).")

    def _fetch(self, url: str, file: ModelFile, part: Path, context: Context):
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError("only http and https are allowed")
        have = part.stat().st_size if part.exists() else 0
        if file.bytes and have >= file.bytes:
            if have == file.bytes:
                return
            part.unlink()
            have = 0
        request = urllib.request.Request(url, headers={"User-Agent": "MedImgAI"})
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            answer = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:
                part.unlink()  # what is here does not fit the file there; begin anew
                return self._fetch(url, file, part, context)
            raise
        with answer:
            resumes = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
            have = have if resumes else 0
            total = file.bytes or have + int(answer.headers.get("Content-Length") or 0)
            with open(part, "ab" if resumes else "wb") as target:
                while block := answer.read(_BLOCK):
                    have += len(block)
                    if have > (file.bytes or _MOST_BYTES):
                        target.close()
                        part.unlink()
                        raise ValueError("the file is larger than the catalogue says")
                    target.write(block)
                    context.progress(have / total if total else 0.0, f"{file.name}: {have / 2**20:.1f} MB")
        if file.bytes and have < file.bytes:
            raise ValueError(f"the connection ended after {have} of {file.bytes} bytes")

    def _make_folder(self):
        try:
            (self.folder / _PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The model folder {self.folder} cannot be written: {error.strerror}.") from error
