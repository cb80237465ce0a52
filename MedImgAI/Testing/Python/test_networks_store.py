"""Catalogue, download and conversion; a server on this machine stands for the publishers'."""

import hashlib
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from MedImgAILib.core import Cancelled, Context, MissingPackageError, ModelError
from MedImgAILib.hosts.model_store import LicenseNotAccepted, ModelStore
from MedImgAILib.networks.catalogue import Entry, ModelFile, read_catalogue
from MedImgAILib.networks.network_task import _example_package
from MedImgAILib.networks.public_cards import PUBLIC_MODELS
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
            begin = begin if server.ranges else 0
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
    server.files, server.asked, server.breaks, server.ranges = {}, [], None, True
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


def test_proxy_is_asked_for_the_publishers_address(store, entry, server, archive):
    """A proxy gets the whole address in place of a path."""
    address = "http://publisher.invalid/models/example.zip"
    server.files[address] = archive
    store.set_network("", server.url)
    behind = replace(entry, files=(replace(entry.files[0], urls=(address,)),))
    assert ModelStore(store.folder, mirror="").get(behind).card.id == "example"
    assert server.asked == [(address, 0)]
    for wrong in ("file:///etc", "proxy", "ftp://a"):
        with pytest.raises(ModelError, match="no address"):
            store.set_network("", wrong)


def test_server_without_ranges_is_asked_for_all_again(store, entry, server, archive):
    server.breaks = 700
    with pytest.raises(ModelError, match="could not be downloaded"):
        store.get(entry)
    server.breaks, server.ranges = None, False
    assert store.get(entry).card.id == "example"
    assert [begin for _, begin in server.asked] == [0, 700]


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
