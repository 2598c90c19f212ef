"""``celery -A proj ezthrottle batches`` on a server of its own."""

from __future__ import annotations

from contextlib import closing
from types import SimpleNamespace

from celery import Celery
from click.testing import CliRunner

from celery_ezthrottle import Batch
from celery_ezthrottle.cli import ezthrottle
from tests.support.servers import valkey_server


def test_the_batches_that_are_kept() -> None:
    with (
        valkey_server() as url,
        closing(Celery("proj", broker=f"{url}/0", set_as_current=False)) as app,
    ):
        app.conf.ezthrottle_key_prefix = "{listed}:"

        @app.task(ignore_result=True)
        def work(number: int) -> None:
            raise AssertionError("no worker runs")

        batch = Batch("songs", app=app, in_flight=2)
        for number in range(3):
            batch.add(work.s(number))
        batch.apply_async()
        done = CliRunner().invoke(ezthrottle, ["batches"], obj=SimpleNamespace(app=app))
    assert (done.exit_code, done.output) == (
        0,
        "songs: 3 members, 3 pending (2 in flight), 0 succeeded, 0 failed, 0 revoked\n",
    )
