"""Dice, HD95 and NSD per method and case on labelled images; what was trained had not seen the case.

``python -m Benchmarks.segmentation_accuracy`` prints the tables of docs/segmentation-accuracy.md.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from MedImgAILib.annotate.surfaces import surface, surface_distances
from MedImgAILib.core import Context, Geometry, Segmentation, Volume, registry
from MedImgAILib.core.model_package import ModelPackage, weight_names

from .measuring import row

MODELS = Path(__file__).resolve().parents[2] / "MedImgAI" / "Resources" / "Models"
WHITE, GREY = (1, 5), (2, 6, 7, 8, 9, 10, 14, 15, 16)
"""Labels of MeshNet that are white and grey matter."""


@dataclass(frozen=True)
class Agreement:
    """How well a method found a structure in a case; lengths in mm, in pixels for photographs."""

    data: str
    case: str
    structure: str
    method: str
    dice: float
    hd95: float
    nsd: float


def agreement(data, case, structure, method, found, truth, geometry: Geometry, tolerance: float = 1.0) -> Agreement:
    """Compare two masks on one grid; NSD is the part of both surfaces within ``tolerance`` of the other."""
    both, sizes = np.count_nonzero(found & truth), np.count_nonzero(found) + np.count_nonzero(truth)
    distances = surface_distances(
        _surface(found, geometry), _surface(truth, geometry), tolerance
    )  # fmt: skip
    dice = float(2 * both / sizes) if sizes else 1.0
    return Agreement(data, case, structure, method, dice, distances.hausdorff_95, distances.surface_dice)


def _surface(mask, geometry: Geometry):
    """As :func:`surface`; of a single slice only the outline, not its two sides."""
    places, areas = surface(mask, geometry)
    if 1 not in mask.shape:
        return places, areas
    flat = mask.shape.index(1)
    within = np.abs(geometry.ijk(places)[:, 2 - flat]) < 0.25
    return places[within], areas[within]


def hippocampus() -> list[Agreement]:
    """The 40 crops, each by the network that has not seen it."""
    data, found = _data("hippocampus"), []
    for case, package in _unseen("hippocampus"):
        image, truth = _read(data / f"images/{case}.nii.gz"), _labels(data / f"labels/{case}.nii.gz")
        labels = _applied(package, image)
        for number, name in ((1, "anterior hippocampus"), (2, "posterior hippocampus")):
            found.append(
                agreement("hippocampus", case, name, "our U-Net", labels == number, truth == number, image.geometry)
            )
    return found


def retinal_vessels() -> list[Agreement]:
    """CHASE_DB1: by filters, by lwnet (trained on DRIVE) and by our network without the patient."""
    found, own = [], dict(_unseen("retinal_vessels"))
    with _public("lwnet.vessels", "weights/lwnet/wnet_drive.pth") as lwnet:
        for path in sorted(_data("fundus_chase").glob("*.jpg")):
            image = _read(path, spacing_mm=1.0)
            truth = _read(path.with_name(f"{path.stem}_1stHO.png"), spacing_mm=1.0).array > 0
            filters = _run("segment.retinal_vessels", {"image": image}).layers[0] > 0
            masks = {"filters": filters, "lwnet": _applied(lwnet, image) > 0}
            if path.stem in own:
                masks["our U-Net"] = _applied(own[path.stem], image) > 0
            for method, mask in masks.items():
                found.append(agreement("fundus_chase", path.stem, "vessels", method, mask, truth, image.geometry, 2.0))
    return found


def brains() -> list[Agreement]:
    """The template's tissues and Colin27's brain; ours, if it is there, by what has not seen the head."""
    data, found = _data("brain"), []
    head, brain = _read(data / "ch2.nii.gz"), _read(data / "ch2bet.nii.gz").array > 0
    template = _read(data / "mni152_t1.nii.gz")
    truth = {name: _read(data / f"mni152_{key}.nii.gz").array > 127 for key, name in (("gm", "grey"), ("wm", "white"))}
    masks, labels = {}, {}
    if (MODELS / "brain_tissue").exists():
        masks["our U-Net"] = _applied(dict(_unseen("brain_extraction"))["Colin27"], head) > 0
        labels["our U-Net"] = _applied(dict(_unseen("brain_tissue"))["ICBM152"], template)
    with _public("brainchop.mindgrab", "weights/brainchop/mindgrab.pth") as package:
        masks["mindgrab"] = _applied(package, head) > 0
    for method, mask in masks.items():
        found.append(agreement("brain", "Colin27", "brain", method, mask, brain, head.geometry))
    with _public("brainchop.subcortical", "weights/brainchop/subcortical.pth") as package:
        labels["MeshNet"] = _applied(package, template)
    for method, each in labels.items():
        sets = (GREY, WHITE) if method == "MeshNet" else ((2,), (3,))
        for name, numbers in zip(("grey", "white"), sets):
            mask = np.isin(each, numbers)
            found.append(agreement("brain", "MNI152", f"{name} matter", method, mask, truth[name], template.geometry))
    return found


def chest() -> list[Agreement]:
    """The radiologist's lesion in a chest CT: the part of the dense tissue that touches it."""
    from scipy.ndimage import label

    data = _data("ct")
    image, truth = _read(data / "lung1_image.nrrd"), _labels(data / "lung1_label.nrrd") > 0
    image = replace(image, units="HU")
    dense = _run("segment.lungs_ct", {"image": image}).mask("Dense part")
    numbers, _ = label(dense)
    touching = np.isin(numbers, np.setdiff1d(np.unique(numbers[truth]), [0]))
    return [agreement("ct", "lung1", "lesion", "lungs_ct, dense part", touching, truth, image.geometry, 2.0)]


