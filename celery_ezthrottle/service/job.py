"""The job: a request in the form that EZThrottle accepts. Its allowed values and its form on the wire. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, TypeVar

from celery_ezthrottle._common.shown_url import shown_url
from celery_ezthrottle.errors import InvalidJob

from . import job_validation as check

__all__ = ["MAX_DEPTH", "Job", "RetryPolicy", "Trigger", "Webhook"]

#: Largest number of jobs on a path through ``fallback_job``, ``on_success`` and ``on_failure``, with the outermost job.
MAX_DEPTH = 20

_NESTED = ("fallback_job", "on_success", "on_failure")

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Webhook:
    """Where the result of a job is sent.

    Attributes:
        url: http or https URL with a host.
        regions: names of the regions that send the webhook; () = any region.
        has_quorum_vote: whether its delivery counts towards the job's ``webhook_quorum``; True by default.

    Raises:
        InvalidJob: a field is wrong. The text names it.
    """

    url: str
    regions: tuple[str, ...] = ()
    has_quorum_vote: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.has_quorum_vote, bool):
            raise InvalidJob(f"has_quorum_vote must be True or False, not {check.kind(self.has_quorum_vote)}.")
        _assign(self, url=check.url("url", self.url), regions=check.regions(self.regions))

    def __repr__(self) -> str:
        return f"<Webhook {shown_url(self.url)}>"  # without the query, which contains the receiver's token


@dataclass(frozen=True)
class RetryPolicy:
    """How often the service tries a job. None in a field = the service decides.

    Attributes:
        max_retries: number of further tries in the same region, 0 or more.
        max_reroutes: number of further tries in another region, 0 or more.
        retry_codes: statuses (100 to 599) after which the job is tried again in the same region.
        reroute_codes: statuses (100 to 599) after which the job is tried again in another region.

    Raises:
        InvalidJob: a field is wrong. The text names it.
    """

    max_retries: int | None = None
    max_reroutes: int | None = None
    retry_codes: tuple[int, ...] | None = None
    reroute_codes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("max_retries", "max_reroutes"):
            if getattr(self, name) is not None:
                check.integer(name, getattr(self, name), 0)
        for name in ("retry_codes", "reroute_codes"):
            if getattr(self, name) is not None:
                _assign(self, **{name: check.codes(name, getattr(self, name))})


@dataclass(frozen=True)
class Trigger:
    """What makes a fallback job run.

    Attributes:
        type: "on_error" or "on_timeout".
        codes: for "on_error" only: the statuses (100 to 599), at least one.
        timeout_ms: for "on_timeout" only: the time in milliseconds, at least 1.

    Raises:
        InvalidJob: a field is wrong, is missing or belongs to the other type. The text names it.
    """

    type: str
    codes: tuple[int, ...] = ()
    timeout_ms: int | None = None

    def __post_init__(self) -> None:
        _assign(
            self, type=check.choice("type", self.type, "on_error", "on_timeout"), codes=check.codes("codes", self.codes)
        )
        if self.timeout_ms is not None:
            check.integer("timeout_ms", self.timeout_ms, 1)
        if (self.type == "on_error") != bool(self.codes):
            raise InvalidJob("codes must name at least one status for on_error, and belongs to on_error only.")
        if (self.type == "on_timeout") != (self.timeout_ms is not None):
            raise InvalidJob("timeout_ms must be set for on_timeout, and belongs to on_timeout only.")


@dataclass(frozen=True, repr=False)
class Job:
    """One HTTP request for EZThrottle. The fields are checked when the job is created.

    Lists are accepted for tuples, and dicts in wire form for the other classes of this module, so that options and settings
    can be passed on as they are. All values are copied: a job shares no mutable object with its arguments.

    Attributes:
        url: http or https URL with a host.
        method: an HTTP method, kept in upper case; "GET" by default.
        headers: names to values. Values have no CR, LF or NUL, and no characters above U+00FF.
        body: text, or None for no body; "" is an empty body.
        metadata: a JSON object that is sent back in the webhook.
        webhooks: where the result is sent.
        webhook_quorum: how many webhooks with a vote must be delivered, from 1 to the number of such webhooks; 1 by default.
        regions: names of the regions that execute the job; () = any region.
        region_policy: "fallback" (the default) routes around a region that is down; "strict" fails.
        execution_mode: "race" (the default): the first region to complete wins; "fanout": all regions execute.
        retry_policy: how often the service tries; None = the service decides.
        fallback_job: a job that runs instead, when its ``trigger`` applies.
        on_success: a job that runs after a success.
        on_failure: a job that runs when every path has failed.
        on_failure_timeout_ms: milliseconds after which ``on_failure`` runs.
        idempotent_key: jobs with the same key are one job; None = the service derives a key from the request.
        retry_at: Unix time in **milliseconds** before which the request is not sent; None = at once.
        trigger: for a fallback job only: what makes it run; None = any failure.

    Raises:
        InvalidJob: a field is wrong, or more than :data:`MAX_DEPTH` jobs are nested. The text names the field.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    webhooks: tuple[Webhook, ...] = ()
    webhook_quorum: int = 1
    regions: tuple[str, ...] = ()
    region_policy: str = "fallback"
    execution_mode: str = "race"
    retry_policy: RetryPolicy | None = None
    fallback_job: Job | None = None
    on_success: Job | None = None
    on_failure: Job | None = None
    on_failure_timeout_ms: int | None = None
    idempotent_key: str | None = None
    retry_at: int | None = None
    trigger: Trigger | None = None
    _depth: int = field(init=False, compare=False, default=1)

    def __post_init__(self) -> None:
        _assign(
            self,
            url=check.url("url", self.url),
            method=check.method(self.method),
            headers=check.headers(self.headers),
            metadata=check.json_object("metadata", self.metadata),
            webhooks=tuple(
                _part(Webhook, f"webhooks[{i}]", item) for i, item in enumerate(check.items("webhooks", self.webhooks))
            ),
            regions=check.regions(self.regions),
            region_policy=check.choice("region_policy", self.region_policy, "fallback", "strict"),
            execution_mode=check.choice("execution_mode", self.execution_mode, "race", "fanout"),
            retry_policy=_optional(RetryPolicy, "retry_policy", self.retry_policy),
            trigger=_optional(Trigger, "trigger", self.trigger),
        )
        if self.body is not None:
            check.text("body", self.body)
        if self.idempotent_key is not None and not check.text("idempotent_key", self.idempotent_key):
            raise InvalidJob("idempotent_key must not be empty: leave it out to have the service derive one.")
        for name, least in (("on_failure_timeout_ms", 1), ("retry_at", 0)):
            if getattr(self, name) is not None:
                check.integer(name, getattr(self, name), least)
        self._check_quorum()
        self._check_nested()

    def _check_quorum(self) -> None:
        quorum = check.integer("webhook_quorum", self.webhook_quorum, 1)
        votes = sum(webhook.has_quorum_vote for webhook in self.webhooks)
        if quorum > votes and (self.webhooks or quorum > 1):
            raise InvalidJob(f"webhook_quorum is {quorum} but {votes} webhooks have a vote: it can never be reached.")

    def _check_nested(self) -> None:
        for name in _NESTED:
            value: Any = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, Job):
                with _inside(name):
                    value = _job(check.mapping(name, value), level=2, lenient=False)
                _assign(self, **{name: value})
            if name != "fallback_job" and value.trigger is not None:
                raise InvalidJob(f"{name}.trigger must be left out: only a fallback_job has a trigger.")
            _assign(self, _depth=max(self._depth, value._depth + 1))
        if self._depth > MAX_DEPTH:
            raise InvalidJob(_too_deep())

    def to_wire(self) -> dict[str, Any]:
        """Return the job as a new JSON object for the wire. Fields with their default value are left out, except ``method``."""
        wire: dict[str, Any] = {"url": self.url, "method": self.method, **_plain_fields(self)}
        if self.fallback_job is not None:
            wire["fallback_job"].setdefault("trigger", {})
        return wire

    @classmethod
    def from_wire(cls, data: Any) -> Job:
        """Read a job from the JSON object of the wire. Unknown fields are ignored. null means that a field is absent.

        Raises:
            InvalidJob: a field is missing or wrong. The text names it.
        """
        return _job(check.mapping("the job", data), level=1, lenient=True)

    def __repr__(self) -> str:
        return f"<Job {self.method} {shown_url(self.url)}>"


