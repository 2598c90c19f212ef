"""The options of one task: which calls are forwarded, to which hosts and under which key.

Each option is one field of :class:`Options` with its name, default and kind. ``@frugal`` takes the options as arguments,
``EZThrottleTask`` as class attributes, and the app as settings named ``ezthrottle_<name>``. A task's option has priority over
the app's setting, and the setting over the default.
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
    HEADER_NAME,
    MAPPING,
    NUMBER,
    SECONDS,
    STATUSES,
    STRINGS,
    WAIT,
    WEBHOOKS,
    Kind,
    choice,
)
from celery_ezthrottle.errors import ConfigurationError

__all__ = ["OPTION_NAMES", "Options", "kind_of", "resolve", "setting", "validate"]

KEY_STRATEGIES = ("task", "hash", "unique")

T = TypeVar("T")


def setting(default: T, kind: Kind, *, secret: bool = False) -> T:
    """Declare a dataclass field that is a setting. If ``secret``, ``repr`` does not show its value."""
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


def _idempotency_header(value: Any) -> Any:
    names = value.values() if isinstance(value, Mapping) else (value,)
    if not all(isinstance(name, str) and HEADER_NAME.fullmatch(name) for name in names):
        raise ValueError
    if isinstance(value, Mapping) and not all(isinstance(pattern, str) and pattern for pattern in value):
        raise TypeError
    return value


def _header_of_text(value: Any) -> Any:
    return MAPPING.parse(value) if isinstance(value, str) and value.lstrip().startswith("{") else value


_IDEMPOTENCY_HEADER = Kind(
    'the name of a header, or a mapping of hosts to names, such as {"api.stripe.com": "Idempotency-Key"}',
    _idempotency_header,
    _header_of_text,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one task. Durations are in seconds.

    A callable option gets the request (or response) object of the HTTP library that made the call. One that serves several
    libraries can look at it through :func:`celery_ezthrottle.message_view`.
    """

    #: HTTP statuses, 400 to 599. A call with such a response is forwarded.
    forward_on: Collection[int] = setting(frozenset({429, 500, 502, 503, 504}), STATUSES)
    #: The same for calls whose method is not safe, such as POST, and the statuses at which the service tries them again; None =
    #: those of ``forward_on``, and those of the service.
    forward_unsafe_on: Collection[int] | None = setting(None, STATUSES)
    #: Where a call that has failed is made again. "service": EZThrottle makes it, and the task is resumed with the answer.
    #: "workers": the task waits in the store for its turn, and makes it again itself. None: "workers" where nothing of a service
    #: is configured (no key, webhook URL or secret), else "service".
    route: str | None = setting(None, choice("service", "workers"))
    #: With the route "workers": how often one call is made in all, with its first attempt.
    max_attempts: int = setting(10, COUNT)
    #: Among the calls that wait for their turn under a limit: each step counts as if the call had come 10 s earlier. None = 0.
    #: For a task with the base class this is also Celery's own ``priority``, that of its messages.
    priority: float | None = setting(None, NUMBER)
    #: What becomes of a call whose turn under a limit is far off. The task's first call suspends the task. A later one waits
    #: ``limit_wait`` seconds in the worker slot, and then goes on so: "wait": it waits on; "suspend": the task is suspended, and
    #: its body runs again from the top; "forward": the call is submitted to the service; "raise": LimitReached.
    on_limit: str = setting("wait", choice("wait", "suspend", "forward", "raise"))
    #: How many seconds such a later call waits; with ``deduplicate``, also how many a call waits for the answer of another.
    limit_wait: float = setting(10.0, SECONDS)
    #: Whether a safe call is not made while the same call, of another task with this option, is on its way: both get one answer,
    #: or one error. Calls with other credentials are other calls.
    deduplicate: bool = setting(False, FLAG)
    #: Which calls are submitted to the service instead of being sent from here. "limited": none; a call is forwarded when it has
    #: failed. "first": the first call that the service can take. "all": each call that it can take.
    submit: str = setting("limited", choice("limited", "first", "all"))
    #: When a call that failed with a network error is forwarded. "safe": if the request was certainly not sent, its method is
    #: idempotent, or it has an ``Idempotency-Key`` header. "always". "never".
    forward_on_network_error: str = setting("safe", choice("safe", "always", "never"))
    #: How many seconds the own retries of a client package may wait in the worker slot. If a limited response asks for more, and
    #: the call can be forwarded, the package is told not to retry; see docs/tasks.md. 0 = it never retries; None = it may always.
    sdk_wait: float | None = setting(2.0, WAIT)
    #: Whether a limited call is also forwarded when the task then calls ``self.retry()`` or raises an error of its own.
    forward_on_retry: bool = setting(True, FLAG)
    #: Patterns (as in fnmatch) of the hosts whose requests are forwarded. "public" stands for every public host.
    forward_hosts: Sequence[str] = setting(("public",), STRINGS)
    #: Patterns of the hosts whose requests are forwarded even if their signature covers a time or a nonce.
    forward_signed_hosts: Sequence[str] = setting((), STRINGS)
    #: Gets the request, after all other checks. If it returns False, the request is not forwarded.
    forward_if: Callable[[Any], bool] | None = setting(None, CALLABLE)
    #: Gets the response. Returns True if the response means a limit although its status is not in ``forward_on``.
    is_limited: Callable[[Any], bool] | None = setting(None, CALLABLE)
    #: How the idempotency key of a job is made. "task": one key for each forward of each task id. "hash": no key; the service
    #: merges equal requests. "unique": a new key for each forward. Any other string: the key, with placeholders for the task's
    #: arguments. A callable: gets the request and returns the key.
    idempotency: str | Callable[[Any], str] = setting("task", _IDEMPOTENCY)
    #: Name of the header in which unsafe calls get an idempotency key for the API, from their first try on: one name for all
    #: hosts, or a mapping of host patterns (as in ``forward_hosts``) to names. None = none.
    idempotency_header: Mapping[str, str] | str | None = setting(None, _IDEMPOTENCY_HEADER)
    #: Names of the service's regions that execute the job; () = any region.
    regions: Sequence[str] = setting((), STRINGS)
    #: What the service does when a region is down: "fallback" or "strict"; None = the service's default.
    region_policy: str | None = setting(None, choice("fallback", "strict"))
    #: How several regions execute the job: "race" or "fanout"; None = the service's default.
    execution_mode: str | None = setting(None, choice("race", "fanout"))
    #: How often the service tries the job; None = the service's default. See :class:`celery_ezthrottle.service.job.RetryPolicy`.
    retry_policy: Mapping[str, Any] | None = setting(None, MAPPING)
    #: Webhooks of the user, in addition to the one that resumes the task. Each mapping has at least the key "url".
    webhooks: Sequence[Mapping[str, Any]] = setting((), WEBHOOKS, secret=True)
    #: How many webhooks with a vote must be delivered; None = the service's default.
    webhook_quorum: int | None = setting(None, COUNT)
    #: A JSON object that is sent back in the webhooks.
    metadata: Mapping[str, Any] | None = setting(None, MAPPING, secret=True)
    #: How many seconds a suspended task waits for its result, counted from the suspension.
    result_timeout: float = setting(12 * 3600.0, SECONDS)
    #: How many seconds submission is tried again while EZThrottle does not take the job, counted from the suspension.
    submit_timeout: float = setting(3600.0, SECONDS)
    #: Whether the resumed body runs with ``request.retries = max_retries`` after the service has given up.
    exhaust_retries: bool = setting(True, FLAG)
    #: How often one call is forwarded while its delivered answer is still limited. Use more than 1 only for a service that does
    #: not retry by itself. With the dialect "local", which does not, the default is 10.
    max_forwards: int = setting(1, COUNT)
    #: How long the answers of calls are kept. "resume": for the runs that are resumed; a retry by Celery begins again. "retries":
    #: a retry also keeps the answers of unsafe calls that succeeded, and of the safe calls before them.
    keep_answers: str = setting("resume", choice("resume", "retries"))
    #: Whether a resumed run sends an unsafe call that looks like an earlier call with another body. If False, the call raises
    #: ReplayMismatch.
    send_unmatched: bool = setting(False, FLAG)

    @property
    def merges_equal_jobs(self) -> bool:
        """Whether the service takes equal jobs without a key for one job. The settings of the app know."""
        return True

    @property
    def is_by_workers(self) -> bool:
        """Whether a call that has failed is made again by a worker."""
        return self.route == "workers"

    @property
    def most_suspensions(self) -> int:
        """For how many suspensions one call may be the reason."""
        return self.max_attempts - 1 if self.is_by_workers else self.max_forwards

    def statuses(self, *, safe: bool) -> Collection[int]:
        """Return the statuses at which a call is forwarded, by whether its method is safe."""
        return self.forward_on if safe or self.forward_unsafe_on is None else self.forward_unsafe_on

    def retry_policy_of(self, *, safe: bool) -> Mapping[str, Any] | None:
        """Return the retry policy of a job. The service must not repeat an unsafe call at a status at which we would not."""
        if safe or self.forward_unsafe_on is None:
            return self.retry_policy
        codes = sorted(self.forward_unsafe_on)
        return {"retry_codes": codes, "reroute_codes": codes, **(self.retry_policy or {})}


