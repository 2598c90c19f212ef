"""Recognise a limited call that was not seen, by the error that leaves the body. No I/O, and no HTTP library is imported.

Only the calls of some libraries are recorded. A call of another library is not forwarded, and nothing is known of it but the
error that it raises. These errors have few shapes, so a status can be read from them by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from celery.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded

from celery_ezthrottle._common.error_chain import all_behind
from celery_ezthrottle.http.call import Call
from celery_ezthrottle.settings.options import Options

__all__ = ["Unseen", "unseen"]

#: Top-level packages whose calls are never recorded. Only an error of urllib3 may be about a recorded call: of requests.
_NEVER_SEEN = frozenset({"aiohttp", "botocore", "kubernetes", "slack_sdk", "urllib", "urllib3"})
#: The packages that make calls. The calls of the others are recorded, except where the run cannot see them.
_KNOWN = _NEVER_SEEN | {"httpx", "httpx2", "requests"}
#: Where the module that a user imports is not the top-level package.
_USUAL_NAMES = {"urllib": "urllib.request"}
#: Top-level packages that many distributions share.
_SHARED = frozenset({"azure", "google"})

#: The attributes of an error, or of its ``response``, that hold an HTTP status.
_STATUS = ("status_code", "status", "http_status")
#: Where ``code`` holds one too. Elsewhere it may be another number: aiosmtplib has 503 for a bad sequence of commands.
_CODE_IS_STATUS = frozenset({"google.api_core", "urllib"})
#: Where the text has the status on which urllib3's own retries have given up.
_HAS_RETRIES_OF_URLLIB3 = frozenset({"requests", "urllib3"})
_GIVEN_UP_ON = re.compile(r"too many (\d{3}) error responses")

#: AWS throttles with 400 and one of these codes, or one with "Throttl" in it (as in botocore.retries.standard).
_THROTTLED_BY_AWS = frozenset(
    {
        "BandwidthLimitExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "TooManyRequestsException",
    }
)
_TOO_MANY = 429


class Unseen(NamedTuple):
    """A limited call that was not seen.

    Attributes:
        package: the package of the error that has the status.
        status: the HTTP status. A throttling code of AWS counts as 429.
        error: the class of that error, with its module.
    """

    package: str
    status: int
    error: str

    @property
    def library(self) -> str:
        """What the call was made with, as a user knows it: "aiohttp", "urllib.request"."""
        return _USUAL_NAMES.get(self.package, self.package)

    @property
    def reason(self) -> str:
        """What happened and what to do. It is the same text for each call of a library."""
        return (
            f"an error of {self.library} says that a call was limited; the call was not seen, so it is not forwarded. Make such "
            "calls with requests, httpx or httpx2, in the task's own process; "
            'see "Libraries that are not seen" in docs/tasks.md.'
        )

    @property
    def detail(self) -> str:
        """What differs from call to call."""
        return f"{self.error}, taken as status {self.status}"


def unseen(leaving: Exception, calls: Sequence[Call], options: Options) -> Unseen | None:
    """Return the limited call that was not seen and that ``leaving`` is about; None when there is none.

    An error that may be about a recorded call is left out. The decision about that call has its own warnings.

    Args:
        leaving: the exception that leaves the body.
        calls: the recorded calls of the run.
        options: the options of the task. ``forward_on`` decides, because an error seldom knows the method of its request.
    """
    found = [each for each in _limited(leaving, options) if not calls or each.package in _NEVER_SEEN]
    if not found:
        return None
    # What an SDK or the project has raised stands in front of the error of the library that made the call.
    best = next((each for each in found if each.package in _KNOWN), found[0])
    if any(_may_be_about(call, best.status) for call in calls):
        return None
    return best


def _limited(leaving: Exception, options: Options) -> Iterator[Unseen]:
    """Yield the errors behind ``leaving`` that say that a call was limited."""
    if isinstance(leaving, (Ignore, Reject, SoftTimeLimitExceeded)):
        return  # the task does not fail because of a call
    if isinstance(leaving, Retry) and not options.forward_on_retry:
        return
    for error in all_behind(leaving):
        package = _package_of(error)
        status = _status_of(error, package)
        if status is not None and status in options.forward_on:
            yield Unseen(package, status, f"{type(error).__module__}.{type(error).__qualname__}")


def _may_be_about(call: Call, status: int) -> bool:
    return call.error is not None or (call.response is not None and call.response.status_code == status)


def _package_of(error: BaseException) -> str:
    parts = str(type(error).__module__).split(".")
    return ".".join(parts[: 2 if parts[0] in _SHARED else 1])


def _status_of(error: BaseException, package: str) -> int | None:
    if package in _HAS_RETRIES_OF_URLLIB3 and (given_up := _GIVEN_UP_ON.search(str(error))):
        return int(given_up[1])
    response = _attribute(error, "response")
    if isinstance(response, Mapping) and (status := _status_of_aws(response)) is not None:
        return status
    names = (*_STATUS, "code") if package in _CODE_IS_STATUS else _STATUS
    found = (_attribute(holder, name) for holder in (error, response) for name in names)
    return next((int(value) for value in found if isinstance(value, int)), None)


def _status_of_aws(response: Mapping[Any, Any]) -> int | None:
    code, status = _field(response, "Error", "Code"), _field(response, "ResponseMetadata", "HTTPStatusCode")
    if isinstance(code, str) and ("Throttl" in code or code in _THROTTLED_BY_AWS):
        return _TOO_MANY
    return status if isinstance(status, int) else None


def _field(response: Mapping[Any, Any], part: str, name: str) -> Any:
    fields = response.get(part)
    return fields.get(name) if isinstance(fields, Mapping) else None


def _attribute(holder: object, name: str) -> Any:
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 -- the property of a class that nobody knows; the task's own error must go on
        return None
