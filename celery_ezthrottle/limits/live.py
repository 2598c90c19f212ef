"""The limits of the settings, with what is changed of them at run time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any

from celery_ezthrottle._common.event_loop import runs_in_loop
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.limit import Limit

from .bucket import Bucket
from .matching import Matching, bucket_of

__all__ = ["LiveLimits", "set_limit"]

#: Seconds for which what was read of the changes counts as new.
FRESH = 1.0
#: Longest time in seconds until the store is asked again that was out of reach.
LONGEST = 30.0


class LiveLimits:
    """Finds the buckets of calls, as :class:`.Matching` does, by the limits that hold now. Threads may share it.

    What was changed is read when a call is made and the last look is more than a second ago: nothing is read while no call is
    made. While the store is out of reach, the last known limits hold.

    Args:
        limits: those of the settings.
        read: reads what was changed: :meth:`.Changes.read`.
        margin: see :class:`.Matching`.
    """

    def __init__(
        self, limits: Mapping[str, Limit], read: Callable[[], Mapping[str, str]], *, margin: float = 0.0
    ) -> None:
        self._settings, self._read, self._margin = limits, read, margin
        self._matching = Matching(limits, margin=margin)
        self._changes: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._has_looked = False
        self._patience = FRESH

    def buckets(self, url: str, request: Callable[[], Any], header: Callable[[str], str | None]) -> tuple[Bucket, ...]:
        """See :meth:`.Matching.buckets`. Raises no error of the store.

        Where there is no limit, no call waits for the store.
        """
        self._keep_fresh(waits=bool(self._matching.limits))
        return self._matching.buckets(url, request, header)

    def now(self) -> Matching:
        """The limits that hold now. What is changed later does not change them.

        In an event loop that does not wait for the store, except for the first time.
        """
        self._keep_fresh(waits=not (self._has_looked and runs_in_loop()))
        return self._matching

    def _keep_fresh(self, *, waits: bool) -> None:
        if time.monotonic() < self._fresh_until:
            return
        if waits:
            self._look()
        elif not self._lock.locked():
            look = threading.Thread(target=self._look, name="ezthrottle-limits", daemon=True)
            Context().run(look.start)  # it is no thread of the body that makes the call

    def _look(self) -> None:
        # While one thread looks, the others go on with what is known; the first time there is nothing.
        if not self._lock.acquire(blocking=not self._has_looked):
            return
        try:
            began = time.monotonic()
            if began >= self._fresh_until:
                try:
                    changes = self._read()
                except StoreError:
                    self._patience = min(LONGEST, 2 * self._patience)
                    self._fresh_until = time.monotonic() + self._patience
                else:
                    self._patience, self._fresh_until = FRESH, began + FRESH
                    if changes != self._changes:
                        self._follow(changes)
                self._has_looked = True
        finally:
            self._lock.release()

    def _follow(self, changes: Mapping[str, str]) -> None:
        changed: dict[str, Limit] = {}
        for pattern, text in changes.items():
            try:
                changed[pattern] = set_limit(text, self._settings.get(pattern))
            except ConfigurationError as exc:  # set by another version
                logger.warning("The limit that was set at run time for %s is not understood here: %s", pattern, exc)
        self._matching = Matching(
            {**self._settings, **changed},
            margin=self._margin,
            of_settings={pattern: bucket_of(pattern, self._settings.get(pattern), self._margin) for pattern in changed},
        )
        self._changes = changes


def set_limit(text: str, of_settings: Limit | None) -> Limit:
    """The limit that was set at run time as ``text``, in the place of one of the settings.

    Text cannot say a callable. So the limit keeps the ``per`` of the settings, unless the text names a header.

    Raises:
        ConfigurationError: the text is no limit.
    """
    limit = Limit.from_text(text)
    return limit if limit.per is not None or of_settings is None else limit.split_by(of_settings.per)
