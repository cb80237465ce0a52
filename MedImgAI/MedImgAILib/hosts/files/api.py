"""Chooses the format of a file, turns what it holds into what a port takes, and adds the provenance.

==============  =====================================================  ==================================
data            read from                                              written to (the first is the default)
==============  =====================================================  ==================================
Volume          NRRD, NIfTI, MetaImage, DICOM series, PNG/JPEG/TIFF    .nrrd .nhdr .nii.gz .nii .mha .mhd, pictures
Sequence        the same with four axes                                .seq.nrrd .nrrd .nii.gz .nii .mha .mhd
Segmentation    .seg.nrrd, DICOM SEG, label images of any format       .seg.nrrd .seg.nhdr .dcm, label images
Points          .mrk.json, CSV, TSV                                    .mrk.json .csv .tsv
Table, Plot     CSV, TSV                                               .csv .tsv
Text            .txt .md .json .html                                   .txt .md .json .html
Transform       .h5 .tfm .txt, displacement fields as images           .h5 .tfm .txt
raw data        .npz .npy with a .json beside                          .npz .npy with a .json beside
==============  =====================================================  ==================================
"""

from __future__ import annotations

import importlib
import json
import logging
import struct
import zlib
from dataclasses import is_dataclass, replace
from pathlib import Path

from ...core import (
    InputError,
    KSpace,
    OutputError,
    Plot,
    Points,
    Projections,
    Segmentation,
    Sequence,
    Table,
    Text,
    Transform,
    Volume,
)
from .atomic import Part, write_parts
from .voxels import as_segmentation, as_sequence, as_volume, suffix_of

logger = logging.getLogger("MedImgAI")

_NRRD = (".nrrd", ".nhdr")
_IMAGES = (*_NRRD, ".nii.gz", ".nii", ".mha", ".mhd")
_SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")
_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_DICOM = (".dcm", ".ima", "")
_TABLES = (".csv", ".tsv")
_TRANSFORMS = (".h5", ".tfm", ".txt")
_TEXTS = (".txt", ".md", ".json", ".html")
_RAW = (".npz", ".npy")

_IMAGE_MODULES = {".nii": "nifti", ".nii.gz": "nifti", ".mha": "metaimage", ".mhd": "metaimage"}
_ANY_IMAGE = (*_IMAGES, ".seq.nrrd", *_SEGMENTATIONS, *_DICOM, *_PICTURES)
_READ = {
    Volume: _ANY_IMAGE,
    Sequence: _ANY_IMAGE,
    Segmentation: (*_SEGMENTATIONS, *_IMAGES, *_DICOM, *_PICTURES),
    Points: (".mrk.json", ".json", *_TABLES),
    Table: _TABLES,
    Plot: (),
    Text: _TEXTS,
    Transform: (*_TRANSFORMS, *_IMAGES),
    Projections: _RAW,
    KSpace: _RAW,
}
_WRITE = {
    Volume: (*_IMAGES, *_PICTURES),
    Sequence: (".seq.nrrd", *_IMAGES),
    Segmentation: (*_SEGMENTATIONS, ".dcm", *_IMAGES),
    Points: (".mrk.json", *_TABLES),
    Table: _TABLES,
    Plot: _TABLES,
    Text: _TEXTS,
    Transform: _TRANSFORMS,
    Projections: _RAW,
    KSpace: _RAW,
}
_DAMAGE = (
    ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, EOFError, MemoryError,
    NotImplementedError, RuntimeError, struct.error, zlib.error,
)  # fmt: skip
"""What parsers raise on content that is not what it should be."""


def _kind(port) -> type | None:
    """The class of data that a port holds; None for no port."""
    if port is None:
        return None
    return next(cls for cls in _WRITE if issubclass(port.data_type, cls))


def supported_suffixes(port=None, writing: bool = False) -> tuple[str, ...]:
    """Suffixes (lower case, with dot; "" is a DICOM folder or file) that a port's data is read from or written to."""
    table = _WRITE if writing else _READ
    kind = _kind(port)
    return table[kind] if kind else tuple(dict.fromkeys(s for suffixes in table.values() for s in suffixes))


