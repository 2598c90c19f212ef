"""``limits``: what the workers keep, and changes while they run. Against a real server, in this process."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from celery_ezthrottle import Limit
from celery_ezthrottle.cli import ezthrottle
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.live import LiveLimits
from celery_ezthrottle.limits.turns import Queued, Turn
from tests.support.servers import free_port, valkey_server

PAGE = Path(__file__).parents[2] / "docs" / "limits.md"
SETTINGS = {
    "*": Limit("40/s"),
    "api.example.com": Limit("3/h", concurrency=5),
    "*.shopify.com": Limit("2/h", per=str),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey_server() as url:
        yield f"{url}/0"


class Deployment:
    """An app, and a worker's view of its limits."""

    def __init__(self, server: str, limits: Any) -> None:
        prefix = f"{{{uuid4().hex}}}:"
        self.app = Celery("proj", set_as_current=False)
        self.app.conf.update(
            ezthrottle_store=server, ezthrottle_route="workers", ezthrottle_key_prefix=prefix, ezthrottle_limits=limits
        )
        self.limiter = Limiter.from_url(server, prefix=prefix)
        self.limits = limits

    def run(self, *words: str) -> Result:
        done = CliRunner().invoke(ezthrottle, ["limits", *words], obj=SimpleNamespace(app=self.app))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def says(self, *words: str) -> str:
        done = self.run(*words)
        assert done.exit_code == 0, done.output
        return done.output

    def shown(self) -> dict[str, dict[str, Any]]:
        return {limit["pattern"]: limit for limit in json.loads(self.says("show", "--json"))}

    def call(self, url: str, request: object = "x") -> Turn | Queued:
        """A call by a process that has just started."""
        live = LiveLimits(self.limits, self.limiter.changes.read, margin=0.025)
        assert live.now() is not None  # reads what was set
        buckets = live.buckets(url, lambda: request, lambda name: None)
        ticket = uuid4().hex
        answer = self.limiter.acquire(buckets, ticket=ticket, max_wait=0, margin=0.01, lease=60)
        if isinstance(answer, Queued):
            self.limiter.wait_in_queue(buckets, ticket, answer, lease=60, lifetime=60)
        return answer


@pytest.fixture
def deploy(server: str) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def deploy(limits: Any = SETTINGS) -> Deployment:
        made.append(Deployment(server, limits))
        return made[-1]

    yield deploy
    for each in made:
        each.limiter.close()


def test_what_each_limit_is_doing(deploy: Callable[..., Deployment]) -> None:
    here = deploy()
    for _ in range(4):
        here.call("https://api.example.com/v1")
    here.call("https://a.shopify.com", "token 1")
    here.limiter.cool_down(["*.shopify.com"], 4e9)
    shown = here.shown()
    example = shown["api.example.com"]
    assert example["limit"] == example["settings"] == "3/h;concurrency=5"
    assert example["used"] == [{"used": 3, "count": 3, "seconds": 3600.0}]
    assert (example["waiting"], example["running"], example["paused"]) == (1, 3, False)
    assert example["cooling_until"] is None
    assert shown["*.shopify.com"]["cooling_until"] >= 4e9
    (token,) = shown["*.shopify.com"]["split"].values()
    assert token["used"][0]["used"] == 1

    head, *rows = here.says("show").splitlines()
    assert head.split() == ["pattern", "limit", "used", "waiting", "running", "state", "from"]
    assert rows[1].split() == ["api.example.com", "3/h;concurrency=5", "3/3", "1", "3/5", "open", "settings"]
    assert re.fullmatch(r"\*\.shopify\.com .* cools down for \d+ s +settings", rows[2])
    assert re.fullmatch(r"  #[0-9a-f]{16} +1/2 +0 +- +open", rows[3])
    assert "token" not in here.says("show")


def test_a_limit_is_set_and_reset(deploy: Callable[..., Deployment]) -> None:
    here = deploy()
    for _ in range(4):
        here.call("https://api.example.com/v1")
    assert here.says("set", "API.example.com", "10/h") == "api.example.com: 3/h;concurrency=5 -> 10/h\n"
    assert here.shown()["api.example.com"]["used"] == [{"used": 3, "count": 10, "seconds": 3600.0}]
    assert here.shown()["api.example.com"]["set_at_run_time"]
    assert "run time (settings: 3/h;concurrency=5)" in here.says("show")
    ((_, _),) = here.limiter.due(10).turns  # who waited has its turn
    assert here.says("set", "api.example.com", "--reset") == "api.example.com: 10/h -> 3/h;concurrency=5\n"
    assert isinstance(here.call("https://api.example.com/v1"), Queued)
    assert not here.shown()["api.example.com"]["set_at_run_time"]


