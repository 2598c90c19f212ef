"""Build the job to forward for a failed call. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from celery_ezthrottle._common.callables import ask
from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.fingerprint import exact_digest, is_safe
from celery_ezthrottle.http.journal import Entry
from celery_ezthrottle.http.library import SentRequest
from celery_ezthrottle.policy.forward_request import ForwardRequest
from celery_ezthrottle.service.dialects import dialect_named
from celery_ezthrottle.service.job import Job
from celery_ezthrottle.service.signatures import mac_token
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import Options

from .back_off import back_off

__all__ = ["build_handed_over", "build_job", "not_before", "webhook_url"]

#: Headers that the sender computes anew, or that belong to one connection (RFC 9110, section 7.6.1).
_NOT_FORWARDED = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


def build_job(
    call: Call,
    options: Options,
    settings: Settings,
    *,
    continuation_id: str,
    task_id: str,
    forward: int,
    arguments: Mapping[str, Any],
    now: float,
    earlier: Iterable[Entry] = (),
) -> Job:
    """Build the job for ``call``, with the request as it was sent.

    Args:
        forward: number of this forward of the task, from 1.
        arguments: the arguments of the task, by name.
        now: Unix seconds.
        earlier: the calls of the task before this run; none by default.

    Raises:
        InvalidJob: the wire format or the dialect cannot carry the request, its idempotency key or an option; or another call
            of the task has that key.
        ConfigurationError: the settings name a dialect that does not exist.
    """
    dialect = dialect_named(settings.dialect)
    has = dialect.job_fields
    key = _key(call, options, task_id, forward, arguments)
    if call.key is None and any(key is not None and entry.key == key and _is_other(entry, call) for entry in earlier):
        # The service would answer with the result of the other call.
        raise InvalidJob(
            "its idempotency key is that of another call of this task, forwarded before; give each call a key of its own, "
            "by a callable"
        )
    sent = call.last_sent
    ours = {"url": webhook_url(settings, continuation_id)}
    fields = _of_options(options)
    # What follows from forward_unsafe_on is nothing that a service without this field would need.
    policy = options.retry_policy_of(safe=is_safe(sent.method)) if "retry_policy" in has else options.retry_policy
    if policy is not None:
        fields["retry_policy"] = policy
    fields["webhooks"] = (*options.webhooks, ours)
    if "retry_at" in has and (due := _asked_for(call, options, now)) is not None:
        fields["retry_at"] = math.ceil(due * 1000)
    job = Job(
        url=sent.url,
        method=sent.method,
        headers=_forwarded_headers(sent),
        body=None if sent.body is None else sent.body.decode("utf-8", "surrogatepass"),
        idempotent_key=key,
        **fields,
    )
    dialect.check(job)
    return job


def not_before(call: Call, options: Options, settings: Settings, now: float) -> float | None:
    """When the job of ``call`` may be submitted, in Unix seconds; None = at once.

    A service that cannot be told when to send a request (``retry_at``) would send it at once. So its job is kept here until the
    time that upstream has asked for. Without such a time, a call that was forwarded before is kept for a while that grows.
    """
    if "retry_at" in dialect_named(settings.dialect).job_fields:
        return None
    due = _asked_for(call, options, now)
    return now + back_off(call.forwards) if due is None and call.forwards else due


def _asked_for(call: Call, options: Options, now: float) -> float | None:
    """The time that upstream has asked for."""
    if call.response is None:
        return None
    due = parse_retry_after(call.response.headers.get("Retry-After", ""), now)
    # A job that begins after its task has given up would be executed for nobody.
    return due if due is not None and due < now + options.result_timeout else None


def build_handed_over(
    asked: ForwardRequest, options: Options, settings: Settings, *, continuation_id: str, task_id: str
) -> Job:
    """Build the job for a request that a task hands over. Its own fields have precedence over the options of the task.

    Raises:
        InvalidJob: the wire format or the dialect cannot carry the request.
        ConfigurationError: the settings name a dialect that does not exist.
    """
    given = dict(asked.fields)
    method, body = str(given.get("method", "GET")), given.get("body")
    digest = exact_digest(
        method, str(given["url"]), body.encode("utf-8", "surrogatepass") if isinstance(body, str) else None
    )
    given["webhooks"] = (
        *options.webhooks,
        *given.get("webhooks", ()),
        {"url": webhook_url(settings, continuation_id)},
    )
    job = Job(
        **{
            **_of_options(options),
            "retry_policy": options.retry_policy_of(safe=is_safe(method)),
            "idempotent_key": f"celery-{task_id}-handed-over-{digest[:12]}",
            **given,
        }
    )
    if len((job.body or "").encode()) > settings.max_request_body:
        raise InvalidJob("its request body is too large; raise ezthrottle_max_request_body")
    dialect_named(settings.dialect).check(job)
    return job


def _of_options(options: Options) -> dict[str, Any]:
    """The fields of a job that are options of its task, where they are set."""
    return {
        name: value
        for name in ("regions", "region_policy", "execution_mode", "webhook_quorum", "metadata")
        if (value := getattr(options, name)) is not None
    }


def webhook_url(settings: Settings, continuation_id: str) -> str:
    """The URL of the receiver, with a token that names the continuation. Without the secret, nobody can make that token.

    Raises:
        InvalidJob: no service is configured.
    """
    if not settings.webhook_url:
        raise InvalidJob(
            "no service is configured that could take a job: set ezthrottle_api_key, ezthrottle_webhook_url and "
            "ezthrottle_webhook_secret"
        )
    token = f"{continuation_id}.{mac_token(settings.webhook_secret, continuation_id)}"
    parts = urlsplit(settings.webhook_url)
    return parts._replace(query=f"{parts.query}&ez={token}" if parts.query else f"ez={token}").geturl()


def _forwarded_headers(sent: SentRequest) -> dict[str, str]:
    listed = {name.strip().lower() for name in (sent.header("Connection") or "").split(",")}
    return {name: value for name, value in sent.headers.items() if name.lower() not in _NOT_FORWARDED | listed}


def _is_other(entry: Entry, call: Call) -> bool:
    return call.fingerprint is None or entry.fingerprint.loose != call.fingerprint.loose


def _key(call: Call, options: Options, task_id: str, forward: int, arguments: Mapping[str, Any]) -> str | None:
    if call.key is not None:
        return call.key
    strategy = options.idempotency
    again = f"-{call.forwards + 1}" if call.forwards else ""  # a new job; the old key would give the known result
    if callable(strategy):
        key: object = ask("idempotency", strategy, call.last_request)
        if not isinstance(key, str) or not key:
            raise InvalidJob(f"the idempotency callable must return a non-empty string, not {type(key).__name__}.")
        return key + again
    if strategy == "task":
        # A task id may be used for another request: self.replace() keeps the id, and users may choose their own ids.
        return f"celery-{task_id}-{forward}-{call.fingerprint.exact[:12] if call.fingerprint else ''}"
    if strategy == "unique":
        return uuid4().hex
    if strategy == "hash":
        return None
    try:
        return strategy.format(**arguments) + again
    except (LookupError, AttributeError, TypeError, ValueError) as exc:
        raise InvalidJob(f"the idempotency string {strategy!r} does not fit the task's arguments: {exc!r}.") from exc
