"""Where models lie on this machine, and how they get there: download, check, convert, import, remove.

Addresses are reached through the proxy of :meth:`ModelStore.set_network`, else the one that the environment names
(``HTTPS_PROXY``, ``NO_PROXY``). The folder is ``$MEDIMGAI_MODELS``, else ``models`` in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from ..core import Context, ModelError, OutputError
from ..core.model_package import CARD, ModelPackage
from ..networks.catalogue import Entry, ModelFile
from ..networks.catalogue_install import import_source, install
from ..networks.installed import SHIPPED, default_folder

MIRROR = "MEDIMGAI_MIRROR"
_BLOCK = 1 << 18
_TIMEOUT_S = 30
_MOST_BYTES = 8 << 30
_PARTS = "downloads"
_LICENSES = "licenses.json"
_NETWORK = "network.json"
_SEEN = "first_downloads.json"
"""Hashes of files whose publisher gives none, as they came the first time."""


class LicenseNotAccepted(ModelError):
    """The user has not agreed to a model's licence yet; its text is in the sentence."""


class ModelStore:
    """The model packages in a folder; each lies in a sub-folder that has its id.

    Parameters
    ----------
    folder : Path, optional
        Without one, that of :func:`.installed.default_folder`, and the models that come with the product are here too.
    mirror : str, optional
        Address put before a file's path in place of its server (``https://mirror.example``), asked first; if None
        the environment variable ``MEDIMGAI_MIRROR``, else what :meth:`set_network` remembered.
    """

    def __init__(self, folder: Path | str | None = None, mirror: str | None = None):
        self.folder = Path(folder) if folder else default_folder()
        self.shipped = None if folder else SHIPPED
        known = self._read(_NETWORK)
        self.mirror = (os.environ.get(MIRROR) or str(known.get("mirror", ""))) if mirror is None else mirror
        self.proxy = str(known.get("proxy", ""))

    def set_network(self, mirror: str, proxy: str):
        """Remember a mirror and a proxy; empty for none.

        Raises
        ------
        ModelError
            If one is no address of http or https.
        """
        for name, address in (("mirror", mirror), ("proxy", proxy)):
            if address and not (urlsplit(address).scheme in ("http", "https") and urlsplit(address).hostname):
                raise ModelError(f"The {name} '{address[:80]}' is no address; it begins with https:// or http://.")
        self._write(_NETWORK, {"mirror": mirror, "proxy": proxy})
        self.mirror, self.proxy = mirror, proxy

    def path(self, model_id: str) -> Path:
        """The folder of a model's package, whether it is there or not; of one of the product's own, where that lies."""
        own = self.folder / model_id
        shipped = self.shipped / model_id if self.shipped else own
        return shipped if (shipped / CARD).exists() and not (own / CARD).exists() else own

    def installed(self) -> list[ModelPackage]:
        """The packages that are here and sound, by id; damaged ones are left out."""
        shipped = {f.parent.name: f for f in self.shipped.glob(f"*/{CARD}")} if self.shipped else {}
        found = shipped | {f.parent.name: f for f in self.folder.glob(f"*/{CARD}")}
        packages = []
        for _, card in sorted(found.items()):
            try:
                packages.append(ModelPackage.load(card.parent))
            except ModelError as error:
                Context().warn(f"A model is left out: {error}")
        return packages

    def accept_license(self, entry: Entry):
        """Remember that the user agrees to the licence of a model."""
        self._write(_LICENSES, self._read(_LICENSES) | {entry.id: entry.license})

    def is_license_accepted(self, entry: Entry) -> bool:
        return self._read(_LICENSES).get(entry.id) == entry.license

    def is_installed(self, model_id: str) -> bool:
        """Whether a model's package is here."""
        return (self.path(model_id) / "model.json").exists()

    def _read(self, name: str) -> dict:
        try:
            content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, name: str, content: dict):
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = self.folder / f"{name}.draft"
            draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
            os.replace(draft, self.folder / name)
        except OSError as error:
            raise OutputError(f"The model folder {self.folder} cannot be written: {error.strerror}.") from error

    def get(self, entry: Entry, context: Context | None = None) -> ModelPackage:
        """The package of a catalogue entry, downloaded and converted at the first call.

        Raises
        ------
        LicenseNotAccepted
        MissingPackageError
            If the weights lie in a Python package that is not installed.
        ModelError
            If it cannot be fetched, is not what the catalogue says, or has no conversion; nothing is left then.
        OutputError
            If the folder cannot be written.
        Cancelled
            What was downloaded stays, and the next call resumes there.
        """
        context = context or Context()
        if self.is_installed(entry.id):
            return ModelPackage.load(self.path(entry.id))
        if not self.is_license_accepted(entry):
            raise LicenseNotAccepted(f"The model '{entry.title}' has the licence {entry.license}; accept it first.")
        if not entry.is_ready:
            raise ModelError(
                f"The model '{entry.title}' cannot be downloaded by MedImgAI: {entry.note or entry.loader}."
            )
        self._make_folder()
        downloads = self.folder / _PARTS / entry.id
        sizes = [f.bytes or 1 for f in entry.files]
        done = 0
        for file, size in zip(entry.files, sizes):
            with context.part(0.95 * done / sum(sizes), 0.95 * (done + size) / sum(sizes)) as part:
                self.download(file, part, entry.id)
            done += size
        context.progress(0.95, "Converting")
        try:
            package = install(entry, downloads, self.path(entry.id), context)
        finally:
            shutil.rmtree(downloads, ignore_errors=True)
        context.progress(1.0)
        return package

    def import_model(
        self, source: Path | str, context: Context | None = None, options: dict | None = None
    ) -> ModelPackage:
        """Take in a model of this machine, whatever its format; see :func:`.catalogue_install.import_source`.

        Raises
        ------
        ModelError
            If it is of no known format, or not sound; nothing is left then.
        OutputError
            If a model of the same id is here already.
        """
        source = Path(source)
        self._make_folder()
        draft = self.folder / f".import-{hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:16]}"
        shutil.rmtree(draft, ignore_errors=True)

        def target(model_id: str) -> Path:
            if model_id and self.is_installed(model_id):
                raise OutputError(f"The model '{model_id}' is here already; remove it first.")
            return self.path(model_id) if model_id else draft

        try:
            return import_source(source, target, context or Context(), options)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def remove(self, model_id: str):
        """Delete a model."""
        if model_id != Path(model_id).name or not (self.path(model_id) / "model.json").exists():
            raise ModelError(f"There is no model '{model_id[:80]}' on this machine.")
        if self.path(model_id).parent == self.shipped:
            raise ModelError(f"The model '{model_id}' comes with MedImgAI and cannot be removed.")
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

    def download(self, file: ModelFile, context: Context, group: str = "") -> Path:
        """Fetch a file, going on where an earlier try ended; from the mirror or the first address that answers.

        Parameters
        ----------
        file : ModelFile
        context : Context
        group : str
            Name of the folder that it goes into, the model's id.

        Raises
        ------
        ModelError
            If no address gives the file, or what came has another hash or size; that is deleted.
        """
        path = self.folder / _PARTS / group / file.name
        part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The model folder {self.folder} cannot be written: {error.strerror}.") from error
        if path.exists() and not self._difference(path, file):
            return path  # came before a conversion was interrupted
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
            if difference := self._difference(part, file):
                part.unlink()
                reasons.append(f"{urlsplit(url).netloc}: {difference}")
                continue
            os.replace(part, path)
            if not file.has_hash:
                self._write(_SEEN, self._read(_SEEN) | {file.urls[0]: _digest(path, "sha256")})
            return path
        self._drop_empty_folders()
        raise ModelError(f"The file {file.name} could not be downloaded ({'; '.join(reasons)}).")

    def _difference(self, path: Path, file: ModelFile) -> str:
        """In what a file is not what the catalogue says; empty if it is."""
        if file.bytes and path.stat().st_size != file.bytes:
            return f"the file has {path.stat().st_size} bytes, not the {file.bytes} that the catalogue says"
        for name, title in (("sha256", "SHA-256"), ("sha1", "SHA-1"), ("md5", "MD5")):
            if wanted := getattr(file, name):
                same = _digest(path, name).startswith(wanted)
                return "" if same else f"the file has another {title} than the catalogue says"
        seen = self._read(_SEEN).get(file.urls[0])
        if seen and _digest(path, "sha256") != seen:
            return "the file is another one than at the first download, and its publisher gives no hash"
        return ""

    def _drop_empty_folders(self):
        for path in sorted((self.folder / _PARTS).rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

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
            answer = self._opener().open(request, timeout=_TIMEOUT_S)
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

    def _opener(self):
        if not self.proxy:
            return urllib.request.build_opener()
        return urllib.request.build_opener(urllib.request.ProxyHandler({"http": self.proxy, "https": self.proxy}))

    def _make_folder(self):
        try:
            (self.folder / _PARTS).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The model folder {self.folder} cannot be written: {error.strerror}.") from error


def _digest(path: Path, name: str) -> str:
    with open(path, "rb") as file:
        # MD5 and SHA-1 are compared only where a publisher gives nothing better.
        return hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False)).hexdigest()
