"""Catalogue, download and conversion; a server on this machine stands for the publishers'."""

import hashlib
import json
import pickle
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from MedImgAILib.core import Cancelled, Context, ModelError
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.hosts.model_store import LicenseNotAccepted, ModelStore
from MedImgAILib.networks import catalogue
from MedImgAILib.networks.catalogue import Entry, ModelFile, find, read_catalogue
from MedImgAILib.networks.network_task import _example_package
from MedImgAILib.networks.public_models import PUBLIC_MODELS, convert
from MedImgAILib.networks.tensors import read_tensors

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def server():
    """Gives ``server.files[path]``, by ranges, and notes the requests; ``server.breaks`` bytes end a connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            content = server.files.get(self.path)
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            server.asked.append((self.path, begin))
            if content is None or begin >= len(content):
                self.send_error(416 if content else 404)
                return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin : server.breaks])

        def log_message(self, *arguments):
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.breaks = {}, [], None
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def archive(tmp_path):
    folder = _example_package()
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as file:
        for path in folder.iterdir():
            file.write(path, path.name)
    return (tmp_path / "model.zip").read_bytes()


@pytest.fixture
def entry(server, archive):
    server.files["/models/example.zip"] = archive
    file = ModelFile(
        "example.zip", (f"{server.url}/models/example.zip",), len(archive), hashlib.sha256(archive).hexdigest()
    )
    return Entry(
        "example", "Example", "package", ("MR",), "Head", ("image",), (("Grey matter", ""),), "Apache-2.0", "None.",
        (file,),
    )  # fmt: skip


@pytest.fixture
def store(tmp_path, entry):
    store = ModelStore(tmp_path / "models", mirror="")
    store.accept_license(entry)
    return store


def left(store):
    return sorted(str(p.relative_to(store.folder)) for p in store.folder.rglob("*") if p.is_file())


# Download


def test_model_is_fetched_once(store, entry, server):
    fractions = []

    class Told(Context):
        def on_progress(self, fraction, message):
            fractions.append(fraction)

    package = store.get(entry, Told())
    assert package.card.id == "example" and package.network() is not None
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert store.get(entry).folder == package.folder and len(server.asked) == 1
    assert [p.card.id for p in store.installed()] == ["example"]
    assert left(store) == ["example/model.json", "example/weights.safetensors", "licenses.json"]


def test_licence_comes_first(tmp_path, entry, server):
    store = ModelStore(tmp_path / "models", mirror="")
    with pytest.raises(LicenseNotAccepted, match=r"licence Apache-2\.0"):
        store.get(entry)
    store.accept_license(replace(entry, license="another"))
    with pytest.raises(LicenseNotAccepted):
        store.get(entry)
    assert not server.asked


def test_broken_connection_is_resumed(store, entry, server, archive):
    server.breaks = 700
    with pytest.raises(ModelError, match="could not be downloaded"):
        store.get(entry)
    server.breaks = None
    assert store.get(entry).card.id == "example"
    assert [begin for _, begin in server.asked] == [0, 700]


def test_cancel_keeps_what_came(store, entry, server):
    class Impatient(Context):
        def is_cancelled(self):
            return len(server.asked) == 1

    with pytest.raises(Cancelled):
        store.get(entry, Impatient())
    assert not store.path("example").exists()
    assert store.get(entry).card.id == "example"


def test_wrong_hash_is_refused_and_nothing_left(store, entry, server, archive):
    server.files["/models/example.zip"] = archive[:-1] + b"!"
    with pytest.raises(ModelError, match="another SHA-256"):
        store.get(entry)
    assert left(store) == ["licenses.json"]


def test_larger_file_than_said_is_refused(store, entry, server, archive):
    server.files["/models/example.zip"] = archive + b"more"
    with pytest.raises(ModelError, match="could not be downloaded"):
        store.get(entry)
    assert left(store) == ["licenses.json"]


def test_mirror_is_asked_first_and_the_publisher_next(store, entry, server, archive):
    server.files["/mirror/models/example.zip"] = archive
    mirrored = ModelStore(store.folder, mirror=f"{server.url}/mirror")
    mirrored.get(entry)
    assert [path for path, _ in server.asked] == ["/mirror/models/example.zip"]
    assert mirrored.clear() > 0 and left(store) == ["licenses.json"]
    del server.files["/mirror/models/example.zip"]
    mirrored.get(entry)
    assert [path for path, _ in server.asked][1:] == ["/mirror/models/example.zip", "/models/example.zip"]


def test_files_of_this_machine_are_no_address(store, entry, tmp_path):
    local = replace(entry, files=(replace(entry.files[0], urls=((tmp_path / "model.zip").as_uri(),)),))
    with pytest.raises(ModelError, match="only http and https"):
        store.get(local)


# Import


def test_offline_import_of_folder_archive_and_removal(store, tmp_path):
    assert store.import_model(_example_package()).card.id == "example"
    store.remove("example")
    assert store.import_model(tmp_path / "model.zip").card.id == "example"
    store.remove("example")
    assert left(store) == ["licenses.json"]
    for name in ("example", "../models", "licenses.json"):
        with pytest.raises(ModelError, match="no model"):
            store.remove(name)


def test_archive_that_climbs_out_is_refused(store, tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("../../climbed.txt", "x")
    with pytest.raises(ModelError, match="not a plain file inside"):
        store.import_model(tmp_path / "evil.zip")
    assert left(store) == ["licenses.json"] and not list(tmp_path.rglob("climbed.txt"))


class Bomb:
    """Runs code when it is unpickled by a careless reader."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.write_text, (self.target, "run")


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickle_that_runs_code_is_refused(store, tmp_path, writer, monkeypatch):
    target, source = tmp_path / "ran.txt", tmp_path / "evil.pth"
    if writer == "torch":
        torch.save({"model_state_dict": Bomb(target)}, source)
    else:
        source.write_bytes(pickle.dumps(Bomb(target)))
    with pytest.raises(ModelError, match="not loaded") as refusal:
        read_tensors(source)
    assert "\n" not in str(refusal.value)
    with pytest.raises(ModelError):
        store.import_model(source)
    monkeypatch.setitem(
        PUBLIC_MODELS,
        "lwnet.vessels",
        replace(PUBLIC_MODELS["lwnet.vessels"], sha256=hashlib.sha256(source.read_bytes()).hexdigest()),
    )
    with pytest.raises(ModelError, match="not loaded"):
        store.import_model(source)
    assert not target.exists() and left(store) == ["licenses.json"]


