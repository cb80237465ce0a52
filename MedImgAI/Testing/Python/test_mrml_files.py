"""A saved scene comes back whole, and a failed save leaves the earlier file."""

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import vtk
from MedImgAILib.core import (
    BSplineTransform,
    CompositeTransform,
    DisplacementTransform,
    Display,
    Geometry,
    InputError,
    LinearTransform,
    OutputError,
    Plot,
    Points,
    Segment,
    Segmentation,
    Sequence,
    Series,
    Table,
    Text,
    Volume,
)
from MedImgAILib.core.examples import example_segmentation, example_volume
from MedImgAILib.core.terminology import MASS
from MedImgAILib.hosts.mrml import files, load_scene, new_scene, read_node, save_scene, write_node

ROTATION = vtk.vtkTransform()
ROTATION.RotateWXYZ(40, 0.2, -0.7, 0.4)
OBLIQUE = np.array([[ROTATION.GetMatrix().GetElement(r, c) for c in range(3)] for r in range(3)])
GRID = Geometry.from_spacing((5, 6, 7), (20.0, 22.0, 24.0), (-50.0, -60.0, -70.0), OBLIQUE)
VECTORS = 3 * np.sin(np.arange(5 * 6 * 7 * 3).reshape(5, 6, 7, 3) / 40.0)
RECORD = {"task": "test.task", "parameters": {"text": 'a;b:c "d" <e> & ä\nnew line', "sigma_mm": 1.5}, "seed": 7}


def layered():
    value = example_segmentation("organs")
    extra = np.roll(value.layers[0] == 2, 2, axis=1).astype(np.uint8)
    segments = (*value.segments, Segment("Überlappung / 2", 1, (0.25, 0.5, 0.75), MASS, 1, "overlap"))
    return Segmentation((value.layers[0], extra), value.geometry, segments, "organs", RECORD)


def contents():
    volume = example_volume("head: T1/weighted")
    oblique = Geometry.from_spacing(volume.geometry.shape, (0.9, 1.1, 2.3), (10.0, -20.0, 30.0), OBLIQUE)
    table = Table(
        {"name": ("a", "b, c", "ü = <d>"), "volume": np.array([1.25, -3e-9, 1e9]), "count": np.array([1, 2, 3])},
        "numbers",
        {"volume": "mm3"},
    )
    shift = LinearTransform(np.array([[1, 0, 0, 5.0], [0, 1, 0, 6.0], [0, 0, 1, 7.0], [0, 0, 0, 1]]), "shift")
    warp = DisplacementTransform(VECTORS, GRID, name="warp")
    return [
        replace(volume, geometry=oblique, display=Display(120.0, 50.0, "Rainbow"), units="HU", provenance=RECORD),
        Volume(np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3), Geometry.from_spacing((1, 4, 5)), "colours"),
        Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), Geometry.from_spacing((3, 4, 5)), "head: T1/weighted"),
        layered(),
        shift,
        warp,
        DisplacementTransform(VECTORS, GRID, inverted=True, name="warp to parent"),
        BSplineTransform(VECTORS, GRID, name="spline"),
        CompositeTransform((shift, warp), name="chain"),
        Points([[1.5, 2.5, 3.5], [-4, 5, 6]], ("first", "second, with comma"), "points", RECORD),
        table,
        Plot(table, (Series("volume", "count", "v"),), "chart", "Title", "x", "y"),
        Text("line 1\nline 2 <ä>", "report", RECORD),
        Table({"code": ("007", "1e3"), "value": np.array([1.0, 2.0]), "count": np.array([3, 4])}, "without units"),
        Sequence([example_volume("f0"), example_volume("f1", 1)], [0.0, 40.5], name="cine"),
    ]


@pytest.fixture(scope="module")
def original():
    scene = new_scene()
    nodes = [write_node(value, scene) for value in contents()]
    return scene, nodes


