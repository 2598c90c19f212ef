"""Those who wait for a turn that is far off: the order in which they are called, and what happens when they do not come."""

from __future__ import annotations

from typing import Any

import pytest

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import AGING
from celery_ezthrottle.limits.turns import Calls, Queued, Turn
from celery_ezthrottle.settings.limit import Window

from .conftest import PREFIX, Bench, gaps
from .over import overruns

QUICK = Bucket("quick", (Window(2, 0.2),))
SLOW = Bucket("slow", (Window(1, 30.0),))
WIDE = Bucket("wide", (Window(100, 30.0),))
LEAD = 3600.0  # seconds; each turn comes within it
COMING = 1.05  # seconds after which who was called keeps no place any more


def fill(bench: Bench, bucket: Bucket) -> list[float]:
    return bench.turns(bucket.windows[0].count, bucket)


def due(bench: Bench, limit: int = 100, lead: float = LEAD) -> list[str]:
    return [ticket for ticket, _ in bench.limiter.due(limit, lead).turns]


class TestOrder:
    def test_who_came_first_is_called_first(self, bench: Bench) -> None:
        first = fill(bench, SLOW)[0]
        for ticket in "abc":
            bench.queue(SLOW, ticket=ticket)
        assert bench.limiter.queued(SLOW) == 3
        calls = bench.limiter.due(10, LEAD)
        assert [ticket for ticket, _ in calls.turns] == ["a", "b", "c"]
        assert gaps([first, *(at for _, at in calls.turns)]) == [pytest.approx(30, abs=1e-5)] * 3
        assert bench.limiter.queued(SLOW) == 0
        assert bench.limiter.due(10, LEAD) == Calls((), None)

    def test_an_urgent_one_overtakes(self, bench: Bench) -> None:
        fill(bench, SLOW)
        for ticket, priority in (("a", 0), ("b", 1), ("c", 5)):
            bench.queue(SLOW, ticket=ticket, priority=priority)
        assert due(bench) == ["c", "b", "a"]

    def test_a_step_of_priority_is_worth_some_seconds_of_waiting(self, bench: Bench) -> None:
        fill(bench, SLOW)
        for ticket, priority in (("old", 0), ("urgent", 1)):
            bench.queue(SLOW, ticket=ticket, priority=priority)
        key = f"{PREFIX}l:q:slow"
        old, urgent = (bench.client.zscore(key, ticket) for ticket in ("old", "urgent"))
        assert old is not None
        assert urgent is not None
        assert old - AGING * 1e6 < urgent < old - AGING * 1e6 + 5e6
        bench.client.zincrby(key, -AGING * 1e6, "old")  # as if it had waited so long already
        assert due(bench) == ["old", "urgent"]

    def test_at_most_so_many(self, bench: Bench) -> None:
        fill(bench, SLOW)
        for ticket in "abc":
            bench.queue(SLOW, ticket=ticket)
        calls = bench.limiter.due(2, LEAD)
        assert [ticket for ticket, _ in calls.turns] == ["a", "b"]
        assert calls.wait == 0
        assert due(bench, 2) == ["c"]

    def test_it_says_when_the_next_one_may_be_due(self, bench: Bench) -> None:
        fill(bench, SLOW)
        bench.queue(SLOW, ticket="a")
        assert due(bench, lead=1) == []
        wait = bench.limiter.due(10, 1).wait
        assert wait is not None
        assert 25 < wait <= 29

    def test_turns_come_in_real_time(self, bench: Bench) -> None:
        """A leader that asks again and again calls each ticket shortly before its turn."""
        granted = fill(bench, QUICK)
        tickets = [f"ticket {number}" for number in range(8)]
        for ticket in tickets:
            bench.queue(QUICK, ticket=ticket)
        called: list[tuple[str, float, float]] = []
        deadline = bench.now() + 10
        while len(called) < 8 and bench.now() < deadline:
            calls = bench.limiter.due(10, 0.02)
            called += [(ticket, at, bench.now()) for ticket, at in calls.turns]
        assert [ticket for ticket, _, _ in called] == tickets
        assert all(at - seen <= 0.02 for _, at, seen in called)
        assert overruns(QUICK, granted + [at for _, at, _ in called]) == 0

    def test_of_two_queues_the_older_ticket_goes_first(self, bench: Bench) -> None:
        """Both need the same bucket too."""
        other = Bucket("other", (Window(1, 30.0),))
        fill(bench, SLOW), fill(bench, other)
        one = Bucket("one", concurrency=1)
        bench.queue(other, one, ticket="a")
        bench.queue(SLOW, one, ticket="b")
        assert due(bench) == ["a"]
        assert bench.limiter.queued(one) == 1
        bench.limiter.release([one], "a")
        assert due(bench) == ["b"]


