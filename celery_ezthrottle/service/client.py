"""The client that submits jobs to EZThrottle over pooled connections."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import requests
import urllib3

from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings

from .job import Job
from .submit_response import SubmitResponse, Submitted, no_answer, read_job, read_proxy
from .timed_adapter import TimedAdapter, within

__all__ = ["EZThrottle", "Submitted"]

_MAX_ANSWER = 1024 * 1024  # bytes; a normal answer has a few hundred
_CHUNK = 16 * 1024  # bytes; small, because content that a server compresses unasked can grow up to 1,000 times
# The errors of requests are OSErrors. requests also lets some errors of urllib3 through.
_TROUBLE = (OSError, urllib3.exceptions.HTTPError)


class EZThrottle:
    """Submits jobs to EZThrottle. Threads may share a client. After a fork each process opens its own connections.

    Connections stay open between calls. Redirects, cookies, ``.netrc`` and the proxies of the environment are not used, so
    that the API key goes only to the configured URL.

    Args:
        api_key: the API key of the account.
        url: base URL of EZThrottle itself.
        tracktags_url: base URL of the proxy that authenticates submissions.
        dialect: how jobs are submitted; "proxy" is the only one.
        timeout: seconds to wait for a connection, and for each part of the answer; 5 and 15 by default. All of a submission
            takes as long as both together at most.

    Raises:
        ConfigurationError: a value is not usable. The text names the setting.
    """

    def __init__(
        self,
        api_key: str,
        *,
        url: str = Settings.url,
        tracktags_url: str = Settings.tracktags_url,
        dialect: str = Settings.dialect,
        timeout: tuple[float, float] = (5.0, 15.0),
    ) -> None:
        if dialect not in _DIALECTS:
            raise ConfigurationError(f"ezthrottle_dialect is {dialect!r}: it must be one of {', '.join(_DIALECTS)}.")
        self.url = _base_url("url", url)
        self.tracktags_url = _base_url("tracktags_url", tracktags_url)
        self.dialect = dialect
        self.timeout = timeout
        self._api_key = _checked_key(api_key)
        # Each session is lent to one call at a time, because sessions are not thread-safe. Both values are in one attribute,
        # so that threads in a newly forked process never mix old and new values.
        self._idle: tuple[int, deque[requests.Session]] = (os.getpid(), deque())

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Create a client for the account and the URLs of ``settings``."""
        return cls(settings.api_key, url=settings.url, tracktags_url=settings.tracktags_url, dialect=settings.dialect)

    def submit(self, job: Job) -> Submitted:
        """Submit ``job`` to EZThrottle, with one try. The same job may be submitted again under the same idempotent key.

        Raises:
            SubmitRefused: the job was refused permanently. Nothing was submitted.
            ServiceUnavailable: the job was not taken now, or nobody can tell: see ``retry_at`` and ``maybe_accepted``.
        """
        call = _DIALECTS[self.dialect](self, job)
        return call.read(self._post(call))

    def close(self) -> None:
        """Close the idle connections. Calls in progress finish. A later call opens new connections."""
        pid, idle = self._idle
        if pid == os.getpid():
            with suppress(IndexError):  # another thread may take the last session
                while True:
                    idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EZThrottle {self.url} via {self.tracktags_url}, dialect {self.dialect}>"

    def _post(self, call: _SubmitRequest) -> SubmitResponse:
        try:
            with (
                within(sum(self.timeout)),
                self._session() as session,
                session.post(
                    call.url,
                    data=call.body.encode(),
                    headers=call.headers,
                    timeout=self.timeout,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                now = time.time()
                return SubmitResponse(
                    party=call.party,
                    status=response.status_code,
                    text=_read(response),
                    now=now,
                    asked=parse_retry_after(response.headers.get("Retry-After", ""), now),
                    secret=self._api_key,
                )
        except _TROUBLE as exc:
            raise no_answer(call.party, exc) from exc

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        if self._idle[0] != os.getpid():
            self._idle = (os.getpid(), deque())  # a connection must not be shared with the parent process
        idle = self._idle[1]
        try:
            session = idle.pop()
        except IndexError:
            session = _new_session()
        try:
            yield session
        finally:
            idle.append(session)


@dataclass(frozen=True)
class _SubmitRequest:
    """One submission in the format of a dialect. ``party`` names the receiver in error texts; ``read`` reads its answer."""

    party: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: str = field(repr=False)
    read: Callable[[SubmitResponse], Submitted]


def _through_proxy(client: EZThrottle, job: Job) -> _SubmitRequest:
    json_type = {"Content-Type": "application/json"}
    envelope = {
        "scope": "customer",
        "metric_name": "",
        "target_url": f"{client.url}/api/v1/jobs",
        "method": "POST",
        "headers": json_type,
        "body": json.dumps(job.to_wire()),
    }
    behind = f"EZThrottle at {client.url} (ezthrottle_url)"
    return _SubmitRequest(
        party=f"The proxy at {client.tracktags_url} (ezthrottle_tracktags_url)",
        url=f"{client.tracktags_url}/api/v1/proxy",
        headers={"Authorization": f"Bearer {client._api_key}", **json_type},
        body=json.dumps(envelope),
        read=lambda answer: read_job(read_proxy(answer, behind)),
    )


_DIALECTS: dict[str, Callable[[EZThrottle, Job], _SubmitRequest]] = {"proxy": _through_proxy}


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"User-Agent": "celery-ezthrottle", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, TimedAdapter(pool_connections=1, pool_maxsize=1))
    return session


def _read(response: requests.Response) -> str:
    content = bytearray()
    # If the connection breaks, the part that came is judged: the status may be enough, and truncated JSON is not valid JSON.
    with suppress(*_TROUBLE):
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) > _MAX_ANSWER:
                break
    return content.decode("utf-8-sig", errors="replace")


def _checked_key(api_key: str) -> str:
    if not api_key or not api_key.strip():
        raise ConfigurationError("ezthrottle_api_key is not set: set it to the API key of your EZThrottle account.")
    if not api_key.isprintable() or max(api_key) > "\xff":
        raise ConfigurationError(
            "ezthrottle_api_key holds a line break or a character that no HTTP header can carry: copy the key again."
        )
    return api_key


def _base_url(name: str, url: str) -> str:
    try:
        parts = urlsplit(url)
        # User info in the URL would make requests replace our Authorization header.
        fine = parts.scheme in {"http", "https"} and "@" not in parts.netloc and not parts.query and not parts.fragment
        requests.Request("POST", url).prepare()
    except ValueError:  # InvalidURL and MissingSchema are ValueErrors
        fine = False
    if not fine or any(character.isspace() for character in url):
        raise ConfigurationError(
            f"ezthrottle_{name} must be an http:// or https:// URL without user info, query and fragment: correct it."
        )
    return url.rstrip("/")
