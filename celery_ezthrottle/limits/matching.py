"""Which limits hold for a call, as buckets. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from celery_ezthrottle._common.callables import OptionFailed, ask
from celery_ezthrottle._common.host_patterns import host_matches, host_names
from celery_ezthrottle.settings.limit import Limit, Window

from .bucket import Bucket

__all__ = ["Matching", "bucket_of"]

#: For so many hosts it is remembered which limits they have.
HOSTS = 1024
#: Scheme, and host with port. urlsplit() takes ten times as long for a URL that it has not seen before.
_ORIGIN = re.compile(r"([^:/?#]+)://(?:[^/?#]*@)?([^/?#]*)")


class _Rule(NamedTuple):
    """A limit of a host.

    Attributes:
        path: pattern of the paths that it is for, as in fnmatch; "" = all.
        bucket: its bucket, if ``per`` does not split it.
        per: what splits it.
    """

    path: str
    bucket: Bucket
    per: str | Callable[[Any], str] | None


class Matching:
    """Finds the buckets of calls. A call to a host without a limit costs a look into a dictionary. Threads may share it.

    Args:
        limits: patterns to limits, as the setting ``limits`` has them: ``host``, ``host:port``, and either with ``/path``.
        margin: seconds by which the way to the API may take longer for one call than for another. Each window is so much longer
            for us: a call that had its turn late, and one that has it in time, are then not too near for the API.
        of_settings: the buckets of patterns whose limits were changed at run time, by the settings.
    """

    def __init__(
        self, limits: Mapping[str, Limit], *, margin: float = 0.0, of_settings: Mapping[str, Bucket] | None = None
    ) -> None:
        #: As given.
        self.limits = dict(limits)
        self._margin = margin
        self._of_settings = of_settings or {}
        self._rules = lru_cache(HOSTS)(self._find)

    def buckets(self, url: str, request: Callable[[], Any], header: Callable[[str], str | None]) -> tuple[Bucket, ...]:
        """Return the buckets of all limits that a call matches, in the order of the setting; () if it matches none.

        All calls that match a pattern have one bucket. If the limit has ``per``, there is one for each of its values, which the
        key has as a digest, because it may be a token. Calls without the header that ``per`` names share one bucket.

        Args:
            url: the absolute URL of the request. One that is malformed matches no limit: the library will refuse it.
            request: returns the request object of the HTTP library, for a callable ``per``. Called only if there is one.
            header: returns the value of a header of the request, or None. Called only if ``per`` is the name of one.

        Raises:
            OptionFailed: a callable ``per`` raised an error or returned no string.
        """
        if not self.limits:
            return ()
        origin = _ORIGIN.match(url)
        try:
            rules, plain = self._rules(origin[1], origin[2]) if origin else ((), ())
        except ValueError:
            return ()
        if plain is not None:
            return plain
        path = urlsplit(url).path or "/"
        return tuple(
            rule.bucket if rule.per is None else _split(rule.bucket, rule.per, request, header)
            for rule in rules
            if not rule.path or fnmatchcase(path, rule.path)
        )

    def named(self, name: str, value: str | None = None) -> tuple[Bucket, ...]:
        """Return the buckets of the limit ``name``, for a call of which nothing is known but that.

        ``name`` is a pattern as the setting has it. Another limit counts too if it matches ``name`` as a host, and has neither a
        path nor ``per``: "*" matches every name.

        Args:
            value: that of ``per``, if the limit has one.

        Raises:
            KeyError: there is no such limit.
        """
        _ = self.limits[name]
        host = name.partition("/")[0]
        try:
            names = host_names(urlsplit(f"https://{host}"))
        except ValueError:
            names = host, host
        found = []
        for pattern, limit in self.limits.items():
            if pattern == name:
                bucket = self._bucket(pattern, limit)
                found.append(bucket if value is None else _of_value(bucket, value))
            elif "/" not in pattern and limit.per is None and host_matches(names, pattern):
                found.append(self._bucket(pattern, limit))
        return tuple(found)

    def _bucket(self, pattern: str, limit: Limit) -> Bucket:
        bucket = bucket_of(pattern, limit, self._margin)
        if pattern in self._of_settings:
            bucket = replace(bucket, of_settings=self._of_settings[pattern])
        return bucket

    def _find(self, scheme: str, netloc: str) -> tuple[tuple[_Rule, ...], tuple[Bucket, ...] | None]:
        """Return the rules of a host, and its buckets if these are the same for all of its calls."""
        names = host_names(urlsplit(f"{scheme}://{netloc}"))
        rules = []
        for pattern, limit in self.limits.items():
            host, slash, path = pattern.partition("/")
            if host_matches(names, host):
                rules.append(_Rule(slash + path, self._bucket(pattern, limit), limit.per))
        plain = None if any(rule.path or rule.per for rule in rules) else tuple(rule.bucket for rule in rules)
        return tuple(rules), plain


def _split(
    bucket: Bucket,
    per: str | Callable[[Any], str],
    request: Callable[[], Any],
    header: Callable[[str], str | None],
) -> Bucket:
    """Return the bucket of the calls that have the value of ``per`` that this call has."""
    value: Any
    if isinstance(per, str):
        value = header(per)
        if value is None:
            return bucket
    else:
        value = ask(f"per of the limit {bucket.key!r}", per, request())
        if not isinstance(value, str):
            raise OptionFailed(
                f"the callable given as per of the limit {bucket.key!r} returned {type(value).__name__}; let it return a string"
            )
    return _of_value(bucket, value)


def _of_value(bucket: Bucket, value: str) -> Bucket:
    digest = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    return replace(bucket, key=f"{bucket.key}#{digest}")


def bucket_of(pattern: str, limit: Limit | None, margin: float) -> Bucket:
    """The bucket of a pattern, if ``per`` does not split it; without a limit, one that lets all through.

    For ``margin`` see :class:`Matching`.
    """
    if limit is None:
        return Bucket(pattern)
    windows = tuple(Window(window.count, window.seconds + margin) for window in limit.windows)
    return Bucket(pattern, windows, limit.burst, limit.concurrency, learns=limit.adapts)