def lesions() -> list[Agreement]:
    """White-matter lesions by the pixel classifier from three contrasts.

    Strokes lie in every sixth slice; the slices between them are judged.
    """
    found = []
    for case in ("patient07", "patient26"):
        folder = _data(f"ms_multimodal/{case}")
        images = [replace(_read(folder / f"{name}.nii.gz"), name=name) for name in ("FLAIR", "T1", "T2")]
        truth = _labels(folder / "lesion_gt.nii.gz") > 0
        box = _box(images[0].array > 0.05 * images[0].array.max())
        start, size = tuple(s.start for s in box), tuple(s.stop - s.start for s in box)
        grid = images[0].geometry.cropped(start, size)
        images = [replace(i, array=np.ascontiguousarray(i.array[box]), geometry=grid) for i in images]
        truth = truth[box]
        strokes = _strokes(images[0], truth)
        outputs = _run_all(
            "segment.pixel_classifier_train", {"images": images, "strokes": strokes},
            {"scales_mm": "1, 2, 4", "trees": 40},
        )  # fmt: skip
        mask = outputs["segmentation"].mask("Lesion").copy()
        painted = (strokes.layers[0] > 0).any(axis=(1, 2))
        mask[painted] = truth[painted] = False
        found.append(agreement("ms_multimodal", case, "lesions", "pixel classifier", mask, truth, grid))
    return found


def chest_radiographs() -> list[Agreement]:
    """Both lungs in chest radiographs by the pixel classifier, from strokes in eight of 256 rows."""
    from MedImgAILib.core import Segment
    from MedImgAILib.core.resampling import resample_volume

    found = []
    for path in sorted(_data("cxr/masks").glob("*_anat.png"))[::3]:
        name = path.stem.removesuffix("_anat")
        (picture,) = _data("cxr/images").glob(f"{name}.*")
        image, mask = _read(picture, spacing_mm=1.0), _read(path, spacing_mm=1.0)
        if image.is_vector:
            image = image.with_array(np.ascontiguousarray(image.array[..., :3].mean(axis=-1).astype(np.float32)))
        grid = image.geometry.resized((1, 256, 256))
        image, mask = resample_volume(image, grid, "linear"), resample_volume(mask, grid, "nearest")
        grid = Geometry.from_spacing(grid.shape)
        image = replace(image, geometry=grid)
        truth = np.isin(mask.array, (1, 2))
        painted = np.zeros(truth.shape, np.uint8)
        painted[:, 16::32] = 1 + truth[:, 16::32]
        strokes = Segmentation.from_labels(painted, grid, [Segment("Rest", 1), Segment("Lungs", 2)], "strokes")
        outputs = _run_all(
            "segment.pixel_classifier_train", {"images": [image], "strokes": strokes},
            {"scales_mm": "2, 4, 8, 16", "trees": 40},
        )  # fmt: skip
        lungs = outputs["segmentation"].mask("Lungs")
        found.append(agreement("cxr", name, "lungs", "pixel classifier", lungs, truth, grid, 2.0))
    return found


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    return tuple(slice(first, last + 1) for first, last in spans)


def _strokes(image: Volume, lesion: np.ndarray) -> Segmentation:
    """Lesions, and scattered voxels of the rest, in every sixth slice."""
    from MedImgAILib.core import Segment

    painted = np.zeros(lesion.shape, np.uint8)
    rng = np.random.default_rng(0)
    rest = (image.array > 0.05 * image.array.max()) & ~lesion
    painted[::6][rest[::6] & (rng.random(rest[::6].shape) < 0.05)] = 1
    painted[::6][lesion[::6]] = 2
    segments = [Segment("Rest", 1), Segment("Lesion", 2)]
    return Segmentation.from_labels(painted, image.geometry, segments, "strokes")


