"""The section "Models" of the panel, clicked on real Qt; a server on this machine stands for the publishers'."""

import hashlib
import json
import logging
import shutil
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import panel_testing as pt
import pytest
from MedImgAILib.networks import catalogue
from MedImgAILib.networks.network_task import _example_package
from panel_testing import extra_tasks  # noqa: F401
from slicer_standin.fixtures import slicer_app  # noqa: F401

pytest.importorskip("torch")
pytest.importorskip("safetensors")


@pytest.fixture
def server():
    """Gives ``server.files[path]``; while ``server.waits`` is set it stops half way."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            content = server.files[self.path]
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            server.asked.append(begin)
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            middle = max(begin, len(content) // 2)
            self.wfile.write(content[begin:middle])
            self.wfile.flush()
            server.go.wait(20)
            self.wfile.write(content[middle:])

        def log_message(self, *arguments):
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.go = {}, [], threading.Event()
    server.go.set()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.go.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def section(slicer_app, extra_tasks, server, tmp_path, monkeypatch):  # noqa: F811
    archive = tmp_path / "model.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in _example_package().iterdir():
            file.write(path, path.name)
        file.writestr("notes.txt", "x" * 2_000_000)
    content = archive.read_bytes()
    server.files["/example.zip"] = content
    models = json.loads(catalogue.BUILT_IN.read_text())
    models["models"].append({
        "id": "example", "title": "Example from a server", "loader": "package", "modality": ["US"],
        "body_part": "Heart", "inputs": ["image"], "labels": [{"name": "Grey matter"}], "license": "Own <licence>",
        "citation": "None.",
        "files": [{
            "name": "example.zip", "urls": [f"{server.url}/example.zip"], "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }],
    })  # fmt: skip
    (tmp_path / "catalogue.json").write_text(json.dumps(models))
    from MedImgAILib.panel import model_section

    monkeypatch.setattr("MedImgAILib.hosts.model_store.SHIPPED", tmp_path / "nothing shipped")
    read = catalogue.read_catalogue
    monkeypatch.setattr(model_section, "read_catalogue", lambda: read(tmp_path / "catalogue.json"))
    monkeypatch.setenv("MEDIMGAI_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("MEDIMGAI_MIRROR", raising=False)
    driver = pt.PanelDriver(slicer_app, "MedImgAI")
    section = driver.panel.models
    section.driver = driver
    section.button.collapsed = False
    slicer_app.flush()
    yield section
    section.discard()


def choose(section, model_id):
    section.list.setCurrentRow(section._rows.index(model_id))
    section.driver.app.flush()


def finish(section):
    assert section.driver.app.wait_until(lambda: not section.job.is_running, 30)
    section.driver.app.flush()


def test_other_modules_have_no_models(slicer_app, extra_tasks):  # noqa: F811
    assert pt.PanelDriver(slicer_app, "MedImgAIFusion").panel.models is None


def test_search_and_filters(section):
    everything = list(section._rows)
    assert "hippodeep" in everything and "monai.spleen_ct" in everything
    section.search.text = "retinal VEINS"
    assert set(section._rows) == {"lwnet.arteries_veins", "lwnet.arteries_veins_hrf"}
    section.search.text = ""
    for name, value, one in (
        ("modality", "CT", "monai.spleen_ct"), ("body_part", "Eye", "lwnet.vessels"),
        ("license", "Own <licence>", "example"), ("format", "nnU-Net v2", "hd_bet_2"),
    ):  # fmt: skip
        box = section.filters[name]
        box.currentIndex = box.findData(value)
        assert one in section._rows and len(section._rows) < len(everything)
        box.currentIndex = 0
    section.only_here.checked = True
    assert section._rows == []
    section.only_here.checked = False
    assert section._rows == everything


def test_details_are_escaped_and_complete(section):
    choose(section, "example")
    text = section.details.text
    assert "Own &lt;licence&gt;" in text and "MB" in text and "Grey matter" in text
    choose(section, "monai.prostate_mr")
    assert "gives no hash" in section.details.text and "Prostate" in section.details.text
    choose(section, "deepbet")
    assert section.accept.isHidden() and section.use.enabled and not section.get.enabled
    section.use.click()
    assert section.driver.panel.task.id == "segment.brain_extraction"


def test_licence_download_use_and_removal(section, server):
    choose(section, "example")
    assert not section.get.enabled and not section.accept.isHidden() and not section.accept.checked
    section.accept.click()
    assert section.get.enabled
    section.get.click()
    finish(section)
    assert section.status.text == "The model 'Example' is ready." and len(server.asked) == 1
    assert section.bar.isHidden() and section.use.enabled and not section.get.enabled
    section.use.click()
    section.driver.app.flush()
    panel = section.driver.panel
    assert panel.task.id == "segment.network"
    assert section.driver.editor("model").currentPath.endswith("example")
    section.only_here.checked = True
    assert section._rows == ["example"]
    section.remove.click()
    assert section._rows == [] and not section.store.is_installed("example")


def test_cancel_keeps_what_came_and_the_next_try_goes_on(section, server):
    choose(section, "example")
    section.accept.click()
    server.go.clear()
    section.get.click()
    assert section.driver.app.wait_until(lambda: section.bar.value > 300, 20)
    assert section.get.text == "Cancel" and not section.take.enabled
    section.get.click()
    server.go.set()
    finish(section)
    assert "Cancelled" in section.status.text and not section.store.is_installed("example")
    section.get.click()
    finish(section)
    assert section.store.is_installed("example")
    assert server.asked[0] == 0 and server.asked[1] > 0


def test_wrong_file_is_a_sentence(section, server):
    choose(section, "example")
    section.accept.click()
    server.files["/example.zip"] = server.files["/example.zip"][:-1] + b"!"
    section.get.click()
    finish(section)
    assert "another SHA-256" in section.status.text and not section.store.is_installed("example")


def test_import_and_own_models(section, tmp_path):
    section.take.click()
    assert "Choose a file or folder" in section.status.text
    own = tmp_path / "own"
    shutil.copytree(_example_package(), own)
    card = json.loads((own / "model.json").read_text())
    (own / "model.json").write_text(json.dumps(card | {"id": "own.model", "title": "My own"}))
    section.path.currentPath = str(own)
    section.take.click()
    finish(section)
    assert section.status.text == "The model 'My own' is ready."
    assert section.chosen_id == "own.model" and "Intended use" in section.details.text
    assert section.use.enabled and section.remove.enabled and section.accept.isHidden()
    section.path.currentPath = str(tmp_path / "catalogue.json")
    section.take.click()
    finish(section)
    assert "none of the public weights" in section.status.text
    section.clear.click()
    assert section.store.is_installed("own.model") and section.clear.text == "Really clear?"
    section.clear.click()
    assert not section.store.is_installed("own.model")


def test_mirror_and_proxy_are_remembered(section):
    section.mirror.text = "not an address"
    section.mirror.editingFinished.emit()
    assert "is no address" in section.status.text
    section.mirror.text, section.proxy.text = "https://mirror.example", "http://127.0.0.1:9"
    section.proxy.editingFinished.emit()
    assert section.status.text == ""
    from MedImgAILib.hosts.model_store import ModelStore

    assert ModelStore().mirror == "https://mirror.example" and ModelStore().proxy == "http://127.0.0.1:9"


def test_a_fault_of_the_program_goes_to_the_log(section, monkeypatch, caplog):
    choose(section, "example")
    section.accept.click()

    def broken(entry, context):
        raise ZeroDivisionError

    monkeypatch.setattr(section.store, "get", broken)
    with caplog.at_level(logging.ERROR):
        section.get.click()
        finish(section)
    assert "application log" in section.status.text and "could not be fetched" in caplog.text
