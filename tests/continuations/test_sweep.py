"""One pass of the sweeper, with a real store and broker, over more than a service takes in time.

The clock of the pass is the test's: it stands still but for what the service, or the broker, lets it wait. So no test waits.
"""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.broker import parked_message
from celery_ezthrottle.broker.confirmed_publish import NotPublished
from celery_ezthrottle.continuations.sweep import sweep
from celery_ezthrottle.store.records import StartOutcome
from celery_ezthrottle.store.states import State

from .conftest import CONNECT, FAR, READ, World


@pytest.mark.parametrize("takes", [CONNECT, READ, CONNECT + READ])
def test_what_needs_no_service_does_not_wait_for_one_that_hangs(world: World, takes: float) -> None:
    """Sixty jobs are due before all of it: more than a pass would submit."""
    jobs = [world.park(f"job{number}") for number in range(60)]
    delivered, lapsed = world.park("delivered"), world.park("lapsed")
    now = world.clock.now
    for id_ in (delivered, lapsed):
        world.store.deliver(id_, f"j-{id_}", b"{}", now, now)  # by a receiver that could not publish
    assert world.store.start(lapsed, "r1", now, lease=now).outcome is StartOutcome.STARTED
    expired = world.park("expired", timeout=1)
    world.store.bind(expired, "j-expired", now)
    never_taken = world.park("never taken", submit_timeout=1)
    unknown = world.park("unknown", submit_timeout=1, timeout=1, maybe_accepted=True)
    world.hangs(takes)

    acted = sweep(world.continuations)

    assert world.asked == jobs[:1]
    assert (acted, world.published, world.published_before) == (6, 5, 5)
    assert {world.state(id_) for id_ in (delivered, lapsed, expired, never_taken, unknown)} == {State.PUBLISHED}
    assert {world.state(id_) for id_ in jobs} == {State.STORED}
    assert [world.outcome_of(id_) for id_ in (expired, never_taken, unknown)] == ["unknown", "never_taken", "unknown"]


def test_a_job_that_is_put_off_was_not_taken(world: World) -> None:
    jobs = [world.park(f"job{number}") for number in range(100)]
    world.hangs(READ)

    sweep(world.continuations)

    now = world.clock.now
    claims = {
        claim.id: claim for claim in world.store.claim_due(now + 2, now + FAR, 200)
    }  # which is the second back-off
    assert sorted(claims) == sorted(jobs)
    assert {claim.attempts for claim in claims.values()} == {2}
    assert [id_ for id_ in jobs if claims[id_].maybe_accepted] == world.asked == jobs[:1]


def test_a_job_that_is_put_off_is_not_due_in_the_same_pass_or_at_once(world: World) -> None:
    for number in range(20):
        world.park(f"job{number}")
    world.hangs(READ)
    sweep(world.continuations)

    assert sweep(world.continuations) == 0
    assert len(world.asked) == 1


def test_a_service_that_answers_slowly_gets_on(world: World) -> None:
    jobs = [world.park(f"job{number}") for number in range(20)]
    world.takes = 2.0

    passes = 0
    while len(world.asked) < len(jobs):
        world.clock.now += 60  # every back-off is over
        assert 0 < sweep(world.continuations) <= 3
        passes += 1

    assert passes == 7
    assert sorted(world.asked) == sorted(jobs)
    assert {world.state(id_) for id_ in jobs} == {State.SUBMITTED}


def test_the_limit_is_one_of_submissions(world: World) -> None:
    jobs = [world.park(f"job{number}") for number in range(15)]

    assert sweep(world.continuations, limit=12) == 12

    assert world.asked == jobs[:12]
    assert [world.state(id_) for id_ in jobs] == [State.SUBMITTED] * 12 + [State.STORED] * 3
    world.clock.now += 60
    assert sweep(world.continuations, limit=12) == 3


def test_a_job_that_is_put_off_until_its_time_is_up_fails_as_it_did(world: World) -> None:
    first, late = world.park("first"), world.park("late", submit_timeout=20, attempts=10)
    time_is_up = world.clock.now - 1 + 20
    world.hangs(READ)
    sweep(world.continuations)
    assert (world.asked, world.state(late)) == ([first], State.STORED)

    world.clock.now = time_is_up  # the back-off is not over
    sweep(world.continuations)

    assert world.asked == [first, first]
    assert world.outcome_of(late) == "never_taken"


def test_what_may_have_been_taken_waits_for_a_service_that_hangs_until_its_deadline(world: World) -> None:
    first, doubtful = world.park("first"), world.park("doubtful", submit_timeout=1, timeout=40, maybe_accepted=True)
    deadline = world.clock.now - 1 + 40
    world.hangs(READ)
    sweep(world.continuations)
    assert (world.asked, world.state(doubtful)) == ([first], State.STORED)

    world.clock.now = deadline
    sweep(world.continuations)

    assert world.asked == [first, first]
    assert world.outcome_of(doubtful) == "unknown"


def test_what_may_have_been_taken_is_asked_for_once_the_service_answers(world: World) -> None:
    first, doubtful = world.park("first"), world.park("doubtful", submit_timeout=1, maybe_accepted=True)
    world.hangs(READ)
    sweep(world.continuations)
    world.takes, world.service = 0.0, lambda: None

    world.clock.now += 60
    sweep(world.continuations)

    assert sorted(world.asked) == sorted([first, first, doubtful])
    assert world.state(doubtful) is State.SUBMITTED


