"""What comes next in a job's tree: which fallback begins, and which jobs are spawned at the end. No I/O and no clock.

The *paths* of a job are its own request and those of its fallbacks: ``fallback_job``, the ``fallback_job`` of that, and so on.
They are numbered from 0, and tried in this order until one succeeds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from celery_ezthrottle.service.job import Job, Trigger

__all__ = ["Failure", "attempt_limit", "children_of", "fallback_after", "nested_in", "paths_of"]


@dataclass(frozen=True)
class Failure:
    """The newest failure of a job. Triggers are judged against it.

    Attributes:
        status_code: of the answer, or None without an answer.
        took_ms: milliseconds from the beginning of the attempt to its end.
    """

    status_code: int | None
    took_ms: float


def paths_of(job: Job) -> tuple[Job, ...]:
    """Return the paths of a job, in the order in which they are tried. The job itself is the first one."""
    paths = [job]
    while (fallback := paths[-1].fallback_job) is not None:
        paths.append(fallback)
    return tuple(paths)


def fallback_after(paths: Sequence[Job], current: int, failure: Failure) -> int | None:
    """Return the number of the path that begins when path ``current`` has failed, or None when no path is left.

    A fallback whose trigger does not apply is passed over for good. The next one is judged against the same failure.
    """
    later = range(current + 1, len(paths))
    return next((number for number in later if _applies(paths[number].trigger, failure)), None)


def attempt_limit(paths: Sequence[Job], current: int) -> float | None:
    """Return the seconds after which an attempt of path ``current`` is ended, or None.

    Only the trigger of the next fallback counts: at ``on_timeout`` it begins then.
    """
    trigger = paths[current + 1].trigger if current + 1 < len(paths) else None
    return trigger.timeout_ms / 1000 if trigger is not None and trigger.timeout_ms is not None else None


def children_of(paths: Sequence[Job], tried: Collection[int], succeeded: int | None) -> list[tuple[str, Job]]:
    """Return the jobs to spawn when a job has ended, each with its place in the tree, such as ``fallback_job.on_success``.

    Args:
        tried: numbers of the paths that were tried.
        succeeded: number of the path that has succeeded, or None when the job has failed.
    """
    if succeeded is None:
        return _named(paths, sorted(tried), "on_failure")
    return _named(paths, sorted({0, succeeded}, reverse=True), "on_success")


def nested_in(job: Job, place: str = "") -> list[tuple[str, Job]]:
    """Return a job and all jobs in it, each with its place in the tree. The place of the job itself is ``place``."""
    found = [(place, job)]
    for name in ("fallback_job", "on_success", "on_failure"):
        if (nested := getattr(job, name)) is not None:
            found += nested_in(nested, f"{place}.{name}" if place else name)
    return found


def _applies(trigger: Trigger | None, failure: Failure) -> bool:
    if trigger is None:
        return True
    if trigger.timeout_ms is not None:
        return failure.took_ms >= trigger.timeout_ms
    return failure.status_code in trigger.codes


def _named(paths: Sequence[Job], numbers: Sequence[int], name: str) -> list[tuple[str, Job]]:
    children = ((number, getattr(paths[number], name)) for number in numbers)
    return [("fallback_job." * number + name, child) for number, child in children if child is not None]
