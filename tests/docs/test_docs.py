"""Every code block of README.md and docs/ does what it says."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import pytest

from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.limit import Limit
from celery_ezthrottle.settings.limits_setting import LIMITS
from celery_ezthrottle.settings.options import OPTION_NAMES
from celery_ezthrottle.store.states import TRANSITIONS, State
from tests.support.fake_local import FakeLocal
from tests.support.lab import Lab
from tests.support.servers import free_port
from tests.support.upstream import Answer, running

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

SHOWN_CHECK = "celery -A proj ezthrottle check"

#: Runs where a user's project is: charges three orders of which one is limited, and revokes what waits.
USE = """
import asyncio, httpx2
from tests.support.lab import wait_until
from proj.celery import app
from proj.shop import charge_all
from proj.more_tasks import refund, fetch
from proj.report import charge_then_count
from proj.threaded_tasks import fetch_all
from proj.limited_tasks import balance
from proj.limits import LIMITS
from proj.rates import price
from proj.music import all_at_once, one, one_after_another, with_progress
from proj.batching import fetch_all as fetch_balances, report
from proj.spotify import LIMITS as SPOTIFY, both, search, track
app.conf.ezthrottle_limits = SPOTIFY
from proj.async_tasks import fetch_at_once
from proj.fast_tasks import quote
from proj.orders import order
from proj.invoicing import bill
from proj.tracking import explain
from proj.watching import steps_of, watch
from proj.enriching import enrich
from proj.streaming import site
from proj.handed_over import pay
from proj.account import charge_later, price_of
from proj.legacy import process_payment
from proj.own_webhook import status_of
from proj.revoking import revoke
from proj.web import app as mounted
from proj.asgi import application as beside
assert charge_then_count([4, 5]).get(timeout=30) == 2
print(charge_all([1, 2, 3]).get(timeout=30), refund.delay(7).get(timeout=30), fetch.delay("/v1/list").get(timeout=30)["path"])
assert len(fetch_all.delay(["/v1/one", "/v1/two"]).get(timeout=30)) == 2
assert [found["n"] for found in fetch_at_once.delay(["/v1/three", "/v1/four", "/v1/five"]).get(timeout=30)] == [1, 2, 1]
assert price.delay(3, "EUR").get(timeout=30) == 3
assert one("miles").get(timeout=30) == 1
assert sorted(all_at_once([1, 2]).get(timeout=30)) == [1, 1]
assert one_after_another(["a", "b"]).get(timeout=30) > 0
assert with_progress([7, 8], "music").get(timeout=30) == 2
fetch_balances(range(30))
assert [found["path"].rpartition("/")[2] for found in report(30)] == [str(n) for n in range(30)]
assert quote.delay("ACME").get(timeout=30)["n"] == 1
paid = pay.delay(7).get(timeout=30)
assert (paid["status"], paid["status_code"], paid["executed_locally"]) == ("success", 200, False)
assert charge_later(7)["status"] == charge_later(7)["status"].replace("duplicate", "queued") == "queued"
assert price_of("tea")["n"] == 1
assert process_payment(7)["job_id"] == process_payment(7)["job_id"]
assert status_of(b"", {}, "a new secret of 16 or more", "an old one") == 401
assert order(5).delay().get(timeout=30)["status"] == "success"
assert bill(9).delay().get(timeout=30)["path"] == ""
tracked = watch(9)
assert explain(9).startswith("Jobs: 1 when each step succeeds at once")
wait_until(lambda: len(steps_of(tracked)) == 3, "all steps")
async def ask(site):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(site), base_url="http://site") as client:
        return [(await client.get(path)).status_code for path in ("/ezthrottle/webhook", "/other")]
assert asyncio.run(ask(mounted)) == asyncio.run(ask(beside)) == [405, 404]  # the receiver's own answer is 405
class Spotify:
    search = playlists = lambda self, query="all": query
async def one_track():
    answers = httpx2.MockTransport(lambda request: httpx2.Response(200, json=request.url.path))
    async with httpx2.AsyncClient(transport=answers, base_url="http://site") as client:
        return await track(client, 5)
assert (search(Spotify(), "miles"), both(Spotify()), asyncio.run(one_track())) == ("miles", "all", "/tracks/5")
enriching = enrich.delay([1, 2])
async def page():
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(site), base_url="http://site") as client:
        return (await client.get(f"/progress/{enriching.id}")).text.split("event: ")[1:]