def test_a_pattern_that_the_settings_do_not_have(deploy: Callable[..., Deployment]) -> None:
    here = deploy({})
    assert "No limit is set" in here.says("show")
    assert here.says("set", "new.org", "1/h") == "new.org: no limit -> 1/h\n"
    assert isinstance(here.call("https://new.org"), Turn)
    assert isinstance(here.call("https://new.org"), Queued)
    assert here.says("pause", "new.org") == "new.org: paused\n"
    assert here.says("set", "new.org", "--reset") == "new.org: 1/h -> no limit\n"
    assert here.says("show", "--json") == "[]\n"


def test_what_another_version_has_set_can_be_set_again(deploy: Callable[..., Deployment]) -> None:
    here = deploy()
    for pattern in ("api.example.com", "new.org"):
        here.limiter.changes.set(Bucket(pattern, Limit("1/h").windows), "5/fortnight")
    assert here.shown()["api.example.com"]["limit"] == "3/h;concurrency=5"
    assert here.says("pause", "api.example.com") == "api.example.com: paused\n"
    assert here.says("set", "api.example.com", "6/h") == "api.example.com: 3/h;concurrency=5 -> 6/h\n"
    assert here.says("set", "new.org", "--reset") == "new.org: no limit -> no limit\n"
    assert here.shown()["api.example.com"]["limit"] == "6/h"


def test_a_limit_is_paused_with_all_that_per_has_split_off(deploy: Callable[..., Deployment]) -> None:
    here = deploy()
    assert here.says("pause", "*.shopify.com", "api.example.com").splitlines() == [
        "*.shopify.com: paused",
        "api.example.com: paused",
    ]
    assert isinstance(here.call("https://a.shopify.com", "token 1"), Queued)
    assert here.shown()["*.shopify.com"]["paused"]
    assert here.says("resume", "*.shopify.com", "*").splitlines() == ["*.shopify.com: goes on", "*: was not paused"]
    assert isinstance(here.call("https://a.shopify.com", "token 2"), Turn)  # the other one waits, and is called
    assert here.shown()["api.example.com"]["paused"]


def test_a_set_limit_keeps_the_per_of_the_settings(deploy: Callable[..., Deployment]) -> None:
    here = deploy()
    assert "-> 1/h;per=str" in here.says("set", "*.shopify.com", "1/h")
    assert isinstance(here.call("https://a.shopify.com", "1"), Turn)
    assert isinstance(here.call("https://a.shopify.com", "1"), Queued)
    assert isinstance(here.call("https://a.shopify.com", "2"), Turn)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "api.example.com", "often"], "'often' is no rate"),
        (["set", "api.example.com", "0/s"], "allows no call ever"),
        (["set", "api.example.com", "5/s;speed=3"], "'speed=3' is no part of a limit"),
        (["set", "https://u:s3cret@x.org", "5/s"], "a pattern is no URL"),
        (["set", "api.example.com"], "Name the limit that is to hold, or give --reset"),
        (["set", "api.example.com", "5/s", "--reset"], "Name the limit that is to hold, or give --reset"),
        (["set", "other.org", "--reset"], "'other.org' is the pattern of no limit"),
        (["pause", "other.org"], "The patterns that have one: '*', 'api.example.com', '*.shopify.com'"),
        (["pause", "*", "other.org"], "'other.org' is the pattern of no limit"),
        (["resume", "other.org"], "'other.org' is the pattern of no limit"),
        (["pause"], "Missing argument"),
    ],
)
def test_what_is_wrong_is_told(deploy: Callable[..., Deployment], words: list[str], said: str) -> None:
    here = deploy()
    before = here.shown()
    done = here.run(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert "s3cret" not in done.output
    assert here.shown() == before


@pytest.mark.parametrize("words", [["show"], ["set", "a.org", "1/s"], ["pause", "*"], ["resume", "*"]])
def test_a_store_that_is_out_of_reach(deploy: Callable[..., Deployment], words: list[str]) -> None:
    here = deploy()
    here.app.conf.ezthrottle_store = f"redis://127.0.0.1:{free_port()}/0"
    done = here.run(*words)
    assert done.exit_code == 1
    assert "cannot be reached" in done.output


def test_the_page_shows_what_the_commands_print(deploy: Callable[..., Deployment]) -> None:
    page = PAGE.read_text()
    (block,) = re.findall(r"^```console\n(\$ celery -A proj ezthrottle limits .*?)^```$", page, re.M | re.S)
    (code,) = re.findall(r"^```python\n# proj/limits.py\n(.*?)^```$", page, re.M | re.S)
    module: dict[str, Any] = {}
    exec(code, module)
    here = deploy(module["LIMITS"])
    steps = [step.split("\n", 1) for step in re.split(r"^\$ ", block, flags=re.M)[1:]]
    assert {shlex.split(command)[5] for command, _ in steps} == {"show", "set", "pause", "resume"}
    for command, output in steps:
        assert here.says(*shlex.split(command)[5:]) == output
