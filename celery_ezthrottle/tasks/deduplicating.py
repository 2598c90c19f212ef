"""Make a call once that several tasks make at the same time."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle.deduplication.identity import identity
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.http.call import Call, Source
from celery_ezthrottle.http.flow import Flow
from celery_ezthrottle.http.gate import Sleep
from celery_ezthrottle.http.stored_answer import StoredAnswer, dump_answer, load_answer

if TYPE_CHECKING:
    from .run import Run

__all__ = ["Deduplication"]

#: Seconds between two looks for the answer of another call: at first, and at most.
FIRST_LOOK, LOOK = 0.005, 0.05
_OUT_OF_REACH = "identical calls are all made: the store is out of reach."


class Deduplication:
    """A gate, see :class:`celery_ezthrottle.http.gate.Gate`. A call waits while the same call of another task is on its way, and
    gets the answer of that one, or its error.

    It waits for one other call, and for ``limit_wait`` seconds at most. Then it is made.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        #: The calls that lead: their identities and names.
        self._leads: dict[int, tuple[str, str]] = {}

    def enter(self, call: Call, sleep: Sleep) -> Flow[StoredAnswer | Exception | None]:
        known = identity(call)
        if known is None:
            return None
        try:
            return (yield from self._follow(call, known, sleep))
        except StoreError:
            warn_once(self._run.task.name, _OUT_OF_REACH)
            return None

    def _follow(self, call: Call, known: str, sleep: Sleep) -> Flow[StoredAnswer | None]:
        calls, name, lease = self._run.continuations.calls_on_their_way, uuid4().hex, self._run.settings.limit_lease
        leader = calls.begin(known, name, lease=lease)
        if leader != name:
            answer = yield from self._wait(known, leader, sleep)
            if answer is not None:
                logger.debug("Task %s gets the answer of an identical call.", self._run.task_id)
                self._run.gate.give_back_turn()
                return answer
            leader = calls.begin(known, name, lease=lease, instead_of=leader)
        if leader == name:
            self._leads[id(call)] = known, name
        return None

    def _wait(self, known: str, leader: str, sleep: Sleep) -> Flow[StoredAnswer | None]:
        """Wait for the answer of another call. None when none comes."""
        calls, pause = self._run.continuations.calls_on_their_way, FIRST_LOOK
        until = time.monotonic() + self._run.options.limit_wait
        while time.monotonic() < until:
            yield partial(sleep, pause)
            pause = min(2 * pause, LOOK)
            found = calls.look(known, leader)
            if isinstance(found, bytes):
                return load_answer(json.loads(found))
            if not found:
                break
        return None

    def leave(self, call: Call) -> None:
        led = self._leads.pop(id(call), None)
        if led is None:
            return
        known, name = led
        calls = self._run.continuations.calls_on_their_way
        try:
            if calls.end(known, name, has_answer=self._has_answer(call)):
                calls.give(name, json.dumps(dump_answer(call.answer())).encode())
        except StoreError:
            warn_once(self._run.task.name, _OUT_OF_REACH)

    def _has_answer(self, call: Call) -> bool:
        """Whether others can be given what ``call`` has got."""
        if call.source is not Source.SENT or not call.can_be_kept or not call.library.is_part_of(call):
            return False
        size = call.library.size(call.response) if call.response is not None else 0
        return size is not None and size <= self._run.settings.max_response
