"""``kill -9`` at each step of a tree: every job is spawned once, every webhook comes, and nothing is lost."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Site, delivered, planned, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

pytestmark = pytest.mark.slow  # many processes


def tree(upstream: Site, sink: Site) -> dict[str, Any]:
    """own fails, backup succeeds; both spawn a job, and one of these another."""

    def job(name: str, **fields: Any) -> dict[str, Any]:
        return {"url": f"{upstream.url}/{name}", "webhooks": [{"url": f"{sink.url}/{name}"}], **fields}

    after = job("after", on_failure=job("last"), on_success=job("never"))
    return job(
        "own", fallback_job=job("backup", on_success=job("of-backup")), on_success=after, on_failure=job("never")
    )


@pytest.mark.parametrize(
    ("point", "time_there"),
    [
        ("gateway.taken", 1),
        *(("gateway.called", number) for number in range(1, 6)),
        *(("gateway.ended", number) for number in range(1, 6)),
        *(("gateway.delivered", number) for number in (1, 3, 5)),
    ],
)
def test_the_gateway_dies(make_gateway: MakeGateway, upstream: Site, sink: Site, point: str, time_there: int) -> None:
    gateway = make_gateway(max_attempts=1)
    gateway.stop()
    names = ["after", "backup", "last", "of-backup", "own"]
    with planned(upstream, own=500, after=404):
        gateway.start(dies_at=point, time_there=time_there)
        with suppress(ConnectionError):  # it may die before it answers
            assert gateway.submit(**tree(upstream, sink))[0] == 201
        gateway.has_died()
        gateway.start()
        until(lambda: {seen.path[1:] for seen in sink.seen}.issuperset(names), "all webhooks")
        until(
            lambda: gateway.log.count("is delivered") >= len(names) - (point == "gateway.delivered"), "all to be noted"
        )
    told = {seen.path[1:]: delivered(seen) for seen in sink.seen}
    assert {name: content["status"] for name, content in told.items()} == {
        **dict.fromkeys(names, "success"),
        "after": "failed",
    }
    # A webhook that comes again says the same, also which job it is about: no job was spawned twice.
    assert len({(seen.path, seen.body) for seen in sink.seen}) == len(names)
    spawned = gateway.state(told["own"]["job_id"])["spawned"]
    assert {each["job_id"] for each in spawned} == {told["after"]["job_id"], told["of-backup"]["job_id"]}
    # What was in flight is sent again, and nothing else: at most two jobs, for no more wait at the same time.
    calls = [seen.path[1:] for seen in upstream.seen]
    assert sorted(set(calls)) == names
    assert len(calls) - len(names) <= 2
