"""A chord whose members wait longer than its counters and results live."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.support.lab import PATIENCE, Lab, wait_until

EXPIRES = 3

pytestmark = pytest.mark.slow

#: In a process of its own: a backend reads how long results live when it is made.
SEND = """
import sys
from celery import chain, chord
from tests.support.project import collect, fetch
path = sys.argv[1]
header = [fetch.s(path + "/0"), chain(fetch.si(path + "/1"), fetch.si(path + "/2"))]
nested = [chord([fetch.s(path + "/3")], collect.s())] if sys.argv[2] == "nested" else []
result = chord([*header, *nested], collect.s()).apply_async(queue="expiring")
print(result.get(timeout=30))
"""


@pytest.mark.parametrize("shape", ["flat", "nested"])
def test_a_chord_outlives_its_expiry(lab: Lab, path: str, shape: str) -> None:
    environment = {
        "TEST_RESULT_EXPIRES": str(EXPIRES),
        "TEST_QUEUE": "expiring",
        "EZTHROTTLE_RESULT_TIMEOUT": "2.9",
        "EZTHROTTLE_SUBMIT_TIMEOUT": "2.9",
        "EZTHROTTLE_KEY_PREFIX": "{expiring}:",
    }
    waiting = [f"{path}/1", f"{path}/2"]
    for each in waiting:
        lab.upstream.plan(each, 429)
        lab.service.hold(each)
    receive = ("ezthrottle", "webhook", "--bind", "127.0.0.1:0")
    with lab.process("expiring-receiver", *receive, ready="listening on", **environment) as receiver:
        url = receiver.output.split("listening on ")[1].split()[0]
        environment["EZTHROTTLE_WEBHOOK_URL"] = f"{url}/ezthrottle/webhook"
        with lab.worker("expiring", "-P", "solo", "-Q", "expiring", **environment):
            sender = subprocess.Popen(
                [sys.executable, "-c", SEND, path, shape],
                env={**os.environ, **lab.environment, **environment},
                stdout=subprocess.PIPE,
                text=True,
            )
            started = 0.0
            for number, each in enumerate(waiting, 1):
                (job,) = wait_until(lambda each=each: lab.service.jobs(each), "the job")  # type: ignore[misc]
                started = started or time.monotonic()  # the first member has ended about now
                # Each wait is shorter than the results live, both together are longer.
                until = started + number * 0.65 * EXPIRES
                wait_until(lambda until=until: time.monotonic() > until, "time to pass")  # type: ignore[misc]
                lab.service.deliver(job)
            output, _ = sender.communicate(timeout=PATIENCE)

    assert time.monotonic() - started > EXPIRES
    expected = [f"{path}/0", f"{path}/2", *([[f"{path}/3"]] if shape == "nested" else [])]
    assert output.strip() == str(expected)


def test_a_wait_longer_than_results_live_is_refused(lab: Lab) -> None:
    wrong = {"TEST_RESULT_EXPIRES": str(EXPIRES), "EZTHROTTLE_RESULT_TIMEOUT": "4", "EZTHROTTLE_SUBMIT_TIMEOUT": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.support.project", "worker", "-P", "solo", "-Q", "never"],
        check=False,
        env={**os.environ, **lab.environment, **wrong},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "is not below result_expires (3 s)" in done.stderr
