"""Send jobs upstream: pace their requests by host, choose a region, try again when that may help, and go on with what follows.

A leg stays queued in the database until it has ended. When the process dies, the next process sends the requests that were in
flight once more, with the same headers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import httpx2

from celery_ezthrottle._common.failpoints import reach
from celery_ezthrottle.service.job import Job

from .attempts import Attempt, attempt
from .background import Background, DueQueue, insist, pause_after
from .config import GatewayConfig
from .database import Database
from .delivery import Deliveries
from .endings import Ending, failed
from .pacing import Pace, rate_of
from .regions import Nowhere, Regions
from .retries import Next
from .rows import Effects, Timer, Waiting, Work
from .workflow import paths_of

__all__ = ["Dispatcher"]

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 30.0  # seconds between two attempts, unless the upstream asks for more
AT_ONCE = 64  # requests in flight to one host; without a limit, a slow host would use up the file descriptors
IDLE = 60.0  # seconds after which the lane of a host without jobs and without requests in flight is deleted


class _Lane:
    """The queue, the pace, the free slots and the number of requests in flight of one host."""

    def __init__(self, rate: float) -> None:
        self.queue: DueQueue[Waiting] = DueQueue()
        self.pace = Pace(rate)
        self.slots = asyncio.Semaphore(AT_ONCE)
        self.sending = 0


@dataclass(eq=False, slots=True)
class _Current:
    """The current path of an unfinished job: its number, the region of each leg that was sent, and how many are in flight."""

    path: int
    regions: dict[int, str] = field(default_factory=dict)
    sending: int = 0


class Dispatcher:
    """Sends the queued legs of the database."""

    def __init__(
        self,
        config: GatewayConfig,
        database: Database,
        client: httpx2.AsyncClient,
        deliveries: Deliveries,
        regions: Regions,
    ) -> None:
        self._config = config
        self._database = database
        self._client = client
        self._deliveries = deliveries
        self._regions = regions
        self._lanes: dict[str, _Lane] = {}
        self._current: dict[str, _Current] = {}
        self._held: list[Waiting] = []
        self._timers: DueQueue[Timer] = DueQueue()
        self._loops = Background()
        self._attempts = Background()

    async def start(self) -> None:
        """Queue the legs that an earlier process left unfinished, and set their timers."""
        for timer in await asyncio.to_thread(self._database.timers):
            if timer.due <= time.time():  # nothing more is tried, so this comes first
                effects = await asyncio.to_thread(self._database.expire, timer)
                self.apply(replace(effects, waiting=[], timers=[]))  # those are read below
        waiting = await asyncio.to_thread(self._database.queued)
        timers = await asyncio.to_thread(self._database.timers)
        self.apply(Effects(waiting=waiting, timers=timers))
        self._loops.spawn(self._watch_timers())

    async def close(self, grace: float) -> None:
        """Start no more attempts, and give the attempts in flight ``grace`` seconds to end.

        The next start of the gateway sends the requests that did not end.
        """
        await self._loops.close(0)
        await self._attempts.close(grace)

    def apply(self, effects: Effects) -> None:
        """Do what must follow a transaction of the database."""
        for job_id in effects.left:
            self._current.pop(job_id, None)
        for leg in effects.waiting:
            self._current.setdefault(leg.id, _Current(leg.path))
            self._enqueue(leg)
        for timer in effects.timers:
            self._timers.put(timer.due, timer)
        for note in effects.notes:
            logger.info("%s", note)
        self._deliveries.add(effects.deliveries)

    def is_in_flight(self, job_id: str) -> bool:
        """Return whether a request of the current path of a job is being sent right now."""
        current = self._current.get(job_id)
        return current is not None and current.sending > 0

    def release(self) -> None:
        """Queue the legs that have waited for a region to be up."""
        held, self._held = self._held, []
        for leg in held:
            self._enqueue(leg)

    def _enqueue(self, leg: Waiting) -> None:
        """Queue a leg. It is sent when it is due and the pace of its host allows it."""
        lane = self._lanes.get(leg.host)
        if lane is None:
            rate = rate_of(leg.host, self._config.rates, self._config.default_rate)
            lane = self._lanes[leg.host] = _Lane(rate)
            self._loops.spawn(self._run(leg.host, lane))
        lane.queue.put(leg.due, leg)

    async def _run(self, host: str, lane: _Lane) -> None:
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    leg = await lane.queue.get()
            except TimeoutError:
                # A new lane would not know of requests in flight, and would send as many again.
                if lane.queue or lane.sending or lane.pace.delay(time.monotonic()):
                    continue
                del self._lanes[host]
                return
            # Read the job before its turn comes, so that the time between requests does not depend on the disk.
            try:
                work = await asyncio.to_thread(self._database.work, leg)
            except sqlite3.Error:
                self._attempts.spawn(self._enqueue_when_readable(leg))  # the other jobs of this host go on
                continue
            if work is None:
                continue
            await lane.slots.acquire()
            while delay := lane.pace.delay(time.monotonic()):
                await asyncio.sleep(delay)
            if not self._begin(leg, work, lane):
                lane.slots.release()

    async def _enqueue_when_readable(self, leg: Waiting) -> None:
        await insist(partial(self._database.work, leg), f"read {leg.id}")
        self._enqueue(leg)

    def _begin(self, leg: Waiting, work: Work, lane: _Lane) -> bool:
        """Begin an attempt at a leg, if it is still wanted and there is a region for it. Returns whether it has begun."""
        current = self._current.get(leg.id)
        if current is None or current.path != leg.path:
            return False  # it has waited for its turn; meanwhile another region was first, or the time was over
        paths = paths_of(Job.from_wire(json.loads(work.wire)))
        others = {region for number, region in current.regions.items() if number != leg.leg}
        region = self._regions.place(paths[leg.path], work.region, work.taken | others)
        if region is Nowhere.HOLD:
            self._held.append(leg)
        elif region is Nowhere.DOWN:
            problem = f"The region {work.region} is down, and region_policy is strict."
            ending = failed(problem, attempts=leg.attempts, regions=work.been, earlier=work.answer)
            self._attempts.spawn(self._end(leg, ending))
        elif region is Nowhere.DROP:
            current.regions.pop(leg.leg, None)
            self._attempts.spawn(self._end(leg, None))
        else:
            lane.pace.take(time.monotonic())
            lane.sending += 1
            current.sending += 1
            current.regions[leg.leg] = region
            self._attempts.spawn(self._attempt(leg, work, paths, lane, current))
            return True
        return False

    async def _attempt(self, leg: Waiting, work: Work, paths: Sequence[Job], lane: _Lane, current: _Current) -> None:
        try:
            made = await attempt(self._client, paths, leg.path, self._config.timeout)
            reach("gateway.called")
            if made.pauses_host:
                lane.pace.pause(time.monotonic() + made.asked - time.time())
            if self._current.get(leg.id) is not current:
                return  # another region was first, or the time was over: nothing waits for this answer
            await self._after(made, replace(leg, attempts=leg.attempts + 1), work, paths, current)
        finally:
            current.sending -= 1
            lane.sending -= 1
            lane.slots.release()

    async def _after(self, made: Attempt, leg: Waiting, work: Work, paths: Sequence[Job], current: _Current) -> None:
        region = current.regions[leg.leg]
        been = (*(name for name in work.been if name != region), region)
        other = self._regions.other(paths[leg.path], {*been, *work.taken, *current.regions.values()})
        following = made.following(paths, leg, most_attempts=self._config.max_attempts, has_region=other is not None)
        if following is Next.END:
            await self._end(leg, made.ending(leg.attempts, been, work.answer))
            return
        if following is Next.RETRY:
            pause = pause_after(leg.attempts - leg.reroutes, LONGEST_PAUSE)
            leg = replace(leg, due=max(time.time() + pause, made.asked))
        else:
            region = other or region
            leg = replace(leg, due=time.time(), reroutes=leg.reroutes + 1)
        answer = json.dumps(made.answer.to_wire()) if made.answer else None
        await insist(partial(self._database.postpone, leg, region, been, answer), f"postpone {leg.id}")
        if self._current.get(leg.id) is current:
            self._enqueue(leg)

    async def _end(self, leg: Waiting, ending: Ending | None) -> None:
        effects = await insist(partial(self._database.end_leg, leg, ending), f"end {leg.id}")
        reach("gateway.ended")
        self.apply(effects)

    async def _watch_timers(self) -> None:
        while True:
            timer = await self._timers.get()
            if timer.id in self._current:
                self._attempts.spawn(self._expire(timer))

    async def _expire(self, timer: Timer) -> None:
        self.apply(await insist(partial(self._database.expire, timer), f"end {timer.id}, whose time is over"))
