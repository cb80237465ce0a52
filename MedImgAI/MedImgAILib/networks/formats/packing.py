"""What all readers of other formats share: names, licences, and weights that fit."""

from __future__ import annotations

import re
from pathlib import Path

from ...core import ModelError
from ...core.model_card import ModelCard
from ...core.model_networks import build

_LICENSES = (
    ("Apache License", "Apache-2.0"), ("MIT License", "MIT"), ("GNU GENERAL PUBLIC LICENSE", "GPL"),
    ("Creative Commons", "Creative Commons"), ("BSD 3-Clause", "BSD-3-Clause"), ("BSD 2-Clause", "BSD-2-Clause"),
)  # fmt: skip
_UNSTATED = "Not stated; ask the publisher."


def fitted(card: ModelCard, state: dict) -> dict:
    """The tensors of ``state``, after a look whether they are exactly those of the card's network.

    Raises
    ------
    ModelError
        If one is missing, left over or of another shape.
    """
    network = build(card.architecture, card.arguments)
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != given:
        name = sorted(k for k in wanted.keys() | given.keys() if wanted.get(k) != given.get(k))[0]
        raise ModelError(
            f"The weights do not fit the network '{card.architecture}': '{name[:80]}' has the shape "
            f"{given.get(name, 'of nothing')} where {wanted.get(name, 'nothing')} is needed."
        )
    return state


def identifier(prefix: str, name: str) -> str:
    """An id of a package made from a name."""
    return f"{prefix}.{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_') or 'model'}"[:80]


def license_name(folder: Path) -> str:
    """The SPDX identifier of the licence that lies in a folder, its first words, or that none is stated."""
    for path in sorted(folder.glob("LICENSE*")):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")[:2000]
            known = next((name for words, name in _LICENSES if words.lower() in text.lower()), None)
            first = next((line.strip() for line in text.splitlines() if line.strip()), "")
            return known or first[:200] or _UNSTATED
    return _UNSTATED
