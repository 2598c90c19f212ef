"""``celery -A proj ezthrottle limits``: the limits that all workers keep, what they are doing, and changes while they run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.limits.known import KnownLimit, known_limits
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.live import set_limit
from celery_ezthrottle.limits.matching import bucket_of
from celery_ezthrottle.settings.limit import Limit
from celery_ezthrottle.settings.limits_setting import limit_pattern

from .errors import configuration_errors, store_errors
from .limits_shown import as_json, as_table, look

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["limits"]


@click.group()
def limits() -> None:
    """Show the limits that the workers keep together, or change them while the workers run.

    A change is kept in the store. All workers follow within a second, and the tasks that wait follow too.
    """


class _Limits(NamedTuple):
    """The limits of an app.

    Attributes:
        limiter: keeps them.
        known: by their patterns.
        changed: the patterns of those that were set at run time, understood or not.
        settings: what the settings say.
        margin: the setting ``limit_margin``.
    """

    limiter: Limiter
    known: dict[str, KnownLimit]
    changed: frozenset[str]
    settings: dict[str, Limit]
    margin: float

    def unknown(self, pattern: str) -> click.UsageError:
        known = ", ".join(map(repr, self.known)) or "none is set"
        return click.UsageError(f"{pattern!r} is the pattern of no limit. The patterns that have one: {known}.")


@contextmanager
def _limits(app: Celery) -> Iterator[_Limits]:
    with configuration_errors(), store_errors():
        continuations = Continuations.of(app)
        settings, limiter = continuations.settings, continuations.limiter
        if not settings.store:
            raise ConfigurationError("There is no store that could keep limits: set ezthrottle_store to a Redis.")
        changes = limiter.changes.read()
        known = known_limits(settings.limits, changes)
        yield _Limits(limiter, known, frozenset(changes), dict(settings.limits), settings.limit_margin)


@limits.command()
@click.option("--json", "in_json", is_flag=True, help="As JSON, with all buckets.")
@click.pass_context
def show(context: click.Context, in_json: bool) -> None:
    """Show each limit, where it comes from, and what it is doing now.

    A limit with `per` has a line for each value that has calls now, by its digest.
    """
    with _limits(context.obj.app) as those:
        shown = look(those.known.values(), those.limiter, those.margin)
    click.echo(as_json(shown) if in_json else as_table(shown, time.time()))


@limits.command("set")
@click.argument("pattern")
@click.argument("limit", required=False)
@click.option("--reset", is_flag=True, help="Take back what was set: what the settings say holds again.")
@click.pass_context
def set_(context: click.Context, pattern: str, limit: str | None, reset: bool) -> None:
    """Set the limit of a pattern: `set api.example.com "500/m;burst=10"`.

    LIMIT is written as in the setting ezthrottle_limits. It takes the place of the whole limit, except that it keeps the `per` of
    the settings if it names none. The pattern may be a new one. It holds until it is set again or reset, also for workers that
    are started later.
    """
    if reset == (limit is not None):
        raise click.UsageError("Name the limit that is to hold, or give --reset.")
    with _limits(context.obj.app) as those:
        pattern = limit_pattern(pattern)
        known, of_settings = those.known.get(pattern), those.settings.get(pattern)
        if limit is not None:
            after: Limit | None = set_limit(limit, of_settings)
            those.limiter.changes.set(bucket_of(pattern, after, those.margin), str(Limit.from_text(limit)))
        elif known is None and pattern not in those.changed:
            raise those.unknown(pattern)
        else:
            after = of_settings
            those.limiter.changes.reset(pattern)
            if after is None:  # nobody could name it any more
                those.limiter.resume([pattern])
    before = "no limit" if known is None else str(known.limit)
    click.echo(f"{pattern}: {before} -> {after or 'no limit'}")


@limits.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.pass_context
def pause(context: click.Context, patterns: tuple[str, ...]) -> None:
    """Let no call through that a limit is for, until `resume`, or for thirty days. The tasks wait meanwhile."""
    with _limits(context.obj.app) as those:
        named = [limit_pattern(pattern) for pattern in patterns]
        for pattern in named:
            if pattern not in those.known:
                raise those.unknown(pattern)
        those.limiter.pause(named)
    for pattern in named:
        click.echo(f"{pattern}: paused")


@limits.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.pass_context
def resume(context: click.Context, patterns: tuple[str, ...]) -> None:
    """End a pause. The first calls come evenly."""
    with _limits(context.obj.app) as those:
        for pattern in map(limit_pattern, patterns):
            was_paused = those.limiter.resume([pattern])  # also one that has left the settings since
            if not was_paused and pattern not in those.known:
                raise those.unknown(pattern)
            click.echo(f"{pattern}: {'goes on' if was_paused else 'was not paused'}")