class TestNewcomers:
    def test_none_overtakes(self, bench: Bench) -> None:
        fill(bench, QUICK)
        bench.queue(QUICK, ticket="a")
        bench.wait_until(bench.now() + 0.25)
        queued = bench.refused(QUICK, max_wait=3600)
        assert queued.key == "quick"
        assert queued.at is not None
        assert due(bench) == ["a"]
        assert bench.turn(QUICK, max_wait=0).wait == 0

    def test_other_buckets_are_open(self, bench: Bench) -> None:
        """It waits for the slow bucket only, so it keeps nobody from the wide one."""
        fill(bench, SLOW)
        assert bench.queue(WIDE, SLOW, ticket="a").key == "slow"
        assert bench.turn(WIDE, max_wait=0).wait == 0

    def test_the_first_of_the_queue_may_ask_itself(self, bench: Bench) -> None:
        fill(bench, QUICK)
        for ticket in "ab":
            bench.queue(QUICK, ticket=ticket)
        bench.wait_until(bench.now() + 0.25)
        assert isinstance(bench.acquire(QUICK, ticket="b"), Queued)
        assert isinstance(bench.acquire(QUICK, ticket="a"), Turn)
        assert bench.limiter.queued(QUICK) == 1
        assert due(bench) == ["b"]

    def test_a_line_that_has_dissolved_costs_nothing(self, bench: Bench) -> None:
        fill(bench, QUICK)
        bench.queue(QUICK, ticket="a")
        assert bench.client.hexists(PREFIX + "l:b:quick", "line")
        bench.limiter.leave("a")
        bench.turn(QUICK)
        assert not bench.client.hexists(PREFIX + "l:b:quick", "line")


class TestCalled:
    def call(self, bench: Bench, bucket: Bucket, **options: Any) -> float:
        """Let the ticket "a" wait and be called. Gives the time of its turn."""
        fill(bench, bucket)
        bench.queue(bucket, ticket="a", **options)
        ((ticket, at),) = bench.limiter.due(1, LEAD).turns
        assert ticket == "a"
        return at

    def test_it_gets_the_turn_that_it_was_called_for(self, bench: Bench) -> None:
        at = self.call(bench, SLOW)
        turn = bench.acquire(SLOW, ticket="a", max_wait=0)
        assert isinstance(turn, Turn)
        assert turn.at == at
        assert 25 < turn.wait <= 30
        assert bench.limiter.status(SLOW).used == (2,)

    def test_only_once(self, bench: Bench) -> None:
        self.call(bench, SLOW)
        bench.turn(SLOW, ticket="a")
        assert isinstance(bench.acquire(SLOW, ticket="a"), Queued)

    def test_one_that_is_late_goes_ahead_of_those_who_wait(self, bench: Bench) -> None:
        at = self.call(bench, QUICK)
        for ticket in "bc":
            bench.queue(QUICK, ticket=ticket)
        bench.wait_until(at + 0.25)
        turn = bench.turn(QUICK, ticket="a", max_wait=0)
        assert turn.at > at + 0.2
        assert bench.limiter.queued(QUICK) == 2

    def test_a_late_one_that_has_to_wait_again_is_the_first(self, bench: Bench) -> None:
        at = self.call(bench, SLOW, lease=600)
        bench.queue(SLOW, ticket="b")
        bench.limiter.cool_down(["slow"], at + 60)
        bench.queue(SLOW, ticket="a")
        assert due(bench) == ["a", "b"]

    def test_a_pause_keeps_called_ones_too(self, bench: Bench) -> None:
        self.call(bench, SLOW)
        bench.limiter.pause(["slow"])
        assert bench.queue(SLOW, ticket="a") == Queued("slow", None)
        assert due(bench) == []
        bench.limiter.resume(["slow"])
        assert due(bench) == ["a"]

    def test_one_that_never_comes_is_given_up(self, bench: Bench) -> None:
        both = Bucket("both", (Window(1, 0.1),), concurrency=1)
        fill(bench, Bucket("both", both.windows))
        bench.queue(both, ticket="a", lease=0.3)
        ((_, at),) = bench.limiter.due(1, LEAD).turns
        assert bench.limiter.status(both).leases == 1
        bench.queue(both, ticket="b")
        assert due(bench) == []
        deadline = bench.now() + 10
        while not (calls := bench.limiter.due(1, 0.01)).turns:
            assert bench.now() < deadline
        assert calls.turns[0][0] == "b"
        assert calls.turns[0][1] >= at + 0.3
        assert not bench.limiter.leave("a")

    def test_who_comes_late_takes_the_place_of_who_has_not_come(self, bench: Bench) -> None:
        """The messages of both were in a long queue of the broker."""
        one = Bucket("one", concurrency=1)
        bench.turn(one, ticket="before")
        for ticket in ("late", "next"):
            bench.queue(one, ticket=ticket)
        bench.limiter.release([one], "before")
        assert due(bench, lead=0) == ["late"]
        bench.wait_until(bench.now() + COMING)
        assert due(bench, lead=0) == ["next"]
        bench.refused(one)  # newcomers wait for who is called
        assert bench.turn(one, ticket="late", max_wait=0).wait == 0
        bench.refused(one, ticket="next")
        bench.limiter.release([one], "late")
        assert bench.turn(one, ticket="next", max_wait=0).wait == 0

    def test_who_was_called_has_its_place_for_the_whole_lease_once_it_has_come(self, bench: Bench) -> None:
        one = Bucket("one", concurrency=1)
        bench.turn(one, ticket="before")
        bench.queue(one, ticket="a")
        bench.limiter.release([one], "before")
        assert due(bench, lead=0) == ["a"]
        bench.turn(one, ticket="a")
        bench.wait_until(bench.now() + COMING)
        assert bench.limiter.status(one).leases == 1

    def test_concurrency_holds_for_called_ones(self, bench: Bench) -> None:
        pair = Bucket("pair", concurrency=2)
        for ticket in "xy":
            bench.turn(pair, ticket=ticket)
        for ticket in "abc":
            bench.queue(pair, ticket=ticket)
        assert due(bench, lead=0.1) == []
        wait = bench.limiter.due(10, 0.1).wait
        assert wait is not None
        assert wait <= 0.05
        bench.limiter.release([pair], "x")
        assert due(bench) == ["a"]
        bench.turn(pair, ticket="a")
        assert bench.limiter.status(pair).leases == 2
        bench.limiter.release([pair], "a")
        bench.limiter.release([pair], "y")
        assert due(bench) == ["b", "c"]


