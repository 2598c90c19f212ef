"""The options of one task: what is forwarded, where to and under which key. Task option > setting > default."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypedDict

import requests

from .conf import Settings
from .errors import ConfigurationError, EZThrottleError

__all__ = ["OPTION_NAMES", "Options", "TaskOptions", "resolve"]

NETWORK_ERROR_CHOICES = ("safe", "always", "never")
KEY_STRATEGIES = ("task", "hash", "unique")


class TaskOptions(TypedDict, total=False):
    """The keyword arguments of ``@frugal`` and the class attributes of ``EZThrottleTask``; see :class:`Options`."""

    forward_on: Sequence[int] | set[int] | frozenset[int]
    forward_on_network_error: str
    forward_on_retry: bool
    forward_hosts: Sequence[str]
    forward_signed_hosts: Sequence[str]
    forward_if: Callable[[requests.PreparedRequest], bool]
    is_limited: Callable[[requests.Response], bool]
    idempotency: str | Callable[[requests.PreparedRequest], str]
    regions: Sequence[str]
    region_policy: str
    execution_mode: str
    retry_policy: Mapping[str, Any]
    webhooks: Sequence[Mapping[str, Any]]
    webhook_quorum: int
    metadata: Mapping[str, Any]
    result_timeout: float
    submit_timeout: float
    exhaust_retries: bool
    max_forwards: int
    send_unmatched: bool


@dataclass(frozen=True, kw_only=True)
class Options:
    """What holds for one task once task options and settings are put together."""

    #: Statuses that are forwarded.
    forward_on: frozenset[int] = frozenset({429, 500, 502, 503, 504})
    #: Network errors that are forwarded: "safe" = the request certainly was not sent, or is idempotent by its method or by an
    #: ``Idempotency-Key`` header; "always"; "never".
    forward_on_network_error: str = "safe"
    #: Whether ``self.retry()``, or an error of the task's own, after a limited call is forwarded instead.
    forward_on_retry: bool = True
    #: Patterns (as in fnmatch) of host names that are forwarded; "public" stands for every public host.
    forward_hosts: tuple[str, ...] = ("public",)
    #: Patterns of hosts to which also requests are forwarded whose signature covers a time or a nonce.
    forward_signed_hosts: tuple[str, ...] = ()
    #: A last word on the request: False = not forwarded.
    forward_if: Callable[[requests.PreparedRequest], bool] | None = None
    #: True for a response that is a limit though its status is not in ``forward_on``.
    is_limited: Callable[[requests.Response], bool] | None = None
    #: "task" = one key for each forward of each task id; "hash" = none: the service merges equal requests; "unique" = a fresh
    #: one for each forward; a string with placeholders for the task's arguments; a callable on the request.
    idempotency: str | Callable[[requests.PreparedRequest], str] = "task"
    regions: tuple[str, ...] = ()
    region_policy: str | None = None
    execution_mode: str | None = None
    retry_policy: Mapping[str, Any] | None = None
    #: Webhooks of your own, besides the one that resumes the task.
    webhooks: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    webhook_quorum: int | None = None
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    #: Seconds from the suspension until the task gives up waiting.
    result_timeout: float = 12 * 3600.0
    #: Seconds from the suspension until the task gives up submitting.
    submit_timeout: float = 3600.0
    #: Run the body with ``request.retries = max_retries`` when the service has given up.
    exhaust_retries: bool = True
    #: How often one call is forwarded while the answer that is delivered is a limit again; more than once only for a service
    #: that does not retry by itself.
    max_forwards: int = 1
    #: Send an unsafe call of a resumed run that looks like an earlier one of another body, instead of ReplayMismatch.
    send_unmatched: bool = False


OPTION_NAMES = frozenset(field.name for field in fields(Options))


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
    return {name: _CHECKS[name](name, value, parameters) for name, value in given.items()}


class OptionFailed(EZThrottleError):
    """A callable that was given as an option raised."""


def ask(name: str, function: Callable[[Any], Any], argument: Any) -> Any:
    """Call a callable that was given as the option ``name``.

    Raises:
        OptionFailed: it raised.
    """
    try:
        return function(argument)
    except Exception as exc:
        raise OptionFailed(f"the callable given as {name} raised {exc!r}; mend it") from exc


def resolve(given: Mapping[str, Any], settings: Settings, parameters: Sequence[str] | None = None) -> Options:
    """Put task options, as returned by :func:`validate`, and settings together.

    Raises:
        ConfigurationError: for a setting that is not of the option's form, or deadlines that contradict each other.
    """
    defaults = {name: value for name in OPTION_NAMES if (value := getattr(settings, name)) is not None}
    options = replace(Options(), **{**validate(defaults, parameters), **given})
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


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{name} must be {what}.")


def _statuses(name: str, value: Any, _: Any) -> frozenset[int]:
    try:
        codes = frozenset(int(code) for code in value) if not isinstance(value, str) else None
    except (TypeError, ValueError):
        codes = None
    if codes is None or not all(400 <= code <= 599 for code in codes):
        raise _wrong(name, "a collection of HTTP error statuses, 400 to 599, such as {429, 503}")
    return codes


def _strings(name: str, value: Any, _: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise _wrong(name, "a list of strings")
    items = tuple(value)
    if not all(isinstance(item, str) and item for item in items):
        raise _wrong(name, "a list of strings")
    return items


def _choice(*choices: str) -> Callable[[str, Any, Any], str]:
    def check(name: str, value: Any, _: Any) -> str:
        if value not in choices:
            raise _wrong(name, "one of " + ", ".join(repr(choice) for choice in choices))
        return str(value)

    return check


def _callable(name: str, value: Any, _: Any) -> Any:
    if value is not None and not callable(value):
        raise _wrong(name, "a callable")
    return value


def _flag(name: str, value: Any, _: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(name, "True or False")
    return value


def _seconds(name: str, value: Any, _: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _wrong(name, "a number of seconds above 0")
    return float(value)


def _mapping(name: str, value: Any, _: Any) -> Any:
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(name, "a mapping")
    return value


def _webhooks(name: str, value: Any, _: Any) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        raise _wrong(name, 'a list of mappings such as {"url": "https://…"}')
    items = tuple(value)
    if not all(isinstance(item, Mapping) and isinstance(item.get("url"), str) for item in items):
        raise _wrong(name, 'a list of mappings such as {"url": "https://…"}')
    return items


def _count(name: str, value: Any, _: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, "a whole number above 0")
    return value


def _idempotency(name: str, value: Any, parameters: Sequence[str] | None) -> Any:
    if callable(value) or value in KEY_STRATEGIES:
        return value
    if not isinstance(value, str):
        raise _wrong(
            name, "one of " + ", ".join(map(repr, KEY_STRATEGIES)) + ", a string with placeholders, or a callable"
        )
    try:
        names = [
            field.split(".")[0].split("[")[0] for _, field, _, _ in string.Formatter().parse(value) if field is not None
        ]
    except ValueError as exc:
        raise ConfigurationError(f"{name} is not a format string: {exc}.") from None
    if not any(names):
        raise ConfigurationError(
            f"{name} is a constant string: every task would share one job; put an argument of the task into it, "
            'such as "order-{order_id}".'
        )
    missing = [field for field in names if parameters is not None and field not in parameters]
    if missing:
        raise ConfigurationError(f"{name} names {missing[0]!r}, which is no parameter of the task.")
    return value


_CHECKS: dict[str, Callable[[str, Any, Sequence[str] | None], Any]] = {
    "forward_on": _statuses,
    "forward_on_network_error": _choice(*NETWORK_ERROR_CHOICES),
    "forward_on_retry": _flag,
    "forward_hosts": _strings,
    "forward_signed_hosts": _strings,
    "forward_if": _callable,
    "is_limited": _callable,
    "idempotency": _idempotency,
    "regions": _strings,
    "region_policy": _choice("fallback", "strict"),
    "execution_mode": _choice("race", "fanout"),
    "retry_policy": _mapping,
    "webhooks": _webhooks,
    "webhook_quorum": _count,
    "metadata": _mapping,
    "result_timeout": _seconds,
    "submit_timeout": _seconds,
    "exhaust_retries": _flag,
    "max_forwards": _count,
    "send_unmatched": _flag,
}
assert _CHECKS.keys() == OPTION_NAMES, "each option has its check"  # noqa: S101