_KINDS: Mapping[str, Kind] = {spec.name: spec.metadata["kind"] for spec in fields(Options)}
OPTION_NAMES = frozenset(_KINDS)


def kind_of(name: str) -> Kind:
    """Return the kind of the option ``name``."""
    return _KINDS[name]


def validate(given: Mapping[str, Any], parameters: Sequence[str] | None = None) -> dict[str, Any]:
    """Check and normalise the options that are given to a task.

    Args:
        given: option names and values.
        parameters: names of the task's parameters, to check the placeholders in ``idempotency``; None when they are not known.

    Raises:
        TypeError: a name is not the name of an option.
        ConfigurationError: a value is not of the option's kind.
    """
    unknown = sorted(given.keys() - OPTION_NAMES)
    if unknown:
        raise TypeError(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(OPTION_NAMES))}")
    return {name: _checked(name, value, parameters) for name, value in given.items()}


def resolve(given: Mapping[str, Any], defaults: Options, parameters: Sequence[str] | None = None) -> Options:
    """Merge a task's options with the app's settings.

    A ``submit_timeout`` from the settings is lowered to ``result_timeout`` if it is above it.

    Args:
        given: the task's options, as returned by :func:`validate`.
        defaults: the app's settings for all tasks.
        parameters: names of the task's parameters; None when they are not known.

    Raises:
        ConfigurationError: a setting does not fit the task, or options contradict each other.
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
    if options.is_by_workers and options.submit != "limited":
        if "route" in given:
            raise ConfigurationError(
                f'submit is {options.submit!r}, so the task needs the service, and its route is "workers": leave one of them out.'
            )
        options = replace(options, route="service")  # also where the app has the other route
    if options.max_forwards > 1 and options.idempotency == "hash" and defaults.merges_equal_jobs:
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
    """Check that a string for ``idempotency`` gives each task its own key.

    Args:
        name: name of the option or setting, for the error text.
        value: the value of the option or setting. Its kind is checked already.
        parameters: names of the task's parameters; None when they are not known.

    Raises:
        ConfigurationError: the string is malformed or constant, or a placeholder is not a parameter of the task.
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
