"""What holds when runs die, tasks are cancelled, and outcomes stay unknown: with real workers."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
from celery import chord
from celery.exceptions import TaskRevokedError

import celery_ezthrottle
from celery_ezthrottle import OutcomeUnknown
from celery_ezthrottle.continuations.manager import Continuations
from tests.canvases.probes import meet
from tests.support import ending_tasks, lasting_tasks
from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app, collect, fetch, on_error, on_result
from tests.support.upstream import Answer


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
@pytest.mark.parametrize("how", ["cancel", "revoke", "revoke by a list", "terminate", "the command terminate"])
def test_a_suspended_task_is_revoked_at_once(lab: Lab, path: str, how: str) -> None:
    result = suspended(lab, path)
    if how == "cancel":
        assert celery_ezthrottle.cancel(result.id, app=app)
        assert result.state == "REVOKED"
        assert not celery_ezthrottle.cancel(result.id, app=app)
    elif how == "the command terminate":  # as `celery control terminate SIGTERM <id>` sends it
        app.control.broadcast("terminate", arguments={"signal": "SIGTERM", "task_id": [result.id]})
        wait_until(lambda: result.state == "REVOKED", "the revocation")
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


@pytest.mark.parametrize("how", ["cancel", "revoke"])
@pytest.mark.parametrize("place", ["alone", "in a chord"])
def test_a_suspended_task_that_is_revoked_tells_whom_a_queued_one_tells(
    lab: Lab, path: str, place: str, how: str
) -> None:
    """In Celery the errback of its chord is called, and none of its own."""

    def send(task: Any, run: str) -> tuple[Any, Any]:
        """Gives the result of the task, and that of its chord, if it is in one."""
        task.set(link=[on_result.s(path=f"{run}/own")], link_error=[on_error.s(path=f"{run}/own")])
        if place == "alone":
            return task.apply_async(), None
        body: Any = chord([task, fetch.s(f"{run}/other")])(collect.s().on_error(on_error.s(path=f"{run}/chord")))
        return body.parent[0], body

    def seen(run: str, result: Any, body: Any, announced: str) -> list[Any]:
        wait_until(lambda: announced in (lab.folder / "worker.log").read_text(), "the worker to announce it")
        for number in range(2):  # in both slots: what was sent while the worker announced it has run as well
            for fence in [meet.delay(f"meeting:{run}:{number}") for _ in range(2)]:
                fence.get(timeout=PATIENCE)
        ended = [(each.state, type(each.result), str(each.result)) for each in (result, body) if each is not None]
        return [str(ended).replace(result.id, "ID"), lab.effects(f"{run}/own"), lab.effects(f"{run}/chord")]

    discarding, task_id, before = "Discarding revoked task: ", uuid.uuid4().hex, f"{path}/stock"
    wait_until(lambda: app.control.revoke(task_id, reply=True), "the worker to know before the message comes")
    queued = collect.s([]).set(task_id=task_id)
    stock = seen(before, *send(queued, before), f"{discarding}{collect.name}[{task_id}]")

    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    result, body = send(fetch.s(path), path)
    wait_until(lambda: result.state == "FORWARDED" and lab.service.jobs(path), "the suspension")
    named = f"{fetch.name}[{result.id}]"
    if how == "cancel":  # which the worker learns of when it runs the task
        assert celery_ezthrottle.cancel(result.id, app=app)
        announced = f"{named} was revoked while it was suspended"
    else:
        app.control.revoke(result.id)
        announced = f"{discarding}{named}"

    assert seen(path, result, body, announced) == stock
    assert stock[1:] == [[], ["errback"] if body else []]
    assert "REVOKED" in stock[0]
    assert lab.effects(path) == ["start"]


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
@pytest.mark.parametrize(
    ("victim", "blow"), [("child", "SIGKILL"), ("child", "SIGTERM"), ("worker", "SIGKILL"), ("worker", "SIGQUIT")]
)
def test_a_late_acknowledged_resumed_run_that_died_is_taken_over(lab: Lab, path: str, victim: str, blow: str) -> None:
    """What the dead one was answered is not asked for again: neither by the service, nor by itself.

    By SIGTERM a process ends as by ``sys.exit()``, wherever it is; so do the processes of a worker that ends by SIGQUIT.
    """
    queue = f"late-{uuid.uuid4().hex[:6]}"
    lab.upstream.plan(path, 429)
    with lab.worker("late", "-P", "prefork", "-c", "1", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="2") as worker:
        result = lasting_tasks.charges_twice.apply_async((path,), queue=queue)
        pid = int(wait_until(lambda: lab.client.get(f"pid:{path}"), "the resumed run to wait") or 0)
        os.kill(pid if victim == "child" else worker.popen.pid, signal.Signals[blow])
        if victim == "worker":
            worker.popen.wait(PATIENCE)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # an orphan would go on
            with lab.worker("late-2", "-P", "solo", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="2"):
                assert result.get(timeout=PATIENCE) == "charged"
        else:
            assert result.get(timeout=PATIENCE) == "charged"
    assert lab.effects(path) == ["start", "start", "second", "start", "second", "end"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
    assert lab.upstream.by_worker(f"{path}/second") == 1


@pytest.mark.slow
@pytest.mark.parametrize("point", ["on_chord_part_return", "_chord_publish_claim_expires"])
@pytest.mark.parametrize("limits", [0, 1], ids=["first run", "resumed run"])
def test_a_chord_is_told_of_a_run_that_died_when_it_had_stored_its_success(
    lab: Lab, path: str, limits: int, point: str
) -> None:
    if not hasattr(app.backend, point):
        pytest.skip("This Celery does not claim a chord's body before it sends it.")
    queue = f"told-{uuid.uuid4().hex[:6]}"
    lab.upstream.plan(path, *[429] * limits)
    environment = {"TEST_QUEUE": queue, "TEST_DIES_BEFORE_CHORD": point, "TEST_DIES_KEY": f"dies:{path}"}
    with lab.worker("told", "-P", "prefork", "-c", "1", "-Q", queue, **environment):
        header = [lasting_tasks.fetches_late.s(path).set(queue=queue)]
        assert chord(header)(collect.s().set(queue=queue)).get(timeout=PATIENCE) == [path]
    assert lab.client.exists(f"dies:{path}")
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, limits)


@pytest.mark.slow
def test_a_run_that_a_stopping_worker_waits_for_keeps_its_lease(lab: Lab, path: str) -> None:
    queue = f"warm-{uuid.uuid4().hex[:6]}"
    prefix = Continuations.of(app).settings.key_prefix
    lab.upstream.plan(path, 429)
    with lab.worker(
        "stopping", "-P", "prefork", "-c", "1", "-Q", queue, TEST_QUEUE=queue, EZTHROTTLE_LEASE="1"
    ) as worker:
        result = lasting_tasks.stays_until_told.apply_async((path,), queue=queue)
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
        worker.wait_for("its request goes to EZThrottle")  # the process is free
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


def delivered_again(lab: Lab, queue: str, message: Any) -> None:
    again = json.loads(message)
    again["headers"]["redelivered"] = again["properties"]["delivery_info"]["redelivered"] = True
    lab.client.lpush(queue, json.dumps(again))


@pytest.mark.slow
@pytest.mark.parametrize("expires", [None, 15.0], ids=["", "expired meanwhile"])
@pytest.mark.parametrize("moment", ["while it waits", "after its end"])
def test_the_first_message_does_nothing_when_it_comes_again(
    lab: Lab, path: str, moment: str, expires: float | None
) -> None:
    """As from a worker that was killed between parking and acknowledging, once the visibility timeout is over."""
    if not lab.environment["TEST_BROKER"].startswith("redis"):
        pytest.skip("The message is taken from Redis, and put there again.")
    queue = f"again-{uuid.uuid4().hex[:6]}"
    lab.service.hold(path)
    lab.upstream.plan(path, 429)
    sent = time.time()
    result = fetch.apply_async((path,), queue=queue, expires=expires)  # type: ignore[arg-type]
    first: Any = lab.client.lindex(queue, 0)
    with lab.worker("again", "-P", "solo", "-Q", queue, TEST_QUEUE=queue):
        (job,) = wait_until(lambda: lab.service.jobs(path), "the suspension")
        if moment == "after its end":
            lab.service.deliver(job)
            assert result.get(timeout=PATIENCE) == path

        wait_until(lambda: time.time() > sent + (expires or 0), "its time to be over")
        delivered_again(lab, queue, first)
        fetch.apply_async((f"{path}/after",), queue=queue).get(timeout=PATIENCE)
        assert lab.effects(path) == ["start", "start", "end"][: 3 if moment == "after its end" else 1]
        if moment == "while it waits":
            lab.service.deliver(job)
            assert result.get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


@pytest.mark.slow
def test_what_a_resumed_run_has_replaced_itself_by_runs_when_it_comes_again(lab: Lab, path: str) -> None:
    """It has the same id, and its message may be given back by a worker that stops before it begins."""
    if not lab.environment["TEST_BROKER"].startswith("redis"):
        pytest.skip("The message is taken from Redis, and put there again.")
    queue = f"replaced-{uuid.uuid4().hex[:6]}"
    lab.client.set(f"told:{path}", queue)
    result = suspended(lab, path, ending_tasks.goes_on_in_the_queue_it_is_told)
    lab.service.deliver(lab.service.jobs(path)[0])
    message = wait_until(lambda: lab.client.lpop(queue), "the replacement to be sent")
    record = f"{Continuations.of(app).settings.key_prefix}t:{result.id}"
    wait_until(lambda: lab.client.hexists(record, "ended"), "the end of the run")
    delivered_again(lab, queue, message)
    with lab.worker("replaced", "-P", "solo", "-Q", queue, TEST_QUEUE=queue):
        assert result.get(timeout=PATIENCE) == f"{path}/other"


# Outcomes that stay unknown


@pytest.mark.smoke
def test_a_retry_after_an_unknown_outcome_keeps_the_key_and_sends_nothing(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = lasting_tasks.retries_what_is_unknown.delay(path)

    wait_until(lambda: lab.effects(path).count("unknown") == 1, "the deadline")
    job = wait_until(lambda: [job for job in lab.service.jobs(path) if job.submissions == 2], "the second forward")[0]
    lab.service.deliver(job)

    assert result.get(timeout=PATIENCE) == path
    assert len(lab.service.jobs(path)) == 1
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)


def test_an_unknown_outcome_is_not_retried_by_itself(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    lab.service.hold(path)
    result = lasting_tasks.retries_everything.apply_async((path,), link_error=on_error.s(path=path))
    with pytest.raises(OutcomeUnknown, match=r"^No result of job job_\w+ came within \d s\."):
        result.get(timeout=PATIENCE)
    wait_until(lambda: lab.effects(path)[-1] == "errback", "the errback")
    assert lab.effects(path) == ["start", "start", "errback"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 0)


# Forward again


def test_a_query_with_the_time_in_it_is_answered(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429)
    assert lasting_tasks.searches_until_now.delay(path).get(timeout=PATIENCE) == path
    assert lab.effects(path) == ["start", "start"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path), len(lab.service.jobs(path))) == (1, 1, 1)


def test_a_body_that_tries_again_what_the_service_has_given_up_is_not_forwarded_for_ever(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, *[429] * 20)
    with pytest.raises(requests.HTTPError, match="429"):
        lasting_tasks.tries_three_times.delay(path).get(timeout=PATIENCE)
    assert lab.effects(path) == ["start", "start"]
    # Three tries of the first run, one of the service, and two more of the resumed run.
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path), len(lab.service.jobs(path))) == (5, 1, 1)


def test_a_body_that_tries_again_goes_on_when_the_limit_is_over(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, *[429] * 5)
    assert lasting_tasks.tries_three_times.delay(path).get(timeout=PATIENCE) == path
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path), len(lab.service.jobs(path))) == (5, 1, 1)


def test_a_delivered_limit_is_forwarded_again_as_often_as_allowed(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(429, "{}", {"Retry-After": "1"}), 503)
    assert lasting_tasks.forwards_thrice.delay(path).get(timeout=PATIENCE) == path
    jobs = lab.service.jobs(path)
    assert len({job.wire["idempotent_key"] for job in jobs}) == 3
    assert [job.wire.get("retry_at") is not None for job in jobs] == [False, True, False]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 3)


def test_after_the_last_forward_the_report_of_the_service_is_final(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, *[503] * 4)
    with pytest.raises(requests.HTTPError, match="503"):
        lasting_tasks.forwards_thrice.delay(path).get(timeout=PATIENCE)
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
    result = lasting_tasks.sends_canaries.delay(path)
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