events = [event.split("\\n")[0] for event in asyncio.run(page())]
assert enriching.get(timeout=30) == 2
assert events == ["phase", "count", "phase", "count", "count", "done"], events  # suspended once: the body ran twice
waiting = fetch.delay("/v1/waits")
wait_until(lambda: waiting.state == "FORWARDED", "the suspension")
revoke(waiting.id)
assert waiting.state == "REVOKED"  # without a worker's doing
revoke("not-suspended")
wait_until(lambda: "not-suspended" in str(app.control.inspect().revoked()), "the worker to know")
"""


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text()):
            if found == language:
                yield page.name, text


def commands(page: str = "") -> list[str]:
    return [
        line.removeprefix("$ ").partition("  #")[0].strip()
        for name, text in blocks("console")
        for line in text.splitlines()
        if line.startswith("$ ") and page in {"", name}
    ]


def outputs(page: str, command: str) -> list[list[str]]:
    """What a page shows below each command that begins like that."""
    lines = [line for name, text in blocks("console") if name == page for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
    return [lines[start + 1 : end] for start, end in pairwise(starts) if lines[start].startswith(f"$ {command}")]


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    kinds = {kind for page in PAGES for kind, _ in BLOCK.findall(page.read_text())}
    assert kinds == {"python", "console", "text"}


def test_the_project_of_the_readme_runs(lab: Lab, path: str, tmp_path: Path) -> None:
    """The modules as they are written, a worker and the receiver by the commands as they are written."""
    package = tmp_path / "proj"
    package.mkdir()
    (package / "__init__.py").touch()
    for _, text in blocks("python"):
        name = text.splitlines()[0].removeprefix("# proj/")
        assert name in {"celery.py", "tasks.py"} or f"from proj.{name.removesuffix('.py')} import" in USE
        (package / name).write_text(text)
    # A user would add the other modules to ``include``.
    celery = package / "celery.py"
    celery.write_text(
        celery.read_text().replace(
            '["proj.tasks"]',
            '["proj.tasks", "proj.more_tasks", "proj.threaded_tasks", "proj.limited_tasks", "proj.async_tasks", '
            '"proj.fast_tasks", "proj.music", "proj.rates", "proj.handed_over", "proj.invoicing", "proj.enriching"]',
        )
    )
    environment = {
        **os.environ,
        **lab.environment,
        "CELERY_BROKER_URL": f"{lab.redis_url}/5",
        "CELERY_RESULT_BACKEND": f"{lab.redis_url}/5",
        "PAYMENTS_API": f"{lab.upstream.url}{path}",
        "EZTHROTTLE_FORWARD_HOSTS": "127.0.0.1",
        "EZTHROTTLE_SWEEP_INTERVAL": "0.1",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    written_bind, bind = "127.0.0.1:8085", f"127.0.0.1:{free_port()}"
    written = [command for command in commands() if command.startswith("celery -A proj")]
    worker, receiver = (next(c for c in written if word in c.split()) for word in ("worker", "webhook"))
    assert receiver.endswith(written_bind)
    receiver = receiver.replace(written_bind, bind)  # another process may listen on the port as written
    environment["EZTHROTTLE_WEBHOOK_URL"] = f"http://{bind}/ezthrottle/webhook"
    lab.upstream.plan(f"{path}/v1/charges", 200, 429)
    lab.upstream.plan(f"{path}/v1/refunds", 429, 503)
    lab.upstream.plan(f"{path}/v1/list", 503)
    lab.upstream.plan(f"{path}/v1/payments", 429)
    lab.upstream.plan(f"{path}/v1/two", 429)
    lab.upstream.plan(f"{path}/v1/four", 429)
    lab.upstream.plan(f"{path}/v1/waits", 503)
    lab.upstream.plan(f"{path}/v1/tracks/2", 429)
    lab.upstream.plan(f"{path}/v1/legacy", 429, 429)
    for held in ("waits", "later", "legacy"):
        lab.service.hold(f"{path}/v1/{held}")

    with ExitStack() as stack:
        for name, command in {"doc-receiver": receiver, "doc-worker": f"{worker} -l INFO -c 2 -n doc@test"}.items():
            ready = "listening on" if "webhook" in command else "doc@test ready"
            stack.enter_context(
                lab.command(name, shlex.split(command), ready=ready, environment=environment, cwd=tmp_path)
            )
        done = subprocess.run(
            [sys.executable, "-c", USE],
            check=False,
            env={**environment, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[0] == "3"
    assert "to be refunded by hand" in done.stdout
    answered = f"{path}/v1/charges"
    assert (lab.upstream.by_worker(answered), lab.upstream.by_service(answered)) == (6, 1)
    assert lab.upstream.by_worker(f"{path}/v1/one") == 1, "a thread's answer is not used again"


def small_project(folder: Path) -> None:
    """Write the two modules of the README that a trial needs."""
    package = folder / "proj"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("celery.py", "tasks.py"):
        (package / name).write_text(next(text for _, text in blocks("python") if text.startswith(f"# proj/{name}")))


def test_five_minutes_are_enough(lab: Lab, path: str, tmp_path: Path) -> None:
    """The first commands of the README, in their order: no service, nothing but Redis. Only its URL is another one."""
    small_project(tmp_path)
    (tmp_path / "proj" / "shop.py").write_text(next(text for _, text in blocks("python") if "proj/shop.py" in text))
    text = (ROOT / "README.md").read_text()
    part = text[text.index("## Five minutes") : text.index("## With the service")]
    written = [
        line.removeprefix("$ ")
        for block in BLOCK.findall(part)
        if block[0] == "console"
        for line in block[1].splitlines()
    ]
    exports = [next(iter(shlex.split(line)[1:])).partition("=") for line in written if line.startswith("export ")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("EZTHROTTLE_", "CELERY_"))},
        **{name: value.replace("redis://127.0.0.1:6379/0", f"{lab.redis_url}/8") for name, _, value in exports},
        "PAYMENTS_API": f"{lab.upstream.url}{path}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
    }
    worker, check = (line for line in written if line.startswith("celery"))
    lab.upstream.plan(f"{path}/v1/charges", 200, Answer(429, headers={"Retry-After": "1"}))

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words],
            check=False,
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    words = shlex.split(f"{worker} -l INFO -c 2 -n five@test")
    with lab.command("five", words, ready="five@test ready", environment=environment, cwd=tmp_path):
        assert run("-c", "from proj.shop import charge_all; print(charge_all([1, 2, 3]).get(timeout=30))") == "3\n"
    assert (lab.upstream.by_worker(f"{path}/v1/charges"), lab.upstream.by_service(f"{path}/v1/charges")) == (4, 0)
    found = run("-m", *shlex.split(check)).splitlines()
    assert found[0].startswith("route workers: Task proj.tasks.charge: ")
    assert found[1:3] == ["limit api.example.com: 500/m;burst=10;concurrency=20", "limit *: 40/s"]
    assert not any(line.startswith("error:") for line in found)


def test_a_trial_with_the_gateway_works_as_written(lab: Lab, path: str, tmp_path: Path) -> None:
    """The commands of the page, in their order, for an API on this machine. Only the ports are free ones."""
    small_project(tmp_path)
    ports = {port: str(free_port()) for port in ("8085", "8086", "8087")}
    written = [re.sub("808[567]", lambda found: ports[found[0]], command) for command in commands("gateway.md")]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EZTHROTTLE_")},
        "CELERY_BROKER_URL": f"{lab.redis_url}/6",
        "CELERY_RESULT_BACKEND": f"{lab.redis_url}/6",
        "PAYMENTS_API": f"{lab.upstream.url}{path}",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}",
        **dict(command.removeprefix("export ").split("=", 1) for command in written if command.startswith("export ")),
    }
    ready = {"gateway": "gateway listening on", "webhook": "receiver listening on", "worker": "trial@test ready"}
    lab.upstream.plan(f"{path}/v1/charges", 429)
    asked: list[str] = []

    def run(*words: str, **others: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            check=False,
            env={**environment, **others},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )

    with ExitStack() as stack:
        for number, command in enumerate(command for command in written if command.startswith("celery")):
            kind = next((word for word in command.split() if word in ready), "")
            if not kind:
                asked.append(run("-m", *shlex.split(command)).stdout)
                continue
            words = shlex.split(command) + (["-l", "INFO", "-n", "trial@test", "-c", "1"] if kind == "worker" else [])
            stack.enter_context(
                lab.command(f"trial-{number}-{kind}", words, ready=ready[kind], environment=environment, cwd=tmp_path)
            )
        done = run("-c", "from proj.tasks import charge; print(charge.delay(7).get(timeout=30))")
        found = run("-m", "celery", "-A", "proj", "ezthrottle", "check").stdout
        without = run("-m", "celery", "-A", "proj", "ezthrottle", "check", EZTHROTTLE_FORWARD_HOSTS="").stdout
    assert done.stdout.strip() == f"{path}/v1/charges 2", done.stderr
    assert [answer.splitlines() for answer in asked] == outputs("gateway.md", "celery -A proj ezthrottle region")
    tried, forwarded = lab.upstream.received(f"{path}/v1/charges")
    assert tried.headers["Idempotency-Key"] == forwarded.headers["Idempotency-Key"] == "charge-7"
    assert ("error:" in found, "forward_hosts" in found) == (False, False)
    assert (
        "warning: Task proj.tasks.charge: ezthrottle_tracktags_url is on this machine, and forward_hosts is not set"
        in without
    )


def test_a_server_of_ones_own_works_as_written(lab: Lab, path: str, tmp_path: Path) -> None:
    """The commands of the page, in their order, with a fake of that server. Only the ports are free ones."""
    small_project(tmp_path)
    server = FakeLocal()
    with ExitStack() as stack:
        url = stack.enter_context(running(server.respond))
        ports = {"8085": str(free_port()), "4000": url.rpartition(":")[2]}
        written = [re.sub(r"\b(8085|4000)\b", lambda found: ports[found[0]], each) for each in commands("local.md")]
        exports = [command.removeprefix("export ") for command in written if command.startswith("export ")]
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EZTHROTTLE_")},
            "CELERY_BROKER_URL": f"{lab.redis_url}/7",
            "CELERY_RESULT_BACKEND": f"{lab.redis_url}/7",
            "PAYMENTS_API": f"{lab.upstream.url}{path}",
            "PYTHONPATH": str(tmp_path),
            **dict(export.split("=", 1) for export in exports if not export.endswith("=...")),
        }
        lab.upstream.plan(f"{path}/v1/charges", 429, 503)

        def run(*words: str) -> str:
            command = [sys.executable, *words]
            return subprocess.run(
                command, check=False, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
            ).stdout

        keygen, receiver, worker, check = (c for c in [*written, SHOWN_CHECK] if c.startswith("celery"))
        without = run("-m", *shlex.split(check))
        name, _, key = run("-m", *shlex.split(keygen)).strip().partition("=")
        assert f"{name}=..." in exports
        environment[name] = key
        for title, command, ready in (
            ("local-receiver", receiver, "receiver listening on"),
            ("local-worker", f"{worker} -l INFO -n local@test -c 1", "local@test ready"),
        ):
            words = shlex.split(command)
            stack.enter_context(lab.command(title, words, ready=ready, environment=environment, cwd=tmp_path))
        charged = run("-c", "from proj.tasks import charge; print(charge.delay(7).get(timeout=30))")
        found = run("-m", *shlex.split(check))
    assert charged.strip() == f"{path}/v1/charges 3"
    assert [job.webhooks for job in server.jobs(f"{path}/v1/charges")] == [[200], [200]]
    assert ("webhooks are not signed" in without, "webhooks are not signed" in found) == (True, False)


def test_make_knows_the_targets() -> None:
    targets = {command.split()[1] for command in commands() if command.startswith("make ")}
    assert {"demo", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("celery -A proj ezthrottle")])
def test_the_commands_take_the_options(command: str) -> None:
    from click.testing import CliRunner

    from celery_ezthrottle.cli import ezthrottle

    words = shlex.split(command)[4:]
    named = list(itertools.takewhile(lambda word: not word.startswith("-"), words))
    shown = CliRunner().invoke(ezthrottle, [*named, "--help"]).output
    assert all(word in shown for word in words if word.startswith("--"))


def test_installed_extras_exist() -> None:
    extras = {extra for c in commands() for extra in re.findall(r"celery-ezthrottle\[(\w+)\]", c)}
    text = (ROOT / "README.md").read_text()
    extras |= set(re.findall(r"celery-ezthrottle\[(\w+)\]", text))
    declared = (ROOT / "pyproject.toml").read_text()
    assert extras
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras)


def test_exported_variables_are_settings() -> None:
    names = {command.split("=")[0].removeprefix("export ") for command in commands() if command.startswith("export ")}
    names -= {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}  # Celery's own
    assert names
    assert {name.removeprefix("EZTHROTTLE_").lower() for name in names} <= {field.name for field in fields(Settings)}


def test_every_setting_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    documented = set(re.findall(r"^\| `(?:ezthrottle_)?(\w+)` \|", page, re.MULTILINE))
    assert documented == {field.name for field in fields(Settings)} | OPTION_NAMES


def test_the_table_of_limits_says_the_same_twice() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    rows = re.findall(r"^\| `(Limit\b.*?)` \| (`.*?`) \|", page, re.MULTILINE)
    assert len(rows) == 7
    for code, texts in rows:
        limit = eval(code, {"Limit": Limit})
        assert [Limit.from_text(text) for text in re.findall(r"`(.*?)`", texts)] == [limit] * texts.count(", `") + [
            limit
        ]


def test_the_limits_in_the_environment_are_as_shown() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    (text,) = re.findall(r'`EZTHROTTLE_LIMITS="(.*)"`', page)
    assert LIMITS.of_setting(text) == {"*": Limit("40/s"), "api.example.com": Limit("10/s;500/m", burst=10)}


def test_the_table_of_transitions_is_that_of_the_state_machine() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    drawn = {
        (act, frozenset(sources.split(", ")), target, who, dies) for act, sources, target, who, _, _, dies in rows[1:]
    }
    assert drawn == {
        (each.act.value, frozenset(map(_named, each.sources)), _named(each.target), each.who, each.dies)
        for each in TRANSITIONS
    }


def _named(state: State | None) -> str:
    return "none" if state is None else state.value


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
