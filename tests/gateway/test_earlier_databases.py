"""A database file that an earlier version of the gateway has left."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import MakeGateway
from tests.support.gateway_process import Site, delivered, until

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

#: The digest of the request GET http://h/ without a body.
HASH = "hash:" + hashlib.sha256(json.dumps(["http://h/", "GET", None]).encode()).hexdigest()
#: It knows neither the requests of its jobs nor the results of finished ones.
EARLIEST = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, dedupe TEXT NOT NULL UNIQUE, host TEXT NOT NULL, url TEXT NOT NULL, method TEXT NOT NULL, wire TEXT,
    status TEXT NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL, answer TEXT, created_at REAL NOT NULL, finished_at REAL
) STRICT;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL REFERENCES jobs, url TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL, due REAL NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE INDEX deliveries_job ON deliveries (job_id);
"""
#: It has one request for each job, keeps it with the job, and knows nothing of a tree.
LATER = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, dedupe TEXT NOT NULL UNIQUE, host TEXT NOT NULL, url TEXT NOT NULL, method TEXT NOT NULL, wire TEXT,
    status TEXT NOT NULL, attempts INTEGER NOT NULL, due REAL NOT NULL, answer TEXT, created_at REAL NOT NULL,
    finished_at REAL, request TEXT, result TEXT
) STRICT;
CREATE INDEX jobs_queued ON jobs (due) WHERE status = 'queued';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL REFERENCES jobs, url TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL, due REAL NOT NULL, expires REAL NOT NULL
) STRICT;
CREATE INDEX deliveries_webhook ON deliveries (job_id, url);
CREATE TABLE subscribers (
    job_id TEXT NOT NULL REFERENCES jobs, url TEXT NOT NULL, metadata TEXT NOT NULL, PRIMARY KEY (job_id, url, metadata)
) STRICT, WITHOUT ROWID;
"""


def job(upstream: Site, sink: Site, path: str, **fields: Any) -> dict[str, Any]:
    webhooks = [{"url": f"{sink.url}{path}"}]
    return {"url": upstream.url, "method": "POST", "body": "1", "webhooks": webhooks, **fields}


def test_the_earliest(make_gateway: MakeGateway, tmp_path: Path, upstream: Site, sink: Site) -> None:
    wire = json.dumps(job(upstream, sink, "/queued"))
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as earlier, earlier:
        earlier.executescript(EARLIEST)
        earlier.executemany(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, 'POST', ?, ?, 0, 0, NULL, 1, ?)",
            [
                ("job_1", "key:queued", upstream.host, upstream.url, wire, "queued", None),
                ("job_2", "key:finished", upstream.host, upstream.url, None, "completed", 9e9),
                ("job_3", HASH, upstream.host, "http://h/", None, "completed", 9e9),
            ],
        )
    gateway = make_gateway()
    sink.wait_for(1)
    assert gateway.submit(**job(upstream, sink, "/unknown", idempotent_key="finished"))[1]["job_id"] == "job_2"
    lost = delivered(sink.wait_for(2)[1])
    assert (lost["job_id"], lost["status"], lost["response"]) == ("job_2", "failed", None)
    assert "earlier version" in lost["error"]
    assert gateway.submit(url="http://h/", retry_at=9_000_000_000_000)[0] == 201
    assert [seen.path for seen in sink.seen] == ["/queued", "/unknown"]
    assert len(upstream.seen) == 1


@pytest.mark.slow
def test_the_one_before_trees(make_gateway: MakeGateway, tmp_path: Path, upstream: Site, sink: Site) -> None:
    queued = job(upstream, sink, "/queued", idempotent_key="queued", regions=["iad", "lax"])
    request = hashlib.sha256(json.dumps([upstream.url, "POST", "1"]).encode()).hexdigest()
    result = {
        "job_id": "job_2",
        "idempotent_key": "finished",
        "status": "success",
        "response": {"status_code": 201, "headers": {}, "body": "known", "body_base64": None},
    }
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite3")) as earlier, earlier:
        earlier.executescript(LATER)
        columns = "id, dedupe, host, url, method, wire, status, attempts, due, created_at, finished_at, request, result"
        shared = (upstream.host, upstream.url, "POST")
        earlier.executemany(
            f"INSERT INTO jobs ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 1, ?, ?, ?)",
            [
                ("job_1", "key:queued", *shared, json.dumps(queued), "queued", 2, None, request, None),
                ("job_2", "key:finished", *shared, None, "completed", 1, 9e9, request, json.dumps(result)),
            ],
        )
        earlier.execute("INSERT INTO subscribers VALUES ('job_1', ?, ?)", (f"{sink.url}/duplicate", '{"n": 1}'))
        values = ("job_2", f"{sink.url}/undelivered", json.dumps({**result, "metadata": {}}).encode())
        earlier.execute(
            "INSERT INTO deliveries (job_id, url, body, attempts, due, expires) VALUES (?, ?, ?, 3, 0, 9e9)", values
        )
    gateway = make_gateway()
    sink.wait_for(3)
    after = {"url": f"{upstream.url}/after", "webhooks": [{"url": f"{sink.url}/after"}]}
    again = job(upstream, sink, "/again", idempotent_key="finished", on_success=after)
    assert gateway.submit(**again)[1]["job_id"] == "job_2"
    told = {seen.path: delivered(seen) for seen in sink.wait_for(5)}
    assert sorted(told) == ["/after", "/again", "/duplicate", "/queued", "/undelivered"]
    assert [told[path]["job_id"] for path in ("/queued", "/duplicate")] == ["job_1"] * 2
    assert (told["/duplicate"]["metadata"], told["/duplicate"]["status"]) == ({"n": 1}, "success")
    assert told["/again"] == {**result, "region": None, "metadata": {}}
    assert [seen.path for seen in upstream.seen] == ["/", "/after"]
    assert "job_1 is finished; attempts: 3." in gateway.log
    # The file is now of this version.
    until(lambda: gateway.log.count("is delivered") == 5, "all webhooks to be noted")
    gateway.kill()
    gateway.start()
    assert gateway.state("job_1")["status"] == "completed"
    assert len(sink.seen) == 5