@pytest.fixture(scope="module", params=["mrb", "mrml"])
def reloaded(request, original, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / f"my scene (1).{request.param}"
    save_scene(original[0], path)
    scene = new_scene()
    load_scene(scene, path)
    # Nodes find each other through their scene, which must stay alive.
    yield {node.GetName(): scene.GetFirstNodeByName(node.GetName()) for node in original[1]}
    scene.Clear()


@pytest.mark.parametrize("number", range(3))
def test_volumes(original, reloaded, number):
    value, node = contents()[number], reloaded[original[1][number].GetName()]
    back = read_node(node)
    assert node.GetClassName() == original[1][number].GetClassName()
    np.testing.assert_array_equal(back.array, value.array)
    assert back.array.dtype == value.array.dtype
    assert back.geometry.same_grid(value.geometry, 1e-4)
    if value.provenance:
        assert back.provenance | RECORD == back.provenance
        assert back.units == "HU"
        assert (back.display.window, back.display.level, back.display.color) == (120, 50, "Rainbow")


def test_segmentation(reloaded):
    value, back = layered(), read_node(reloaded["organs"])
    assert back.geometry.same_grid(value.geometry, 1e-4)
    assert [(s.id, s.name, s.terminology) for s in back.segments] == [
        (s.id, s.name, s.terminology) for s in value.segments
    ]
    for mine, theirs in zip(back.segments, value.segments):
        np.testing.assert_allclose(mine.color, theirs.color, atol=1e-3)
        np.testing.assert_array_equal(back.mask(mine), value.mask(theirs))
    assert back.provenance["parameters"] == RECORD["parameters"]


@pytest.mark.parametrize("number", range(4, 9))
def test_transforms(original, reloaded, number):
    value, back = contents()[number], read_node(reloaded[original[1][number].GetName()])
    points = GRID.ras(np.random.default_rng(2).uniform(2, 2.9, (30, 3)))
    np.testing.assert_allclose(back.map_points(points), value.map_points(points), atol=1e-3)
    np.testing.assert_allclose(back.map_points_inverse(points), value.map_points_inverse(points), atol=1e-3)


def test_points_table_plot_text_sequence(reloaded):
    wanted = {getattr(value, "name", ""): value for value in contents()}
    points = read_node(reloaded["points"])
    np.testing.assert_allclose(points.positions, wanted["points"].positions)
    assert points.labels == wanted["points"].labels
    table = read_node(reloaded["numbers"])
    assert table.columns["name"] == wanted["numbers"].columns["name"]
    for name in ("volume", "count"):
        np.testing.assert_allclose(table.columns[name], wanted["numbers"].columns[name], rtol=1e-12)
        assert table.columns[name].dtype.kind == wanted["numbers"].columns[name].dtype.kind
    assert table.units == {"volume": "mm3"}
    table = read_node(reloaded["without units"])
    assert table.columns["code"] == ("007", "1e3")
    assert [table.columns[name].dtype.kind for name in ("value", "count")] == ["f", "i"]
    plot = read_node(reloaded["chart"])
    assert plot.title == "Title" and plot.series[0].x == "count"
    np.testing.assert_allclose(plot.table.columns["volume"], wanted["numbers"].columns["volume"])
    assert read_node(reloaded["report"]).text == wanted["report"].text
    assert read_node(reloaded["report"]).provenance["parameters"] == RECORD["parameters"]
    cine = read_node(reloaded["cine"])
    np.testing.assert_array_equal(cine.values, [0.0, 40.5])
    for mine, theirs in zip(cine.items, wanted["cine"].items):
        np.testing.assert_array_equal(mine.array, theirs.array)


def test_parents_and_hierarchy_come_back(tmp_path):
    scene = new_scene()
    volume, move = write_node(example_volume("v"), scene), write_node(contents()[4], scene)
    volume.SetAndObserveTransformNodeID(move.GetID())
    hierarchy = scene.GetSubjectHierarchyNode()
    study = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), "Study 1")
    hierarchy.CreateItem(study, volume)
    save_scene(scene, tmp_path / "s.mrb")
    other = new_scene()
    load_scene(other, tmp_path / "s.mrb")
    back, hierarchy = other.GetFirstNodeByName("v"), other.GetSubjectHierarchyNode()
    assert back.GetParentTransformNode().GetName() == "shift"
    assert hierarchy.GetItemName(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(back))) == "Study 1"


def test_archive_is_laid_out_as_slicer_expects(original, tmp_path):
    save_scene(original[0], tmp_path / "story.mrb")
    with zipfile.ZipFile(tmp_path / "story.mrb") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert "story/story.mrml" in names
    assert all(name.startswith("story/") for name in names)
    assert any(name.endswith(".seg.nrrd") for name in names)
    assert os.listdir(tmp_path) == ["story.mrb"]


