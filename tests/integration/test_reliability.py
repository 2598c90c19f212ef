"""What holds when runs die, tasks are cancelled, and outcomes stay unknown: with real workers."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import chord
from celery.exceptions import TaskRevokedError

import celery_ezthrottle
from celery_ezthrottle import OutcomeUnknown
from celery_ezthrottle.continuation import Continuations
from tests import lasting
from tests.lab import PATIENCE, Lab, wait_until
from tests.project import app, collect, fetch, on_error
from tests.upstream import Answer


def suspended(lab: Lab, path: str, task: Any = fetch, **options: Any) -> Any:
    """A task that waits for the service."""
    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    result = task.apply_async((path,), **options)
    wait_until(lambda: result.state == "FORWARDED" and lab.service.jobs(path), "the suspension")
    return result


# Cancel


#: Celery's result backend uses it when this process stores the state.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.mark.smoke
@pytest.mark.parametrize("how", ["cancel", "revoke", "revoke by a list", "terminate"])
def test_a_suspended_task_is_revoked_at_once(lab: Lab, path: str, how: str) -> None:
    result = suspended(lab, path)
    if how == "cancel":
        assert celery_ezthrottle.cancel(result.id, app=app)
        assert result.state == "REVOKED"
        assert not celery_ezthrottle.cancel(result.id, app=app)
    else:
        ids = [result.id] if how == "revoke by a list" else result.id
        app.control.revoke(ids, terminate=how == "terminate")
        wait_until(lambda: result.state == "REVOKED", "the revocation")
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)

    (job,) = lab.service.jobs(path)
    assert lab.service.deliver(job) == [200]  # a webhook that comes later is a no-op
    fetch.apply_async((f"{path}/after",)).get(timeout=PATIENCE)
    assert (result.state, lab.effects(path)) == ("REVOKED", ["start"])


def test_a_revoked_member_fails_its_chord_as_it_does_without_us(lab: Lab, path: str) -> None:
    lab.service.hold(f"{path}/a")
    lab.upstream.plan(f"{path}/a", 429)
    body: Any = chord([fetch.s(f"{path}/a"), fetch.s(f"{path}/b")])(collect.s().on_error(on_error.s(path=path)))
    member = body.parent[0]
    wait_until(lambda: member.state == "FORWARDED", "the suspension")

    app.control.revoke(member.id)

    with pytest.raises(Exception, match="revoked"):
        body.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path) == ["errback"], "the chord's errback")
    assert member.state == "REVOKED"


def test_a_revoke_by_stamped_headers_waits_for_the_resumption(lab: Lab, path: str) -> None:
    signature = fetch.s()
    signature.stamp(batch=path)
    result = suspended(lab, path, signature)

    headers: Any = {"batch": [path]}  # its type says one stamp
    app.control.revoke_by_stamped_headers(headers, reply=True)
    assert result.state == "FORWARDED"
    lab.service.deliver(lab.service.jobs(path)[0])

    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE)
    assert lab.effects(path) == ["start"]


@pytest.mark.slow
def test_it_stays_revoked_when_every_worker_is_restarted_without_a_state_file(lab: Lab, path: str) -> None:
    queue = f"restarted-{uuid.uuid4().hex[:6]}"
    with lab.worker("restarted", "-P", "solo", "-Q", queue, TEST_QUEUE=queue):
        result = suspended(lab, path, queue=queue)
    # No worker of this queue is there: nobody could remember the id.
    assert celery_ezthrottle.cancel(result.id, app=app)
    assert result.state == "REVOKED"
    lab.service.deliver(lab.service.jobs(path)[0])
    with lab.worker("restarted-2", "-P", "solo", "-Q", queue, TEST_QUEUE=queue) as worker:
        wait_until(lambda: "was revoked while it was suspended" in worker.output, "the announcement")
        fetch.apply_async((f"{path}/after",), queue=queue).get(timeout=PATIENCE)
    assert (result.state, lab.effects(path)) == ("REVOKED", ["start"])


def test_only_a_suspended_task_is_cancelled(lab: Lab, path: str) -> None:
    result = fetch.delay(path)
    assert result.get(timeout=PATIENCE) == path
    assert not celery_ezthrottle.cancel(result.id, app=app)
    assert not celery_ezthrottle.cancel("nobody knows this one", app=app)
    assert result.state == "SUCCESS"


# Runs that die


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["child", "worker"])
def test_a_late_acknowledged_resumed_run_that_died_is_taken_over(lab: Lab, path: str, victim: str) -> None:
    """What the dead one was answered is not asked for again: neither by the service, nor by itself."""
    queue = f"late-{uuid.uuid4().hex[:6]}"
    lab.upstream.plan(path, 429)
    with lab.worker("late", "-P", "prefork", "-c", "1", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="2") as worker:
        result = lasting.charges_twice.apply_async((path,), queue=queue)
        pid = int(wait_until(lambda: lab.client.get(f"pid:{path}"), "the resumed run to wait") or 0)
        os.kill(pid if victim == "child" else worker.popen.pid, signal.SIGKILL)
        if victim == "worker":
            worker.popen.wait(PATIENCE)
            os.kill(pid, signal.SIGKILL)  # an orphan would go on
            with lab.worker("late-2", "-P", "solo", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="2"):
                assert result.get(timeout=PATIENCE) == "charged"
        else:
            assert result.get(timeout=PATIENCE) == "charged"
    assert lab.effects(path) == ["start", "start", "second", "start", "second", "end"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert lab.upstream.by_worker(f"{path}/second") == 1


@pytest.mark.slow
def test_a_chord_is_told_of_a_run_that_died_when_it_had_stored_its_success(lab: Lab, path: str) -> None:
    queue = f"told-{uuid.uuid4().hex[:6]}"
    lab.upstream.plan(path, 429)
    environment = {"TEST_QUEUE": queue, "TEST_DIES_BEFORE_CHORD": f"dies:{path}"}
    with lab.worker("told", "-P", "prefork", "-c", "1", "-Q", queue, **environment):
        header = [lasting.fetches_late.s(path).set(queue=queue)]
        assert chord(header)(collect.s().set(queue=queue)).get(timeout=PATIENCE) == [path]
    assert lab.client.exists(f"dies:{path}")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.slow
def test_a_run_that_a_stopping_worker_waits_for_keeps_its_lease(lab: Lab, path: str) -> None:
    queue = f"warm-{uuid.uuid4().hex[:6]}"
    prefix = Continuations.of(app).settings.key_prefix
    lab.upstream.plan(path, 429)
    with lab.worker(
        "stopping", "-P", "prefork", "-c", "1", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="1"
    ) as worker:
        result = lasting.stays_until_told.apply_async((path,), queue=queue)
        wait_until(lambda: "stays" in lab.effects(path), "the resumed run")
        worker.popen.terminate()
        worker.wait_for("Warm shutdown")
        stopped = time.time()
        held: Any = lab.client.hget(f"{prefix}t:{result.id}", "c")
        # Meanwhile the other worker sweeps.
        wait_until(lambda: float(lab.client.zscore(f"{prefix}due", held.decode()) or 0) > stopped + 3, "three leases")
        lab.client.rpush(f"go:{path}", "go")
        assert result.get(timeout=PATIENCE) == "done"
    assert lab.effects(path) == ["start", "start", "stays", "end"]


@pytest.mark.slow
def test_an_early_acknowledged_resume_is_lost_to_nobody_before_it_begins(lab: Lab, path: str) -> None:
    """Acknowledged before a process can begin it: a second delivery would be refused. Until then the store publishes it again."""
    if not lab.environment["TEST_BROKER"].startswith("redis"):
        pytest.skip("What is not acknowledged yet is looked up in Redis.")
    queue = f"before-{uuid.uuid4().hex[:6]}"
    options = ("-P", "prefork", "-c", "1", "-Q", queue)
    with lab.worker("before", *options, TEST_QUEUE=queue) as worker:
        result = suspended(lab, path, queue=queue)
        worker.wait_for("its request is with EZThrottle")  # the process is free
        pid = worker.popen.pid
        (child,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        os.kill(child, signal.SIGSTOP)
        lab.service.deliver(lab.service.jobs(path)[0])

        def is_acknowledged() -> bool:
            held: Any = lab.client.hvals("unacked")
            return not any(result.id.encode() in value for value in held)

        wait_until(lambda: worker.output.count(f"{result.id}] received") == 2, "the resume to be received")
        wait_until(is_acknowledged, "it to be acknowledged, though no process has taken it")
        for victim in (pid, child):
            os.kill(victim, signal.SIGKILL)
        worker.popen.wait(PATIENCE)
    continuations = Continuations.of(app)
    held: Any = lab.client.hget(f"{continuations.settings.key_prefix}t:{result.id}", "c")
    continuations.store.published(held.decode(), time.time())  # as when five leases are over
    with lab.worker("before-2", *options, TEST_QUEUE=queue):
        assert result.get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start", "end"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["while it waits", "after its end"])
def test_the_first_message_does_nothing_when_it_comes_again(lab: Lab, path: str, moment: str) -> None:
    """As from a worker that was killed between parking and acknowledging, once the visibility timeout is over."""
    if not lab.environment["TEST_BROKER"].startswith("redis"):
        pytest.skip("The message is taken from Redis, and put there again.")
    queue = f"again-{uuid.uuid4().hex[:6]}"
    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    result = fetch.apply_async((path,), queue=queue)
    first: Any = lab.client.lindex(queue, 0)
    with lab.worker("again", "-P", "solo", "-Q", queue, TEST_QUEUE=queue):
        (job,) = wait_until(lambda: lab.service.jobs(path), "the suspension")
        if moment == "after its end":
            lab.service.deliver(job)
            assert result.get(timeout=PATIENCE) == path

        message = json.loads(first)
        message["headers"]["redelivered"] = message["properties"]["delivery_info"]["redelivered"] = True
        lab.client.lpush(queue, json.dumps(message))

        fetch.apply_async((f"{path}/after",), queue=queue).get(timeout=PATIENCE)
        assert lab.effects(path) == ["start", "start", "end"][: 3 if moment == "after its end" else 1]
        if moment == "while it waits":
            lab.service.deliver(job)
            assert result.get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


# Outcomes that stay unknown


@pytest.mark.smoke
def test_a_retry_after_an_unknown_outcome_keeps_the_key_and_sends_nothing(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = lasting.retries_what_is_unknown.delay(path)

    wait_until(lambda: lab.effects(path).count("unknown") == 1, "the deadline")
    job = wait_until(lambda: [job for job in lab.service.jobs(path) if job.submissions == 2], "the second forward")[0]
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    assert len(lab.service.jobs(path)) == 1
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_an_unknown_outcome_is_not_retried_by_itself(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = lasting.retries_everything.apply_async((path,), link_error=on_error.s(path=path))
    with pytest.raises(OutcomeUnknown, match=r"No result of job job_\w+ came within \d+ s.*Look it up"):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "errback", "the errback")
    assert lab.effects(path) == ["start", "start", "errback"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 0)


# Forward again


def test_a_delivered_limit_is_forwarded_again_as_often_as_allowed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(429, "{}", {"Retry-After": "1"}), 503)
    assert lasting.forwards_thrice.delay(path).get(timeout=PATIENCE) == path
    jobs = lab.service.jobs(path)
    assert len({job.wire["idempotent_key"] for job in jobs}) == 3
    assert [job.wire.get("retry_at") is not None for job in jobs] == [False, True, False]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 3)


def test_after_the_last_forward_the_report_of_the_service_is_final(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, *[503] * 4)
    with pytest.raises(requests.HTTPError, match="503"):
        lasting.forwards_thrice.delay(path).get(timeout=PATIENCE)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 3)


# What is parked


def kept(lab: Lab) -> str:
    """Everything the store holds for this app."""
    read: Any = {
        b"hash": lab.client.hgetall,
        b"string": lab.client.get,
        b"zset": lambda key: lab.client.zrange(key, 0, -1),
        b"none": str,  # it is gone by now
    }
    keys: Any = lab.client.keys(f"{Continuations.of(app).settings.key_prefix}*")
    return str([(key, read[lab.client.type(key)](key)) for key in keys])


def test_the_request_is_dropped_once_its_job_is_known_and_the_result_once_the_task_has_ended(
    lab: Lab, path: str
) -> None:
    lab.upstream.plan(path, 429, Answer(200, '{"canary": "canary-answer"}'))
    lab.service.hold(path)
    answered = lab.service.answer_late(path)
    result = lasting.sends_canaries.delay(path)
    (job,) = wait_until(lambda: lab.service.jobs(path), "the submission")
    assert "canary-header" in kept(lab)
    assert "canary-body" in kept(lab)

    answered.set()
    wait_until(lambda: "canary-header" not in kept(lab), "the job's id to be stored")
    assert "canary-body" not in kept(lab)

    lab.service.deliver(job)
    assert result.get(timeout=PATIENCE) == "canary-answer"
    wait_until(lambda: "canary-answer" not in kept(lab), "the end of the run")


# Bounds


@pytest.mark.slow
def test_a_task_too_many_fails_as_it_would_without_us(lab: Lab, path: str) -> None:
    queue = f"full-{uuid.uuid4().hex[:6]}"
    prefix = "{" + queue + "}:"
    environment = {"TEST_QUEUE": queue, "EZTHROTTLE_MAX_SUSPENDED": "1", "EZTHROTTLE_KEY_PREFIX": prefix}
    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    lab.upstream.plan(f"{path}/2", 429)
    with lab.worker("full", "-P", "solo", "-Q", queue, **environment):
        first: Any = fetch.apply_async((path,), queue=queue)
        wait_until(lambda: first.state == "FORWARDED", "the suspension")
        with pytest.raises(requests.HTTPError, match="429"):
            fetch.apply_async((f"{path}/2",), queue=queue).get(timeout=PATIENCE)
        assert lab.service.jobs(f"{path}/2") == []


# The sweeper


def test_one_worker_at_a_time_sweeps(lab: Lab) -> None:
    store, now = Continuations.of(app).store, time.time()
    wait_until(lambda: not store.lead("a test", now, now), "the worker to lead")
