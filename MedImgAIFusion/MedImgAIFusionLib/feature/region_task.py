"""Region features of several modalities as one table, reduced where wanted."""

from __future__ import annotations

import numpy as np
from MedImgAILib.core import (
    ChoiceParameter,
    InputError,
    IntegerParameter,
    Table,
    TablePort,
    Task,
)

from .reduction import METHODS, fit


class FuseTables(Task):
    """Rows are joined by the columns that are texts in all tables, such as patient and segment.

    Columns with a value that is not finite, and those that do not vary, are left out of the reduction.
    """

    id = "fusion.tables"
    title = "Fuse feature tables"
    group = "Feature fusion"
    summary = "Joins tables of region features, one for each modality, and reduces them by PCA or CCA for a classifier."
    references = (
        "Kettenring JR. Canonical analysis of several sets of variables. Biometrika 1971; 58:433-451.",
        "Zwanenburg A, Vallières M, Abdalah MA, et al. The Image Biomarker Standardization Initiative. Radiology 2020; "
        "295:328-338.",
    )
    keywords = ("radiomics", "PCA", "CCA", "concatenate", "join", "multi-modal")

    inputs = (TablePort("tables", "Tables", "One for each modality, with a row for each region.", multiple=True),)
    parameters = (
        ChoiceParameter(
            "reduction", "Reduction", "pca",
            "PCA keeps what varies most; CCA keeps what the tables agree on; none only joins.", choices=METHODS,
        ),
        IntegerParameter(
            "components", "Components", 8, "How many reduced features there are at most.", minimum=1, maximum=500,
            enabled_when=("reduction", ("pca", "cca")),
        ),
    )  # fmt: skip
    outputs = (
        TablePort("fused", "Fused features", "A row for each region."),
        TablePort("weights", "Weights", "Of each feature, divided by its deviation, in each component.", optional=True),
    )

    def example(self):
        rng = np.random.default_rng(0)
        shared = rng.normal(0, 1, 12)
        tables = [
            Table({"patient": [f"p{n}" for n in range(12)], "a": shared + rng.normal(0, s, 12),
                   "b": rng.normal(0, 1, 12), "c": rng.normal(0, 1, 12)}, name)
            for name, s in (("CT", 0.1), ("PET", 0.2))
        ]  # fmt: skip
        return {"tables": tables}, {"components": 2}

    def run(self, inputs, parameters, context):
        keys, features, groups, rows = joined(inputs.tables)
        context.progress(0.4, "Reducing")
        finite = np.isfinite(rows).all(axis=0)
        if parameters.reduction == "none":
            return {"fused": Table(keys | dict(zip(features, rows.T)), "Fused features")}
        if not finite.all():
            context.warn(f"{(~finite).sum()} columns with values that are not finite are left out.")
        if len(rows) < 3:
            raise InputError(f"Tables: {len(rows)} common rows are too few to reduce features; at least 3 are needed.")
        reduction = fit(rows[:, finite], groups[finite], parameters.reduction, parameters.components)
        found = reduction.apply(rows[:, finite])
        context.progress(0.9)
        names = [f"{parameters.reduction.upper()} {n}" for n in range(1, found.shape[1] + 1)]
        kept = [name for name, keep in zip(features, finite) if keep]
        scaled = reduction.projection * rows[:, finite].std(axis=0)[:, None]
        return {
            "fused": Table(keys | dict(zip(names, found.T.astype(float))), "Fused features"),
            "weights": Table({"feature": kept} | dict(zip(names, scaled.T)), "Weights"),
        }


def joined(tables) -> tuple[dict, list[str], np.ndarray, np.ndarray]:
    """The key columns, the features' names, the table of each, and the (N, F) values of the rows in all tables.

    Raises
    ------
    InputError
        If the tables have no row in common or a key stands twice.
    """
    texts = [[c for c, v in t.columns.items() if isinstance(v, tuple)] for t in tables]
    common = [c for c in texts[0] if all(c in other for other in texts)]
    if not common and len({t.rows for t in tables}) > 1:
        raise InputError(
            "Tables: they have no text column in common and different numbers of rows; add a patient column."
        )
    indices = []
    for table in tables:
        keys = list(zip(*(table.columns[c] for c in common))) if common else list(range(table.rows))
        if len(set(keys)) < len(keys):
            raise InputError(
                f"{table.label} has two rows with the same {', '.join(common)}; they cannot be told apart."
            )
        indices.append({key: n for n, key in enumerate(keys)})
    kept = [key for key in indices[0] if all(key in other for other in indices)]
    if not kept:
        raise InputError(f"Tables: no row has the same {', '.join(common)} in all of them.")
    features, groups, columns = [], [], []
    for number, (table, index) in enumerate(zip(tables, indices)):
        places = [index[key] for key in kept]
        for name, values in table.columns.items():
            if isinstance(values, tuple):
                continue
            prefix = (table.name or f"table {number + 1}") if len(tables) > 1 else ""
            label = f"{prefix} {name}".strip()
            features.append(label if label not in features else f"{label} {number + 1}")
            groups.append(number)
            columns.append(np.asarray(values, float)[places])
    if not columns:
        raise InputError("Tables: they have no column of numbers.")
    keys = {c: [key[n] for key in kept] for n, c in enumerate(common)}
    return keys, features, np.array(groups), np.stack(columns, axis=1)
