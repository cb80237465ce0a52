"""Cases that a model keeps as evidence: what its networks see of them, their class, and what they are called.

An answer can then name the known cases most like a new one. The inner description of an image is no image, but it tells
something of the patient, and names may tell who it is; so names can be replaced by their hash, or all be left out.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from ..core import ChoiceParameter, Table
from .diagnosis import Diagnosis

MOST = 400
"""Cases kept, the same number of each class where there are enough."""
KNOWN = ChoiceParameter(
    "known_cases", "Known cases", "names",
    "Whether the model keeps what it sees of some training cases, to name the most similar ones as evidence; who gets "
    "the model gets them, too.", choices={
        "names": "With their names", "hashed": "With a code in place of the name", "none": "None",
    }, advanced=True,
)  # fmt: skip
COUNT_HELP = "How many of the most similar known cases are named as evidence."


def chosen(truth: np.ndarray, classes: int, seed: int = 0) -> np.ndarray:
    """Sorted positions of at most :data:`MOST` cases, each class with the same share where it has enough."""
    rng, share = np.random.default_rng(seed), max(1, MOST // classes)
    picked = [rng.permutation(np.flatnonzero(truth == c))[:share] for c in range(classes)]
    return np.sort(np.concatenate(picked))


def with_known(diagnosis: Diagnosis, embeddings, truth, names, naming: str = "names") -> Diagnosis:
    """The diagnosis with known cases.

    Parameters
    ----------
    embeddings : (N, D) ndarray
        Of any length; stored with length 1 as float16.
    truth : (N,) int ndarray
    names : sequence of str
    naming : str
        A choice of :data:`KNOWN`.
    """
    if naming == "none" or not len(embeddings):
        return diagnosis
    embeddings = np.asarray(embeddings, np.float64)
    lengths = np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    shown = tuple(code_of(name) if naming == "hashed" else str(name) for name in names)
    return replace(
        diagnosis, embeddings=(embeddings / lengths).astype(np.float16), known=np.asarray(truth, int), names=shown
    )


def code_of(name: str) -> str:
    """The first 10 digits of the name's SHA-256: whoever has the names can find the case, others cannot read it.

    A name that can be guessed can be found by trying.
    """
    return hashlib.sha256(name.encode("utf-8")).hexdigest()[:10]


def similar_cases(diagnosis: Diagnosis, embeddings, count: int, cases=None) -> Table | None:
    """The most similar known cases of each embedding; None where the model has none.

    Parameters
    ----------
    embeddings : (n, D) ndarray
    count : int
        How many of each.
    cases : sequence of str, optional
        Names of the n cases, as a first column.
    """
    columns: dict[str, list] = {"of": [], "case": [], "class": [], "likeness": []}
    for number, embedding in enumerate(embeddings):
        for place, likeness in diagnosis.nearest(embedding, count):
            columns["of"].append(cases[number] if cases is not None else "")
            columns["case"].append(diagnosis.names[place] if diagnosis.names else f"case {place + 1}")
            columns["class"].append(diagnosis.classes[diagnosis.known[place]])
            columns["likeness"].append(likeness)
    if not columns["case"]:
        return None
    kept = {name: tuple(values) for name, values in columns.items() if name != "likeness"}
    if cases is None:
        del kept["of"]
    return Table({**kept, "likeness": np.array(columns["likeness"])}, "Similar cases")
