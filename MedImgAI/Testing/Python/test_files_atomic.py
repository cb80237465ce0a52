"""Writing is all or nothing: full disk, read-only folder, missing folder, half-finished sets of files."""

import errno
import os
import subprocess

import numpy as np
import pytest
from MedImgAILib.core import Geometry, OutputError, Points, Segment, Segmentation, Table, Volume
from MedImgAILib.hosts.files import atomic, read_file, write_file, write_files

VOLUME = Volume(
    np.random.default_rng(0).normal(size=(20, 30, 40)), Geometry.from_spacing((20, 30, 40)), provenance={"task": "a"}
)
ALL_SUFFIXES = [".nrrd", ".nhdr", ".nii", ".nii.gz", ".mha", ".mhd"]


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    """A file system of 64 KiB."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("suffix", ALL_SUFFIXES)
def test_really_full_disk(small_disk, suffix):
    with pytest.raises(OutputError, match="disk is full"):
        write_file(VOLUME, small_disk / f"a{suffix}")
    assert list(small_disk.iterdir()) == []


def test_really_full_disk_for_dicom_and_transforms(small_disk):
    from MedImgAILib.core import DisplacementTransform

    field = DisplacementTransform(np.random.default_rng(1).normal(size=(20, 30, 40, 3)), VOLUME.geometry)
    noise = np.random.default_rng(2).integers(0, 2, (30, 200, 200)).astype(np.uint8)
    labels = Segmentation((noise,), Geometry.from_spacing(noise.shape), (Segment("A"),))
    for value, name in ((labels, "a.dcm"), (field, "a.h5"), (field, "a.tfm")):
        with pytest.raises(OutputError, match="disk is full"):
            write_file(value, small_disk / name)
        assert list(small_disk.iterdir()) == []


def test_full_disk_keeps_the_old_files(tmp_path, monkeypatch):
    write_file(VOLUME, tmp_path / "a.nrrd")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_sync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_file(VOLUME.with_array(VOLUME.array * 2), tmp_path / "a.nrrd")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_failing_rename_puts_everything_back(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("old")
    real = os.replace

    def replace(source, target):
        if str(target).endswith("c.csv"):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    table = Table({"x": [1.0]})
    with pytest.raises(OutputError, match="c.csv' could not be written because its folder is read-only"):
        write_files([(table, tmp_path / name) for name in ("a.csv", "b.csv", "c.csv")])
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_the_second_file_failing_leaves_no_first(tmp_path):
    with pytest.raises(OutputError, match="no suffix that a points"):
        write_files([(VOLUME, tmp_path / "a.nrrd"), (Points([[1, 2, 3]]), tmp_path / "b.nii")])
    with pytest.raises(OutputError, match="'.*gone' does not exist; make it first"):
        write_files([(VOLUME, tmp_path / "a.nrrd"), (VOLUME, tmp_path / "gone" / "b.nrrd")])
    with pytest.raises(OutputError, match="given for two results"):
        write_files([(VOLUME, tmp_path / "a.nrrd"), (VOLUME, tmp_path / "a.nrrd")])
    assert list(tmp_path.iterdir()) == []


def test_read_only_folder(tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        # Root writes anywhere; then the system's refusal is made here.
        def refuse(self, *arguments, **options):
            raise PermissionError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(atomic.Path, "touch", refuse)
    for call in (lambda: write_file(VOLUME, folder / "a.nrrd"), lambda: atomic.check_writable(folder / "a.nrrd")):
        with pytest.raises(OutputError, match="read-only; choose another folder"):
            call()
    assert list(folder.iterdir()) == []


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "a.nrrd").mkdir()
    for call in (lambda: write_file(VOLUME, tmp_path / "a.nrrd"), lambda: atomic.check_writable(tmp_path / "a.nrrd")):
        with pytest.raises(OutputError, match="is a folder"):
            call()


def test_overwriting(tmp_path):
    write_file(VOLUME, tmp_path / "a.nrrd")
    write_file(VOLUME.with_array(VOLUME.array + 1), tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read_file(tmp_path / "a.nrrd").array, VOLUME.array + 1)
    atomic.check_writable(tmp_path / "a.nrrd")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nrrd", "a.nrrd.provenance.json"]