def default_suffix(port) -> str:
    """The suffix for a result that the user gave no format for."""
    return _WRITE[_kind(port)][0]


def read_file(path, port=None, **options):
    """Task data from a file, or from a folder with a DICOM series.

    Parameters
    ----------
    path : path_like
    port : Port, optional
        What is needed: decides between volume and segmentation, table and points. Without it the file decides.
    spacing_mm : float, str or sequence, optional
        Voxel size for formats that have none (pictures, bare k-space).
    series_uid : str, optional
        Which DICOM series of a folder with several.

    Raises
    ------
    InputError
        In one sentence, if the file is missing, damaged, or not what is needed.
    MissingPackageError
        If a compressed DICOM image needs a package that is not installed.
    """
    path = Path(path)
    unknown = set(options) - {"spacing_mm", "series_uid"}
    if unknown:
        raise TypeError(f"read_file has no option {', '.join(sorted(unknown))}")
    kind = _kind(port)
    try:
        if not path.exists():
            raise InputError(f"'{path}' does not exist; check the name.")
        if path.is_file() and path.stat().st_size == 0:
            raise InputError(f"'{path}' is empty.")
        value = _converted(_read(path, kind, options), kind, path)
    except InputError as error:
        if path.name in str(error):
            raise
        raise InputError(f"'{path.name}': {error}") from error
    except OSError as error:
        raise InputError(f"'{path}' cannot be read ({error.strerror or 'it is damaged'}).") from error
    except _DAMAGE as error:
        logger.debug("Reading %s failed", path, exc_info=True)
        raise InputError(f"'{path}' is damaged or not of the format that its name says.") from error
    return _with_provenance(value, path)


def _read(path: Path, kind: type | None, options: dict):
    suffix = "" if path.is_dir() else suffix_of(path)
    allowed = supported_suffixes() if kind is None else _READ[kind]
    if suffix not in allowed and not _is_dicom(path):
        listed = ", ".join(s for s in allowed if s) or "none"
        raise InputError(f"'{path.name}' has no format that can be read here (possible: {listed}).")
    spacing = options.get("spacing_mm")
    if path.is_dir() or suffix in (".dcm", ".ima") or (suffix not in allowed or not suffix) and _is_dicom(path):
        return _module("dicom").read(path, options.get("series_uid"), spacing, kind is Segmentation)
    if kind is Segmentation and suffix in _NRRD or suffix in _SEGMENTATIONS:
        return _module("segnrrd").read(path)
    if suffix in _PICTURES:
        # The number of a label says nothing about size, so a picture as a mask needs the spacing as well.
        return _module("pictures").read(path, spacing)
    if suffix in _RAW:
        return _module("raw").read(path, spacing, kind.__name__ if kind else "")
    if kind is Points or kind is None and suffix == ".mrk.json":
        return _module("tables").read_points(path)
    if suffix in _TABLES:
        return _module("tables").read_table(path)
    if suffix in (".h5", ".tfm") or suffix == ".txt" and (kind is Transform or kind is None and _is_transform(path)):
        return _module("transforms").read(path)
    if suffix in _TEXTS:
        return _module("tables").read_text(path)
    return _module(_IMAGE_MODULES.get(suffix, "nrrd")).read(path)


def _module(name: str):
    """A format's module, imported when a file of that format is met."""
    return importlib.import_module(f"{__package__}.{name}")