def test_lying_header_and_other_files_are_refused(tmp_path):
    lying = tmp_path / "lying.pth"
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4000]}}).encode()
    lying.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 36)
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(lying)
    with pytest.raises(ModelError, match="none of those"):
        convert(lying, tmp_path / "package")
    with pytest.raises(ModelError, match="not the published one"):
        convert(lying, tmp_path / "package", "lwnet.vessels")
    assert not (tmp_path / "package").exists()


# Catalogue


def test_catalogue_names_every_conversion_as_it_is():
    entries = {e.id: e for e in read_catalogue()}
    for name, model in PUBLIC_MODELS.items():
        assert entries[name].files[0].sha256 == model.sha256 and entries[name].is_ready
        assert [label for label, _ in entries[name].labels] == [s.name for s in model.card.outputs[0].segments]
    assert not entries["hippodeep"].is_ready


def test_catalogue_meets_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(catalogue.BUILT_IN.with_name("catalogue_schema.json").read_text())
    jsonschema.validate(json.loads(catalogue.BUILT_IN.read_text()), schema)


def test_search():
    entries = read_catalogue()
    assert "lwnet.vessels" in [e.id for e in find(entries, "RETINAL vessels")]
    assert {e.id for e in find(entries, "hippocampus", modality="MR", ready=True)} == {
        "brainchop.subcortical", "brainchop.subcortical_small",
    }  # fmt: skip
    assert not find(entries, modality="CT", body_part="Brain")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c["models"][0].update(loader="exec"), "loader"),
        (lambda c: c["models"][0].update(surprise=1), "no such field"),
        (lambda c: c["models"][0]["files"][0].update(urls=["file:///etc/passwd"]), "urls"),
        (lambda c: c["models"][0]["files"][0].update(name="../x"), "name"),
        (lambda c: c["models"][0]["files"][0].update(sha256="0"), "sha256"),
        (lambda c: c["models"].append(c["models"][0]), "twice"),
        (lambda c: c.update(schema_version=2), "newer version"),
    ],
)
def test_wrong_catalogues_are_refused(change, match, tmp_path):
    content = json.loads(catalogue.BUILT_IN.read_text())
    change(content)
    (tmp_path / "c.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=match):
        read_catalogue(tmp_path / "c.json")


def test_package_of_the_example_is_sound():
    assert ModelPackage.load(_example_package()).card.inference.window == (16, 16, 16)
