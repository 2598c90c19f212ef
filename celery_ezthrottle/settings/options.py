"""The options of one task: what is forwarded, where to and under which key. Task option > setting > default.

Each option is one field of :class:`Options`: its name, its default and its kind. ``@frugal`` takes them as arguments,
``EZThrottleTask`` as class attributes, and the app as settings, ``ezthrottle_<name>``.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from celery_ezthrottle._common.validators import (
    CALLABLE,
    COUNT,
    FLAG,
    MAPPING,
    SECONDS,
    STATUSES,
    STRINGS,
    WEBHOOKS,
    Kind,
    choice,
)
from celery_ezthrottle.errors import ConfigurationError

__all__ = ["OPTION_NAMES", "Options", "kind_of", "resolve", "setting", "validate"]

KEY_STRATEGIES = ("task", "hash", "unique")

T = TypeVar("T")


def setting(default: T, kind: Kind, *, secret: bool = False) -> T:
    """A field that is a setting. ``secret``: its value stays out of ``repr``."""
    made: T = field(default=default, repr=not secret, metadata={"kind": kind})
    return made


def _idempotency(value: Any) -> Any:
    if callable(value) or value in KEY_STRATEGIES:
        return value
    if not isinstance(value, str):
        raise TypeError
    return value


_IDEMPOTENCY = Kind(
    f"one of {', '.join(map(repr, KEY_STRATEGIES))}, a string with placeholders, or a callable", _idempotency
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one task. Durations are seconds.

    A callable gets the request (or the response) of the HTTP library that made the call.
    """

    #: Statuses that are forwarded.
    forward_on: Collection[int] = setting(frozenset({429, 500, 502, 503, 504}), STATUSES)
    #: Network errors that are forwarded. "safe": the request was certainly not sent, or its method is idempotent, or it has an
    #: ``Idempotency-Key`` header. "always"; "never".
    forward_on_network_error: str = setting("safe", choice("safe", "always", "never"))
    #: Whether a call is also forwarded when ``self.retry()``, or an error of the task's own, follows the limited call.
    forward_on_retry: bool = setting(True, FLAG)
    #: Patterns (as in fnmatch) of host names that are forwarded. "public" stands for every public host.
    forward_hosts: Sequence[str] = setting(("public",), STRINGS)
    #: Patterns of hosts to which a request is forwarded even if its signature covers a time or a nonce.
    forward_signed_hosts: Sequence[str] = setting((), STRINGS)
    #: The last word on a request: False means that it is not forwarded.
    forward_if: Callable[[Any], bool] | None = setting(None, CALLABLE)
    #: True for a response that means a limit although its status is not in ``forward_on``.
    is_limited: Callable[[Any], bool] | None = setting(None, CALLABLE)
    #: How the idempotency key of a job is made. "task": one key for each forward of each task id. "hash": no key; the service
    #: merges equal requests. "unique": a new key for each forward. A string with placeholders for the task's arguments. A
    #: callable that gets the request.
    idempotency: str | Callable[[Any], str] = setting("task", _IDEMPOTENCY)
    #: Names of the service's regions that execute the job; () = any.
    regions: Sequence[str] = setting((), STRINGS)
    #: What the service does when a region is down; None = its default.
    region_policy: str | None = setting(None, choice("fallback", "strict"))
    #: How several regions execute the job; None = the service's default.
    execution_mode: str | None = setting(None, choice("race", "fanout"))
    #: How often the service tries; None = its default. See :class:`celery_ezthrottle.service.job.RetryPolicy`.
    retry_policy: Mapping[str, Any] | None = setting(None, MAPPING)
    #: Webhooks of your own, besides the one that resumes the task.
    webhooks: Sequence[Mapping[str, Any]] = setting((), WEBHOOKS, secret=True)
    #: How many webhooks with a vote must be delivered; None = the service's default.
    webhook_quorum: int | None = setting(None, COUNT)
    #: A JSON object that the webhooks bring back.
    metadata: Mapping[str, Any] | None = setting(None, MAPPING, secret=True)
    #: How long a suspended task waits for its result, counted from the suspension.
    result_timeout: float = setting(12 * 3600.0, SECONDS)
    #: How long submitting is tried while EZThrottle does not take the job, counted from the suspension.
    submit_timeout: float = setting(3600.0, SECONDS)
    #: Whether the body runs with ``request.retries = max_retries`` after the service has given up.
    exhaust_retries: bool = setting(True, FLAG)
    #: How often one call is forwarded while its delivered answer is a limit again. More than 1 is only for a service that does
    #: not retry by itself.
    max_forwards: int = setting(1, COUNT)
    #: Whether a resumed run sends an unsafe call that looks like an earlier one with another body, instead of ReplayMismatch.
    send_unmatched: bool = setting(False, FLAG)