def _job(data: Mapping[Any, Any], *, level: int, lenient: bool) -> Job:
    # The depth is counted on the way down. Job itself counts on the way up, which is too late for a hostile depth.
    if level > MAX_DEPTH:
        raise InvalidJob(_too_deep())
    given = dict(data)
    for name in _NESTED:
        if given.get(name) is not None:
            with _inside(name):
                if not isinstance(given[name], Job):
                    given[name] = _job(check.mapping(name, given[name]), level=level + 1, lenient=lenient)
    return _build(Job, given, lenient=lenient)


def _part(cls: type[T], name: str, value: Any) -> T:
    if isinstance(value, cls):
        return value
    mapping = check.mapping(name, value)
    with _inside(name):
        return _build(cls, mapping)


def _optional(cls: type[T], name: str, value: Any) -> T | None:
    # {} means None: the SDK sends it as the trigger of a fallback job that runs on any failure.
    return None if value in (None, {}, RetryPolicy()) else _part(cls, name, value)


def _build(cls: type[T], data: Mapping[Any, Any], *, lenient: bool = False) -> T:
    known = {spec.name: spec for spec in _specs(cls)}
    unknown = [key for key in data if key not in known]
    if unknown and not lenient:
        raise InvalidJob(f"{str(unknown[0])[:40]!r} is not known here: the fields are {', '.join(known)}.")
    given = {key: value for key, value in data.items() if key in known and value is not None}
    for name, spec in known.items():
        if name not in given and spec.default is MISSING and spec.default_factory is MISSING:
            raise InvalidJob(f"{name} is missing: it is required.")
    return cls(**given)


def _plain_fields(part: Any) -> dict[str, Any]:
    plain = {}
    for spec in _specs(type(part)):
        value = getattr(part, spec.name)
        if value != (spec.default if spec.default_factory is MISSING else spec.default_factory()):
            plain[spec.name] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    """Return a copy of ``value`` that JSON can express."""
    if isinstance(value, Job):
        return value.to_wire()
    if isinstance(value, Webhook | RetryPolicy | Trigger):
        return _plain_fields(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _specs(cls: Any) -> tuple[Field[Any], ...]:
    return tuple(spec for spec in fields(cls) if spec.init)


def _assign(part: Any, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(part, name, value)  # the classes are frozen


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """If a field inside is wrong, put ``name`` and a dot before its name in the error text."""
    try:
        yield
    except InvalidJob as exc:
        raise InvalidJob(f"{name}.{exc}") from None


def _too_deep() -> str:
    return f"jobs are nested more than {MAX_DEPTH} deep in {', '.join(_NESTED)}: split the workflow."
