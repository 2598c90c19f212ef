"""Suspend a task and resume it; what its two runs, and the wire, have shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from celery.result import AsyncResult

from tests.support.fake_service import TakenJob
from tests.support.lab import Lab, wait_until

__all__ = ["Seen", "differences", "look_up", "resume", "runs", "suspend", "wires"]

#: Of the delivery, not of the message: a resumed one is published anew, straight to its queue.
_OF_THE_DELIVERY = {"exchange", "routing_key", "pid", "delivery_info", "delivery_tag"}
#: The task has started in time: neither when to start nor until when holds any more. The run sees them all the same.
_OF_THE_START = {"wire.headers.eta", "wire.headers.expires", "wire.properties.expiration", "run.properties.expiration"}
#: The state in the backend while the body runs is a result, not a part of the message.
_NOT_COMPARED = _OF_THE_DELIVERY | {"ezthrottle_resume", "ezthrottle_times", "state"}


@dataclass(frozen=True)
class Seen:
    """A message as it came from the broker, and the request that its run saw."""

    wire: dict[str, Any]
    run: dict[str, Any]

    @property
    def queue(self) -> str | None:
        """Where it was published to, if that was a queue."""
        return str(self.wire["routing_key"]) if self.wire["exchange"] == "" else None


def wires(lab: Lab, task_id: str) -> list[dict[str, Any]]:
    """Every message of this task that a worker got."""
    return _shown(lab, f"wire:{task_id}")


def runs(lab: Lab, task_id: str) -> list[dict[str, Any]]:
    """Every run of its body."""
    return _shown(lab, f"run:{task_id}")


def _shown(lab: Lab, key: str) -> list[dict[str, Any]]:
    found: Any = lab.client.lrange(key, 0, -1)
    return [json.loads(each) for each in found]


def suspend(lab: Lab, path: str, send: Callable[[], Any]) -> tuple[Any, TakenJob]:
    """Send a task whose call is limited; gives its result and its job once it is suspended."""
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = send()
    (job,) = wait_until(lambda: lab.service.jobs(path), "the job")
    return result, job


def resume(lab: Lab, path: str, result: AsyncResult[Any], job: TakenJob) -> tuple[Seen, Seen]:
    """Deliver the job's result; gives what the first run showed and what the resumed one did, when that has run."""
    lab.service.deliver(job)
    wait_until(lambda: len(runs(lab, result.id)) > 1, "the resumed run")
    (first, resumed), messages = runs(lab, result.id), wires(lab, result.id)
    assert len(messages) == 2
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    return Seen(messages[0], first), Seen(messages[1], resumed)


def differences(first: Seen, resumed: Seen) -> dict[str, tuple[Any, Any]]:
    """Every fact that is not the same in both, of those that have to be: all but what is listed above."""
    left, right = (dict(_flat({"wire": seen.wire, "run": seen.run})) for seen in (first, resumed))
    return {
        place: (left.get(place), right.get(place))
        for place in left.keys() | right.keys()
        if left.get(place) != right.get(place)
    }


def _flat(facts: dict[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if name in _NOT_COMPARED or f"{place}{name}" in _OF_THE_START or name.startswith("x-"):
            continue
        parts = (
            {key: part for key, part in value.items() if key not in _NOT_COMPARED} if isinstance(value, dict) else {}
        )
        if parts:
            yield from _flat(parts, f"{place}{name}.")
        else:
            yield f"{place}{name}", {} if isinstance(value, dict) else value


def look_up(seen: Seen, where: str) -> Any:
    """The fact at a dotted place, as in ``wire.headers.shadow``."""
    found: Any = {"wire": seen.wire, "run": seen.run, "queue": seen.queue}
    for name in where.split("."):
        found = found.get(name)
        if found is None:
            return None
    return found
