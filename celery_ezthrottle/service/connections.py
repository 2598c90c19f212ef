"""HTTP to the service, over connections that stay open.

This is urllib3 alone, without requests: a job is submitted for each suspended task, and a session costs more than all the rest.
Nothing of the environment is used: no proxy, no ``.netrc``, no cookies, no CA bundle; and redirects are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import urllib3
from requests.utils import DEFAULT_CA_BUNDLE_PATH

from .timed_adapter import TimedPools

__all__ = ["TROUBLE", "Answer", "Connections"]

#: What a call may raise. urllib3 lets some errors of sockets through.
TROUBLE = (OSError, urllib3.exceptions.HTTPError)

_MAX_ANSWER = 1024 * 1024  # bytes; a normal answer has a few hundred
_CHUNK = 16 * 1024  # bytes; small, because content that a server compresses unasked can grow up to 1,000 times
#: Most connections to one host that stay open. More are opened when they are needed.
_KEPT = 64
#: Certificates that are trusted: those of requests.
CA_BUNDLE = DEFAULT_CA_BUNDLE_PATH

_HEADERS = {"User-Agent": "celery-ezthrottle", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Answer:
    """Status, headers and text of an answer. The text is cut after 1 MiB, and where the connection broke."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    text: str = field(repr=False)


class Connections:
    """Threads may share it. After a fork each process opens its own connections."""

    def __init__(self) -> None:
        # Both values are in one attribute, so that threads in a newly forked process never mix old and new values.
        self._of_process: tuple[int, TimedPools] = (os.getpid(), _pools())

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, timeout: tuple[float, float]
    ) -> Answer:
        """Make one call, with one try. Call it in a block of :func:`.timed_adapter.within`.

        Args:
            timeout: seconds to wait for a connection, and for each part of the answer.

        Raises:
            OSError, urllib3.exceptions.HTTPError: no status came.
        """
        if self._of_process[0] != os.getpid():
            self._of_process = (os.getpid(), _pools())  # a connection must not be shared with the parent process
        connect, read = timeout
        response = self._of_process[1].urlopen(
            method,
            url,
            body=body,
            headers={**_HEADERS, **headers},
            timeout=urllib3.Timeout(connect=connect, read=read),
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            return Answer(response.status, response.headers, _read(response))
        finally:
            if response.closed:
                response.release_conn()
            else:
                response.close()  # the rest of the answer is not read, so nothing else can be

    def close(self) -> None:
        """Close the idle connections. Calls in progress finish. A later call opens new connections."""
        pid, pools = self._of_process
        if pid == os.getpid():
            pools.clear()


def _pools() -> TimedPools:
    return TimedPools(maxsize=_KEPT, cert_reqs="CERT_REQUIRED", ca_certs=CA_BUNDLE)


def _read(response: urllib3.BaseHTTPResponse) -> str:
    content = bytearray()
    # If the connection breaks, the part that came is judged: the status may be enough, and truncated JSON is not valid JSON.
    with suppress(*TROUBLE):
        for chunk in response.stream(_CHUNK, decode_content=True):
            content += chunk
            if len(content) > _MAX_ANSWER:
                break
    return content.decode("utf-8-sig", errors="replace")
