"""Loading, checking and opening of the functions and classes named by builders."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from tablevault.builders.fields import FieldPath
from tablevault.builders.policies import JOBS, ErrorName
from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import CodeSnapshot, Function, built_in, check_accepts
from tablevault.code.signatures import async_generator_problem, executor_problem, executors_of, function_problem
from tablevault.errors import TVBuilderError
from tablevault.ports import FunctionError, OpenedFunction, OpenFunction
from tablevault.rows.error_names import ErrorRules, class_finder
from tablevault.rows.opened import SnapshotFunction, SnapshotPlace, open_function


@dataclass(frozen=True)
class BuilderFunction:
    """A builder's function, with the other code that its fields name."""

    spec: BuilderSpec
    call: Function
    """A function, or a class whose objects are called."""
    validator: Function | None
    """Rejects the cells of a row by raising."""
    stop_on: ErrorRules
    """Errors that end the run."""
    retry_on: ErrorRules
    """Errors after which a call is retried."""
    place: SnapshotPlace | None = None
    """Location of the code for worker processes; `None` for a built-in function."""

    @classmethod
    def load(cls, spec: BuilderSpec, snapshot: CodeSnapshot) -> Self:
        """Load a builder's function and check it against the builder's fields.

        Raises
        ------
        TVBuilderError
            If a function or an exception class is not found, or the function does not accept the arguments or does
            not suit the executor; names file, line and field.
        """
        function = _loaded(spec, snapshot, "python_function", spec.python_function)
        validator = None if spec.validator is None else _loaded(spec, snapshot, "validate", spec.validator)
        if inspect.isasyncgenfunction(function):
            raise spec.error(("python_function",), async_generator_problem(spec.python_function))
        awaits = is_async(function) or (spec.policies.runs_jobs and _has_async_requests(function))
        problem = executor_problem(spec.python_function, awaits, spec.return_type, spec.policies.executor)
        if problem is not None:
            raise spec.error(("python_function",), problem)
        spec.check_timeout(executors_of(awaits))
        _check_arguments(spec, function)
        if validator is not None:
            _check_validator(spec, validator)
        namespace = snapshot.namespace(spec.code_module) if spec.is_custom else {}
        find = class_finder(namespace)
        return cls(
            spec,
            function,
            validator,
            _rules(spec, ("stop_on",), spec.policies.stop_on, find),
            _rules(spec, ("retry", "on"), spec.policies.retry.on, find),
            SnapshotPlace(snapshot.folder, snapshot.shown_as, snapshot.package) if spec.is_custom else None,
        )

    @property
    def is_async(self) -> bool:
        """Whether calls have to be awaited."""
        return is_async(self.call)

    @property
    def is_class(self) -> bool:
        """Whether each worker instantiates a class."""
        return inspect.isclass(self.call)

    @property
    def runs_in_processes(self) -> bool:
        """Whether worker processes call it."""
        return self.spec.policies.executor == "processes"

    @property
    def runs_on_ray(self) -> bool:
        """Whether workers on a cluster call it."""
        return self.spec.policies.runs_on_ray

    def opener(self, setup_arguments: Callable[[], Mapping[str, object]]) -> OpenFunction:
        """Return the opener for a worker, which instantiates a class.

        Parameters
        ----------
        setup_arguments
            Returns the arguments of the constructor.
        """
        if self.spec.policies.runs_elsewhere:
            return self.worker_opener(setup_arguments)
        function, text = self.call, self.spec.function_text
        is_class = self.is_class

        def open_here() -> OpenedFunction:
            try:
                arguments = setup_arguments() if is_class else {}
            except BaseException as error:
                raise FunctionError(error) from error
            return open_function(function, arguments, text)

        return open_here

    def worker_opener(self, setup_arguments: Callable[[], Mapping[str, object]]) -> SnapshotFunction:
        """Return a picklable opener for other interpreters, with resolved constructor arguments."""
        place = self.place
        return SnapshotFunction(
            self.spec.code_module,
            self.spec.python_function,
            place.texts if place is not None and self.runs_on_ray else place,
            setup_arguments() if self.is_class else {},
            self.spec.function_text,
        )


def is_async(function: Function) -> bool:
    """Return whether calls of a function or class instance must be awaited."""
    if inspect.isclass(function):
        calls = (vars(base).get("__call__") for base in function.__mro__)
        return inspect.iscoroutinefunction(next(filter(None, calls), None))
    return inspect.iscoroutinefunction(function)