def _is_dicom(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _is_transform(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(32).startswith(b"#Insight Transform File")


def _converted(value, kind: type | None, path: Path):
    if kind is Volume:
        value = as_volume(value, path)
    elif kind is Sequence:
        value = as_sequence(as_volume(value, path) if isinstance(value, Segmentation) else value)
    elif kind is Segmentation:
        value = as_segmentation(value, path)
    elif kind is Transform and isinstance(value, Volume):
        value = _module("transforms").from_field(value, path)
    if kind is not None and not isinstance(value, kind):
        held, wanted = type(value).__name__.lower(), kind.__name__.lower()
        raise InputError(f"'{path.name}' holds a {held} where a {wanted} is needed.")
    return value


def _sidecar(path: Path) -> Path:
    return path.with_name(path.name + ".provenance.json")


def _with_provenance(value, path: Path):
    known = {}
    sidecar = _sidecar(path)
    if sidecar.is_file():
        try:
            known = json.loads(sidecar.read_text("utf-8"))
        except (ValueError, OSError):
            logger.warning("'%s' is damaged; the provenance of '%s' is unknown.", sidecar, path.name)
    known = known if isinstance(known, dict) else {}
    return replace(value, provenance=known | {"source": str(path)} | value.provenance)


def write_file(value, path) -> list[Path]:
    """Write task data, with its provenance beside it as ``<file>.provenance.json``.

    All files appear together and complete, or none does.

    Returns
    -------
    list of Path
        The data file(s), then the provenance.

    Raises
    ------
    OutputError
        In one sentence: unknown suffix, missing or read-only folder, full disk, data that the format cannot hold.
    """
    return write_files([(value, path)])


def write_files(items) -> list[Path]:
    """Write several ``(value, path)``, all or none; see :func:`write_file`."""
    parts = [part for value, path in items for part in plan(value, Path(path))]
    paths = [part.path for part in parts]
    for path in paths:
        if paths.count(path) > 1:
            raise OutputError(f"'{path}' was given for two results; choose another name for one.")
    return write_parts(parts)


def check_suffix(path: Path, port):
    """Raise :class:`OutputError` if the name's suffix is none that the port's data can be written to."""
    _check_suffix(path, _kind(port))


def _check_suffix(path: Path, kind: type):
    if suffix_of(path) not in _WRITE[kind]:
        word = kind.__name__.lower()
        raise OutputError(f"'{path.name}' has no suffix that a {word} can be written to ({', '.join(_WRITE[kind])}).")


def plan(value, path: Path) -> list[Part]:
    """The files that :func:`write_file` writes for ``value``.

    Raises
    ------
    OutputError
        If the format cannot hold it.
    """
    if not is_dataclass(value):
        raise TypeError(f"{type(value).__name__} is no task data")
    kind = next(cls for cls in _WRITE if isinstance(value, cls))
    _check_suffix(path, kind)
    suffix = suffix_of(path)
    if kind is Segmentation and suffix not in (*_SEGMENTATIONS, ".dcm"):
        value, kind = _label_image(value, path), Volume
    parts = _format_parts(value, kind, suffix)(value, path)
    if value.provenance:
        text = json.dumps(value.provenance, indent=1, default=str)
        parts.append(Part.of_bytes(_sidecar(path), text.encode()))
    return parts


def _format_parts(value, kind: type, suffix: str):
    if kind in (Table, Plot):
        return _module("tables").table_parts
    if kind is Points:
        return _module("tables").points_parts
    if kind is Text:
        return _module("tables").text_parts
    if kind is Transform:
        return _module("transforms").parts
    if kind in (Projections, KSpace):
        return _module("raw").parts
    names = _IMAGE_MODULES | {".dcm": "dicom_seg"}
    names |= dict.fromkeys(_PICTURES, "pictures") | dict.fromkeys(_SEGMENTATIONS, "segnrrd")
    return _module(names.get(suffix, "nrrd")).parts


def _label_image(value: Segmentation, path: Path) -> Volume:
    """The segmentation as one label volume: its own labels where it has one layer, else 1, 2, … by the table."""
    if len(value.layers) == 1:
        labels = value.layers[0]
    else:
        labels = value.labelmap()
        if sum(int(value.mask(s).sum()) for s in value.segments) != int((labels > 0).sum()):
            raise OutputError(f"'{path.name}' cannot hold overlapping segments; choose .seg.nrrd.")
    return Volume(labels, value.geometry, value.name, provenance=value.provenance)
