"""Whether an optional package is there, without importing it."""

from __future__ import annotations

import re

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*((?:[<>=!~]=?=?\s*[^,;]+,?\s*)*)")


def distribution_name(requirement: str) -> str:
    """The distribution's name in a requirement such as ``torch>=2.2``."""
    match = _REQUIREMENT.match(requirement)
    if not match:
        raise ValueError(f"'{requirement}' is not a requirement.")
    return match.group(1)


def is_satisfied(requirement: str, metadata) -> bool:
    """Whether the installed distribution meets ``requirement`` (its ``>=`` bounds; others are pip's business).

    Parameters
    ----------
    requirement : str
    metadata : module
        ``importlib.metadata`` or a stand-in with ``version`` and ``PackageNotFoundError``.
    """
    name = distribution_name(requirement)
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    bounds = re.findall(r">=\s*([0-9.]+)", requirement)
    return all(_release(installed) >= _release(bound) for bound in bounds)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.match(r"[0-9.]*", version).group().strip(".").split(".") if n)
