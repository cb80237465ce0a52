"""The catalogue of models: its form, its search, and what wrong ones are refused for."""

import json

import pytest
from MedImgAILib.core import ModelError
from MedImgAILib.core.model_package import ModelPackage
from MedImgAILib.networks import catalogue
from MedImgAILib.networks.catalogue import choices, find, read_catalogue
from MedImgAILib.networks.network_task import _example_package
from MedImgAILib.networks.public_cards import PUBLIC_MODELS


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
