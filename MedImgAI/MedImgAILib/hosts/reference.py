"""The reference documentation of tasks, in Markdown, made from their declarations."""

from __future__ import annotations

from itertools import groupby

from ..core.ports import Port
from ..core.task import Task


def reference(tasks) -> str:
    """One chapter per group and one section per task; ``tasks`` are sorted by group."""
    chapters = ["# Tasks"]
    for group, members in groupby(tasks, key=lambda task: task.group):
        chapters.append(f"## {group}")
        chapters.extend(section(task) for task in members)
    return "\n\n".join(chapters) + "\n"


def section(task: Task) -> str:
    """The page of one task: what it does, its inputs, parameters and outputs, what it needs, its references."""
    parts = [f"### {task.title} (`{task.id}`)", task.summary]
    if task.inputs:
        parts.append(_table(("Input", "Kind", "Description"), map(_port, task.inputs)))
    if task.parameters:
        heads = ("Parameter", "Default", "Allowed", "Description")
        parts.append(_table(heads, map(_parameter, task.parameters)))
    parts.append(_table(("Output", "Kind", "Description"), map(_port, task.outputs)))
    if task.requirements:
        parts.append("Needs " + ", ".join(f"`{r}`" for r in task.requirements) + ".")
    parts.append("References:\n\n" + "\n".join(f"- {r}" for r in task.references))
    return "\n\n".join(parts)


def _port(port: Port) -> tuple[str, str, str]:
    kind = f"{port.minimum_count} or more {port.kind}s" if port.multiple else port.kind
    text = f"{port.title}. {port.help}".strip()
    return f"`{port.name}`", f"{kind}, optional" if port.optional else kind, text


def _parameter(parameter) -> tuple[str, str, str, str]:
    default = parameter.default
    shown = " ".join(f"{v:g}" for v in default) if isinstance(default, tuple) else str(default)
    name = f"`{parameter.name}`" + (" (advanced)" if parameter.advanced else "")
    unit = f" {parameter.unit}" if parameter.unit else ""
    return name, shown + unit, parameter.describe_range(), f"{parameter.title}. {parameter.help}".strip()


def _table(heads, rows) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines)
