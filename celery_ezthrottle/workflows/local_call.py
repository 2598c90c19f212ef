"""Send the request of a step from this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy

import requests
import urllib3

from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.session_pool import SessionPool
from celery_ezthrottle.service.timed_adapter import TimedAdapter, within
from celery_ezthrottle.steps.actions import Outcome
from celery_ezthrottle.steps.spec import StepSpec

__all__ = ["Sent", "send"]

# The errors of requests are OSErrors. requests also lets some errors of urllib3 through.
_TROUBLE = (OSError, urllib3.exceptions.HTTPError)


def _new_session() -> requests.Session:
    session = requests.Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # one step knows nothing of another
    for scheme in ("https://", "http://"):
        session.mount(scheme, TimedAdapter())
    return session


#: Connections stay open from step to step.
_SESSIONS = SessionPool(_new_session)


@dataclass(frozen=True)
class Sent:
    """How a request ended.

    Attributes:
        text: of the response; None when none came.
        asked: the time that ``Retry-After`` names, in Unix seconds, or None.
    """

    outcome: Outcome
    text: str | None = field(default=None, repr=False)
    asked: float | None = None


def send(step: StepSpec, timeout: float) -> Sent:
    """Send the request of ``step``.

    Args:
        timeout: seconds within which the whole answer must have come.

    Raises:
        InvalidJob: the request itself is wrong, so that nothing was sent. The text shows no value of it.
    """
    with _SESSIONS.lend() as session:
        return _sent(session, _prepared(session, step), timeout)


def _sent(session: requests.Session, request: requests.PreparedRequest, timeout: float) -> Sent:
    settings = session.merge_environment_settings(request.url, {}, None, None, None)
    began = time.monotonic()
    try:
        with within(timeout):
            response = session.send(request, timeout=timeout, **settings)
    except _TROUBLE as exc:
        elapsed = time.monotonic() - began
        return Sent(Outcome(None, f"{type(exc).__name__} after {elapsed:.1f} s.", elapsed))
    return Sent(
        Outcome(response.status_code, elapsed=time.monotonic() - began),
        _text(response),
        parse_retry_after(response.headers.get("Retry-After", ""), time.time()),
    )


def _prepared(session: requests.Session, step: StepSpec) -> requests.PreparedRequest:
    body = None if step.body is None else step.body.encode()
    try:
        return session.prepare_request(requests.Request(step.method, step.url, dict(step.headers), data=body))
    except requests.RequestException as exc:
        raise InvalidJob(
            f"the request cannot be sent: requests calls it {type(exc).__name__}. Look for blanks around header values, and at "
            "the host of the URL."
        ) from None


def _text(response: requests.Response) -> str:
    """The body in the charset that its ``Content-Type`` declares, else in UTF-8. What is no text there is replaced."""
    declared = response.encoding if "charset" in response.headers.get("Content-Type", "").lower() else None
    try:
        return response.content.decode(declared or "utf-8", "replace")
    except LookupError:  # nobody knows that charset
        return response.content.decode("utf-8", "replace")
