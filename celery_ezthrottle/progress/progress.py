"""``Progress("playlist-42")``: a worker writes events, and a web process streams them to a browser."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

from celery._state import get_current_app

from celery_ezthrottle._common.log import logger
from celery_ezthrottle._common.validators import COUNT, SECONDS, Kind
from celery_ezthrottle.errors import ConfigurationError, StoreError

from . import sse
from .channels import Channels
from .reading import Reading

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Flushed", "Progress"]

#: Most characters of a name.
LONGEST_NAME = 500


@dataclass(frozen=True)
class Flushed:
    """What :meth:`Progress.flush` tells. It is true if each event of ``write_async`` is in the store.

    Attributes:
        written: how many events of ``write_async`` the store has taken since the last ``flush``.
        lost: how many were dropped since then, or not confirmed by the store.
        waiting: how many are still queued, because the time was over.
    """

    written: int
    lost: int
    waiting: int

    def __bool__(self) -> bool:
        return not self.lost and not self.waiting


class Progress:
    """A channel of progress events. Writers and readers use the same name, in any process that has the settings of the app.

    A channel begins with its first event, and is kept in the Redis or Valkey of the store. As a context manager it is closed at
    the end of the block. If an error leaves the block, it is only flushed: the task may be retried, or suspended and resumed,
    and then goes on writing.

    Nothing is read or sent before the first event. Threads may share it, and it may be used after a fork.

    Args:
        name: a name for this piece of work that no other has, such as the id of the task.
        keep: how many events are kept at least, for readers that come late.
        expires: seconds after its last event at which the channel is forgotten.
        app: the Celery app whose store is used; the current app by default. Name it in a web process: Celery knows the
            current app of the thread that made it, and others have none.

    Raises:
        ConfigurationError: an argument is wrong. At the first event: there is no Redis.
    """

    def __init__(self, name: str, *, keep: int = 1000, expires: float = 3600.0, app: Celery | None = None) -> None:
        self._name, self._app = _checked_name(name), app
        self._keep: int = _checked("keep", keep, COUNT)
        self._expires: float = _checked("expires", expires, SECONDS)
        self._closed = False
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._queued = self._done = 0  # events of write_async()
        self._written = self._lost = 0  # of them, since the last flush()

    def __repr__(self) -> str:
        return f"Progress({self._name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Progress belongs to a process: send its name, and make one there.")

    def write(self, data: Any, event: str = "message") -> str:
        """Write an event, after those that are queued, and return when the store has it. For what must arrive.

        Args:
            data: a string, or anything that JSON can hold.
            event: the name that the page listens to.

        Returns:
            The id of the event.

        Raises:
            ConfigurationError: ``data`` or ``event`` cannot be sent.
            StoreError: the store has not confirmed it.
        """
        text, event = sse.as_text(data), sse.checked_event(event)
        self._wait_for_queued(None)
        self._closed = False
        return self._send(self._channels(), event, text)

    def write_async(self, data: Any, event: str = "message") -> None:
        """Queue an event, and return at once. For what may get lost. A thread of this process sends what is queued, in order.

        Nothing waits for the store: while it is out of reach, or if some 10,000 events are queued, the event is dropped, with one
        warning. :meth:`flush` tells how many.

        Raises:
            ConfigurationError: ``data`` or ``event`` cannot be sent.
        """
        text, event = sse.as_text(data), sse.checked_event(event)
        channels = self._channels()
        self._after_fork()
        self._closed = False
        with self._changed:  # so that two threads queue in the order in which they count
            taken = channels.queue.put(functools.partial(self._send_queued, channels, event, text), len(text))
            if taken:
                self._queued += 1
            else:
                self._lost += 1
        if not taken:
            channels.warn_of_loss(self._name, "too many are queued")

    def flush(self, timeout: float = 10.0) -> Flushed:
        """Wait until all that was queued is sent, at most ``timeout`` seconds. It does not raise if events were lost."""
        self._wait_for_queued(_checked("timeout", timeout, SECONDS))
        with self._changed:
            flushed = Flushed(self._written, self._lost, self._queued - self._done)
            self._written = self._lost = 0
        return flushed

    def close(self, data: Any = None, event: str = "end") -> None:
        """Write the final event, after those that are queued. With it, each reader ends.

        Raises:
            ConfigurationError: ``data`` or ``event`` cannot be sent.
            StoreError: the store has not confirmed it.
        """
        text, event = sse.as_text(data), sse.checked_event(event)
        self._wait_for_queued(None)
        self._send(self._channels(), event, text, is_last=True)
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        if error is not None:
            self.flush()
        elif not self._closed:
            try:
                self.close()
            except StoreError as exc:  # the work of the block is done, and must not fail by this
                logger.warning("Progress %s has no final event; readers end after their timeout: %s", self._name, exc)

    def events(
        self, last_id: str | None = None, *, timeout: float = 300.0, keep_alive: float = 15.0
    ) -> Iterator[bytes]:
        """Read the channel in the form of ``text/event-stream``: the body of a streaming response.

        It begins with the first event that is kept, or after ``last_id``. It ends after the final event, or when the time is
        over; a browser then connects again by itself, with the id of the last event that it has got.

        Args:
            last_id: the header ``Last-Event-ID`` of the request. What is no id of an event counts as none.
            timeout: most seconds, in all.
            keep_alive: seconds without an event after which a comment is sent, so that no proxy closes the connection.

        Raises:
            ConfigurationError: an argument is wrong, or there is no Redis.
            StoreError: while it is read: the store is out of reach. The browser connects again.
        """
        return self._reading(last_id, timeout, keep_alive).in_thread()

    def events_async(
        self, last_id: str | None = None, *, timeout: float = 300.0, keep_alive: float = 15.0
    ) -> AsyncIterator[bytes]:
        """:meth:`events` for ``async for``. It holds no thread while it waits."""
        return self._reading(last_id, timeout, keep_alive).in_asyncio()

    def _reading(self, last_id: str | None, timeout: float, keep_alive: float) -> Reading:
        return Reading(
            self._channels(),
            self._name,
            last_id=last_id,
            timeout=_checked("timeout", timeout, SECONDS),
            keep_alive=_checked("keep_alive", keep_alive, SECONDS),
        )

    def _channels(self) -> Channels:
        return Channels.of(self._app or get_current_app())

    def _after_fork(self) -> None:
        if self._process != os.getpid():
            self._begin()  # what was queued is the parent's, and one of its threads may have held the lock

    def _wait_for_queued(self, timeout: float | None) -> None:
        """Wait for what is queued now. Sending ends: each try has a time-out, and after a failure the rest is dropped."""
        self._after_fork()
        with self._changed:
            queued = self._queued
            self._changed.wait_for(lambda: self._done >= queued, timeout)

    def _send(self, channels: Channels, event: str, text: str, *, is_last: bool = False) -> str:
        return channels.add(self._name, event, text, is_last=is_last, keep=self._keep, expires=self._expires)

    def _send_queued(self, channels: Channels, event: str, text: str) -> None:
        """In the thread of the queue."""
        written, why = False, "the store was out of reach a moment ago"
        try:
            if not channels.is_down:
                self._send(channels, event, text)
                written = True
        except StoreError as exc:
            why = str(exc)
        finally:
            with self._changed:
                self._done += 1
                self._written += written
                self._lost += not written
                self._changed.notify_all()
        if not written:
            channels.warn_of_loss(self._name, why)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not sse.is_text(name):
        raise ConfigurationError(f'Progress needs a name of 1 to {LONGEST_NAME} characters, such as "playlist-42".')
    return name


def _checked(what: str, value: Any, kind: Kind) -> Any:
    try:
        return kind.of_option(value)
    except ValueError as exc:
        raise ConfigurationError(f"Progress: {what} must be {exc}.") from None
