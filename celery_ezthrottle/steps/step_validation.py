"""Checks of a step's fields. Each returns the normalised value, or raises :class:`InvalidJob` with the field's name.

The fields of the job are checked by the job itself, so that a step takes what a job takes. Values are copied. No error text
shows a value, because it may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service import job_validation as check
from celery_ezthrottle.service.job import Job, Trigger, Webhook

from . import template

if TYPE_CHECKING:
    from .spec import StepSpec

__all__ = ["field", "fields", "trigger"]

_ANY = "http://localhost"


def field(name: str, value: Any) -> Any:
    """Return the normalised copy of one field, by its name in ``StepSpec``.

    Raises:
        InvalidJob: the value is wrong.
    """
    return _FIELDS[name](value)


def fields(step: StepSpec) -> dict[str, Any]:
    """Return the normalised copies of all fields of a step but its children.

    Raises:
        InvalidJob: a field is wrong, or fields contradict each other.
    """
    kept = {name: kind(getattr(step, name)) for name, kind in _FIELDS.items()}
    if not kept["url"] and kept["function"] is None:
        raise InvalidJob("url is missing: it is required.")
    votes = 1 + sum(webhook.get("has_quorum_vote") is not False for webhook in kept["webhooks"])
    if kept["webhook_quorum"] > votes:
        raise InvalidJob(
            f"webhook_quorum is {kept['webhook_quorum']}, but with the webhook of this package there are {votes} that have a "
            "vote: it can never be reached."
        )
    if kept["on_failure_timeout_ms"] is not None and step.on_failure is None:
        raise InvalidJob("on_failure_timeout_ms needs an on_failure, which runs when the time is over.")
    if kept["template"]:
        template.check(kept["url"], kept["headers"], kept["body"])
    elif kept["url"]:
        check.url("url", kept["url"])
    return kept


def trigger(on_error: Any, on_timeout: Any) -> Trigger | None:
    """Return the trigger of a fallback.

    Args:
        on_error: statuses, or None.
        on_timeout: milliseconds, or None.

    Raises:
        InvalidJob: a value is wrong, or both are given.
    """
    if on_error is not None and on_timeout is not None:
        raise InvalidJob(
            "trigger_on_error and trigger_on_timeout exclude each other: add the fallback twice, once with each."
        )
    if on_error is not None:
        return Trigger("on_error", codes=on_error)
    return None if on_timeout is None else Trigger("on_timeout", timeout_ms=on_timeout)


def _url(value: Any) -> str:
    text = check.text("url", value)
    if text:
        check.url("url", template.without_placeholders(text))
    return text


def _body(value: Any) -> str | None:
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidJob("body holds bytes that are not UTF-8 text: the wire carries text only.") from None
    return _optional_text("body", value)


def _webhooks(value: Any) -> tuple[dict[str, Any], ...]:
    given = check.items("webhooks", value)
    if not given:
        return ()
    ours = Webhook(_ANY)  # a vote for the quorum, as the step's job will have it
    checked = Job(_ANY, webhooks=(*given, ours)).webhooks
    return tuple(_as_given(item, webhook) for item, webhook in zip(given, checked, strict=False))


def _retry_policy(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    policy = Job(_ANY, retry_policy=value).retry_policy
    return None if policy is None else _as_given(value, policy)


def _as_given(given: Any, checked: Any) -> dict[str, Any]:
    """Return the fields that were given, also those with a default value: the SDK sends them so."""
    names = given if isinstance(given, Mapping) else vars(given)
    kept = {name: getattr(checked, name) for name in names}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


def _idempotent_key(value: Any) -> str | None:
    return None if value is None else Job(_ANY, idempotent_key=value).idempotent_key


def _optional_text(name: str, value: Any) -> str | None:
    return None if value is None else check.text(name, value)


def _optional_integer(name: str, value: Any, least: int) -> int | None:
    return None if value is None else check.integer(name, value, least)


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise InvalidJob(f"{name} must be a number of seconds above 0.")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidJob(f"{name} must be True or False, not {check.kind(value)}.")
    return value


def _function(value: Any) -> str | None:
    if value is not None and not check.text("function", value):
        raise InvalidJob("function must be the name of a registered function.")
    return None if value is None else str(value)


_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "url": _url,
    "kind": lambda value: check.choice("type", value, "frugal", "performance"),
    "method": check.method,
    "headers": check.headers,
    "body": _body,
    "metadata": lambda value: check.json_object("metadata", value),
    "webhooks": _webhooks,
    "webhook_quorum": lambda value: check.integer("webhook_quorum", value, 1),
    "regions": lambda value: check.regions(() if value is None else value),
    "region_policy": lambda value: check.choice("region_policy", value, "fallback", "strict"),
    "execution_mode": lambda value: check.choice("execution_mode", value, "race", "fanout"),
    "retry_policy": _retry_policy,
    "retry_at": lambda value: _optional_integer("retry_at", value, 0),
    "idempotent_key": _idempotent_key,
    "idempotent_strategy": lambda value: check.choice("idempotent_strategy", value, "hash", "unique", "task"),
    "fallback_on_error": lambda value: check.codes("fallback_on_error", value),
    "local_timeout": lambda value: _seconds("local_timeout", value),
    "description": lambda value: _optional_text("description", value),
    "response_description": lambda value: _optional_text("response_description", value),
    "template": lambda value: _flag("template", value),
    "function": _function,
    "on_failure_timeout_ms": lambda value: _optional_integer("on_failure_timeout_ms", value, 1),
}
