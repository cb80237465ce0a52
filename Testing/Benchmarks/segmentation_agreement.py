"""How well masks agree: Dice, HD95 and NSD of a method in a case, and their means as rows of the benchmark."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from MedImgAILib.annotate.surfaces import surface, surface_distances
from MedImgAILib.core import Context, Geometry, Segmentation, Volume, registry

from .measuring import row


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
    ("brain", "grey matter", "MeshNet of 5 channels"): 0.80,
    ("brain", "white matter", "MeshNet of 5 channels"): 0.85,
    ("brain", "brain", "mindgrab"): 0.925,
    ("brain", "brain", "deepbet"): 0.936,
    ("ct", "lesion", "lungs_ct, dense part"): 0.85,
    ("ms_multimodal", "lesions", "pixel classifier"): 0.30,
    ("cxr", "lungs", "pixel classifier"): 0.85,
}
"""Mean Dice to reach: what others reach on the same images; for the classical methods what they once did."""
PUBLISHED = ("lwnet", "MeshNet", "mindgrab", "deepbet")
"""Methods whose goal is what their publishers' own programs reach."""


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
        dice = round(dice, 3)  # as the goals are given
        goal = GOALS.get((data, structure, method))
        if goal is None:
            continue  # in the tables only
        what = f"{data}, {structure}, {method}: mean Dice of {len({a.case for a in group})}"
        peer = goal if method in PUBLISHED else None
        rows.append(row(f"{what} (HD95 {hd95:.2f}, NSD {nsd:.3f})", dice, f"≥ {goal}", "Dice", peer=peer))
    return rows


def run_all(task: str, inputs: dict, parameters: dict | None = None) -> dict:
    return registry()[task].execute(inputs, parameters or {}, Context("cpu"))


def run(task: str, inputs: dict) -> Segmentation:
    return run_all(task, inputs)["segmentation"]


def read(path: Path, **options) -> Volume:
    from MedImgAILib.hosts.files import read_file

    return read_file(path, **options)


def labels_of(path: Path) -> np.ndarray:
    value = read(path)
    return value.labelmap() if isinstance(value, Segmentation) else value.array


def data(relative: str) -> Path:
    from testing_data import data_path

    return data_path(relative)