def suitable_executors(spec: BuilderSpec, snapshot: CodeSnapshot) -> frozenset[str]:
    """Load a builder's function, and return the executors that suit it.

    Raises
    ------
    TVBuilderError
        If the function is not found.
    """
    function = _loaded(spec, snapshot, "python_function", spec.python_function)
    if not inspect.isclass(function):
        return executors_of(is_async(function))
    called: frozenset[str] = executors_of(is_async(function)) if "__call__" in _own_names(function) else frozenset()
    submits = _missing_request(function) is None and not _has_async_requests(function)
    return called | {JOBS} if submits else called


def _loaded(spec: BuilderSpec, snapshot: CodeSnapshot, field: str, name: str) -> Function:
    load = snapshot.load_function if spec.is_custom else built_in
    try:
        return load(spec.code_module, name)
    except TVBuilderError as error:
        raise spec.error((field,), str(error)) from error


def _check_arguments(spec: BuilderSpec, function: Function) -> None:
    called, field = function, "arguments"
    try:
        if inspect.isclass(function):
            missing = _missing_request(function) if spec.policies.runs_jobs else None
            if missing is not None:
                raise spec.error(
                    ("python_function",),
                    f"the class {spec.python_function} has no {missing}, which 'executor: jobs' calls; add one.",
                )
            if "__call__" not in _own_names(function) and not spec.policies.runs_jobs:
                raise spec.error(
                    ("python_function",),
                    f"the class {spec.python_function} has no __call__, which is called for each row; add one.",
                )
            field = "setup_arguments"
            check_accepts(function, spec.setup_arguments or {})
            called, field = _bound_method(function, "submit" if spec.policies.runs_jobs else "__call__"), "arguments"
        elif spec.setup_arguments is not None:
            raise spec.error(
                ("setup_arguments",),
                f"it requires a class, but {spec.python_function} is a function; remove the field, or name a class.",
            )
        elif spec.policies.runs_jobs:
            raise spec.error(("python_function",), function_problem(spec.python_function))
        check_accepts(called, spec.arguments)
    except TVBuilderError as error:
        if str(error).startswith(spec.file):
            raise
        raise spec.error((field,), str(error)) from error


def _check_validator(spec: BuilderSpec, validator: Function) -> None:
    if is_async(validator):
        raise spec.error(
            ("validate",), f"{spec.validator}() is an async function, which would not be awaited; make it a plain one."
        )
    try:
        check_accepts(validator, spec.changed_columns)
    except TVBuilderError as error:
        raise spec.error(("validate",), str(error)) from error


def _own_names(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if base is not object for name in vars(base)}


_REQUESTS = {"submit": "submit(token, …)", "poll": "poll(job)"}
"""Methods that `executor: jobs` requires of a class, with their signatures."""


def _missing_request(kind: type) -> str | None:
    """Return a required method that a class lacks, if any."""
    return next((text for name, text in _REQUESTS.items() if not callable(getattr(kind, name, None))), None)


def _has_async_requests(function: Function) -> bool:
    methods = (getattr(function, name, None) for name in (*_REQUESTS, "find", "cancel"))
    return any(inspect.iscoroutinefunction(method) for method in methods)


def _bound_method(kind: type, name: str) -> Function:
    """Return a stand-in for a method, without its `self` and job token."""
    function: Function = getattr(kind, name)
    given = 1 if name == "__call__" else 2
    parameters = list(inspect.signature(function).parameters.values())[given:]

    def called(**arguments: object) -> None:
        """Stand in for the method; only its signature is used."""

    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__name__ = f"{kind.__name__}.{name}"
    return called


def _rules(
    spec: BuilderSpec,
    path: FieldPath,
    entries: tuple[ErrorName, ...],
    find: Callable[[str], type[BaseException]],
) -> ErrorRules:
    def find_or_refuse(name: str) -> type[BaseException]:
        try:
            return find(name)
        except LookupError as error:
            raise spec.error(
                path,
                f"unknown exception class {name!r}: it is not a built-in, and not in {spec.code_module}.py or an "
                "installed package; use its full name, such as openai.RateLimitError",
            ) from error

    return ErrorRules(entries, find_or_refuse)