NOT_KNOWN = "Whether the request was executed is not known: before running the task again, look up"
BY_ITS_WEBHOOK = f"{NOT_KNOWN} the job whose webhook URL holds continuation c1 at the service, or the request upstream."


def test_a_job_of_which_nothing_is_heard_is_named_with_the_wait_and_the_remedy(world: World) -> None:
    world.park("c1", timeout=60)
    world.store.bind("c1", "j1", world.clock.now)
    world.clock.now += 59

    sweep(world.continuations)

    assert world.asked == []  # with this dialect, nobody can look up a job that was taken
    assert world.resume("c1") == {
        "kind": "unknown",
        "text": f"No result of job j1 came within 60 s. {NOT_KNOWN} that job at the service, or the request upstream.",
    }


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("queued", "The service says that the job is 'queued', so the request may still be executed: before"),
        ("in_flight", "The service says that the job is 'in_flight', so the request may still be executed: before"),
        (
            "completed",
            "The service says that the job is completed, so the request was executed and its webhook was lost",
        ),
        ("failed", "The service says that the job has failed. Whether upstream has executed the request is not known"),
        (None, f"The service does not have the job (any more). {NOT_KNOWN}"),
    ],
)
def test_the_service_is_asked_before_a_task_gives_up(world: World, status: str | None, told: str) -> None:
    world.can_look_up = True
    world.states = {"j1": status} if status else {}
    world.park("c1", timeout=60)
    world.store.bind("c1", "j1", world.clock.now)
    world.clock.now += 58
    assert sweep(world.continuations) == 0
    world.clock.now += 1

    sweep(world.continuations)

    assert (world.asked, world.published) == (["j1"], 1)
    outcome = world.resume("c1")
    assert outcome["kind"] == "unknown"  # whatever it says: nothing is sent again
    assert outcome["text"].startswith(f"No result of job j1 came within 60 s. {told}")
    assert "look up that job at the service" in outcome["text"]


def test_a_service_that_tells_nothing_keeps_no_task_waiting(world: World) -> None:
    world.can_look_up = True
    world.park("c1", timeout=60)
    world.store.bind("c1", "j1", world.clock.now)
    world.refuses()
    world.clock.now += 59

    sweep(world.continuations)

    assert f"The service could not be asked about it. {NOT_KNOWN}" in world.resume("c1")["text"]


def test_a_crowd_that_gives_up_does_not_wait_for_a_service_that_hangs(world: World) -> None:
    """The service is asked once, after the submissions; the limit leaves some out from the start."""
    world.can_look_up = True
    over = [world.park(f"over{number}", timeout=60) for number in range(15)]
    for id_ in over:
        world.store.bind(id_, f"j-{id_}", world.clock.now)
    world.clock.now += 60
    world.hangs(READ)

    sweep(world.continuations, limit=12)
    assert (world.asked, world.published) == (["j-over0"], 4)
    sweep(world.continuations, limit=12)  # publishes what had no time

    assert world.published == 15
    assert {world.outcome_of(id_) for id_ in over} == {"unknown"}
    job, late = world.park("job"), world.park("late", timeout=0.5)
    world.store.bind(late, "j-late", world.clock.now)
    sweep(world.continuations)
    assert world.asked == ["j-over0", job]


@pytest.mark.parametrize(("waits", "submissions"), [(40, 1), (60, 0)], ids=["asked once more", "its deadline"])
def test_a_job_whose_id_was_never_told_is_named_by_its_continuation(world: World, waits: int, submissions: int) -> None:
    world.park("c1", submit_timeout=40, timeout=60, maybe_accepted=True)
    world.hangs(READ)
    world.clock.now += waits - 1

    sweep(world.continuations)

    assert len(world.asked) == submissions
    assert world.resume("c1") == {
        "kind": "unknown",
        "text": f"EZThrottle may have taken the request, and named no job within {waits} s. {BY_ITS_WEBHOOK}",
    }


@pytest.mark.parametrize("waits", [20, 40], ids=["while there is time", "asked once more"])
def test_a_refusal_of_what_may_have_been_taken_says_so_with_the_wait_and_the_remedy(world: World, waits: int) -> None:
    world.park("c1", submit_timeout=40, timeout=60, maybe_accepted=True)
    world.refuses()
    world.clock.now += waits - 1

    sweep(world.continuations)

    assert world.resume("c1") == {
        "kind": "unknown",
        "text": f"EZThrottle may have taken the request, named no job, and refused it after {waits} s: The proxy refused the "
        f"job (HTTP 401): nothing was submitted; check ezthrottle_api_key. {BY_ITS_WEBHOOK}",
    }


def test_a_broker_that_hangs_does_not_keep_a_pass_from_submitting(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = [world.park(f"delivered{number}") for number in range(20)]
    now = world.clock.now
    for id_ in delivered:
        world.store.deliver(id_, f"j-{id_}", b"{}", now, now)
    job = world.park("job")
    tried: list[str] = []

    def hang(app: Any, body: bytes, envelope: bytes, continuation_id: str) -> None:
        tried.append(continuation_id)
        world.clock.now += 10
        raise NotPublished("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(parked_message, "publish", hang)
        # The job is due after twenty others, of which a pass claims ten.
        assert [sweep(world.continuations) for _ in range(3)] == [1, 1, 1]
    assert (len(tried), world.state(job)) == (2, State.SUBMITTED)

    world.clock.now += 60  # the claims are over
    sweep(world.continuations)

    assert world.published == 20
