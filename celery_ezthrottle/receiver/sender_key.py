"""The public key of the server that sends the webhooks, as it publishes it. Fetched when it is needed, and kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import EZThrottleError, ServiceUnavailable, SubmitRefused
from celery_ezthrottle.settings.l8_keys import key_of

__all__ = ["KeyUnknown", "SenderKey"]

#: Seconds from one fetch to the next, whatever comes. The sender tries a webhook for 15 s: a new key is known by then.
FETCH_EVERY = 5.0


class KeyUnknown(EZThrottleError):
    """The key of the sender could not be fetched, so nobody can tell who sent a webhook."""


class SenderKey:
    """The key of one sender. Threads may share it.

    Args:
        fetch: gives the JSON object at the sender's ``/.well-known/l8``. Raises ServiceUnavailable or SubmitRefused.
        pinned: the only key that is accepted, in base64; "" = the one that the sender publishes.
    """

    def __init__(self, fetch: Callable[[], Mapping[str, Any]], pinned: str = "") -> None:
        self._fetch = fetch
        self._pinned = key_of(pinned) if pinned else None
        self._known: bytes | None = None
        self._next = 0.0  # value of time.monotonic() before which nothing is fetched
        self._lock = threading.Lock()

    def candidates(self) -> Iterator[bytes]:
        """Give the key that is known, then the one that the sender has now, if that is another one.

        Blocks while a key is fetched: at the first time, and when the known key is not the one that is wanted.

        Raises:
            KeyUnknown: no key is known.
        """
        if self._pinned is not None:
            yield self._pinned
            return
        known = self._other_than(None)
        if known is None:
            raise KeyUnknown(f"The key of the sender is not known, and was asked for less than {FETCH_EVERY:g} s ago.")
        yield known
        try:
            newer = self._other_than(known)
        except KeyUnknown as exc:
            logger.warning("Whether the sender has a new key is not known: %s", exc)
            return
        if newer is not None:
            yield newer

    def _other_than(self, known: bytes | None) -> bytes | None:
        with self._lock:
            if self._known == known and time.monotonic() >= self._next:
                self._next = time.monotonic() + FETCH_EVERY
                self._known = self._published()
            return None if self._known == known else self._known

    def _published(self) -> bytes:
        try:
            return key_of(self._fetch()["public_key"])
        except (ServiceUnavailable, SubmitRefused) as exc:
            raise KeyUnknown(str(exc)) from exc
        except (KeyError, TypeError, ValueError):
            raise KeyUnknown("The sender's /.well-known/l8 holds no Ed25519 public_key in base64.") from None
