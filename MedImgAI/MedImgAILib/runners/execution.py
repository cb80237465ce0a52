"""Run one task and say how it ended; what every runner does where the work is done."""

from __future__ import annotations

import traceback

import numpy as np

from ..core import codec, errors
from ..core.errors import Cancelled, MedImgAIError, ResourceError
from ..core.registry import registry
from .base import Event, Failed, Finished, Job, Stopped
from .reporting import ReportingContext

_MEMORY_WORDS = ("out of memory", "can't allocate memory", "failed to allocate memory", "bad_alloc")


def read_only(inputs: dict) -> dict:
    """The same inputs on arrays that cannot be written; the large ones are not copied."""
    arrays: list[np.ndarray] = []
    description = codec.encode(inputs, arrays)
    views = [array.view() for array in arrays]
    for view in views:
        view.flags.writeable = False
    return codec.decode(description, views)


def run_job(job: Job, context: ReportingContext, isolated: bool) -> Event:
    """Run the job's task here and return its last event; its last progress has been sent by then.

    Parameters
    ----------
    job : Job
        With inputs that the task may keep and cannot write.
    context : ReportingContext
    isolated : bool
        Whether this process may load code that cannot be checked; see :attr:`Task.isolated`.
    """
    title = job.task_id
    try:
        task = registry()[job.task_id]
        title = task.title
        if task.isolated and not isolated:
            raise ResourceError(f"'{title}' runs only in the worker process; choose that as the place to run.")
        outputs = task.execute(job.inputs, job.parameters, context)
        event = Finished(outputs)
    except Cancelled:
        event = Stopped()
    except BaseException as error:
        # SystemExit and KeyboardInterrupt too: a library that asks to exit must not take the worker with it.
        event = failure(error, title)
    context.flush()
    return event


def failure(error: BaseException, title: str) -> Failed:
    """The event for an exception: one sentence for the user, the traceback for the log."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, MedImgAIError):
        return Failed(error, details)
    text = str(error).lower()
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or _mentions_memory(text):
        sentence = f"There is not enough memory for '{title}' on this input; crop or resample it, or free memory."
        return Failed(ResourceError(sentence), details)
    kind = type(error).__name__
    return Failed(
        MedImgAIError(f"'{title}' stopped on an unexpected error ({kind}); see the log for details."), details
    )


def _mentions_memory(text: str) -> bool:
    return any(words in text for words in _MEMORY_WORDS)


def describe_error(error: MedImgAIError) -> dict:
    """JSON-able description of an error; :func:`rebuild_error` makes it again on the other side."""
    description = {"kind": type(error).__name__, "text": str(error)}
    if isinstance(error, errors.MissingPackageError):
        description["requirements"] = list(error.requirements)
    return description


def rebuild_error(description: dict) -> MedImgAIError:
    """The error that was described; a class that :mod:`..core.errors` lacks becomes :class:`MedImgAIError`."""
    cls = getattr(errors, str(description.get("kind")), None)
    if not (isinstance(cls, type) and issubclass(cls, MedImgAIError)):
        cls = MedImgAIError
    text = str(description.get("text", ""))
    if cls is errors.MissingPackageError:
        return cls(text, tuple(description.get("requirements", ())))
    return cls(text)
