"""Errors whose text is one sentence for the user: what was wrong, with which input, and what to do."""


class MedImgAIError(Exception):
    """Base of every error that is meant for the user; ``str(error)`` is the sentence shown."""


class InputError(MedImgAIError):
    """An input (node, file, array) cannot be used."""


class ParameterError(MedImgAIError):
    """A parameter has the wrong type or lies outside its range."""


class OutputError(MedImgAIError):
    """A result cannot be stored: read-only folder, full disk, unknown format."""


class MissingPackageError(MedImgAIError):
    """An optional Python package that a task needs is not installed."""

    def __init__(self, message: str, requirements: tuple[str, ...] = ()):
        super().__init__(message)
        self.requirements = requirements


class ModelError(MedImgAIError):
    """A model package is damaged, unsafe or does not fit the input."""


class ResourceError(MedImgAIError):
    """Not enough memory, disk or device capability to run."""


class WorkerDied(MedImgAIError):
    """The worker process ended in the middle of a job."""


class Cancelled(Exception):
    """The user cancelled the job; not an error, so not a :class:`MedImgAIError`."""


def listed(names, most: int = 8) -> str:
    """Names for a sentence: "a, b, c", or the first ``most`` "… and 191 more"."""
    names = list(names)
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"
