"""The ``medimgai`` command; the Slicer batch script takes the same arguments.

``medimgai tasks`` lists the tasks, ``medimgai <task> --help`` explains one, and
``medimgai <task> --<input> FILE --<output> FILE --<parameter> VALUE`` runs it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

from .. import __version__
from ..core import (
    Cancelled,
    InputError,
    MedImgAIError,
    MissingPackageError,
    OutputError,
    ParameterError,
    Table,
    Text,
    registry,
)
from .cli_arguments import Arguments, UsageError, parse, task_parser
from .cli_report import Reporter

OK, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130
_USAGE = """usage: medimgai tasks [--json|--markdown] list the tasks
       medimgai <task> --help           inputs, outputs and parameters of a task
       medimgai <task> --input FILE --output FILE [--<parameter> VALUE …]
       medimgai models [--help]         list, fetch and import models
       medimgai --version"""

logger = logging.getLogger("MedImgAI")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : list of str, optional
        The arguments without the program's name; ``sys.argv[1:]`` if None.

    Returns
    -------
    int
        0 success; 2 wrong input, parameter, output or missing package; 1 failure; 130 interrupted by Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    reporter = Reporter(quiet="--quiet" in argv, as_json="--json-progress" in argv)
    try:
        return _command(argv, reporter)
    except (InputError, ParameterError, OutputError, MissingPackageError, UsageError) as error:
        reporter.error(str(error))
        return WRONG_INPUT
    except MedImgAIError as error:
        reporter.error(str(error))
        return FAILED
    except (KeyboardInterrupt, Cancelled):
        reporter.error("Cancelled; nothing was written.")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (a pager, head) has gone; there is nobody to tell.
        return FAILED
    except MemoryError:
        reporter.error("There is not enough memory for this image; close other programs or use a smaller one.")
        return FAILED
    except Exception as error:
        logger.debug("The command failed", exc_info=True)
        reporter.error(f"An internal error occurred ({type(error).__name__}: {_one_line(error)}).")
        return FAILED


def _one_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")[:200]


def _command(argv: list[str], reporter: Reporter) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(f"{_USAGE}\n\nResults are for research, not for diagnosis.")
        return OK if argv else WRONG_INPUT
    if argv[0] == "--version":
        print(f"medimgai {__version__}")
        return OK
    if argv[0] == "tasks":
        return _list_tasks(argv[1:])
    if argv[0] == "models":
        from .model_cli import models_command

        return models_command([a for a in argv[1:] if a not in ("--quiet", "--json-progress")], reporter)
    if argv[0].startswith("-"):
        raise UsageError(f"The name of a task comes first, not '{argv[0]}'; 'medimgai tasks' lists them.")
    task = registry()[argv[0]]
    if "-h" in argv[1:] or "--help" in argv[1:]:
        task_parser(task)[0].print_help()
        return OK
    return _run(task, parse(task, argv[1:]), reporter)


def _list_tasks(options: list[str]) -> int:
    if options == ["--json"]:
        print(json.dumps([_described(task) for task in registry()], indent=1))
        return OK
    if options == ["--markdown"]:
        from .reference import reference

        print(reference(registry()), end="")
        return OK
    if options:
        raise UsageError(f"'medimgai tasks' does not know '{options[0]}'; it takes --json or --markdown.")
    group = None
    width = max((len(task.id) for task in registry()), default=0)
    for task in registry():
        if task.group != group:
            group = task.group
            print(f"\n{group}")
        print(f"  {task.id:<{width}}  {task.title}")
    for name, reason in registry().failures.items():
        print(f"{name} could not be loaded: {reason}", file=sys.stderr)
    return OK


def _described(task) -> dict:
    def port(p) -> dict:
        return {"name": p.name, "title": p.title, "kind": p.kind, "optional": p.optional, "multiple": p.multiple}

    return {
        "id": task.id,
        "title": task.title,
        "group": task.group,
        "summary": task.summary,
        "inputs": [port(p) for p in task.inputs],
        "parameters": {p.name: p.schema() for p in task.parameters},
        "outputs": [port(p) for p in task.outputs],
        "requirements": list(task.requirements),
    }


def _run(task, arguments: Arguments, reporter: Reporter) -> int:
    """Check everything, read, compute, write all results or none."""
    from .files import write_files

    parameters = task.checked_parameters(arguments.parameters)
    _warn_of_unused(task, arguments.parameters, parameters, reporter)
    _check_outputs(task, arguments.outputs)
    task.require_packages()
    inputs = _read_inputs(task, arguments)
    task.check(inputs, parameters)
    outputs = _compute(task, inputs, parameters, arguments, reporter)
    absent = [name for name in arguments.outputs if name not in outputs]
    if absent:
        raise OutputError(f"'{task.title}' made no '{absent[0]}' from these inputs, so nothing was written.")
    written = write_files([(outputs[name], path) for name, path in arguments.outputs.items()])
    for path in written:
        reporter.written(path)
    for name, value in outputs.items():
        if name not in arguments.outputs and isinstance(value, (Table, Text)):
            _print(value)
    return OK


def _warn_of_unused(task, given: dict, values: dict, reporter: Reporter):
    """A parameter that another one switches off would otherwise be ignored without a word."""
    from ..runners import Log

    known = {p.name: p for p in task.parameters}
    for name in given:
        if not known[name].is_enabled(values):
            other, needed = known[name].enabled_when
            options = " or ".join(str(n) for n in needed)
            message = f"{known[name].title} has no effect; it counts only if --{other.replace('_', '-')} is {options}."
            reporter.event(Log(logging.WARNING, message))


def _check_outputs(task, outputs: dict[str, Path]):
    from .files.api import check_suffix
    from .files.atomic import check_writable

    ports = {p.name: p for p in task.outputs}
    if not outputs and not any(issubclass(p.data_type, (Table, Text)) for p in task.outputs):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in ports)
        raise OutputError(f"No result was asked for; give a file for at least one of: {names}.")
    for name, path in outputs.items():
        if path.is_dir():
            raise OutputError(f"'{path}' is a folder; give the name of a file in it.")
        check_suffix(path, ports[name])
        check_writable(path)


def _read_inputs(task, arguments: Arguments) -> dict:
    from .files import read_file

    options = {"spacing_mm": arguments.spacing_mm, "series_uid": arguments.series_uid}
    inputs = {}
    for port in task.inputs:
        files = arguments.inputs.get(port.name)
        if not files:
            port.check([] if port.multiple and port.optional else None)
            continue
        if not port.multiple and len(files) > 1:
            raise InputError(f"{port.title}: {len(files)} files were given where one is needed.")
        values = [read_file(path, port, **options) for path in files]
        inputs[port.name] = values if port.multiple else values[0]
    return inputs


def _compute(task, inputs: dict, parameters: dict, arguments: Arguments, reporter: Reporter) -> dict:
    from ..runners import Job, Log

    runner = _runner(arguments.runner or ("worker" if task.isolated else "in-process"))
    try:
        handle = runner.submit(Job(task.id, inputs, parameters, arguments.device, arguments.seed))
        try:
            try:
                return _followed(handle, reporter)
            except KeyboardInterrupt:
                if not task.can_finish_early:
                    raise
                handle.finish()
                reporter.event(Log(logging.WARNING, "Ending with the result so far; Ctrl-C again drops it."))
                return _followed(handle, reporter)
        except KeyboardInterrupt:
            handle.cancel()
            _drain(handle)
            raise
    finally:
        runner.close()
        reporter.end()


def _followed(handle, reporter: Reporter) -> dict:
    while True:
        try:
            # A wait without end could not be interrupted on Windows.
            return handle.wait(reporter.event, timeout=0.2)
        except TimeoutError:
            continue


def _drain(handle):
    """Wait until a cancelled job is over, at most as long as runners promise and a little."""
    try:
        handle.wait(timeout=5.0)
    except (Cancelled, MedImgAIError, TimeoutError):
        return


def _runner(name: str):
    if name == "worker":
        from ..runners.worker import WorkerRunner

        return WorkerRunner()
    from ..runners.inprocess import InProcessRunner

    return InProcessRunner()


def _print(value):
    """A result without a file on standard output: tables as CSV, texts as they are."""
    from .files.tables import delimited

    text = value.text if isinstance(value, Text) else delimited(value)
    print(text, end="" if text.endswith("\n") else "\n")
