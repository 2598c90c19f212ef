"""``check``, ``sweep`` and ``cancel`` in processes of their own, with real servers and without any worker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from celery import Celery

from celery_ezthrottle.settings.l8_keys import key_of
from celery_ezthrottle.store.redis.store import RedisStore
from celery_ezthrottle.store.states import State
from tests.support.fake_service import API_KEY, SECRET, FakeService
from tests.support.lab import PATIENCE, Lab
from tests.support.parked_task import parked
from tests.support.servers import free_port, valkey_server
from tests.support.upstream import Answer, running

pytestmark = pytest.mark.slow  # many processes

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "s3cr3t-of-the-server"

#: A user's project.
PROJECT = """
import os

import requests
from celery import Celery
from celery_ezthrottle import EZThrottleTask, frugal

app = Celery("proj", broker=os.environ["PROJ_BROKER"], backend=os.environ["PROJ_REDIS"])
app.conf.update(task_default_queue="proj")


@app.task
@frugal
def charge(order_id):
    requests.post("https://api.example.com/v1/charges", json={"order": order_id}, timeout=10).raise_for_status()


@app.task(base=EZThrottleTask)
def refund(order_id):
    requests.post("https://api.example.com/v1/refunds", json={"order": order_id}, timeout=10).raise_for_status()
