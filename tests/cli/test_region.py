"""``celery -A proj ezthrottle region`` against a gateway in a process of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from celery_ezthrottle.cli import ezthrottle
from tests.support.gateway_process import API_KEY, Gateway, Reply, Site

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway"), regions=["iad", "lax"]).running() as gateway:
        yield gateway


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZTHROTTLE_API_KEY", API_KEY)


def region(*words: str) -> Result:
    class Context:
        app = Celery("proj", set_as_current=False)

    done = CliRunner().invoke(ezthrottle, ["region", *words], obj=Context)
    assert API_KEY not in done.output
    return done


def at(gateway: Gateway) -> tuple[str, str]:
    return "--gateway", f"http://127.0.0.1:{gateway.port}/"


def test_down_up_and_list(gateway: Gateway) -> None:
    down = region("down", "iad", "lax", *at(gateway))
    assert (down.exit_code, down.output) == (0, "iad: down\nlax: down\n")
    assert region("up", "iad", *at(gateway)).output == "iad: up\n"
    assert region("list", *at(gateway)).output == "iad: up\nlax: down\n"
    assert region("up", "lax", *at(gateway)).output == "lax: up\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("down", "fra"), 1, "There is no such region: this gateway has iad, lax."),
        (("down", "a/b"), 1, "refused that (HTTP 404)"),
        (("list", "--api-key", "another"), 1, "refused that (HTTP 401): The header X-API-Key is missing or wrong"),
        (("list", "--api-key", "\u20ac"), 1, "no HTTP header can carry"),
        (("list", "iad"), 2, "list takes no name"),
        (("down",), 2, "Name the regions"),
        (("away", "iad"), 2, "'away' is not one of"),
    ],
)
def test_what_is_refused(gateway: Gateway, words: tuple[str, ...], code: int, said: str) -> None:
    done = region(*words, *at(gateway))
    assert (done.exit_code, said in done.output) == (code, True), done.output
    assert region("list", *at(gateway)).output == "iad: up\nlax: up\n"


@pytest.mark.parametrize("url", ["127.0.0.1:8086", "ftp://h/", "http://", "http://user@h/", "http://[::1"])
def test_what_is_no_gateway(url: str) -> None:
    done = region("list", "--gateway", url)
    assert (done.exit_code, "is not the URL of a gateway" in done.output) == (2, True)


def test_what_does_not_answer() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and does not listen: connections are refused
        done = region("list", "--gateway", f"http://127.0.0.1:{deaf.getsockname()[1]}")
    assert (done.exit_code, "gave no answer (ConnectionError)" in done.output) == (1, True)
    with Site(lambda seen, index: Reply(body=b"<html>")).running() as other:
        done = region("list", "--gateway", other.url)
    assert (done.exit_code, "is no gateway: check" in done.output) == (1, True)


def test_a_setting_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EZTHROTTLE_LEASE", "soon")
    assert region("list").exit_code == 2
