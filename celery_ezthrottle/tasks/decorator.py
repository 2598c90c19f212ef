"""What users put on a task: the decorator ``@frugal``, or the base class ``EZThrottleTask``. Both do the same."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from celery import Task
from celery.local import Proxy
from celery.utils.imports import symbol_by_name

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.options import OPTION_NAMES, Options, validate

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EZThrottleTask", "frugal", "given_to", "is_frugal", "mark_frugal", "performance"]

P = ParamSpec("P")
R = TypeVar("R")
Given = ParamSpec("Given")

_MARK = "__ezthrottle_options__"


class _Frugal(Protocol[Given]):
    """The type of ``frugal``. Its options are the fields of :class:`~celery_ezthrottle.settings.options.Options`."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, R], /
    ) -> Callable[P, R]: ...
    # The two overlap only for a call without any argument, which is the overload below.
    @overload
    def __call__(self, *args: Given.args, **options: Given.kwargs) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def _with_options_of(_: Callable[Given, Options]) -> Callable[[Callable[..., Any]], _Frugal[Given]]:
    def typed(function: Callable[..., Any]) -> _Frugal[Given]:
        return function

    return typed


@_with_options_of(Options)
def frugal(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a task frugal: its HTTP calls run locally, and a limited or failed call is forwarded to EZThrottle.

    Put it below ``@app.task`` or ``@shared_task``, with or without arguments::

        @app.task(autoretry_for=(DatabaseError,))
        @frugal(forward_on={429, 503})
        def charge(order_id): ...

    Args:
        options: see :class:`celery_ezthrottle.settings.options.Options`. They have precedence over the settings of the app.

    Raises:
        TypeError: used above ``@app.task``, on something that is not a function, or with an unknown option.
        ConfigurationError: an option has an invalid value.
    """
    if function is None:
        validate(options)  # checked before the function is known: an error points at the line of the decorator
        return functools.partial(_wrap, given=options)
    return _wrap(function, given=options)


@overload
def performance(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def performance(*, calls: str = ..., **options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def performance(function: Callable[..., Any] | None = None, /, *, calls: str = "first", **options: Any) -> Any:
    """Make a task whose HTTP calls are submitted to EZThrottle instead of being sent from the worker. The body is unchanged.

    The task is suspended at once, and resumed with the answer: the body sees the response of the service as if it had made the
    call. A call that the service cannot take, for example to a host that is not public, is sent from the worker, as in a frugal
    task, and so are the calls that are not submitted::

        @app.task
        @performance(regions=["iad", "lax"], execution_mode="race")
        def charge(order_id): ...

    Args:
        calls: "first" (the default): the first call is submitted. "all": each call is, one after the other.
        options: those of :func:`frugal`. ``@performance(calls=...)`` is ``@frugal(submit=...)``.

    Raises:
        TypeError, ConfigurationError: as :func:`frugal`.
    """
    if calls not in {"first", "all"}:
        raise ConfigurationError(f'calls must be "first" or "all", not {calls!r}.')
    made = frugal(**{"submit": calls} | options)
    return made if function is None else made(function)


@functools.cache
def _executor() -> Callable[..., Any]:
    # Imported at the first run: a process that only sends tasks does not need it.
    from .body import execute

    return execute


def _wrap(function: Any, *, given: Mapping[str, Any]) -> Any:
    # type() first: any other access to Celery's lazy proxy would create the task now.
    if issubclass(type(function), Proxy) or isinstance(function, Task):
        raise TypeError(
            "@frugal is above @app.task; swap them: @app.task (or @shared_task) goes on top, @frugal directly above "
            "the function."
        )
    if isinstance(function, (staticmethod, classmethod)) or not callable(function):
        raise TypeError(f"@frugal goes on a function, not on {type(function).__name__}.")
    if inspect.isclass(function):
        raise TypeError("@frugal goes on a function; a class-based task derives from EZThrottleTask instead.")
    if inspect.iscoroutinefunction(function):
        raise TypeError("@frugal goes on a plain function: Celery does not run coroutine functions.")
    signature = inspect.signature(function)
    options = validate(given, list(signature.parameters))

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return _executor()(function, options, args, kwargs)

    # Celery makes its argument check from this signature. Otherwise it would see (*args, **kwargs).
    run.__signature__ = signature  # type: ignore[attr-defined]
    return mark_frugal(run, options)


def mark_frugal(function: Callable[P, R], options: Mapping[str, Any]) -> Callable[P, R]:
    """Mark the body of a task: its worker lets its runs suspend."""
    setattr(function, _MARK, options)
    return function


class EZThrottleTask(Task):  # type: ignore[type-arg]
    """A base class that makes tasks frugal. Use it as ``base=``, as ``task_cls`` of the app, or derive a class with ``run``.

    The options of :class:`celery_ezthrottle.settings.options.Options` are class attributes, so ``@app.task`` takes them too::

        @app.task(base=EZThrottleTask, forward_on={429, 503})
        def refund(order_id): ...

    A task that is made of a function is also what the app's own task class is: in Django it has ``delay_on_commit``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _join_own_class(cls)
        run = cls.__dict__.get("run")
        plain = run.__func__ if isinstance(run, staticmethod) else run
        # The options of this class are checked here, at its definition. Those of its base classes were checked at theirs.
        parameters = list(inspect.signature(plain).parameters) if callable(plain) else None
        options = validate({name: cls.__dict__[name] for name in OPTION_NAMES if name in cls.__dict__}, parameters)
        for name, value in options.items():
            setattr(cls, name, staticmethod(value) if inspect.isfunction(value) else value)
        if not callable(plain) or hasattr(plain, _MARK):
            return

        @functools.wraps(plain)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            # A class that inherits this body may have its own options.
            owner = type(args[0]) if args and isinstance(args[0], cls) else cls
            return _executor()(plain, options_of(owner), args, kwargs)

        wrapped.__signature__ = inspect.signature(plain)  # type: ignore[attr-defined]
        setattr(wrapped, _MARK, {})
        cls.run = staticmethod(wrapped) if isinstance(run, staticmethod) else wrapped  # type: ignore[method-assign]


def _join_own_class(cls: type) -> None:
    """Give a class that Celery has just made for an app the base class that it would have without this package."""
    made = vars(cls)
    if "app" in made:  # the class of one task, whose base was given with ``base=``
        own = made["app"].Task
    elif "_app" in made:  # the app's own task class, which was given with ``task_cls=``
        own = _class_of_framework(made["_app"])
    else:
        return
    if not issubclass(cls, own):
        cls.__bases__ = (*(base for base in cls.__bases__ if not issubclass(own, base)), own)


def _class_of_framework(app: Any) -> type:
    """The task class that Celery gives an app that has no ``task_cls``."""
    if any(type(fixup).__module__ == "celery.fixups.django" for fixup in app._fixups):
        return symbol_by_name("celery.contrib.django.task:DjangoTask")  # type: ignore[no-any-return]
    return Task


def options_of(cls: type) -> dict[str, Any]:
    """The options that a task class has as attributes."""
    found = {name: getattr(cls, name) for name in OPTION_NAMES if hasattr(cls, name)}
    if found["priority"] is None:  # each task has it, from Celery
        del found["priority"]
    return found


def is_frugal(task: Any) -> bool:
    """Whether a task has ``@frugal`` on its body, or is an :class:`EZThrottleTask`."""
    return isinstance(task, EZThrottleTask) or any(hasattr(function, _MARK) for function in _layers(task))


def given_to(task: Any) -> dict[str, Any]:
    """The options that were given to a frugal task, by the decorator or as class attributes."""
    marks = (getattr(function, _MARK, {}) for function in _layers(task))
    return next(filter(None, marks), None) or options_of(type(task))


def _layers(task: Any) -> Iterable[Any]:
    """The body of a task, and the functions that Celery has put around it (autoretry, pydantic)."""
    todo = [task.run, getattr(task, "_orig_run", None)]
    while todo:
        function = todo.pop()
        if function is not None:
            yield function
            todo.append(getattr(function, "__wrapped__", None))
