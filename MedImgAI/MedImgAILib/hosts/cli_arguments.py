"""The command line of a task, made from its declaration."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

from ..core import BooleanParameter, ParameterError, RangeParameter, Task, TextParameter
from ..core.context import DEVICES

RUNNERS = ("in-process", "worker")
_OWN = ("help", "input", "output", "device", "seed", "runner", "spacing-mm", "series-uid", "quiet", "json-progress")
_NEGATIVE = re.compile(r"^-\.?\d")


class UsageError(ParameterError):
    """The command line itself is wrong."""


@dataclass
class Arguments:
    """A parsed command line: files by port name, parameter texts by name, and the command's own options."""

    inputs: dict[str, list[Path]] = field(default_factory=dict)
    outputs: dict[str, Path] = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    runner: str = ""
    spacing_mm: str | None = None
    series_uid: str | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise UsageError(message[:1].upper() + message[1:].rstrip(".") + ".")


def task_parser(task: Task) -> tuple[argparse.ArgumentParser, dict]:
    """The parser of a task, and ``{destination: (role, declaration)}`` with role "input", "output" or "parameter"."""
    parser = _Parser(
        prog=f"medimgai {task.id}",
        description=f"{task.title}. {task.summary}",
        epilog="Results are for research, not for diagnosis.",
        allow_abbrev=False,
        add_help=False,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=110),
    )
    taken, roles = set(_OWN), {}
    _add_ports(parser.add_argument_group("inputs"), task.inputs, "input", taken, roles)
    _add_ports(parser.add_argument_group("outputs"), task.outputs, "output", taken, roles)
    group = parser.add_argument_group("parameters")
    for parameter in task.parameters:
        _add_parameter(group, parameter, taken, roles)
    _add_own(parser.add_argument_group("options"), task)
    return parser, roles


def _add_ports(group, ports, role: str, taken: set, roles: dict):
    from .files import supported_suffixes

    for number, port in enumerate(ports):
        suffixes = [s for s in supported_suffixes(port, writing=role == "output") if s]
        folder = ", DICOM folder" if role == "input" and ".dcm" in suffixes else ""
        notes = [port.title + (f": {port.help}" if port.help else "")]
        notes += ["Several files may be given."] if port.multiple and role == "input" else []
        notes += ["Optional."] if port.optional and role == "input" else []
        group.add_argument(
            *_options(port.name, role, taken),
            *([f"--{role}"] if number == 0 else []),
            dest=f"{role}:{port.name}",
            metavar="FILE",
            **({"nargs": "+", "action": "extend"} if port.multiple and role == "input" else {"action": "append"}),
            help=_escaped(f"{' '.join(notes)} ({' '.join(suffixes)}{folder})"),
        )
        roles[f"{role}:{port.name}"] = (role, port)


def _options(name: str, role: str, taken: set) -> list[str]:
    """``--sigma-mm`` and ``--sigma_mm``; with the role before it where the name is taken already."""
    dashed = name.replace("_", "-")
    if dashed in taken:
        dashed = f"{role}-{dashed}"
    taken.add(dashed)
    return list(dict.fromkeys((f"--{dashed}", f"--{dashed.replace('-', '_')}")))


def _add_parameter(group, parameter, taken: set, roles: dict):
    default = parameter.default
    shown = {True: "yes", False: "no"}.get(default, default) if isinstance(default, bool) else default
    shown = " ".join(f"{v:g}" for v in shown) if isinstance(shown, tuple) else shown
    about = [f"{parameter.title}.", parameter.help] if parameter.help else [f"{parameter.title}."]
    limits = parameter.describe_range()
    unit = f" [{parameter.unit}]" if parameter.unit and parameter.unit not in limits else ""
    about.append(f"({f'{limits}; ' if limits else ''}default {shown if shown != '' else 'empty'}{unit})")
    count = {"nargs": "?", "const": "yes"} if isinstance(parameter, BooleanParameter) else {}
    count = {"nargs": "+"} if isinstance(parameter, RangeParameter) else count
    metavar = "TEXT" if isinstance(parameter, TextParameter) else "VALUE"
    group.add_argument(
        *_options(parameter.name, "parameter", taken),
        dest=f"parameter:{parameter.name}",
        metavar=metavar,
        help=_escaped(" ".join(about)),
        **count,
    )
    roles[f"parameter:{parameter.name}"] = ("parameter", parameter)


def _add_own(group, task: Task):
    runner = "worker" if task.isolated else "in-process"
    group.add_argument("-h", "--help", action="store_true", help="Show this text.")
    group.add_argument("--device", choices=DEVICES, default="auto", help="Where to compute (default auto).")
    group.add_argument("--seed", default="0", help="Seed of the random numbers (default 0).")
    group.add_argument("--runner", choices=RUNNERS, default="", help=f"Which process computes (default {runner}).")
    group.add_argument(
        "--spacing-mm", "--spacing_mm", metavar="MM", help="Voxel size of inputs that have none, as 0.2 or 0.2,0.2,1."
    )
    group.add_argument("--series-uid", "--series_uid", metavar="UID", help="Which series of a DICOM folder to read.")
    group.add_argument("--quiet", action="store_true", help="No progress and no warnings.")
    group.add_argument("--json-progress", action="store_true", help="Progress, log and errors as JSON lines.")


def _escaped(text: str) -> str:
    """argparse formats help texts with ``%``."""
    return text.replace("%", "%%")


def parse(task: Task, argv: list[str]) -> Arguments:
    """The arguments behind the task's name.

    Raises
    ------
    UsageError
        In one sentence, for an unknown option, a missing value or a stray argument.
    """
    parser, roles = task_parser(task)
    # A leading blank tells argparse that a negative number is a value and no option.
    given, stray = parser.parse_known_args([f" {a}" if _NEGATIVE.match(a) else a for a in argv])
    if stray:
        raise UsageError(_unknown(task, stray[0].strip(), parser))
    result = Arguments(device=given.device, runner=given.runner)
    result.spacing_mm, result.series_uid = given.spacing_mm, given.series_uid
    try:
        result.seed = int(given.seed)
    except ValueError:
        raise UsageError(f"The seed must be a whole number, not '{given.seed.strip()}'.") from None
    if result.seed < 0:
        raise UsageError(f"The seed must be at least 0, not {result.seed}.")
    for destination, (role, declaration) in roles.items():
        value = getattr(given, destination)
        if value is not None:
            values = [
                v.removeprefix(" ") if _NEGATIVE.match(v[1:]) else v
                for v in ([value] if isinstance(value, str) else value)
            ]
            _store(result, role, declaration, values)
    return result


def _store(result: Arguments, role: str, declaration, values: list[str]):
    if role == "input":
        result.inputs[declaration.name] = [Path(v) for v in values]
    elif role == "output":
        if len(values) > 1:
            raise UsageError(f"{declaration.title}: {len(values)} files were given for one result.")
        result.outputs[declaration.name] = Path(values[0])
    else:
        result.parameters[declaration.name] = declaration.parse(" ".join(values))


def _unknown(task: Task, word: str, parser) -> str:
    if not word.startswith("-"):
        return f"'{word}' stands alone; name it with an option such as --input."
    options = [o for action in parser._actions for o in action.option_strings]
    near = difflib.get_close_matches(word.partition("=")[0], options, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"'medimgai {task.id} --help' lists its options."
    return f"'{task.id}' has no option '{word}'; {hint}"
