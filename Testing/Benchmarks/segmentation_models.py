"""Dice, HD95 and NSD of networks: public weights, taken in by the model store, and ours on what they had not seen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from MedImgAILib.core import Context, Volume, registry
from MedImgAILib.core.model_package import ModelPackage, weight_names

from .measuring import row
from .segmentation_agreement import Agreement, agreement, data, labels_of, read, rows_of, run

MODELS = Path(__file__).resolve().parents[2] / "MedImgAI" / "Resources" / "Models"
WHITE, GREY = (1, 5), (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Labels of MeshNet that are white and grey matter."""
HIPPOCAMPI_MM3 = (3161.0, 3344.0)
"""Left and right, as the publisher's program gives them for its own example image."""


class _Worker(Context):
    """As in the worker process, where deepbet's networks may be loaded."""

    in_worker = True


def hippocampus() -> list[Agreement]:
    """The 40 crops, each by the network that has not seen it."""
    folder, found = data("hippocampus"), []
    for case, package in _unseen("hippocampus").items():
        image, truth = read(folder / f"images/{case}.nii.gz"), labels_of(folder / f"labels/{case}.nii.gz")
        labels = _applied(package, image)
        for number, name in ((1, "anterior hippocampus"), (2, "posterior hippocampus")):
            found.append(
                agreement("hippocampus", case, name, "our U-Net", labels == number, truth == number, image.geometry)
            )
    return found


def retinal_vessels() -> list[Agreement]:
    """CHASE_DB1: by filters, by lwnet (trained on DRIVE) and by our network without the patient."""
    found, own = [], _unseen("retinal_vessels")
    with _imported("weights/lwnet/wnet_drive.pth") as lwnet:
        for path in sorted(data("fundus_chase").glob("*.jpg")):
            image = read(path, spacing_mm=1.0)
            truth = read(path.with_name(f"{path.stem}_1stHO.png"), spacing_mm=1.0).array > 0
            filters = run("segment.retinal_vessels", {"image": image}).layers[0] > 0
            masks = {"filters": filters, "lwnet": _applied(lwnet, image) > 0}
            if path.stem in own:
                masks["our U-Net"] = _applied(own[path.stem], image) > 0
            for method, mask in masks.items():
                found.append(agreement("fundus_chase", path.stem, "vessels", method, mask, truth, image.geometry, 2.0))
    return found


def brains() -> list[Agreement]:
    """Colin27's brain and the template's tissues; ours, if it is there, by what has not seen the head."""
    folder = data("brain")
    head, brain = read(folder / "ch2.nii.gz"), read(folder / "ch2bet.nii.gz").array > 0
    deepbet = registry()["segment.brain_extraction"].execute({"image": head}, {}, _Worker("cpu"))["segmentation"]
    masks = {"deepbet": deepbet.layers[0] > 0}
    with _imported("weights/brainchop/mindgrab.pth") as package:
        masks["mindgrab"] = _applied(package, head) > 0
    if (MODELS / "brain_extraction").exists():
        masks["our U-Net"] = _applied(_without("brain_extraction", "Colin27"), head) > 0
    found = [agreement("brain", "Colin27", "brain", m, mask, brain, head.geometry) for m, mask in masks.items()]

    template = read(folder / "mni152_t1.nii.gz")
    truth = {name: read(folder / f"mni152_{key}.nii.gz").array > 127 for key, name in (("gm", "grey"), ("wm", "white"))}
    labels = {}
    for method, file, sets in (
        ("MeshNet", "subcortical.pth", (GREY, WHITE)),
        ("MeshNet of 5 channels", "model5_gw_ae.pth", ((2,), (1,))),
    ):
        with _imported(f"weights/brainchop/{file}") as package:
            labels[method] = _applied(package, template), sets
    if (MODELS / "brain_tissue").exists():
        labels["our U-Net"] = _applied(_without("brain_tissue", "ICBM152"), template), ((2,), (3,))
    for method, (each, sets) in labels.items():
        for name, numbers in zip(("grey", "white"), sets):
            mask = np.isin(each, numbers)
            found.append(agreement("brain", "MNI152", f"{name} matter", method, mask, truth[name], template.geometry))
    return found


def hippocampus_rows() -> list[dict]:
    """Cross-validated."""
    return rows_of(hippocampus())


def retinal_vessel_rows() -> list[dict]:
    """Cross-validated beside filters and lwnet."""
    return rows_of(retinal_vessels())


def brain_rows() -> list[dict]:
    """Beside deepbet, mindgrab and MeshNet."""
    return rows_of(brains())


def hippodeep_rows() -> list[dict]:
    """hippodeep's volumes of its publisher's example."""
    image = read(data("brain/t1_head_1p75mm.nii.gz"))
    with _imported("weights/hippodeep") as package:
        labels = _applied(package, image)
    volumes = [float((labels == n).sum()) * image.geometry.voxel_volume_mm3 for n in (1, 2)]
    worst = max(abs(v / wanted - 1) for v, wanted in zip(volumes, HIPPOCAMPI_MM3))
    what = f"hippocampi, hippodeep: {volumes[0]:.0f} and {volumes[1]:.0f} mm³ beside the publisher's 3161 and 3344"
    return [row(what, 100 * worst, "≤ 2", "%")]


METHODS = (hippocampus, retinal_vessels, brains)
PARTS = (hippocampus_rows, retinal_vessel_rows, brain_rows, hippodeep_rows)


def _without(model: str, case: str) -> ModelPackage:
    """The network of a shipped model that has not seen a case; the whole model where it says of none that it has."""
    return _unseen(model).get(case) or ModelPackage.load(MODELS / model)


def _unseen(model: str) -> dict[str, ModelPackage]:
    """Cases, each with a package of the one network of a shipped model that has not seen it."""
    package = ModelPackage.load(MODELS / model)
    names = weight_names(package.card)
    hashes = (package.card.weights_sha256, *package.card.members)
    folds, found = package.folder / "folds.txt", {}
    for line in folds.read_text(encoding="utf-8").splitlines() if folds.exists() else ():
        name, _, cases = line.partition(": ")
        card = replace(package.card, weights_sha256=hashes[names.index(name)], members=())
        alone = _Alone(card, package.folder, names.index(name))
        found |= dict.fromkeys(cases.split(), alone)
    return found


@dataclass(frozen=True)
class _Alone(ModelPackage):
    """One member of an ensemble."""

    number: int = 0

    def networks(self, device: str = "cpu", trusted: bool = False) -> list:
        package = ModelPackage.load(self.folder)
        return [package.networks(device, trusted)[self.number]]


def _applied(package: ModelPackage, image: Volume) -> np.ndarray:
    """Labels on the image's grid."""
    from MedImgAILib.networks import network_task

    task = network_task.NetworkSegmentation()
    kept = network_task.find_package
    network_task.find_package = lambda _: package
    try:
        outputs = task.execute({"images": [image]}, {"model": str(package.folder)}, Context("cpu"))
    finally:
        network_task.find_package = kept
    return outputs["segmentation"].labelmap()


@contextmanager
def _imported(weights: str) -> Iterator[ModelPackage]:
    """Public weights, taken in by a model store in a temporary folder."""
    from MedImgAILib.hosts.model_store import ModelStore

    with tempfile.TemporaryDirectory() as folder:
        yield ModelStore(folder, mirror="").import_model(data(weights))
