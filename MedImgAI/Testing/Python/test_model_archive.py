"""Model packages in ZIP files: good ones are unpacked, bad ones are refused in a sentence and leave nothing."""

import os
import stat
import struct
import zipfile

import pytest
from MedImgAILib.core.errors import ModelError, OutputError
from MedImgAILib.core.model_archive import unpack_archive
from MedImgAILib.core.model_package import ModelPackage
from model_testing import edge_filter

pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def folder(tmp_path):
    return edge_filter(tmp_path)


def _zip(path, entries, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def _entries(folder, prefix=""):
    return [(prefix + p.name, p.read_bytes()) for p in folder.iterdir()]


@pytest.mark.parametrize("prefix", ["", "edge_filter/"])
def test_archive_round_trip(folder, tmp_path, prefix):
    archive = _zip(tmp_path / "a.zip", _entries(folder, prefix))
    package = unpack_archive(archive, tmp_path / "out")
    assert package.card == ModelPackage.load(folder).card


def _link(name, target):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info, target


@pytest.mark.parametrize(
    "bad",
    [
        ("../evil.txt", b"x"),
        ("/tmp/medimgai_evil.txt", b"x"),
        ("a/../../evil.txt", b"x"),
        ("..\\evil.txt", b"x"),
        ("C:evil.txt", b"x"),
        ("sub/evil.txt", b"x"),
        ("MODEL.JSON", b"{}"),
        ("evil.py", b"raise SystemExit"),
        _link("link.txt", "/etc/passwd"),
        ("bomb.txt", b"\0" * 50_000_000),
    ],
    ids=lambda bad: str(getattr(bad[0], "filename", bad[0])),
)
def test_bad_archives(folder, tmp_path, bad):
    archive = _zip(tmp_path / "a.zip", [*_entries(folder), bad], compression=zipfile.ZIP_DEFLATED)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    with pytest.raises(ModelError):
        unpack_archive(archive, tmp_path / "out")
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before
    assert not os.path.exists("/tmp/medimgai_evil.txt") and not (tmp_path.parent / "evil.txt").exists()


def test_archive_that_lies_about_sizes(folder, tmp_path):
    archive = _zip(tmp_path / "a.zip", _entries(folder), compression=zipfile.ZIP_DEFLATED)
    content = archive.read_bytes()
    at = content.rindex(b"PK\x01\x02")
    archive.write_bytes(content[: at + 24] + struct.pack("<I", 5) + content[at + 28 :])
    with pytest.raises(ModelError):
        unpack_archive(archive, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", folder.name]


def test_archives_that_are_too_large_or_damaged(folder, tmp_path):
    archive = _zip(tmp_path / "a.zip", _entries(folder))
    with pytest.raises(ModelError, match="not plausible"):
        unpack_archive(archive, tmp_path / "out", most_bytes=100)
    many = _zip(tmp_path / "many.zip", [(f"{n}.txt", b"") for n in range(101)])
    with pytest.raises(ModelError, match="holds 101 files"):
        unpack_archive(many, tmp_path / "out")
    for cut in (0, 10, archive.stat().st_size // 2, archive.stat().st_size - 5):
        (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:cut])
        with pytest.raises(ModelError):
            unpack_archive(tmp_path / "cut.zip", tmp_path / "out")
    with pytest.raises(ModelError, match="no file"):
        unpack_archive(tmp_path / "absent.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archive_into_a_folder_in_use(folder, tmp_path):
    archive = _zip(tmp_path / "a.zip", _entries(folder))
    with pytest.raises(OutputError, match="exists already"):
        unpack_archive(archive, folder)
