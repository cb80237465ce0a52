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
from MedImgAILib.core import Cancelled, Context, MissingPackageError, ModelError, OutputError
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.hosts.model_store import LicenseNotAccepted, ModelStore
from MedImgAILib.networks import catalogue
from MedImgAILib.networks.catalogue import Entry, ModelFile, choices, find, read_catalogue
from MedImgAILib.networks.network_task import _example_package
from MedImgAILib.networks.public_cards import PUBLIC_MODELS
from MedImgAILib.networks.public_models import convert
from MedImgAILib.networks.tensors import read_tensors, sha256_of
from testing_data import data_path

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


def test_publishers_other_hashes_are_compared_too(store, entry, server, archive):
    for name in ("md5", "sha1"):
        digest = getattr(hashlib, name)(archive).hexdigest()
        file = replace(entry.files[0], sha256="", **{name: digest})
        assert store.get(replace(entry, files=(file,))).card.id == "example"
        store.remove("example")
        with pytest.raises(ModelError, match="than the catalogue says"):
            store.get(replace(entry, files=(replace(file, **{name: "0" * len(digest)}),)))
    begin = replace(entry.files[0], sha256=entry.files[0].sha256[:8])
    assert store.get(replace(entry, files=(begin,))).card.id == "example"
    assert left(store) == ["example/model.json", "example/weights.safetensors", "licenses.json"]


def test_without_a_hash_the_first_download_counts(store, entry, server, archive):
    unhashed = replace(entry, files=(replace(entry.files[0], sha256=""),))
    assert not unhashed.has_hashes and entry.has_hashes
    store.get(unhashed)
    store.clear()
    assert store.get(unhashed).card.id == "example"
    store.clear()
    server.files["/models/example.zip"] = archive[:-1] + b"!"
    with pytest.raises(ModelError, match="another one than at the first download"):
        store.get(unhashed)
    assert not store.path("example").exists()


def test_model_of_several_files(store, server, tmp_path):
    """hippodeep's three files, each in its own time, become one package."""
    weights = [data_path(f"weights/hippodeep/{f.name}") for f in PUBLIC_MODELS["hippodeep"].files]
    entry = next(e for e in read_catalogue() if e.id == "hippodeep")
    files = []
    for file, path in zip(entry.files, weights):
        server.files[f"/{file.name}"] = path.read_bytes()
        files.append(replace(file, urls=(f"{server.url}/{file.name}",)))
    entry = replace(entry, files=tuple(files))
    store.accept_license(entry)
    second = server.files.pop(f"/{files[1].name}")
    with pytest.raises(ModelError, match=files[1].name):
        store.get(entry)
    server.files[f"/{files[1].name}"] = second
    assert store.get(entry).card.id == "hippodeep"
    asked = [path for path, _ in server.asked]
    assert asked.count(f"/{files[0].name}") == 1, "what is here already was fetched again"
    assert left(store) == ["hippodeep/model.json", "hippodeep/weights.safetensors", "licenses.json"]


def test_package_that_brings_weights_is_named(store):
    entry = replace(next(e for e in read_catalogue() if e.id == "hd_bet"), requirement="no-such-package-here>=1")
    store.accept_license(entry)
    with pytest.raises(MissingPackageError, match="no-such-package-here") as caught:
        store.get(entry)
    assert caught.value.requirements == ("no-such-package-here>=1",)


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


def test_import_of_public_weights_and_what_is_none(store, tmp_path):
    package = store.import_model(data_path("weights/hippodeep"))
    assert package.card.id == "hippodeep"
    with pytest.raises(OutputError, match="here already"):
        store.import_model(data_path("weights/hippodeep"))
    with pytest.raises(ModelError, match="needs the published file"):
        store.remove("hippodeep")
        store.import_model(data_path("weights/hippodeep/hippodeep.pt"))
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ModelError, match="none of the public weights"):
        store.import_model(tmp_path / "notes.txt")
    assert left(store) == ["licenses.json"]


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
        replace(
            PUBLIC_MODELS["lwnet.vessels"],
            files=(replace(PUBLIC_MODELS["lwnet.vessels"].files[0], sha256=sha256_of(source)),),
        ),
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
        entry, card = entries[name], model.card
        assert entry.is_ready and entry.title == card.title and entry.license == card.license
        assert [label for label, _ in entry.labels] == [s.name for s in card.outputs[0].segments]
        assert list(entry.inputs) == [i.name for i in card.inputs]
        if entry.loader == "public_weights":
            assert [(f.name, f.sha256) for f in entry.files] == [(f.name, f.sha256) for f in model.files]
    assert not entries["deepbet"].is_ready and entries["deepbet"].task == "segment.brain_extraction"
    assert {e.format for e in entries.values()} >= {"MONAI bundle", "nnU-Net v2", "Public weights"}


def test_catalogue_meets_its_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(catalogue.BUILT_IN.with_name("catalogue_schema.json").read_text())
    jsonschema.validate(json.loads(catalogue.BUILT_IN.read_text()), schema)


def test_search():
    entries = read_catalogue()
    assert "lwnet.vessels" in [e.id for e in find(entries, "RETINAL vessels")]
    found = {e.id for e in find(entries, "hippocampus", modality="MR", ready=True)}
    assert {"brainchop.subcortical", "hippodeep"} <= found and "lwnet.vessels" not in found
    assert not find(entries, modality="CT", body_part="Brain")
    assert {e.loader for e in find(entries, format="MONAI bundle")} == {"monai_bundle"}
    assert {e.license for e in find(entries, license="MIT")} == {"MIT"}
    offered = choices(entries)
    assert "CT" in offered["modality"] and "Whole body" in offered["body_part"] and "MIT" in offered["license"]


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