def _unseen(model: str) -> Iterator[tuple[str, ModelPackage]]:
    """Each case that a shipped network has not seen, with a package of that network alone."""
    package = ModelPackage.load(MODELS / model)
    names = weight_names(package.card)
    hashes = (package.card.weights_sha256, *package.card.members)
    for line in (package.folder / "folds.txt").read_text(encoding="utf-8").splitlines():
        name, _, cases = line.partition(": ")
        card = replace(package.card, weights_sha256=hashes[names.index(name)], members=())
        alone = _Alone(card, package.folder, names.index(name))
        for case in cases.split():
            yield case, alone


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
def _public(model: str, weights: str):
    from MedImgAILib.networks.public_models import convert

    with tempfile.TemporaryDirectory() as folder:
        yield convert(_data(weights), Path(folder) / "model", model)


def _run_all(task: str, inputs: dict, parameters: dict | None = None) -> dict:
    return registry()[task].execute(inputs, parameters or {}, Context("cpu"))


def _run(task: str, inputs: dict) -> Segmentation:
    return _run_all(task, inputs)["segmentation"]


def _read(path: Path, **options) -> Volume:
    from MedImgAILib.hosts.files import read_file

    return read_file(path, **options)


def _labels(path: Path) -> np.ndarray:
    value = _read(path)
    return value.labelmap() if isinstance(value, Segmentation) else value.array


def _data(relative: str) -> Path:
    from testing_data import data_path

    return data_path(relative)


GOALS = {
    ("hippocampus", "mean", "our U-Net"): 0.85,
    ("fundus_chase", "vessels", "our U-Net"): 0.757,
    ("fundus_chase", "vessels", "lwnet"): 0.757,
    ("fundus_chase", "vessels", "filters"): 0.70,
    ("brain", "grey matter", "our U-Net"): 0.828,
    ("brain", "white matter", "our U-Net"): 0.892,
    ("brain", "brain", "our U-Net"): 0.936,
    ("brain", "grey matter", "MeshNet"): 0.828,
    ("brain", "white matter", "MeshNet"): 0.892,
    ("brain", "brain", "mindgrab"): 0.925,
    ("ct", "lesion", "lungs_ct, dense part"): 0.85,
    ("ms_multimodal", "lesions", "pixel classifier"): 0.30,
    ("cxr", "lungs", "pixel classifier"): 0.85,
}
"""Mean Dice to reach: what others reach on the same images; for the classical methods what they once did."""


def rows_of(found: list[Agreement]) -> list[dict]:
    """One row for each structure and method: means over the cases."""
    groups: dict[tuple, list[Agreement]] = {}
    for each in found:
        groups.setdefault((each.data, each.structure, each.method), []).append(each)
        if each.data == "hippocampus":
            groups.setdefault((each.data, "mean", each.method), []).append(each)
    rows = []
    for (data, structure, method), group in groups.items():
        dice, hd95, nsd = (statistics.mean(getattr(a, key) for a in group) for key in ("dice", "hd95", "nsd"))
        goal = GOALS.get((data, structure, method))
        if goal is None:
            continue  # in the tables only
        what = f"{data}, {structure}, {method}: mean Dice of {len({a.case for a in group})}"
        rows.append(row(f"{what} (HD95 {hd95:.2f}, NSD {nsd:.3f})", dice, f"≥ {goal}", "Dice"))
    return rows


METHODS = (hippocampus, retinal_vessels, brains, chest, lesions, chest_radiographs)


def hippocampus_rows() -> list[dict]:
    """Cross-validated."""
    return rows_of(hippocampus())


def retinal_vessel_rows() -> list[dict]:
    """Cross-validated beside filters and lwnet."""
    return rows_of(retinal_vessels())


def brain_rows() -> list[dict]:
    """Beside MeshNet and mindgrab."""
    return rows_of(brains())


def classical_rows() -> list[dict]:
    """Without networks."""
    return rows_of([*chest(), *lesions(), *chest_radiographs()])


PARTS = (hippocampus_rows, retinal_vessel_rows, brain_rows, classical_rows)


def tables() -> str:
    """Every case of every method, in Markdown."""
    lines = []
    for method in METHODS:
        lines += ["", "| data | case | structure | method | Dice | HD95 | NSD |", "| --- " * 7 + "|"]
        lines += [
            f"| {a.data} | {a.case} | {a.structure} | {a.method} | {a.dice:.3f} | {a.hd95:.2f} | {a.nsd:.3f} |"
            for a in method()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(tables())
