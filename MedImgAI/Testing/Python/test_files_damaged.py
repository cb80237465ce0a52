"""Property tests: whatever is in a file, reading it gives data or an InputError, never another exception."""

import gzip
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from MedImgAILib.core import Geometry, InputError, Segment, Segmentation, SegmentationPort, Volume, VolumePort
from MedImgAILib.hosts.files import nrrd, read_file, write_file
from testing_dicom import write_enhanced, write_series

SHAPE = (3, 4, 5)
PORTS = (None, VolumePort("image", "Image"), SegmentationPort("segmentation", "Segmentation"))
SETTINGS = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def original(tmp_path, suffix) -> bytes:
    geometry = Geometry.from_spacing(SHAPE, (0.7, 0.8, 2.5), (3, 4, 5), np.diag([-1.0, -1.0, 1.0]))
    labels = np.arange(60, dtype=np.uint8).reshape(SHAPE) % 3
    if ".seg." in suffix:
        value = Segmentation((labels, labels[::-1]), geometry, (Segment("A"), Segment("B", 2, layer=1)))
    else:
        value = Volume(labels.astype(np.int16), geometry)
    write_file(value, tmp_path / f"whole{suffix}")
    return (tmp_path / f"whole{suffix}").read_bytes()


def data_or_sentence(path, content: bytes):
    path.write_bytes(content)
    for port in PORTS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                value = read_file(path, port)
            except InputError as error:
                assert path.name in str(error) and "\n" not in str(error)
            else:
                assert value.geometry.shape


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".seg.nrrd", ".nrrd", ".mha"])
def test_every_truncation(tmp_path, suffix):
    content = original(tmp_path, suffix)
    for length in {*range(0, len(content), 7), *range(max(0, len(content) - 12), len(content))}:
        (tmp_path / f"cut{suffix}").write_bytes(content[:length])
        with pytest.raises(InputError):
            read_file(tmp_path / f"cut{suffix}")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".seg.nrrd", ".nrrd", ".mha"])
@SETTINGS
@given(data=st.data())
def test_flipped_bits(tmp_path, suffix, data):
    content = bytearray(original(tmp_path, suffix))
    packed = suffix == ".nii.gz" and data.draw(st.booleans())
    content = bytearray(gzip.decompress(content)) if packed else content
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, min(len(content), 1600) - 1))
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    data_or_sentence(tmp_path / f"flipped{suffix}", gzip.compress(bytes(content)) if packed else bytes(content))


@SETTINGS
@given(words=st.lists(st.tuples(st.integers(0, 348 // 2 - 1), st.integers(0, 65535)), min_size=1, max_size=12))
def test_nifti_header_of_any_words(tmp_path, words):
    content = bytearray(original(tmp_path, ".nii"))
    for place, value in words:
        if 4 <= 2 * place < 344:
            content[2 * place : 2 * place + 2] = value.to_bytes(2, "little")
    data_or_sentence(tmp_path / "a.nii", bytes(content))


FIELDS = ["type", "dimension", "sizes", "space", "space directions", "space origin", "kinds", "encoding", "endian",
          "byte skip", "line skip", "spacings", "data file"]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=12).filter(lambda t: "\n" not in t),
    st.sampled_from(["3", "4", "-1", "0", "5 4 3", "2 5 4 3", "nan nan nan", "(nan,0,0) (0,1,0) (0,0,1)", "none",
                     "(1,0) (0,1)", "none (1,0,0) (0,1,0) (0,0,1)", "99999999999999999999 4 3", "double", "raw",
                     "gzip", "ascii", "bzip2", "LIST", "x%d.raw 1 9999999 1", "(0,0,0) (0,0,0) (0,0,0)"]),
)  # fmt: skip


@SETTINGS
@given(changes=st.dictionaries(st.sampled_from(FIELDS), TEXTS, min_size=1, max_size=4))
def test_nrrd_header_of_any_text(tmp_path, changes):
    head, _, data = original(tmp_path, ".seg.nrrd").partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if line.partition(b":")[0].decode() not in changes]
    lines += [f"{key}: {value}".encode() for key, value in changes.items()]
    data_or_sentence(tmp_path / "a.seg.nrrd", b"\n".join(lines) + b"\n\n" + data)


KEYS = ["Color", "Extent", "ID", "LabelValue", "Layer", "Name", "Tags"]
VALUES = st.one_of(
    st.text(max_size=10), st.sampled_from(["-1", "0", "1", "7", "999999999999", "1e9", "a b c", "1 2", ""])
)


@SETTINGS
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3), reference=VALUES)
def test_segment_metadata_of_any_text(tmp_path, changes, reference):
    original(tmp_path, ".seg.nrrd")
    image = nrrd.read_image(tmp_path / "whole.seg.nrrd")
    pairs = dict(image.pairs) | {f"Segment1_{key}": value for key, value in changes.items()}
    pairs["Segmentation_ConversionParameters"] = f"Reference image geometry|{reference};{';'.join('1' * 21)};|&"
    geometry = Geometry.from_spacing(SHAPE)
    (part,) = nrrd.encode(image.array, geometry, tmp_path / "a.seg.nrrd", "list", pairs)
    part.write(tmp_path / "b.seg.nrrd")
    data_or_sentence(tmp_path / "a.seg.nrrd", (tmp_path / "b.seg.nrrd").read_bytes())


@SETTINGS
@given(
    content=st.binary(max_size=700), suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".seg.nrrd", ".mha", ".dcm"])
)
def test_arbitrary_bytes(tmp_path, content, suffix):
    starts = {".nrrd": b"NRRD0004\n", ".seg.nrrd": b"NRRD0004\n", ".nii": b"\x5c\x01\0\0", ".dcm": bytes(128) + b"DICM"}
    data_or_sentence(tmp_path / f"a{suffix}", starts.get(suffix, b"") + content)


@pytest.mark.parametrize("kind", ["image", "enhanced", "segmentation"])
@SETTINGS
@given(data=st.data())
def test_dicom_with_flipped_bits(tmp_path, kind, data):
    path = tmp_path / "whole" / "a.dcm"
    if not path.exists():
        array = np.arange(60, dtype=np.int16).reshape(SHAPE)
        path.parent.mkdir()
        if kind == "image":
            write_series(path.parent, array[:1], names=lambda k: "a.dcm")
        elif kind == "enhanced":
            write_enhanced(path, array.astype(np.uint16))
        else:
            geometry = Geometry.from_spacing(SHAPE, directions=np.diag([-1.0, -1.0, 1.0]))
            write_file(Segmentation(((array % 3).astype(np.uint8),), geometry, (Segment("A"), Segment("B", 2))), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.one_of(st.none(), st.integers(140, len(content))))
    data_or_sentence(tmp_path / "a.dcm", bytes(content[:cut]))
