"""What is wrong, or will be: with the settings, the frugal tasks, the store and the clocks.

A worker logs it when it starts; ``celery -A proj ezthrottle check`` prints it. No text holds a secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.store.records import Counts, Health

from .findings import Finding, Level, note, warning
from .setup import frugal_tasks, of_settings, of_tasks

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["of_counts", "of_health", "warn_at_start"]

#: Share of ezthrottle_max_suspended from which the store counts as nearly full.
NEARLY_FULL = 0.8


def of_health(settings: Settings, health: Health, now: float) -> Iterator[Finding]:
    """What the store says of itself and of the receiver, and how far this process' clock, ``now``, is from its."""
    for problem in health.problems:
        yield warning(problem)
    tolerance = settings.webhook_tolerance
    if health.receiver_clock is None:
        yield note(
            "No receiver has been seen: start one (`celery -A proj ezthrottle webhook`), or every suspended task waits until "
            "its deadline."
        )
    elif abs(health.receiver_clock) > tolerance / 2:
        refused = "are" if abs(health.receiver_clock) > tolerance else "may be"
        yield warning(
            f"The receiver's clock is {_apart(health.receiver_clock)} the store's: webhooks {refused} refused, for their "
            f"timestamps may be {tolerance:g} s from it (ezthrottle_webhook_tolerance); synchronise it with NTP."
        )
    ahead = now - health.clock
    # Two machines that are off by half a lease each, one either way, take each other's live runs for dead.
    if abs(ahead) > settings.lease / 2:
        yield warning(
            f"This machine's clock is {_apart(ahead)} the store's: deadlines and leases ({settings.lease:g} s) are told by the "
            "workers' clocks, so tasks may give up, or run a second time, too early; synchronise it with NTP."
        )


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"


def of_counts(settings: Settings, counts: Counts) -> Iterator[Finding]:
    """What is nearly full, and what was lost or strange."""
    most = settings.max_suspended
    if counts.suspended > NEARLY_FULL * most:
        yield warning(
            f"{counts.suspended} of at most {most} tasks are suspended (ezthrottle_max_suspended): beyond that a limited call fails "
            "as it would without EZThrottle; raise it if the store has the memory."
        )
    if counts.evicted:
        yield warning(
            f"{counts.evicted} results were given up because too many are of jobs that nobody waits for: a task that "
            "waits for one ends with OutcomeUnknown; raise ezthrottle_max_unclaimed and ezthrottle_max_unclaimed_bytes, and see "
            "that no other app's webhooks come to this receiver."
        )
    if counts.contradicting:
        yield warning(
            f"{counts.contradicting} webhooks brought another result than the one that was there; the first was kept: the jobs "
            "may have been executed twice; look them up at the service (the receiver's log names them)."
        )


def warn_at_start(continuations: Continuations, app: Celery) -> None:
    """Log what ``check`` would find, as far as it needs no more than one question to the store. For a worker that starts.

    A store that is out of reach is one line of the log.

    Raises:
        ConfigurationError: the URL of the store cannot be read.
    """
    settings = continuations.settings
    found = [*of_settings(settings, app), *of_tasks(settings, frugal_tasks(app), app)]
    try:
        found += of_health(settings, continuations.store.health(), time.time())
    except StoreError as exc:
        logger.warning("Whether the store keeps what it is given is not known: %s", exc)
    for finding in found:
        if finding.level is not Level.NOTE:
            logger.log(logging.ERROR if finding.level is Level.ERROR else logging.WARNING, "%s", finding.text)