@pytest.mark.parametrize("ending", ["mrb", "mrml"])
def test_any_file_name_will_do(original, tmp_path, ending):
    for _ in range(2):
        path = save_scene(original[0], tmp_path / f'Köpf "v1.2" & 100%.{ending}')
    assert path.is_file()
    assert len(os.listdir(tmp_path)) == (1 if ending == "mrb" else 2)
    scene = new_scene()
    load_scene(scene, path)
    organs = scene.GetFirstNodeByName("organs")
    np.testing.assert_array_equal(read_node(organs).layers[0], layered().layers[0])


def test_saving_again_leaves_one_data_folder_and_the_scene_as_it_was(original, tmp_path):
    scene = original[0]
    storages = [n.GetStorageNode() for n in original[1] if n.IsA("vtkMRMLStorableNode")]
    url, names = scene.GetURL(), [s.GetFileName() if s else None for s in storages]
    for _ in range(2):
        save_scene(scene, tmp_path / "again.mrml")
    assert len(os.listdir(tmp_path)) == 2
    assert scene.GetURL() == url
    assert [s.GetFileName() if s else None for s in storages] == names
    load_scene(new_scene(), tmp_path / "again.mrml")


@pytest.mark.parametrize(
    "ending, step",
    [
        ("mrb", "_write_bundle"),
        ("mrb", "replace"),
        ("mrml", "_write_bundle"),
        ("mrml", "rename"),
        ("mrml", "replace"),
    ],
)
def test_failed_save_keeps_the_earlier_file(original, tmp_path, monkeypatch, ending, step):
    path = tmp_path / f"kept.{ending}"
    save_scene(original[0], path)
    before = {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")}

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files if step == "_write_bundle" else os, step, fail)
    with pytest.raises(OutputError, match="No space left"):
        save_scene(original[0], path)
    monkeypatch.undo()
    assert {p: p.read_bytes() if p.is_file() else None for p in tmp_path.rglob("*")} == before
    load_scene(new_scene(), path)


def test_places_that_cannot_be_written(original, tmp_path):
    with pytest.raises(OutputError, match="mrb or .mrml"):
        save_scene(original[0], tmp_path / "scene.zip")
    with pytest.raises(OutputError, match="cannot be saved"):
        save_scene(original[0], tmp_path / "missing" / "scene.mrb")
    if os.geteuid():
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o500)
        with pytest.raises(OutputError, match="cannot be saved"):
            save_scene(original[0], closed / "scene.mrb")
        assert not list(closed.iterdir())


def test_full_disk_is_said_and_leaves_nothing(tmp_path):
    """Every file is cut off at 64 kB, as a full disk does."""
    code = """
import resource, signal, sys
from MedImgAILib.core.examples import example_volume
from MedImgAILib.core import Geometry, OutputError
from MedImgAILib.hosts.mrml import new_scene, save_scene, write_node
import numpy as np
scene = new_scene()
volume = example_volume("noise", geometry=Geometry.from_spacing((60, 80, 90)))
write_node(volume, scene)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    save_scene(scene, sys.argv[1])
except OutputError as error:
    sys.exit(str(error))
"""
    library = str(Path(files.__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "full.mrb")],
        env=os.environ | {"PYTHONPATH": library},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and "cannot be saved" in done.stderr
    assert not list(tmp_path.iterdir())


def test_archive_cannot_write_outside(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.mrb", "w") as archive:
        archive.writestr("../../evil.txt", "x")
        archive.writestr("/evil.txt", "x")
    with pytest.raises(InputError, match="no scene"):
        load_scene(new_scene(), tmp_path / "evil.mrb")
    assert not Path("/evil.txt").exists() and not (Path(tempfile.gettempdir()).parent / "evil.txt").exists()


def test_damaged_files_are_refused(original, tmp_path):
    save_scene(original[0], tmp_path / "whole.mrb")
    content = (tmp_path / "whole.mrb").read_bytes()
    (tmp_path / "cut.mrb").write_bytes(content[: len(content) // 2])
    (tmp_path / "changed.mrb").write_bytes(content[:3000] + bytes(200) + content[3200:])
    for name in ("cut.mrb", "changed.mrb"):
        with pytest.raises(InputError, match="damaged"):
            load_scene(new_scene(), tmp_path / name)
    with pytest.raises(InputError, match="no scene file"):
        load_scene(new_scene(), tmp_path / "nothing.mrb")
    for name, content in (("a.mrb", b"PK not really"), ("b.mrml", b"<MRML><Volume")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError):
            load_scene(new_scene(), tmp_path / name)
