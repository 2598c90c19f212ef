"""Decide, once the body of a task has ended, whether an HTTP call of it is forwarded. No I/O and no side effects.

The call and the exception that leaves the body decide together. A call is forwarded only if it failed in a way that is
forwarded, and if the task wants it again.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum
from urllib.parse import urlsplit

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from celery_ezthrottle._common.callables import ask
from celery_ezthrottle._common.error_chain import all_behind
from celery_ezthrottle.errors import ReplayMismatch
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.fingerprint import is_safe
from celery_ezthrottle.http.library import SentRequest
from celery_ezthrottle.settings.options import Options

from .hosts import is_public_host, may_forward
from .repeating import AMBIGUOUS, is_repeatable
from .sdk import raises_for_status
from .signed import is_signed
from .wanted import is_of

__all__ = ["Failure", "failure_of", "hides_mismatch", "is_wanted", "obstacle", "risk"]


class Failure(Enum):
    """The kinds of failure that are forwarded."""

    LIMITED = "limited"  # a response that says "not now"
    NETWORK = "network"  # no response came


def failure_of(call: Call, options: Options) -> Failure | None:
    """Return how ``call`` failed; None when it did not fail, or not in a way that is forwarded.

    A call that the service answered has not failed, unless the answer is still limited and the call may be forwarded more
    often. The same call tried again in that run counts on from there: a loop around it would forward it without end.

    An answer from an earlier run counts like an answer of this run, because the earlier run may have died before it could
    forward the call.

    Raises:
        OptionFailed: the callable ``is_limited`` raised an error.
    """
    if 0 < call.status < 400 and options.is_limited is None:
        return None  # most calls; forward_on has error statuses only
    if call.forwards >= options.most_suspensions or (call.source is Source.SERVICE and call.response is None):
        return None
    if call.response is not None:
        limited = call.response.status_code in _statuses(call, options)
        if not limited and options.is_limited is not None:
            limited = bool(ask("is_limited", options.is_limited, call.response))
        return Failure.LIMITED if limited else None
    if call.error is None:
        return None
    given_up_on = call.library.status_given_up_on(call.error)
    if given_up_on is not None:
        return Failure.LIMITED if given_up_on in _statuses(call, options) else None
    if call.library.is_network_error(call.error) and _may_send_again(call, options):
        return Failure.NETWORK
    return None


def is_wanted(call: Call, failure: Failure, leaving: BaseException, options: Options) -> bool:
    """Return whether the task wants ``call`` again. ``leaving``, the exception that leaves the body, decides."""
    if not isinstance(leaving, Exception) or isinstance(leaving, (Ignore, Reject, Retry, SoftTimeLimitExceeded)):
        return False  # Celery must handle these itself
    behind = list(all_behind(leaving))
    if any(isinstance(error, ReplayMismatch) for error in behind):
        return False  # a later call failed, not this one
    if any(is_of(call, error) for error in behind):
        return True
    # The task has looked at the status and raised an error of its own. If raise_for_status() raised before and the task went
    # on, the task has tolerated the limit.
    looked_at = options.forward_on_retry and failure is Failure.LIMITED and not call.raised and call.error is None
    return looked_at and not raises_for_status(call.last_sent)


def hides_mismatch(leaving: Exception) -> bool:
    """Return whether ``leaving`` hides a ReplayMismatch. Client packages take any error for one of the network, and wrap it."""
    own = isinstance(leaving, (ReplayMismatch, Retry))
    return not own and any(isinstance(error, ReplayMismatch) for error in all_behind(leaving))


def obstacle(call: Call, options: Options, *, max_request_body: int) -> str | None:
    """Return why ``call``, which failed in a way that is forwarded, cannot be forwarded. None when it can.

    "" means that it is not forwarded, without a warning.

    Raises:
        OptionFailed: the callable ``forward_if`` raised an error.
    """
    if options.is_by_workers:
        return _obstacle_here(call, options)
    sent = call.last_sent
    if call.fingerprint is None or not _is_text(sent):
        return "its request body is streamed or binary; only text can be forwarded"
    if call.streamed and call.response is not None and call.response.status_code < 400:
        return "its response is streamed (stream=True) and is not an error; the task has read it, and a resumed run could not"
    if why := call.library.obstacle(call):
        return why
    if not may_forward(sent.url, options.forward_hosts):
        return _not_listed(sent.url)
    # SDKs such as stripe pass the bundle that they ship. A public host has a certificate that every bundle accepts.
    if call.library.has_own_bundle(call) and not is_public_host(urlsplit(sent.url).hostname or ""):
        return "it trusts a CA bundle of its own (verify=..., REQUESTS_CA_BUNDLE, SSL_CERT_FILE), which the service does not know"
    if len(sent.body or b"") > max_request_body:
        return "its request body is too large; raise ezthrottle_max_request_body"
    if is_signed(sent) and not may_forward(sent.url, options.forward_signed_hosts):
        return (
            "it is signed, probably for a time or once only, and would be refused when it is sent later; list its "
            "host in forward_signed_hosts if its signature stays valid"
        )
    return _unwanted(call, options)


def _obstacle_here(call: Call, options: Options) -> str | None:
    """Return why ``call`` cannot be made again by a worker. Only its request must be known again."""
    if call.fingerprint is None:
        return "its request body is streamed, and cannot be recognized when the task makes the call again"
    return _unwanted(call, options)


def _unwanted(call: Call, options: Options) -> str | None:
    if options.forward_if is not None and not ask("forward_if", options.forward_if, call.last_request):
        return ""
    return None


def _not_listed(url: str) -> str:
    parts = urlsplit(url)
    why = "neither public nor listed" if parts.username is None else "not listed, which a URL with user info must be"
    return (
        f"its host, {parts.hostname}, is {why}; list it in the task option forward_hosts or in ezthrottle_forward_hosts"
    )


def risk(call: Call, options: Options) -> str | None:
    """Return why forwarding ``call`` may execute it twice, or None. For a call that failed with a status."""
    status = call.response.status_code if call.response is not None else call.library.status_given_up_on(call.error)
    if status not in AMBIGUOUS or is_repeatable(call.last_sent, options):
        return None
    return (
        "a call that is not idempotent and has no idempotency key was answered 500, 502 or 504, and is forwarded: upstream may "
        "have executed it already. Send an Idempotency-Key, set idempotency_header for hosts that take one, or set "
        "forward_unsafe_on={429, 503}"
    )


def _statuses(call: Call, options: Options) -> Collection[int]:
    if options.forward_unsafe_on is None:
        return options.forward_on  # each call that succeeds is judged too, and to read its request takes longer
    return options.statuses(safe=is_safe(call.last_sent.method))


def _may_send_again(call: Call, options: Options) -> bool:
    if options.forward_on_network_error != "safe":
        return options.forward_on_network_error == "always"
    return call.library.certainly_not_sent(call.error) or is_repeatable(call.last_sent, options)


def _is_text(sent: SentRequest) -> bool:
    if sent.streamed:
        return False
    try:
        (sent.body or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
