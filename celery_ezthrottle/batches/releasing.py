"""Release the members of batches: claim them, publish their messages, hear of their ends, and look for what was lost.

A process that dies after it has claimed members and before it has noted their publication leaves them to a sweep. Once their
lease is over, the sweep publishes those of which the result backend has heard nothing. As each publication is noted at once, a
process that dies leaves one member at most that the broker has, and that may be published twice.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from celery import states
from celery.backends.base import DisabledBackend

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.retrying import report_end, retry_in_background

from . import message
from .mark import Mark
from .store import BatchStore, Claimed

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["LETTERS", "Batches"]

#: Most members that are claimed at once. When the process dies, only these wait until their lease is over.
AT_ONCE = 50
#: Seconds after which the result of a member is asked for whose end nobody has reported, and then again and again.
WAIT = 30.0
#: Most batches of one look, and most members of each.
MOST = 100
#: The letters of the states in which a task has ended.
LETTERS = {states.SUCCESS: "s", states.FAILURE: "f", states.REVOKED: "r"}
#: Where an app keeps its batches. Not in a table of ours: they know their app, and would keep it alive.
_OF_APP = "_ezthrottle_batches"


class Batches:
    """The batches of one app, in this process. Get it with :meth:`of`. Connections are made when they are first used."""

    def __init__(self, app: Celery, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.store = BatchStore.from_url(settings.store, prefix=settings.key_prefix, **settings.store_options)

    @classmethod
    def of(cls, app: Celery) -> Batches:
        """The instance for ``app`` in this process.

        Raises:
            ConfigurationError: a setting has the wrong type, or there is no Redis for the store.
        """
        found: Batches | None = vars(app).get(_OF_APP)
        if found is None:
            settings = load_settings(app)
            if not settings.store:
                raise ConfigurationError(
                    "A batch keeps its members in Redis, and neither the result backend nor the broker is one: set "
                    "ezthrottle_store to the redis:// URL of a Redis or Valkey."
                )
            found = vars(app).setdefault(_OF_APP, cls(app, settings))
        return found

    def release(self, batch: str) -> None:
        """Release members until as many are in flight as may be, or the broker does not take one.

        Raises:
            StoreError: the store is out of reach.
        """
        while claimed := self.store.release(batch, AT_ONCE, lease=self.settings.lease):
            if not self._publish(batch, claimed):
                break

    def end(self, mark: Mark, letter: str, *, releases: bool = True) -> None:
        """A member has ended: note that, and release the next one. If the store is out of reach, retry in the background.

        Args:
            letter: how it has ended, see :data:`LETTERS`.
            releases: False leaves it to a sweep to release the next one: the caller must not wait for the broker.
        """
        report_end(f"{mark.batch} {mark.index}", functools.partial(self._end, mark, letter, AT_ONCE if releases else 0))

    def ask(self, mark: Mark) -> None:
        """Note the end of a member if the result backend has one. For a run that cannot tell whether it ends its member.

        If the store is out of reach, nothing is done: a sweep asks too.
        """
        try:
            for _, kept in self.store.members(mark.batch, mark.index, mark.index):
                letter = LETTERS.get(self._state_of(kept))
                if letter is not None:
                    self.end(mark, letter)
        except StoreError as exc:
            logger.warning("Batch %s: a sweep asks how member %d has ended: %s", mark.batch, mark.index, exc)

    def look(self, *, wait: float = WAIT) -> None:
        """Look after the batches that nobody has looked at for ``ezthrottle_sweep_interval``.

        Raises:
            StoreError: the store is out of reach.
        """
        for batch in self.store.due(MOST, interval=self.settings.sweep_interval):
            self.look_at(batch, wait=wait)

    def look_at(self, batch: str, *, wait: float = WAIT) -> None:
        """Look after one batch: publish what was claimed and not published, release what there is room for, and note the ends
        that nobody has reported.

        Args:
            wait: seconds for which a member is left alone whose result was just asked for.

        Raises:
            StoreError: the store is out of reach.
        """
        lost, published = self.store.overdue(batch, MOST, lease=self.settings.lease, wait=wait)
        unheard_of: list[Claimed] = []
        for index, kept in lost:
            state = self._state_of(kept)
            if state == states.PENDING:
                unheard_of.append((index, kept))
            elif state not in LETTERS:
                self.store.published(batch, [index], wait=wait)  # it has begun, so the broker has had it
        for index, kept in (*lost, *published):
            letter = LETTERS.get(self._state_of(kept))
            if letter is not None:
                self._end(Mark(batch, index, is_last=True), letter, AT_ONCE)
        if unheard_of:
            number = len(unheard_of)
            logger.warning(
                "Batch %s: %d members were claimed and not published; they are published now.", batch, number
            )
            self._publish(batch, unheard_of)
        self.release(batch)

    def lines(self, batch: str, indexes: Sequence[int]) -> list[tuple[str, bytes]]:
        """The letter and the line of each of a few members."""
        return [member for index in indexes for member in self.store.members(batch, index, index)]

    def _end(self, mark: Mark, letter: str, most: int) -> None:
        claimed = self.store.end(mark.batch, mark.index, letter, most, lease=self.settings.lease)
        reach("batch.claimed")
        self._publish(mark.batch, claimed)

    def _publish(self, batch: str, claimed: Sequence[Claimed]) -> bool:
        """Publish claimed members. False when some are left, which a sweep publishes: the broker does not take them, or is slow.

        None is begun after half of the lease, so that no sweep publishes the same member at the same moment.
        """
        deadline = time.monotonic() + self.settings.lease / 2
        for number, (index, kept) in enumerate(claimed):
            try:
                if number and time.monotonic() > deadline:
                    raise NotPublished("The broker is too slow to take them before others would publish them too.")
                message.publish(self.app, kept)
            except NotPublished as exc:
                left, lease = len(claimed) - number, self.settings.lease
                logger.warning("Batch %s: %d members are published in %g s: %s", batch, left, lease, exc)
                return False
            reach("batch.sent")
            self._note(batch, index)
        return True

    def _note(self, batch: str, index: int) -> None:
        """Note that the broker has the message of a member. In the background while the store is out of reach."""
        act = functools.partial(self.store.published, batch, [index], wait=WAIT)
        try:
            act()
        except StoreError:
            retry_in_background(f"{batch} {index} sent", f"member {index} of the batch {batch} is published", act)

    def _state_of(self, kept: bytes) -> str:
        """The state of a member, by the result backend; PENDING when that knows nothing of it."""
        if isinstance(self.app.backend, DisabledBackend):
            return states.PENDING
        task_id, _ = message.name_of(kept)
        try:
            return str(self.app.AsyncResult(task_id).state)
        except Exception as exc:  # noqa: BLE001 -- logged; the other members and batches must not wait for this one
            logger.warning("Task %s, of a batch: its result cannot be asked for: %s", task_id, type(exc).__name__)
            return states.PENDING
