"""The client: submits jobs to EZThrottle over pooled connections."""

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
from requests.adapters import HTTPAdapter

from celery_ezthrottle._common.retry_after import parse_retry_after
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings

from .job import Job
from .submit_response import SubmitResponse, Submitted, no_answer, read_job, read_proxy

__all__ = ["EZThrottle", "Submitted"]

_MAX_ANSWER = 1024 * 1024  # bytes; the answer to a job is some hundred
_CHUNK = 16 * 1024  # small, as what a server compressed against our wish grows by up to 1,000 times
# requests' own errors are OSErrors; it lets some of urllib3's through.
_TROUBLE = (OSError, urllib3.exceptions.HTTPError)


class EZThrottle:
    """Submits jobs to EZThrottle. Threads may share one; after a fork each process opens its own connections.

    Connections are kept open between calls. Redirects, cookies, ``.netrc`` and the proxies of the environment are not
    used: the API key goes to the configured URL and nowhere else.

    Args:
        api_key: the API key of the account.
        url: base URL of EZThrottle itself.
        tracktags_url: base URL of the proxy that authenticates submissions.
        dialect: how jobs are submitted; "proxy" is the only one.
        timeout: seconds to wait for a connection, and for each part of the answer; 5 and 15.

    Raises:
        ConfigurationError: a value cannot be used; the text names the setting.
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
        # A session is lent to one call at a time, for sessions are not made for threads. One attribute for both values,
        # so that threads that find themselves in a new process never mix them.
        self._idle: tuple[int, deque[requests.Session]] = (os.getpid(), deque())

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """A client for the account and the URLs of ``settings``."""
        return cls(settings.api_key, url=settings.url, tracktags_url=settings.tracktags_url, dialect=settings.dialect)

    def submit(self, job: Job) -> Submitted:
        """Hand ``job`` to EZThrottle. Tries once; the same job under the same idempotent key may be submitted again.

        Raises:
            SubmitRefused: refused for good; nothing was submitted.
            ServiceUnavailable: not taken now, or nobody can tell: see its ``retry_at`` and ``maybe_accepted``.
        """
        call = _DIALECTS[self.dialect](self, job)
        return call.read(self._post(call))

    def close(self) -> None:
        """Close the idle connections. Calls under way finish; a later call opens new ones."""
        pid, idle = self._idle
        if pid == os.getpid():
            with suppress(IndexError):  # another thread may take the last one
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
    """One submission as a dialect words it, and how its answer is read. ``party`` is who it goes to, for errors."""

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
        session.mount(scheme, HTTPAdapter(pool_connections=1, pool_maxsize=1))
    return session


def _read(response: requests.Response) -> str:
    content = bytearray()
    # What came before the connection broke is judged as it is: the status may say enough, and cut JSON is none.
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
        # requests would replace our Authorization header by user info of the URL.
        fine = parts.scheme in {"http", "https"} and "@" not in parts.netloc and not parts.query and not parts.fragment
        requests.Request("POST", url).prepare()
    except ValueError:  # InvalidURL and MissingSchema are
        fine = False
    if not fine or any(character.isspace() for character in url):
        raise ConfigurationError(
            f"ezthrottle_{name} must be an http:// or https:// URL without user info, query and fragment: correct it."
        )
    return url.rstrip("/")
