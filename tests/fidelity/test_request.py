"""What a resumed run sees in ``self.request``, beside the second runs that stock Celery itself gives a task."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.lab import PATIENCE, Lab, Process

from .observe import runs
from .tasks import call, redelivered, retried

OPTIONS: dict[str, Any] = {
    "expires": 3600,
    "countdown": 0.1,
    "headers": {"tenant": "blue"},
    "shadow": "another name",
    "reply_to": "my-replies",
    "time_limit": 50,
    "soft_time_limit": 40,
    "priority": 3,
    "queue": "prioritised",
    "stamped_headers": ["customer"],
    "customer": "c-17",
    "link": call.si("/linked"),
    "link_error": call.si("/failed"),
    "argsrepr": "(***)",
}
#: The fields in which a second run differs from the first, by the broker. Nothing else may.
#: The broker must not expire a task that has started in time.
RESUMED = {"redis": {"properties.expiration"}, "rabbitmq": {"properties.expiration"}}
#: The same message, delivered again. kombu says so on Redis in a header too.
REDELIVERED = {"redis": {"delivery_info", "headers", "redelivered"}, "rabbitmq": {"delivery_info"}}
#: Another message, that Celery has made for the retry.
_ANEW = {"argsrepr", "eta", "parent_id", "properties.expiration", "retries"}
RETRIED = {"redis": _ANEW, "rabbitmq": _ANEW}
PROPERTIES = {"correlation_id", "delivery_mode", "expiration", "priority", "reply_to"}


@pytest.mark.parametrize(
    ("task", "differing"),
    [
        pytest.param(call, RESUMED, id="resumed"),
        pytest.param(redelivered, REDELIVERED, id="redelivered"),
        pytest.param(retried, RETRIED, id="retried"),
    ],
)
def test_a_second_run(
    lab: Lab, worker: Process, request: pytest.FixtureRequest, path: str, task: Any, differing: dict[str, set[str]]
) -> None:
    lab.upstream.plan(path, 429)

    result = task.apply_async((path,), **OPTIONS)

    assert result.get(timeout=PATIENCE) == path
    first, second = map(_flat, runs(lab, result.id))
    assert "ezthrottle" not in f"{first} {second}"
    assert {name for name in first | second if first.get(name) != second.get(name)} == differing[
        request.config.getoption("broker")
    ]


def _flat(request: dict[str, Any]) -> dict[str, Any]:
    properties = request.pop("properties")
    request.pop("state", None)  # of the result
    return request | {f"properties.{name}": properties.get(name) for name in PROPERTIES}
