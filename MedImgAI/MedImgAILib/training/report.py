"""What is in a data set and what is wrong with it, before anything is trained."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ..core import Context, MedImgAIError, Table
from ..core.errors import listed
from .cases import Collection
from .duplicates import fingerprint, near_duplicates
from .facts import image_facts
from .planning import modality_of
from .reading import read_image, read_segmentation, renamed

_RARE = 0.1


@dataclass(eq=False)
class Findings:
    """What :func:`examine` found.

    Parameters
    ----------
    cases : Table
        One row for each case.
    classes : Table
        Cases and share of each class, or voxels, volume and cases of each segment.
    problems : list of (severity, text)
        "error" stops a training or makes its figures worthless, "warning" should be looked at.
    """

    cases: Table
    classes: Table
    problems: list = field(default_factory=list)


def examine(collection: Collection, context: Context) -> Findings:
    """Read every case of a data set and collect what is found; nothing stops it but a cancel."""
    rows, seen, problems = [], [], []
    counts: Counter = Counter()
    volumes: Counter = Counter()
    for number, case in enumerate(collection.cases, start=1):
        context.progress(number / len(collection), f"Case {number} of {len(collection)}")
        try:
            rows.append(_row(case, collection, seen, counts, volumes, problems))
        except MedImgAIError as error:
            problems.append(("error", f"Case '{case.id}' cannot be used: {error}"))
            seen.append(None)
            rows.append({"case": case.id, "patient": case.patient, "split": case.split, "usable": "no"})
    problems += _labels(collection, counts)
    problems += _sides(collection)
    problems += _grids(rows)
    problems += _alike(collection, seen, rows)
    return Findings(_cases_table(rows), _classes_table(collection, counts, volumes), problems)


def _row(case, collection, seen, counts, volumes, problems) -> dict:
    first = read_image(case.images[0], f"The image of case '{case.id}'")
    for further in case.images[1:]:
        read_image(further, f"An image of case '{case.id}'")
    facts = image_facts(first)
    seen.append(fingerprint(first.canonical().array))
    row = {
        "case": case.id, "patient": case.patient, "split": case.split, "usable": "yes",
        "i": facts.shape[2], "j": facts.shape[1], "k": facts.shape[0],
        "spacing i": facts.spacing[2], "spacing j": facts.spacing[1], "spacing k": facts.spacing[0],
        "minimum": facts.low, "maximum": facts.high, "mean": float(facts.inside.mean()),
        "deviation": float(facts.inside.std()), "components": facts.channels, "modality": modality_of([facts]),
    }  # fmt: skip
    if facts.low == facts.high:
        problems.append(("warning", f"The image of case '{case.id}' has the same value everywhere."))
    if case.target is None:
        problems.append(("warning", f"Case '{case.id}' has no label."))
    elif collection.kind == "classification":
        row["label"] = case.target
        counts[case.target] += 1
    else:
        truth = renamed(read_segmentation(case.target), collection.segments)
        if not truth.canonical().geometry.same_grid(first.canonical().geometry):
            problems.append(("warning", f"The label image of case '{case.id}' lies on another grid than its image."))
        found = []
        for segment in truth.segments:
            voxels = int(truth.mask(segment).sum())
            if voxels:
                found.append(segment.name)
                counts[segment.name] += 1
                volumes[segment.name] += voxels * truth.geometry.voxel_volume_mm3 / 1000
        row["label"] = ", ".join(found)
        if not found:
            problems.append(("warning", f"The label image of case '{case.id}' is empty."))
    return row


def _labels(collection: Collection, counts: Counter) -> list:
    if not counts:
        return [("error", "No case has a label, so there is nothing to learn.")]
    problems = []
    if collection.kind == "classification":
        if len(counts) == 1:
            problems.append(("error", f"All cases are of the class '{next(iter(counts))}'; at least two are needed."))
        total = sum(counts.values())
        rare = [f"'{name}' ({number})" for name, number in sorted(counts.items()) if number < _RARE * total]
        if rare:
            problems.append(("warning", f"Rare classes: {listed(rare, 5)} of {total} cases; see the remedies."))
    else:
        cases = len(collection.labelled)
        rare = [f"'{name}' ({number})" for name, number in sorted(counts.items()) if number < _RARE * cases]
        if rare:
            problems.append(("warning", f"Segments in few cases: {listed(rare, 5)} of {cases}."))
    return problems


def _sides(collection: Collection) -> list:
    parts: dict[str, set] = {}
    for case in collection.cases:
        if case.split:
            parts.setdefault(case.patient, set()).add(case.split)
    both = sorted(patient for patient, where in parts.items() if len(where) > 1)
    if both:
        return [("error", f"On several sides of the split: patient {listed(both, 5)}.")]
    return []


def _grids(rows) -> list:
    problems = []
    sizes = np.array([[r["spacing i"], r["spacing j"], r["spacing k"]] for r in rows if r["usable"] == "yes"])
    if len(sizes) and (sizes.max(axis=0) > 3 * sizes.min(axis=0)).any():
        problems.append(("warning", "Spacings differ more than threefold between cases."))
    kinds = Counter(r["modality"] for r in rows if r["usable"] == "yes")
    if len(kinds) > 1:
        text = ", ".join(f"{name} {number}" for name, number in kinds.most_common())
        problems.append(("warning", f"Values look like those of different modalities: {text}."))
    channels = {r["components"] for r in rows if r["usable"] == "yes"}
    if len(channels) > 1:
        problems.append(("warning", "Some images are in colour and others grey."))
    return problems


def _alike(collection: Collection, seen, rows) -> list:
    places = [n for n, f in enumerate(seen) if f is not None]
    problems = []
    for first, second, likeness in near_duplicates([seen[n] for n in places]):
        one, other = collection.cases[places[first]], collection.cases[places[second]]
        if one.patient == other.patient:
            continue
        apart = bool(one.split and other.split and one.split != other.split)
        differ = isinstance(one.target, str) and isinstance(other.target, str) and one.target != other.target
        text = f"'{one.id}' and '{other.id}' look the same (correlation {likeness:.3f})"
        text += " on different sides of the split" if apart else ""
        text += " but have different labels" if differ else ""
        problems.append(("error" if apart or differ else "warning", f"{text}."))
    return problems


def _cases_table(rows) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = ("case", "patient", "split", "usable", "label", "modality")
    columns = {}
    for name in names:
        if name in texts:
            columns[name] = tuple(str(row.get(name, "")) for row in rows)
        else:
            columns[name] = np.array([row.get(name, np.nan) for row in rows], float)
    return Table(columns, "Cases", {f"spacing {axis}": "mm" for axis in "ijk" if f"spacing {axis}" in columns})


def _classes_table(collection: Collection, counts: Counter, volumes: Counter) -> Table:
    names = sorted(counts) or ["none"]
    total = max(1, sum(counts.values()) if collection.kind == "classification" else len(collection.labelled))
    columns = {
        "class": tuple(names),
        "cases": np.array([counts[n] for n in names], float),
        "share": np.array([counts[n] / total for n in names]),
    }
    if collection.kind == "segmentation":
        columns["mean volume"] = np.array([volumes[n] / max(1, counts[n]) for n in names])
    return Table(columns, "Classes", {"mean volume": "mL"} if "mean volume" in columns else {})


def as_text(collection: Collection, findings: Findings) -> str:
    """The findings in words, Markdown."""
    patients = len({case.patient for case in collection.cases})
    unlabelled = len(collection.cases) - len(collection.labelled)
    lines = [
        "# Data report", "",
        f"{len(collection)} cases of {patients} patients in {collection.origin}, {unlabelled} without a label.", "",
    ]  # fmt: skip
    columns = findings.classes.columns
    for n, name in enumerate(columns["class"]):
        text = f"- {name}: {int(columns['cases'][n])} cases ({100 * columns['share'][n]:.1f} %)"
        lines.append(text + (f", {columns['mean volume'][n]:.2f} mL on average" if "mean volume" in columns else ""))
    cases = findings.cases.columns
    for title, names, unit in (
        ("Size", ("i", "j", "k"), "voxels"), ("Spacing", ("spacing i", "spacing j", "spacing k"), "mm"),
        ("Values", ("minimum", "mean", "maximum"), ""),
    ):  # fmt: skip
        if all(n in cases and np.isfinite(cases[n]).any() for n in names):
            spans = [f"{np.nanmin(cases[n]):g} to {np.nanmax(cases[n]):g}" for n in names]
            lines.append(
                f"- {title} ({', '.join(n.removeprefix('spacing ') for n in names)}): {'; '.join(spans)} {unit}"
            )
    for severity, heading in (("error", "Must be corrected"), ("warning", "To be looked at")):
        found = [text for kind, text in findings.problems if kind == severity]
        lines += ["", f"## {heading}: {len(found) or 'nothing'}", ""] + [f"- {text}" for text in found[:200]]
        if len(found) > 200:
            lines.append(f"- and {len(found) - 200} more")
    return "\n".join(lines)
