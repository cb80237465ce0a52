"""A task: one algorithm, declared once.

From the declaration come its form in the panel, its command, its place in a cohort run, its endpoint in the
service and its page in the documentation. A task sees arrays and geometry only.
"""

from __future__ import annotations

from types import SimpleNamespace

from .context import Context
from .errors import InputError, MissingPackageError, ParameterError, ResourceError
from .parameters import Parameter
from .ports import Port


class Task:
    """Base class; subclass it in any file of a MedImgAI library and it is registered.

    ``inputs`` and ``parameters`` reach :meth:`run` as namespaces: ``inputs.image``, ``parameters.sigma_mm``.
    Input arrays are read-only. Lengths are in mm: a task uses the geometry, never a bare voxel count.
    """

    id: str = ""
    """``area.name`` in snake_case, unique."""
    title: str = ""
    group: str = ""
    """Heading under which the panel lists it."""
    summary: str = ""
    """One sentence: what it does and when to use it."""
    references: tuple[str, ...] = ()
    """Papers or standards it follows."""
    keywords: tuple[str, ...] = ()
    """Further words that find it in the search box."""

    inputs: tuple[Port, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    outputs: tuple[Port, ...] = ()

    requirements: tuple[str, ...] = ()
    """Optional packages it needs, as in ``("torch>=2.2",)``; imported when it runs."""
    uses_device: bool = False
    """Whether the choice of a device matters."""
    can_finish_early: bool = False
    """Whether it looks at :attr:`Context.finish_early` while it iterates, and then returns its latest whole result."""
    isolated: bool = False
    """Whether it must run in the worker process (it loads code that cannot be checked, such as TorchScript)."""
    orientation_tolerance: float = 1e-4
    """Largest relative difference between results on re-stored inputs (for segments: 1 − Dice); see the shared test."""

    together: tuple[tuple[str, ...], ...] = ()
    """Inputs and outputs that belong over one another, an image first; a panel gives each group a view of its own."""

    def proposed_inputs(self, volumes: dict) -> dict[str, object]:
        """Which volumes are meant for which optional inputs; a panel fills those that are empty.

        Parameters
        ----------
        volumes : {key: Volume}
            Those of the scene that no input takes yet.

        Returns
        -------
        {input name: key}
        """
        return {}

    def notice(self, given) -> str:
        """What a user should know before a run without some optional inputs; empty for nothing.

        Parameters
        ----------
        given : collection of str
            Names of the inputs that are chosen.
        """
        return ""

    def run(self, inputs: SimpleNamespace, parameters: SimpleNamespace, context: Context) -> dict:
        """Compute; returns ``{output name: data}``.

        Raises
        ------
        MedImgAIError
            With a sentence for the user.
        Cancelled
            From :meth:`Context.progress` or :meth:`Context.check`.
        """
        raise NotImplementedError

    def validate(self, inputs: SimpleNamespace, parameters: SimpleNamespace):
        """Further checks before anything runs; raise :class:`InputError` or :class:`ParameterError`."""

    def example(self) -> tuple[dict, dict]:
        """Small ``(inputs, parameters)`` on which the task runs in seconds; the shared tests use it."""
        from .examples import example_inputs

        return example_inputs(self), {}

    # What hosts and runners call

    def port(self, name: str) -> Port:
        """The input or output port of this name; raises KeyError."""
        return {p.name: p for p in (*self.inputs, *self.outputs)}[name]

    def defaults(self) -> dict:
        """Every parameter's default."""
        return {p.name: p.default for p in self.parameters}

    def checked_parameters(self, values: dict) -> dict:
        """All parameters, defaults filled in, each in its type.

        Raises
        ------
        ParameterError
            For an unknown name, a wrong type or a value out of range.
        """
        known = {p.name: p for p in self.parameters}
        for name in values:
            if name not in known:
                raise ParameterError(f"'{self.id}' has no parameter '{name}' (it has: {', '.join(known) or 'none'}).")
        return {name: p.check(values.get(name, p.default)) for name, p in known.items()}

    def check(self, inputs: dict, parameters: dict) -> tuple[SimpleNamespace, SimpleNamespace]:
        """Validate everything before running and return what :meth:`run` takes.

        Raises
        ------
        InputError, ParameterError
            With one sentence.
        """
        known = {p.name: p for p in self.inputs}
        for name in inputs:
            if name not in known:
                raise InputError(f"'{self.id}' has no input '{name}' (it has: {', '.join(known) or 'none'}).")
        values = SimpleNamespace(**self.checked_parameters(parameters))
        for name, port in known.items():
            port.check(inputs.get(name))
        missing = {n: ([] if p.multiple else None) for n, p in known.items() if inputs.get(n) is None}
        given = SimpleNamespace(**{n: inputs[n] for n in known if n not in missing}, **missing)
        self.validate(given, values)
        return given, values

    def missing_packages(self) -> tuple[str, ...]:
        """The :attr:`requirements` that are not installed (versions as far as metadata tells)."""
        from importlib import metadata

        from .packages import is_satisfied

        return tuple(r for r in self.requirements if not is_satisfied(r, metadata))

    def require_packages(self):
        """Raise :class:`MissingPackageError` if a package is not installed."""
        missing = self.missing_packages()
        if missing:
            raise MissingPackageError(
                f"'{self.title}' needs Python packages that are not installed: {', '.join(missing)}.", missing
            )

    def execute(self, inputs: dict, parameters: dict, context: Context) -> dict:
        """Check, run, and return the outputs with their provenance; the way every runner calls a task."""
        from .provenance import Stopwatch, stamp

        given, values = self.check(inputs, parameters)
        if self.isolated and not context.in_worker:
            raise ResourceError(f"'{self.title}' loads code that cannot be checked; run it in the worker process.")
        self.require_packages()
        context.progress(0.0)
        watch = Stopwatch()
        outputs = self.run(given, values, context)
        allowed = {p.name: p for p in self.outputs}
        unknown = set(outputs) - set(allowed)
        absent = [n for n, p in allowed.items() if outputs.get(n) is None and not p.optional]
        if unknown or absent:
            raise RuntimeError(f"Task '{self.id}' returned {sorted(outputs)} instead of {sorted(allowed)}.")
        outputs = {n: value for n, value in outputs.items() if value is not None}
        for name, value in outputs.items():
            if not isinstance(value, allowed[name].data_type):
                raise RuntimeError(f"Task '{self.id}' returned a {type(value).__name__} as '{name}'.")
        context.progress(1.0)
        return stamp(self, outputs, inputs, vars(values), context, watch)
