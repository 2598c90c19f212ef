"""Find problems with the store and the clocks, and log all findings at the start of a worker.

``celery -A proj ezthrottle check`` prints the same findings. No text contains a secret.
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

#: Share of ezthrottle_max_suspended above which a warning says that the store is nearly full.
NEARLY_FULL = 0.8


def of_health(settings: Settings, health: Health, now: float) -> Iterator[Finding]:
    """Yield findings about the durability of the store, the receiver, and the clocks.

    Args:
        now: Unix time in seconds by the clock of this machine, taken when ``health`` was read.
    """
    for problem in health.problems:
        yield warning(problem)
    tolerance = settings.webhook_tolerance
    if not settings.has_service:
        pass  # no receiver is needed
    elif health.receiver_clock is None:
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
    # When one machine is half a lease ahead and another is half a lease behind, one takes the live runs of the other for dead.
    if abs(ahead) > settings.lease / 2:
        yield warning(
            f"This machine's clock is {_apart(ahead)} the store's: deadlines and leases ({settings.lease:g} s) are told by the "
            "workers' clocks, so tasks may give up, or run a second time, too early; synchronise it with NTP."
        )


def _apart(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"


def of_counts(settings: Settings, counts: Counts) -> Iterator[Finding]:
    """Yield findings about a nearly full store, evicted results, and results that contradict each other."""
    most = settings.max_suspended
    if counts.suspended > NEARLY_FULL * most:
        yield warning(
            f"{counts.suspended} of at most {most} tasks are suspended (ezthrottle_max_suspended): beyond that a limited call "
            "fails as it would without EZThrottle; raise it if the store has the memory."
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
    """Log findings when a worker starts. Makes one request to the store.

    Logs what ``check`` prints, except notes, the counts of the store, and findings about the broker. When the store cannot be
    reached, logs one warning that says so.

    Raises:
        ConfigurationError: the URL of the store cannot be parsed.
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
