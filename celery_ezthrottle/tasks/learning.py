"""Learn what an API allows where nobody has told its limit, and where a limit adapts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.told import SHORTEST, Notice, told
from celery_ezthrottle.limits.turns import Queued

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Learning", "Passed", "is_learned"]

#: What the key of a bucket begins with whose limit is learned.
LEARNED = "~"


@dataclass(frozen=True)
class Passed:
    """What a call has that was let through.

    Attributes:
        buckets: where it had its turn; () where there are none.
        ticket: its name there.
        at: its turn in Unix seconds; without one, the time when it was let through.
        around: where ``limited()`` around the call had taken the turn before.
        holds: whether it counts for ``concurrency`` until it is released.
    """

    buckets: tuple[Bucket, ...]
    ticket: str
    at: float
    around: tuple[Bucket, ...] = ()
    holds: bool = False


def is_learned(key: str) -> bool:
    """Whether ``key``, of a bucket, is one of a host whose limit is learned."""
    return key.startswith(LEARNED)


class Learning:
    """What the calls of one run tell about limits."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._hosts = run.continuations.seen_hosts

    def covers(self, buckets: tuple[Bucket, ...]) -> bool:
        """Whether limits are learned for the host of a call that has ``buckets`` by the settings."""
        return self._run.options.is_by_workers and not any(
            bucket.windows for bucket in buckets if not bucket.is_of_all_hosts
        )

    def bucket(self, call: Call, *, may_be_called: bool) -> Bucket | None:
        """The bucket of the host of ``call``; None if it was never limited.

        Args:
            may_be_called: the task was resumed, maybe for its turn: another process has seen that the host is limited.
        """
        host = _host(call.sent.url)
        return self._bucket(call, host) if may_be_called or self._hosts.is_limited(host) else None

    def learn(self, call: Call, passed: Passed) -> Queued | None:
        """Learn from the end of ``call``. Returns where it can wait, if others have to wait too.

        Raises:
            StoreError: the store is out of reach.
        """
        now, host = time.time(), _host(call.sent.url)
        adapting = [bucket for bucket in passed.buckets if bucket.learns and not is_learned(bucket.key)]
        by_host = self.covers(passed.buckets + passed.around)
        status = call.response.status_code if call.response is not None else 0
        notice = told(status, call.response.headers, now) if call.response is not None else Notice()
        limited = notice.is_limit(status)
        if not limited and (status >= 500 or status == 0):
            return self._note_failure(call, host, passed) if by_host else None
        margin = self._run.settings.limit_margin
        unnoted, asked = 0, notice.wait(now)
        wait = None if asked is None else asked + margin
        if by_host:
            if limited:
                unnoted = self._hosts.note_limit(host, wait or SHORTEST)
            else:
                self._hosts.note_allowed(host)
            if self._hosts.is_limited(host) or any(is_learned(bucket.key) for bucket in passed.buckets):
                adapting.append(self._bucket(call, host))
        queued = None
        for bucket in adapting:
            found = self._run.continuations.limiter.learn(
                bucket,
                ticket=passed.ticket or "-",
                at=passed.at,
                allowed=not limited,
                unnoted=unnoted if is_learned(bucket.key) else 0,
                wait=wait if limited else None,
                told=notice.windows_with(margin),
            )
            if found.cooling_until is not None:
                queued = Queued(key=bucket.key, at=found.cooling_until)
        return queued

    def _note_failure(self, call: Call, host: str, passed: Passed) -> Queued | None:
        if call.response is None and not (call.error is not None and call.library.is_network_error(call.error)):
            return None
        wait = self._hosts.note_failure(host, passed.at)
        if wait is None:
            return None
        bucket, until = self._bucket(call, host), time.time() + wait
        self._run.continuations.limiter.cool_down([bucket.key], until)
        return Queued(key=bucket.key, at=until)

    def _bucket(self, call: Call, host: str) -> Bucket:
        """Each user of a host has one."""
        user = _user(call.library.read_request(call.request).header("Authorization") or "")
        return Bucket(f"{LEARNED}{host}{user}", learns=True)


def _host(url: str) -> str:
    """The host of a URL with its port."""
    return url.split("/", 3)[2].rpartition("@")[2].lower() if "://" in url else ""


def _user(authorization: str) -> str:
    """What tells the users of a host apart in a key: a digest of credentials that stay the same; "" of others."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() not in {"basic", "bearer", "token"}:
        return ""
    return f"#{blake2b(credentials.encode(), digest_size=8).hexdigest()}"
