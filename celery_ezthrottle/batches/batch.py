"""Named batches: many tasks at once, which are released as others of them end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from celery import Task
from celery._state import get_current_app
from celery.backends.base import DisabledBackend
from celery.canvas import Signature
from celery.result import GroupResult, assert_will_not_block  # type: ignore[attr-defined]
from celery.utils import uuid
from kombu.exceptions import EncodeError
from vine import barrier

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import BatchExists, ConfigurationError, NoSuchBatch, StoreError

from . import message
from .mark import flattened, mark
from .message import Recorder
from .outcome import BatchOutcome, BatchStatus
from .releasing import Batches
from .results import check_backend, outcome_of
from .waiting import Show, shown, wait

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["Batch", "pending_count"]

#: Most members that one act stores or reads.
AT_ONCE = 200
#: Seconds for which a batch that is being stored is kept from one act to the next.
PATIENCE = 60.0
#: Seconds for which an ended batch is kept where results never expire.
LIFETIME = 30 * 24 * 3600.0


class Batch:
    """Many tasks under one name. At most ``in_flight`` of them are with the broker, the workers, or suspended at once.

    Add members, then call :meth:`apply_async`. Another process finds the batch by its name. It is kept for ``result_expires``
    after its last member has ended.

    Args:
        name: the name. The newest batch of a name is the one that is found.
        app: the Celery app; the current one by default.
        in_flight: most members that are released and have not ended.
    """

    def __init__(self, name: str, *, app: Celery | None = None, in_flight: int = 100) -> None:
        given: Any = name
        if not isinstance(given, str) or not given:
            raise TypeError("The name of a batch must be a text that is not empty.")
        most: Any = in_flight
        if not isinstance(most, int) or most < 1:
            raise ValueError("in_flight must be a whole number from 1: so many members are released at once.")
        self.name, self.in_flight = name, in_flight
        self._app = app
        self._members: list[Any] = []
        self._id: str | None = None

    def __repr__(self) -> str:
        return f"Batch({self.name!r})"

    def __len__(self) -> int:
        """The number of members that were added here."""
        return len(self._members)

    def __bool__(self) -> bool:
        return True

    @property
    def app(self) -> Celery:
        return self._app or get_current_app()

    def add(self, member: Any) -> None:
        """Add a member.

        Args:
            member: a signature: of a task, a chain, or a group, whose tasks are members of their own; or a
                :class:`~celery_ezthrottle.Step`.

        Raises:
            TypeError: it is none of these.
        """
        if isinstance(member, Task) or not (isinstance(member, Signature) or callable(getattr(member, "s", None))):
            raise TypeError(
                f"A {type(member).__name__} cannot be a member of a batch: add a signature, such as task.s(argument), or a Step."
            )
        if self._id is not None:
            raise RuntimeError(f"The batch {self.name!r} is applied already: make a new Batch for more members.")
        self._members.append(member if isinstance(member, Signature) else member.s())

    def apply_async(self) -> Self:
        """Store all members, and release the first of them. Returns the batch.

        Raises:
            BatchExists: a batch of this name has not ended.
            ValueError: there are no members.
            TypeError: a member begins or ends with several tasks, or its arguments cannot be serialized.
            ConfigurationError: there is no Redis for the store, or ``task_always_eager`` is set.
            StoreError: the store is out of reach. Nothing was released.
        """
        app = self.app
        if app.conf.task_always_eager:
            raise ConfigurationError(
                "A batch cannot run eagerly: it needs a broker and a worker. Unset task_always_eager."
            )
        if self._id is not None:
            raise RuntimeError(f"The batch {self.name!r} is applied already: make a new Batch.")
        members = flattened(self._members, app)
        if not members:
            raise ValueError(f"The batch {self.name!r} has no members: add some before it is applied.")
        batches, batch = Batches.of(app), uuid()
        lifetime = _seconds(app.conf.result_expires) or LIFETIME
        if not batches.store.begin(
            self.name, batch, len(members), self.in_flight, lifetime=lifetime, patience=PATIENCE
        ):
            raise BatchExists(
                f"A batch of the name {self.name!r} has not ended: wait for it (join), cancel it, or take another name."
            )
        try:
            self._store(batches, batch, members)
            opened = batches.store.open(batch, interval=batches.settings.sweep_interval)
        except BaseException:
            with suppress(StoreError):  # then it expires
                batches.store.abandon(batch)
            raise
        if not opened:
            raise _took_too_long(self.name)
        self._id = batch
        try:
            batches.release(batch)
        except StoreError as exc:
            logger.warning("Batch %r: the workers release its members: %s", self.name, exc)
        return self

    def _store(self, batches: Batches, batch: str, members: list[Signature[Any]]) -> None:
        recorder = Recorder(batches.app)
        results: list[Any] = []
        recorded = self._recorded(recorder, batches.app, batch, members, results)
        for first in range(0, len(members), AT_ONCE):
            if not batches.store.add(batch, first, list(islice(recorded, AT_ONCE)), patience=PATIENCE):
                raise _took_too_long(self.name)
        recorder.declare_queues()
        if not isinstance(batches.app.backend, DisabledBackend):
            # With a barrier of its own, the group does not wait for its members: the Redis backend would subscribe to each.
            group = batches.app.GroupResult(batch, results, ready_barrier=barrier())
            with suppress(NotImplementedError):  # rpc://: only this process has the results
                group.save()

    def _recorded(
        self, recorder: Recorder, app: Celery, batch: str, members: list[Signature[Any]], results: list[Any]
    ) -> Iterator[bytes]:
        for index, member in enumerate(members):
            mark(member, batch, index, app)
            try:
                result, kept = recorder.record(member, batch, index)
            except EncodeError as exc:
                raise TypeError(f"Member {index} of the batch {self.name!r} cannot be serialized: {exc}") from exc
            results.append(result)
            yield kept

    @property
    def result(self) -> GroupResult:
        """The members as a ``GroupResult`` of Celery's, in their order. ``GroupResult.restore(id)`` finds it too.

        Raises:
            NoSuchBatch: no batch of this name is kept.
            ConfigurationError: the app has no result backend that another process can read.
            StoreError: the store is out of reach.
        """
        check_backend(self.app)
        status = self.status()
        found: GroupResult | None = self.app.GroupResult.restore(status.id, self.app.backend, self.app)
        if found is None:
            raise NoSuchBatch(f"The result backend has no group for the batch {self.name!r}: result_expires is over.")
        return found

    @property
    def pending(self) -> int:
        """The number of members that have not ended. Before the batch is applied, all that were added."""
        if self._id is None and self._members:
            return len(self._members)
        return self.status().pending

    def status(self) -> BatchStatus:
        """How far the batch is. One round trip.

        Raises:
            NoSuchBatch: no batch of this name is kept.
            StoreError: the store is out of reach.
        """
        found = Batches.of(self.app).store.status(batch=self._id, name=self.name)
        if found is None:
            raise NoSuchBatch(
                f"There is no batch of the name {self.name!r}: nobody has applied it with this store and key prefix, or its "
                "lifetime (result_expires) is over."
            )
        self._id = found.id
        return found

    def join(self, timeout: float | None = None, *, progress: bool | Show = False) -> BatchOutcome:
        """Wait until each member has ended. The error of a member is not raised: the outcome tells them apart.

        Args:
            timeout: most seconds; None = no end.
            progress: True draws a bar on stderr, if that is a terminal. A function is called with each
                :class:`~celery_ezthrottle.batches.outcome.BatchStatus`, several times a second.

        Raises:
            celery.exceptions.TimeoutError: the time is over. The text says what is missing.
            NoSuchBatch: no batch of this name is kept.
            ConfigurationError: the app has no result backend that another process can read.
            RuntimeError: it is called in a task, which must not wait for tasks.
            StoreError: the store is out of reach.
        """
        assert_will_not_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        check_backend(self.app)
        status, batches = self.status(), Batches.of(self.app)
        with shown(progress, status) as show:
            wait(batches, status, deadline, show)
        return outcome_of(batches, status)

    def cancel(self, *, released: bool = False) -> int:
        """Withdraw the members that wait: they end as revoked, and are never sent. Returns how many.

        Args:
            released: also revoke those that are released and have not ended. Their runs are not stopped, and their results do
                not count.

        Raises:
            NoSuchBatch: no batch of this name is kept.
            StoreError: the store is out of reach.
        """
        status, batches = self.status(), Batches.of(self.app)
        withdrawn, given_up = batches.store.cancel(status.id, in_flight=released)
        if given_up:
            ids = [task_id for task_id, _ in (message.name_of(line) for _, line in batches.lines(status.id, given_up))]
            self.app.control.revoke(ids)
        for first in range(0, len(withdrawn), AT_ONCE):
            batches.store.published(status.id, withdrawn[first : first + AT_ONCE], wait=0)  # drops their messages
        return len(withdrawn) + len(given_up)


def pending_count(app: Celery | None = None) -> int:
    """The number of the members of all batches of an app that have not ended. One round trip.

    Args:
        app: the Celery app; the current one by default.

    Raises:
        ConfigurationError: there is no Redis for the store.
        StoreError: the store is out of reach.
    """
    return Batches.of(app or get_current_app()).store.pending()


def _seconds(expires: Any) -> float:
    """``result_expires``, a number or a timedelta; 0 where results never expire."""
    return float(expires.total_seconds() if hasattr(expires, "total_seconds") else expires or 0)


def _took_too_long(name: str) -> StoreError:
    return StoreError(
        f"The batch {name!r} was not stored: each part of it may take {PATIENCE:g} s. Nothing was released."
    )