_KINDS: Mapping[str, Kind] = {spec.name: spec.metadata["kind"] for spec in fields(Options)}
OPTION_NAMES = frozenset(_KINDS)


def kind_of(name: str) -> Kind:
    """The kind of the option ``name``."""
    return _KINDS[name]


def validate(given: Mapping[str, Any], parameters: Sequence[str] | None = None) -> dict[str, Any]:
    """Check and normalise options as given to a task.

    Args:
        given: option names and values.
        parameters: names of the task's parameters, if known, for placeholders of ``idempotency``.

    Raises:
        TypeError: for a name that is no option.
        ConfigurationError: for a value that is not of the option's form.
    """
    unknown = sorted(given.keys() - OPTION_NAMES)
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(OPTION_NAMES))}")
    return {name: _checked(name, value, parameters) for name, value in given.items()}


def resolve(given: Mapping[str, Any], defaults: Options, parameters: Sequence[str] | None = None) -> Options:
    """Put task options and settings together.

    Args:
        given: the task's options, as returned by :func:`validate`.
        defaults: what the app has set for all tasks.
        parameters: names of the task's parameters, if known.

    Raises:
        ConfigurationError: for a setting that does not fit the task, or deadlines that contradict each other.
    """
    values = {name: getattr(defaults, name) for name in OPTION_NAMES} | dict(given)
    if "idempotency" not in given:
        check_key("idempotency", defaults.idempotency, parameters)
    options = Options(**values)
    if options.submit_timeout > options.result_timeout:
        if "submit_timeout" in given:
            raise ConfigurationError(
                "submit_timeout is above result_timeout: a job cannot be submitted after its task has given up; "
                "lower the first or raise the second."
            )
        options = replace(options, submit_timeout=options.result_timeout)
    if options.max_forwards > 1 and options.idempotency == "hash":
        raise ConfigurationError(
            'max_forwards is above 1 and idempotency is "hash": the service would take the second forward of a call for the '
            'first and deliver its result again; use "task", "unique", a string or a callable.'
        )
    return options


def _checked(name: str, value: Any, parameters: Sequence[str] | None) -> Any:
    try:
        kept = _KINDS[name].of_option(value)
    except ValueError as exc:
        raise ConfigurationError(f"{name} must be {exc}.") from None
    if name == "idempotency":
        check_key(name, kept, parameters)
    return kept


def check_key(name: str, value: Any, parameters: Sequence[str] | None = None) -> None:
    """Check that a string of ``idempotency`` gives each task a key of its own.

    Args:
        name: of the option or setting, for the text of the error.
        value: its value, of the right kind.
        parameters: names of the task's parameters; None when they are not known.

    Raises:
        ConfigurationError: the string is broken or constant, or names what is no parameter.
    """
    if callable(value) or value in KEY_STRATEGIES:
        return
    try:
        placeholders = [found for _, found, _, _ in string.Formatter().parse(value) if found is not None]
    except ValueError as exc:
        raise ConfigurationError(f"{name} is not a format string: {exc}.") from None
    names = [found.split(".")[0].split("[")[0] for found in placeholders]
    if not any(names):
        raise ConfigurationError(
            f"{name} is a constant string: every task would share one job; put an argument of the task into it, "
            'such as "order-{order_id}".'
        )
    missing = [found for found in names if parameters is not None and found not in parameters]
    if missing:
        raise ConfigurationError(f"{name} names {missing[0]!r}, which is no parameter of the task.")