"""


@dataclass
class Project:
    """A project with a server and a service of its own."""

    redis_url: str
    client: redis.Redis
    service: FakeService
    folder: Path
    environment: dict[str, str]
    store: RedisStore

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "proj", "ezthrottle", *command],
            check=False,
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert "Traceback" not in done.stderr
        for secret in (PASSWORD, SECRET, API_KEY):
            assert secret not in done.stdout + done.stderr
        return done

    def park(self, task_id: str, path: str = "/v1/charges", *, due: bool = True) -> None:
        """Leave behind a suspended task whose process died before it submitted the job."""
        now = time.time()
        left = parked(
            f"c-{task_id}",
            task_id,
            key=f"celery-{task_id}-1",
            queue="proj",
            path=path,
            suspended_at=now - 100,
            submit_deadline=now + 1000,
            deadline=now + 1000,
            submit_at=now - 1 if due else now + 1000,
        )
        assert self.store.suspend(left, 10) == "suspended"

    def state(self, task_id: str) -> State | None:
        record = self.store.task(task_id)
        return record.state if record else None


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with valkey_server() as url:
        yield url


@pytest.fixture
def project(server: str, tmp_path: Path) -> Iterator[Project]:
    """On a server that is empty and keeps what it is told; a test may set it otherwise."""
    (tmp_path / "proj.py").write_text(PROJECT)
    service = FakeService()
    service.hold("/v1/charges")
    url = f"{server}/0"
    store = RedisStore.from_url(url, prefix="{ezthrottle:proj}:")
    with running(service.respond) as service_url, closing(redis.Redis.from_url(url)) as client, closing(store):
        client.flushall()
        for name, value in {"appendonly": "yes", "maxmemory": "0", "maxmemory-policy": "noeviction"}.items():
            client.config_set(name, value)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("EZTHROTTLE_")},
            "PROJ_REDIS": url,
            "PROJ_BROKER": url,
            "EZTHROTTLE_API_KEY": API_KEY,
            "EZTHROTTLE_URL": service_url,
            "EZTHROTTLE_TRACKTAGS_URL": service_url,
            "EZTHROTTLE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/ezthrottle/webhook",
            "EZTHROTTLE_WEBHOOK_SECRET": SECRET,
            "EZTHROTTLE_FORWARD_UNSAFE_ON": "429,503",
            "EZTHROTTLE_FORWARD_HOSTS": "public,127.0.0.1",
        }
        yield Project(server, client, service, tmp_path, environment, store)


def kinds(output: str) -> list[str]:
    """How each finding begins. Before them stands what is set, and behind them what was checked."""
    return [line.partition(":")[0] for line in output.splitlines()[:-1] if not line.startswith(("route ", "limit "))]


# check


def test_check_finds_nothing_but_that_no_receiver_was_seen(project: Project) -> None:
    done = project.run("check")

    assert (done.returncode, kinds(done.stdout), done.stderr) == (0, ["note"], "")
    assert "No receiver has been seen" in done.stdout
    address = project.redis_url.removeprefix("redis://")
    assert done.stdout.splitlines()[-1] == (
        f"2 frugal tasks, store RedisStore({address}/0, prefix='{{ezthrottle:proj}}:'), 0 of at most 1000000 suspended, "
        f"broker redis://{address}/0."
    )


def test_check_says_first_which_route_the_tasks_take_and_which_limits_there_are(project: Project) -> None:
    nothing = dict.fromkeys(
        ("EZTHROTTLE_API_KEY", "EZTHROTTLE_URL", "EZTHROTTLE_WEBHOOK_URL", "EZTHROTTLE_WEBHOOK_SECRET"), ""
    )
    with_service = project.run("check")
    without = project.run("check", **nothing, EZTHROTTLE_LIMITS="api.example.com=500/m;burst=10, *=40/s")

    assert with_service.stdout.splitlines()[0].startswith("route service: Tasks proj.charge, proj.refund: ")
    assert [line.partition(": ")[0] for line in without.stdout.splitlines()[:3]] == [
        *("route workers", "limit api.example.com", "limit *"),
    ]
    assert (without.returncode, kinds(without.stdout)) == (0, ["note"])
    assert 'note: No EZThrottle service is configured, so the route is "workers"' in without.stdout


def test_check_notes_calls_that_may_be_executed_twice(project: Project) -> None:
    done = project.run("check", EZTHROTTLE_FORWARD_UNSAFE_ON="")

    assert (done.returncode, kinds(done.stdout)) == (0, ["note", "note"])
    assert (
        "note: Tasks proj.charge, proj.refund: a POST or PATCH without an Idempotency-Key is forwarded" in done.stdout
    )


def test_check_finds_a_server_that_keeps_nothing_on_disk(project: Project) -> None:
    project.client.config_set("appendonly", "no")

    done = project.run("check")

    assert (done.returncode, kinds(done.stdout)) == (1, ["warning", "note"])
    assert "keeps nothing on disk" in done.stdout
    assert "set appendonly yes" in done.stdout


def test_check_finds_a_server_that_evicts(project: Project) -> None:
    project.client.config_set("maxmemory", "100mb")
    project.client.config_set("maxmemory-policy", "allkeys-lru")

    done = project.run("check")

    assert (done.returncode, kinds(done.stdout)) == (1, ["warning", "note"])
    assert "maxmemory-policy is allkeys-lru" in done.stdout
    assert "set maxmemory-policy noeviction" in done.stdout


def test_check_compares_the_receivers_clock(project: Project) -> None:
    project.store.note_receiver(time.time() + 200)

    done = project.run("check")

    assert (done.returncode, kinds(done.stdout)) == (1, ["warning"])
    assert re.search(r"The receiver's clock is (199|200) s ahead of the store's: webhooks may be refused", done.stdout)
    assert project.run("check", EZTHROTTLE_WEBHOOK_TOLERANCE="401").returncode == 0


def test_check_sees_how_full_the_store_is(project: Project) -> None:
    for number in range(5):
        project.park(f"t{number}")

    done = project.run("check", EZTHROTTLE_MAX_SUSPENDED="6")

    assert (done.returncode, kinds(done.stdout)) == (1, ["warning", "note"])
    assert "5 of at most 6 tasks are suspended (ezthrottle_max_suspended)" in done.stdout
    assert ", 5 of at most 6 suspended, " in done.stdout


def test_check_sees_results_that_contradict(project: Project) -> None:
    now = time.time()
    for result in (b"one", b"another"):
        project.store.deliver(None, "j1", result, now, now + 60)

    done = project.run("check")

    assert (done.returncode, kinds(done.stdout)) == (1, ["warning", "note"])
    assert "1 webhooks brought another result" in done.stdout


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"EZTHROTTLE_API_KEY": "", "EZTHROTTLE_WEBHOOK_SECRET": "short"}, ["_api_key is not set", "shorter than 16"]),
        ({"EZTHROTTLE_RESULT_TIMEOUT": "soon"}, ["EZTHROTTLE_RESULT_TIMEOUT must be a number of seconds above 0"]),
        ({"EZTHROTTLE_STORE": f"redis://:{PASSWORD}@h:port/0"}, ["The URL of the store cannot be read"]),
        ({"EZTHROTTLE_STORE": "amqp://h"}, ["ezthrottle_store is not a redis://"]),
        ({"PROJ_BROKER": f"nonsense://:{PASSWORD}@h"}, ["broker_url cannot be used (KeyError)"]),
    ],
)
def test_check_says_what_is_wrong_with_the_configuration(
    project: Project, environment: dict[str, str], said: list[str]
) -> None:
    done = project.run("check", **environment)

    assert done.returncode == 2
    assert kinds(done.stdout)[: len(said)] == ["error"] * len(said)
    for part in said:
        assert part in done.stdout
    assert done.stdout.splitlines()[-1].startswith("2 frugal tasks")


def test_check_says_what_is_out_of_reach(project: Project) -> None:
    nowhere = f"127.0.0.1:{free_port()}/3"
    url = f"redis://:{PASSWORD}@{nowhere}"

    done = project.run("check", EZTHROTTLE_STORE=url, PROJ_BROKER=url)

    assert (done.returncode, kinds(done.stdout)) == (1, ["failed", "failed"])
    assert f"The continuation store at {nowhere} cannot be reached" in done.stdout
    assert f"The broker redis://{nowhere} cannot be reached (ConnectionError)" in done.stdout


def test_check_says_that_an_amqp_broker_is_out_of_reach(project: Project) -> None:
    done = project.run("check", PROJ_BROKER=f"amqp://user:{PASSWORD}@127.0.0.1:{free_port()}/shop")

    assert (done.returncode, kinds(done.stdout)) == (1, ["failed", "note"])
    assert "cannot be reached (ConnectionRefusedError): check that it is up" in done.stdout


def test_check_shows_no_password_where_all_is_well(project: Project) -> None:
    project.client.config_set("requirepass", PASSWORD)
    try:
        url = f"redis://:{PASSWORD}@{project.redis_url.removeprefix('redis://')}/0"
        done = project.run("check", PROJ_REDIS=url, PROJ_BROKER=url)
        refused = project.run("check")
    finally:
        project.client.config_set("requirepass", "")

    assert (done.returncode, kinds(done.stdout)) == (0, ["note"])
    assert (refused.returncode, kinds(refused.stdout)) == (1, ["failed", "failed"])


def test_a_receiver_lets_check_know_its_clock(project: Project, lab: Lab) -> None:
    words = ["celery", "-A", "proj", "ezthrottle", "webhook", "--bind", "127.0.0.1:0"]
    with lab.command(
        "noted", words, ready="receiver listening on", environment=project.environment, cwd=project.folder
    ):
        pass

    done = project.run("check")

    assert (done.returncode, kinds(done.stdout)) == (0, [])


# A worker


def test_a_worker_says_at_its_start_what_is_wrong(project: Project, lab: Lab) -> None:
    project.client.config_set("appendonly", "no")
    project.client.config_set("maxmemory", "100mb")
    project.client.config_set("maxmemory-policy", "volatile-ttl")
    project.store.note_receiver(time.time() - 1000)
    words = ["celery", "-A", "proj", "worker", "-P", "solo", "-n", "warns@test", "-l", "INFO"]
    with lab.command(
        "warns", words, ready="warns@test ready", environment=project.environment, cwd=project.folder
    ) as worker:
        said = [line for line in worker.output.splitlines() if "WARNING" in line]

    for part in (
        "maxmemory-policy is volatile-ttl",
        "keeps nothing on disk",
        "webhooks are refused",
    ):
        assert sum(part in line for line in said) == 1, part
    assert "No receiver" not in worker.output


@pytest.mark.parametrize("command", ["worker -P solo", "ezthrottle webhook", "ezthrottle gateway", "ezthrottle check"])
def test_a_misspelt_setting_keeps_a_process_from_starting(project: Project, command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "proj", *command.split()],
        check=False,
        cwd=project.folder,
        env={**project.environment, "EZTHROTTLE_LEESE": "77"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "variable EZTHROTTLE_LEESE is no setting: did you mean EZTHROTTLE_LEASE?" in done.stdout + done.stderr


def test_a_worker_starts_without_its_store(project: Project, lab: Lab) -> None:
    words = ["celery", "-A", "proj", "worker", "-P", "solo", "-n", "alone@test", "-l", "INFO"]
    environment = {**project.environment, "EZTHROTTLE_STORE": f"redis://127.0.0.1:{free_port()}/0"}
    with lab.command("alone", words, ready="alone@test ready", environment=environment, cwd=project.folder) as worker:
        assert worker.output.count("Whether the store keeps what it is given is not known") == 1


# sweep


def test_sweep_does_what_is_due_without_a_worker(project: Project) -> None:
    project.park("due")
    project.park("later", due=False)

    done = project.run("sweep")

    assert (done.returncode, done.stdout) == (0, "1 continuation acted on.\n")
    assert [job.wire["idempotent_key"] for job in project.service.jobs("/v1/charges")] == ["celery-due-1"]
    assert (project.state("due"), project.state("later")) == (State.SUBMITTED, State.STORED)
    assert project.run("sweep").stdout == "0 continuations acted on.\n"


def test_sweep_publishes_what_was_delivered(project: Project) -> None:
    project.park("due")
    now = time.time()
    project.store.deliver("c-due", "j1", b"{}", now - 10, now - 5)  # by a receiver that died then

    done = project.run("sweep")

    assert (done.returncode, done.stdout) == (0, "1 continuation acted on.\n")
    assert project.client.llen("proj") == 1
    assert project.state("due") is State.PUBLISHED


def test_sweep_leaves_what_the_service_does_not_take_now(project: Project) -> None:
    project.park("due")
    project.service.refuse("/v1/charges", Answer(503))

    done = project.run("sweep")

    assert (done.returncode, done.stdout) == (0, "1 continuation acted on.\n")
    assert "will be submitted again" in done.stderr
    assert project.state("due") is State.STORED


@pytest.mark.parametrize(
    ("environment", "code", "said"),
    [
        ({"EZTHROTTLE_STORE": "redis://127.0.0.1:{port}/0"}, 1, "The continuation store at 127.0.0.1"),
        ({"PROJ_BROKER": "redis://127.0.0.1:{port}/0"}, 1, "The broker redis://127.0.0.1"),
        ({"EZTHROTTLE_API_KEY": ""}, 2, "ezthrottle_api_key is not set"),
        ({"PROJ_BROKER": "nonsense://h"}, 2, "broker_url cannot be used"),
    ],
)
def test_sweep_says_why_it_cannot(project: Project, environment: dict[str, str], code: int, said: str) -> None:
    project.park("due")
    port = free_port()

    done = project.run("sweep", **{name: value.format(port=port) for name, value in environment.items()})

    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert project.state("due") is State.STORED
    assert project.service.jobs("/v1/charges") == []


# submit


def test_submit_prints_what_the_service_says(project: Project) -> None:
    done = project.run("submit", "http://127.0.0.1/v1/charges", "--json", '{"order": 7}', "--key", "order-7")
    assert done.returncode == 0, done.stderr
    [job] = project.service.jobs("/v1/charges")
    assert json.loads(done.stdout) == {"job_id": job.id, "status": "queued"}
    assert project.run("submit", "x").returncode == 2


# cancel


def test_cancel_without_a_worker(project: Project) -> None:
    for task_id in ("t1", "t2"):
        project.park(task_id)

    done = project.run("cancel", "t1", "t2")

    assert (done.returncode, done.stdout) == (0, "t1: cancelled\nt2: cancelled\n")
    with closing(Celery("client", backend=f"{project.redis_url}/0", set_as_current=False)) as client:
        assert [client.AsyncResult(task_id).state for task_id in ("t1", "t2")] == ["REVOKED", "REVOKED"]
    again = project.run("cancel", "t1")
    assert (again.returncode, again.stdout) == (1, "t1: not suspended\n")


def test_cancel_names_what_is_not_suspended(project: Project) -> None:
    project.park("t1")

    done = project.run("cancel", "unknown", "t1")

    assert (done.returncode, done.stdout) == (1, "unknown: not suspended\nt1: cancelled\n")


def test_cancel_says_that_the_store_is_out_of_reach(project: Project) -> None:
    done = project.run("cancel", "t1", EZTHROTTLE_STORE=f"redis://127.0.0.1:{free_port()}/0")

    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be reached" in done.stderr
    assert project.run("cancel").returncode == 2


# The documentation


def test_each_key_for_the_receiver_is_another(project: Project) -> None:
    made = [project.run("l8", "keygen") for _ in range(2)]
    keys = {done.stdout.strip().removeprefix("EZTHROTTLE_L8_PRIVATE_KEY=") for done in made}
    assert [done.returncode for done in made] == [0, 0]
    assert {len(key_of(key)) for key in keys} == {32}
    assert len(keys) == 2


def test_the_page_shows_what_the_commands_print(project: Project) -> None:
    shown = re.findall(r"^```console\n\$ celery -A proj ezthrottle (.*?)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    kinds = ["check", "sweep", "cancel", "submit", "secrets", "l8"]
    assert [command.split()[0] for command, _ in shown] == kinds
    shown = [each for each in shown if each[0].split()[0] not in {"submit", "secrets"}]  # see test_account_commands.py
    cancelled = shown[2][0].split()[1]
    project.client.config_set("appendonly", "no")
    for task_id in ("t1", "t2", "t3"):
        project.park(task_id)
    project.park(cancelled, due=False)

    port = project.redis_url.rpartition(":")[2]
    for command, output in shown:
        printed = project.run(*command.split(), EZTHROTTLE_LIMITS="api.example.com=500/m;burst=10").stdout.replace(
            f":{port}/", ":6379/"
        )
        assert re.sub(r"(?<=PRIVATE_KEY=).*", "...", printed) == output
