"""A message of protocol 1 comes again as it was: its bytes, its headers, and what its run sees."""

from __future__ import annotations

import datetime

import pytest

from tests.support.lab import PATIENCE, Lab, Process
from tests.support.protocol_1 import CLIENTS

from .observe import differences, resume, suspend
from .tasks import app, call

EXPIRES = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)).isoformat()


@pytest.mark.parametrize("client", CLIENTS)
def test_the_resumed_message_is_the_parked_one(lab: Lab, worker: Process, path: str, client: str) -> None:
    fields = {"expires": EXPIRES, "eta": "2020-01-01T00:00:00+00:00"}

    def send() -> object:
        return app.AsyncResult(CLIENTS[client](app, call.name, [path, "ü"], queue="fidelity", **fields))

    result, job = suspend(lab, path, send)
    first, resumed = resume(lab, path, result, job)

    no_priority = {place for place in differences(first, resumed) if place.endswith(".properties.priority")}
    assert differences(first, resumed) == dict.fromkeys(no_priority, (None, 0))  # kombu writes 0 where there is none
    assert first.wire["body"] == resumed.wire["body"]
    assert ("task" in resumed.wire["headers"]) is (client == "hybrid")
    assert resumed.run["expires"] == EXPIRES
    assert result.get(timeout=PATIENCE) == path
