"""What a reader gets: all events once, however often it connects, until the final one."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import islice

import pytest
from celery import Celery

from celery_ezthrottle import Progress
from celery_ezthrottle.progress.channels import Channels, Entry
from celery_ezthrottle.progress.sse import COMMENT
from tests.progress.conftest import Seen, app_of, seen

Read = Callable[..., list[bytes]]
PATIENCE = 20.0


def in_thread(progress: Progress, last_id: str | None = None, most: int | None = None, **options: float) -> list[bytes]:
    return list(islice(progress.events(last_id, **options), most))


def in_asyncio(
    progress: Progress, last_id: str | None = None, most: int | None = None, **options: float
) -> list[bytes]:
    async def read() -> list[bytes]:
        chunks: list[bytes] = []
        async for chunk in progress.events_async(last_id, **options):
            chunks.append(chunk)
            if len(chunks) == most:
                break
        return chunks

    return asyncio.run(read())


@pytest.fixture(params=[in_thread, in_asyncio])
def read(request: pytest.FixtureRequest) -> Read:
    read: Read = request.param
    return read


def test_a_reader_that_connects_again_loses_and_repeats_nothing(app: Celery, server: str, read: Read) -> None:
    """A process writes while the page reads. Its connection breaks after each chunk."""
    progress = Progress("playlist-42", app=app_of(server))
    got: list[Seen] = []
    connections = 0
    with subprocess.Popen([sys.executable, "-m", "tests.progress.writing", server, "playlist-42", "1000"]) as writer:
        while not got or got[-1].event != "end":
            last_id = got[-1].id if got else None
            got += seen(read(progress, last_id, most=2, timeout=PATIENCE))  # the first chunk is a comment
            connections += 1
            assert connections <= 1001
    assert writer.returncode == 0
    assert [event.data for event in got] == [*(f'{{"number":{number}}}' for number in range(1000)), "null"]
    assert len({event.id for event in got}) == 1001
    assert connections > 10


def test_a_reader_that_comes_late_gets_all(app: Celery, read: Read) -> None:
    with Progress("playlist-42", app=app) as progress:
        for number in range(250):
            progress.write_async(number)
    assert [event.data for event in seen(read(progress))] == [*map(str, range(250)), "null"]


def test_a_reader_that_waits_gets_what_is_written_meanwhile(
    app: Celery, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress, waits, real = Progress("playlist-42", app=app), threading.Event(), Channels.after
    first = progress.write("before")

    def after(channels: Channels, name: str, last_id: str, wait: float) -> list[Entry]:
        if last_id == first:
            waits.set()
        return real(channels, name, last_id, wait)

    def write() -> None:
        assert waits.wait(PATIENCE)
        with progress:
            progress.write("meanwhile")

    monkeypatch.setattr(Channels, "after", after)
    writer = threading.Thread(target=write)
    writer.start()
    assert [event.data for event in seen(read(progress, timeout=PATIENCE))] == ["before", "meanwhile", "null"]
    writer.join()


def test_channels_are_apart(app: Celery, read: Read) -> None:
    Progress("playlist-41", app=app).write("other")
    with Progress("playlist-42", app=app) as progress:
        progress.write("mine")
    assert [event.data for event in seen(read(progress))] == ["mine", "null"]


def test_it_ends_when_its_time_is_over(app: Celery, read: Read) -> None:
    progress = Progress("playlist-42", app=app)
    progress.write("searching")
    assert [event.data for event in seen(read(progress, timeout=0.3))] == ["searching"]


def test_a_comment_keeps_the_connection_open(app: Celery, read: Read) -> None:
    chunks = read(Progress("playlist-42", app=app), most=3, keep_alive=0.05, timeout=PATIENCE)
    assert chunks == [COMMENT, COMMENT, COMMENT]


def test_a_store_that_has_nothing_is_not_taken_for_one_that_is_lost(server: str, app: Celery) -> None:
    """A reader waits less than the time after which an answer counts as lost."""
    impatient = app_of(server, store_options={"socket_timeout": 0.5})
    assert in_thread(Progress("playlist-42", app=impatient), timeout=1.2) == [COMMENT]


@pytest.mark.parametrize("protocol", [2, 3])
def test_each_protocol_of_redis(server: str, app: Celery, protocol: int) -> None:
    progress = Progress("playlist-42", app=app_of(server, store_options={"protocol": protocol}))
    progress.write("é")
    progress.close()
    assert [event.data for event in seen(progress.events())] == ["é", "null"]


def test_what_is_no_id_of_an_event_counts_as_none(app: Celery, read: Read) -> None:
    with Progress("playlist-42", app=app) as progress:
        progress.write("searching")
    assert len(seen(read(progress, "0-0 STREAMS other"))) == 2


def test_more_readers_at_once_than_a_pool_of_redis_py_has_connections(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)
    got: list[list[Seen]] = []
    readers = [threading.Thread(target=lambda: got.append(seen(progress.events(timeout=PATIENCE)))) for _ in range(120)]
    for reader in readers:
        reader.start()
    with progress:
        progress.write("searching")
    for reader in readers:
        reader.join(PATIENCE)
    assert [[event.data for event in each] for each in got] == [["searching", "null"]] * 120
