"""What is written, in which order, and what is told of what was lost."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery

from celery_ezthrottle import Progress, StoreError
from celery_ezthrottle._common.log import forget_warnings
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.progress.channels import Channels
from celery_ezthrottle.progress.progress import Flushed
from tests.progress.conftest import PREFIX, Seen, app_of
from tests.support.servers import free_port, valkey_server


def events_of(app: Celery, name: str) -> list[Seen]:
    """All that is there now."""
    found: list[Seen] = []
    while entries := Channels.of(app).after(name, found[-1].id if found else "0-0", wait=0):
        found += [Seen(entry.id, entry.event, entry.text) for entry in entries]
    return found


def data_of(app: Celery, name: str) -> list[str]:
    return [event.data for event in events_of(app, name)]


def test_what_is_written_is_there_when_write_returns(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)
    first = progress.write("searching")
    second = progress.write({"found": 5}, event="tracks")
    assert events_of(app, "playlist-42") == [
        Seen(first, "message", "searching"),
        Seen(second, "tracks", '{"found":5}'),
    ]


def test_write_comes_after_what_was_queued(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)
    for number in range(200):
        progress.write_async(number)
    progress.write("last")
    assert data_of(app, "playlist-42") == [*map(str, range(200)), "last"]
    assert progress.flush() == Flushed(written=200, lost=0, waiting=0)
    assert progress.flush() == Flushed(written=0, lost=0, waiting=0), "each event is told once"


def test_threads_share_it(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)

    def write(of: str) -> None:
        for number in range(50):
            progress.write_async(f"{of}{number}")

    threads = [threading.Thread(target=write, args=(of,)) for of in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert progress.flush().written == 150
    found = data_of(app, "playlist-42")
    for of in "abc":
        assert [data for data in found if data[0] == of] == [f"{of}{n}" for n in range(50)]


def test_the_end_of_a_block_is_the_final_event(app: Celery) -> None:
    with Progress("playlist-42", app=app) as progress:
        progress.write_async("searching")
    assert [event[1:] for event in events_of(app, "playlist-42")] == [("message", "searching"), ("end", "null")]


def test_a_final_event_with_data_is_the_only_one(app: Celery) -> None:
    with Progress("playlist-42", app=app) as progress:
        progress.write_async("searching")
        progress.close({"tracks": 50}, event="done")
    assert [event[1:] for event in events_of(app, "playlist-42")] == [
        ("message", "searching"),
        ("done", '{"tracks":50}'),
    ]


def test_an_error_that_leaves_the_block_ends_nothing(app: Celery) -> None:
    """The task may be retried, or resumed."""
    progress = Progress("playlist-42", app=app)
    progress.write_async("searching")
    with pytest.raises(KeyError), progress:
        raise KeyError
    assert data_of(app, "playlist-42") == ["searching"]
    with Progress("playlist-42", app=app) as progress:
        progress.write_async("again")
    assert data_of(app, "playlist-42") == ["searching", "again", "null"]


def test_so_many_are_kept_for_so_long(app: Celery, server: str) -> None:
    progress = Progress("playlist-42", keep=1, expires=60, app=app)
    for number in range(1000):
        progress.write_async(number)
    progress.write("last")
    with redis.Redis.from_url(server) as client:
        assert 1 <= client.xlen(f"{PREFIX}p:playlist-42") < 500
        assert 50_000 < client.pttl(f"{PREFIX}p:playlist-42") <= 60_000


def test_the_current_app_is_the_default_also_in_the_thread(app: Celery) -> None:
    app.set_current()
    progress = Progress("playlist-42")
    progress.write_async("queued")
    assert progress.flush()
    assert data_of(app, "playlist-42") == ["queued"]


def _write_in_child(progress: Progress, results: Any) -> None:
    progress.write_async("child")
    results.put(progress.flush().written)


def test_a_forked_child_has_its_own_thread_and_counts(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)
    progress.write_async("parent")
    assert progress.flush(20)
    forking = multiprocessing.get_context("fork")
    results = forking.Queue()
    child = forking.Process(target=_write_in_child, args=(progress, results))
    with progress._changed:  # a thread of the parent holds the lock meanwhile
        child.start()
        assert results.get(timeout=20) == 1
    child.join(20)
    assert data_of(app, "playlist-42") == ["parent", "child"]


def test_a_process_that_ends_sends_what_is_queued(app: Celery, server: str) -> None:
    script = (
        "from celery_ezthrottle import Progress; from tests.progress.conftest import app_of; import sys\n"
        "progress = Progress('playlist-42', app=app_of(sys.argv[1]))\n"
        "for number in range(500): progress.write_async(number)"
    )
    subprocess.run([sys.executable, "-c", script, server], check=True, timeout=60)
    assert data_of(app, "playlist-42") == [*map(str, range(500))]


# Without a store


@pytest.fixture
def down() -> Celery:
    forget_warnings()
    return app_of(f"redis://127.0.0.1:{free_port()}")


def test_what_must_arrive_fails(down: Celery) -> None:
    progress = Progress("playlist-42", app=down)
    with pytest.raises(StoreError, match="cannot be reached"):
        progress.write("searching")
    with pytest.raises(StoreError, match="cannot be reached"):
        progress.close()
    with pytest.raises(StoreError, match="cannot be reached"):
        list(progress.events())


def test_what_may_get_lost_is_dropped_with_one_warning(
    down: Celery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery_ezthrottle.progress.channels.DOWN", 60.0)
    tries, real = [], Channels.add

    def add(*args: Any, **options: Any) -> str:
        tries.append(args)
        return real(*args, **options)

    monkeypatch.setattr(Channels, "add", add)
    progress = Progress("playlist-42", app=down)
    for number in range(100):
        progress.write_async(number)
    flushed = progress.flush()
    assert (flushed, bool(flushed)) == (Flushed(written=0, lost=100, waiting=0), False)
    assert len(tries) == 1, "each try may take as long as a time-out"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "progress events of write_async() are dropped, and the work goes on. (playlist-42: " in record.getMessage()
    assert "cannot be reached" in record.getMessage()


def test_a_block_does_not_fail_by_its_final_event(down: Celery, caplog: pytest.LogCaptureFixture) -> None:
    with Progress("playlist-42", app=down):
        pass
    assert "Progress playlist-42 has no final event" in caplog.text


def test_it_goes_on_when_the_store_is_back() -> None:
    forget_warnings()
    with valkey_server() as url:
        app = app_of(url)
        progress = Progress("playlist-42", app=app)
        with refusing(url):
            with pytest.raises(StoreError, match="refused"):
                progress.write("one")
            progress.write_async("two")
            assert progress.flush() == Flushed(written=0, lost=1, waiting=0)
        progress.write("three")
        progress.write_async("four")
        assert progress.flush() == Flushed(written=1, lost=0, waiting=0)
        assert data_of(app, "playlist-42") == ["three", "four"]


@contextlib.contextmanager
def refusing(url: str) -> Iterator[None]:
    """The server writes nothing meanwhile: it wants a replica that it has not."""
    with redis.Redis.from_url(url) as client:
        client.config_set("min-replicas-to-write", 1)
        yield
        client.config_set("min-replicas-to-write", 0)


def test_more_than_fit_into_the_queue_are_lost(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_warnings()
    monkeypatch.setattr("celery_ezthrottle.progress.channels.MOST", 10)
    sent, real = threading.Event(), Channels.add

    def add(*args: Any, **options: Any) -> str:
        assert sent.wait(20)
        return real(*args, **options)

    monkeypatch.setattr(Channels, "add", add)
    progress = Progress("playlist-42", app=app)
    for number in range(12):
        progress.write_async(number)
    assert progress.flush(0.01) == Flushed(written=0, lost=2, waiting=10)
    sent.set()
    assert progress.flush(20) == Flushed(written=10, lost=0, waiting=0)
    assert data_of(app, "playlist-42") == [*map(str, range(10))]


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": ""}, "a name of 1 to 500 characters"),
        ({"name": "a" * 501}, "a name of 1 to 500 characters"),
        ({"name": 42}, "a name of 1 to 500 characters"),
        ({"name": "\ud83d"}, "a name of 1 to 500 characters"),
        ({"keep": 0}, "keep must be a whole number above 0"),
        ({"expires": 0}, "expires must be a number of seconds above 0"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Progress(**{"name": "playlist-42", **arguments})


def test_wrong_data_fails_at_once_and_not_in_the_thread(app: Celery) -> None:
    progress = Progress("playlist-42", app=app)
    for write in (progress.write, progress.write_async, progress.close):
        with pytest.raises(ConfigurationError, match="cannot be written as JSON"):
            write(object())
        with pytest.raises(ConfigurationError, match="a string of one line"):
            write("", event="a\nb")
    with pytest.raises(ConfigurationError, match="timeout must be"):
        progress.events(timeout=0)
    with pytest.raises(ConfigurationError, match="keep_alive must be"):
        progress.events_async(keep_alive=-1)
    assert data_of(app, "playlist-42") == []


def test_it_needs_a_redis() -> None:
    app = Celery("site", broker="memory://", set_as_current=False)
    with pytest.raises(ConfigurationError, match="set ezthrottle_store"):
        Progress("playlist-42", app=app).write("searching")
    app = app_of("redis://127.0.0.1", store_options={"decode_responses": True})
    with pytest.raises(ConfigurationError, match="decode_responses"):
        Progress("playlist-42", app=app).events()


def test_it_shows_no_secret_and_is_not_pickled() -> None:
    app = app_of("redis://:s3cr3t@127.0.0.1:1")
    assert repr(Progress("playlist-42", app=app)) == "Progress('playlist-42')"
    assert repr(Channels.of(app)) == f"Channels(127.0.0.1:1/0, prefix='{PREFIX}')"
    for kept in (Progress("playlist-42", app=app), Channels.of(app)):
        with pytest.raises(TypeError, match="send its name"):
            pickle.dumps(kept)
