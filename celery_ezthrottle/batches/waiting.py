"""Wait until a batch has ended, and show how far it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery.exceptions import TimeoutError as CeleryTimeoutError

from .outcome import BatchStatus
from .releasing import Batches

__all__ = ["shown", "wait"]

#: Seconds between two looks, at first and at most.
FIRST, LONGEST = 0.02, 0.5
#: Seconds after which who waits also looks after the batch, as a worker does.
HELP = 5.0
#: Most members that the text of an error names.
NAMED = 10

Show = Callable[[BatchStatus], object]


@contextmanager
def shown(progress: bool | Show, status: BatchStatus) -> Iterator[Show]:
    """Give a function to call with each status.

    Args:
        progress: True: it draws a bar on stderr, if that is a terminal. False: it does nothing. Or the function.
    """
    if callable(progress):
        yield progress
    elif progress and sys.stderr.isatty():
        import click

        def count(now: BatchStatus | None) -> str:
            return f"{now.failed + now.revoked} failed" if now and now.failed + now.revoked else ""

        with click.progressbar(
            length=status.total, label=status.name, file=sys.stderr, show_pos=True, item_show_func=count
        ) as bar:
            yield lambda now: bar.update(now.ended - bar.pos, now)
    else:
        yield lambda _: None


def wait(batches: Batches, status: BatchStatus, deadline: float | None, show: Show) -> None:
    """Return when each member has ended.

    Args:
        deadline: by ``time.monotonic()``; None = none.

    Raises:
        celery.exceptions.TimeoutError: the deadline is over. The text says what is missing.
        StoreError: the store is out of reach.
    """
    pause, batch = FIRST, status.id
    helps_at = time.monotonic() + HELP
    while True:
        found = batches.store.status(batch=batch)
        if found is None:
            raise CeleryTimeoutError(f"The batch {status.name!r} is not kept any more: its lifetime is over.")
        show(found)
        now = time.monotonic()
        if not found.pending:
            return
        if deadline is not None and now >= deadline:
            raise CeleryTimeoutError(_missing(batches, found))
        if now >= helps_at:
            helps_at = now + HELP
            batches.look_at(batch)
        # Members end in other processes, and the store can only be asked. No worker slot waits here: a task may not join.
        time.sleep(pause if deadline is None else min(pause, deadline - now))
        pause = min(2 * pause, LONGEST)


def _missing(batches: Batches, status: BatchStatus) -> str:
    letters = (letter for letter, _ in batches.store.members(status.id, 0, status.total - 1))
    indexes = [index for index, letter in enumerate(letters) if letter in "cpw"]
    named = ", ".join(map(str, indexes[:NAMED])) + (", ..." if len(indexes) > NAMED else "")
    return (
        f"The batch {status.name!r} has not ended: {status.pending} of {status.total} members are missing ({named}); "
        f"{status.in_flight} of them are released, {status.waiting} are not. See that workers run, or wait longer."
    )