class TestLeaving:
    def test_one_that_waits(self, bench: Bench) -> None:
        fill(bench, SLOW)
        for ticket in "ab":
            bench.queue(SLOW, ticket=ticket)
        assert bench.limiter.leave("a")
        assert not bench.limiter.leave("a")
        assert due(bench) == ["b"]

    def test_the_turn_of_one_that_was_called_goes_to_the_next(self, bench: Bench) -> None:
        fill(bench, SLOW)
        for ticket in "ab":
            bench.queue(SLOW, ticket=ticket)
        ((_, at),) = bench.limiter.due(1, LEAD).turns
        assert bench.limiter.leave("a")
        assert bench.limiter.due(1, LEAD).turns == (("b", at),)

    def test_a_ticket_is_forgotten_after_its_lifetime(self, bench: Bench) -> None:
        fill(bench, SLOW)
        bench.queue(SLOW, ticket="a", lifetime=5)
        key = PREFIX + "l:t:a"
        assert 5 <= bench.client.ttl(key) <= 65
        bench.client.delete(key)
        assert due(bench) == []
        assert bench.limiter.queued(SLOW) == 0


class TestSeveralBuckets:
    def test_one_whose_turn_in_another_bucket_is_later_waits_there(self, bench: Bench) -> None:
        """So it keeps nobody from the bucket in whose queue it was."""
        fill(bench, QUICK)
        bench.queue(QUICK, WIDE, ticket="a")
        bench.limiter.cool_down(["wide"], bench.now() + 60)
        bench.wait_until(bench.now() + 0.25)
        assert due(bench, lead=0.01) == []
        assert (bench.limiter.queued(QUICK), bench.limiter.queued(WIDE)) == (0, 1)
        assert bench.turn(QUICK, max_wait=0).wait == 0
        assert due(bench) == ["a"]

    def test_it_keeps_its_place(self, bench: Bench) -> None:
        fill(bench, QUICK)
        bench.queue(QUICK, WIDE, ticket="a")
        bench.limiter.cool_down(["wide"], bench.now() + 60)
        bench.queue(WIDE, ticket="b")
        assert due(bench, lead=1) == []
        assert due(bench) == ["a", "b"]
