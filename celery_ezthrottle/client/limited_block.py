"""One use of a limit by name: from the wait for its turn to the end of the call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from celery_ezthrottle._common.event_loop import runs_in_loop
from celery_ezthrottle._common.log import logger, warn_once
from celery_ezthrottle.errors import LimitReached, StoreError
from celery_ezthrottle.limits.answers import answer_of
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.held import Held, still_to_take
from celery_ezthrottle.limits.line import Lines
from celery_ezthrottle.limits.passage import Passage
from celery_ezthrottle.limits.told import Notice, told
from celery_ezthrottle.limits.turns import Turn
from celery_ezthrottle.limits.waiting import THREAD, Way, wait_for_turn

if TYPE_CHECKING:
    from celery_ezthrottle.continuations.manager import Continuations

__all__ = ["Block"]

#: A wait that is shorter, in seconds, is not worth a line in the log.
SHORT = 0.05

Steps: TypeAlias = Generator[Callable[[], Any], Any, None]

#: Those who wait in this process, for each app: another one may have another store.
_lines: WeakKeyDictionary[Continuations, Lines] = WeakKeyDictionary()


class Block:
    """One call, or what stands in one ``with`` block.

    Args:
        label: names it in logs and errors.
        patience: seconds to wait, or ``math.inf``.
    """

    def __init__(
        self, label: str, continuations: Continuations, buckets: tuple[Bucket, ...], priority: float, patience: float
    ) -> None:
        self._label, self._continuations, self._buckets = label, continuations, buckets
        self._priority, self._patience = priority, patience
        self._lines = _lines.setdefault(continuations, Lines())
        self._passage: Passage | None = None
        self._turn: Turn | None = None
        self._held: Held | None = None

    def enter(self, way: Way) -> Steps:
        """Wait for the turn.

        Raises:
            LimitReached: see :func:`.limited.limited`.
        """
        settings, taken = self._continuations.settings, still_to_take(self._buckets)
        if taken:
            # The other half of the margin is for the way to the API.
            passage = Passage(
                self._continuations.limiter,
                taken,
                margin=settings.limit_margin / 2,
                lease=settings.limit_lease,
                priority=self._priority,
            )
            lines = Lines() if way is THREAD and runs_in_loop() else self._lines
            began = time.monotonic()
            try:
                self._turn = yield from wait_for_turn(
                    passage, lines, way, max_wait=settings.max_wait, patience=self._patience
                )
                self._passage = passage
            except StoreError as exc:
                self._without_store(exc)
            except LimitReached as exc:
                yield from self._end(way, passage.give_up)
                within = f" It has waited {self._patience:g} s." if self._patience < math.inf else ""
                raise LimitReached(f"{self._label}: {exc}{within} The call was not made.") from None
            except GeneratorExit:
                self._end_here(passage.give_up)
                raise
            except BaseException:
                yield from self._end(way, passage.give_up)
                raise
            if (waited := time.monotonic() - began) >= SHORT:
                logger.debug("%s: waited %.1f s for its turn", self._label, waited)
        self._held = Held(self._buckets)

    def leave(self, way: Way, outcome: object) -> Steps:
        """The call has ended.

        Args:
            outcome: what it has returned, or the error that it has raised; or None.
        """
        if self._held is not None:
            self._held.end()
        passage, self._passage = self._passage, None
        end = partial(self._give_back, passage, outcome)
        if way is THREAD:
            end()
        elif self._has_to_do(passage, outcome):
            yield partial(way.do, end)

    def _has_to_do(self, passage: Passage | None, outcome: object) -> bool:
        if passage is not None and (passage.holds or any(bucket.learns for bucket in passage.buckets)):
            return True
        return answer_of(outcome) is not None

    def _give_back(self, passage: Passage | None, outcome: object) -> None:
        try:
            if passage is not None:
                passage.leave()
            self._tell(passage, outcome)
        except StoreError:
            warn_once(
                self._label,
                "what an API said about its limits is not kept: the store is out of reach.",
                subject="Limit",
            )
        self._lines.hurry()

    def _tell(self, passage: Passage | None, outcome: object) -> None:
        """Let all know what the outcome of the call says about its limits."""
        answer, now, limiter = answer_of(outcome), time.time(), self._continuations.limiter
        notice = Notice() if answer is None else told(*answer, now)
        until, margin = notice.until, self._continuations.settings.limit_margin
        keys = [b.key for b in self._buckets if not b.learns and not b.is_of_all_hosts]
        if until is not None and keys and limiter.cool_down(keys, until):
            logger.debug("%s: the API wants no call for %.1f s", self._label, until - now)
        turn, allowed = self._turn, _allowed(outcome, answer, notice)
        if passage is None or turn is None or allowed is None:
            return
        asked = None if allowed else notice.wait(now)
        wait = None if asked is None else asked + margin
        for bucket in passage.buckets:
            if bucket.learns:
                windows = notice.windows_with(margin)
                limiter.learn(bucket, ticket=passage.ticket, at=turn.at, allowed=allowed, wait=wait, told=windows)

    def _without_store(self, exc: StoreError) -> None:
        if self._continuations.settings.limits_required:
            raise LimitReached(
                f"{self._label}: the store that keeps the limits is out of reach; the call was not made: {exc}"
            ) from exc
        warn_once(self._label, "calls are made without their limits: the store is out of reach.", subject="Limit")

    def _end(self, way: Way, act: Callable[[], None]) -> Steps:
        yield partial(way.do, partial(self._end_here, act))

    def _end_here(self, act: Callable[[], None]) -> None:
        with suppress(StoreError):  # then all of it ends by itself: leases and lifetimes are short
            act()
        self._lines.hurry()


def _allowed(outcome: object, answer: tuple[int, dict[str, str]] | None, notice: Notice) -> bool | None:
    """Whether the API has let the call through; False if it has limited it. None: the outcome does not tell."""
    if answer is None:
        return None if isinstance(outcome, BaseException) else True
    status = answer[0]
    if notice.is_limit(status):
        return False
    return True if status < 500 else None
