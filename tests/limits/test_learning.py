"""What is learned of the limits of an API from its answers."""

from __future__ import annotations

import pytest

from benchmarks.sliding import SlidingLimit
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.turns import Learned, Queued, Turn
from celery_ezthrottle.settings.limit import Window

from .conftest import Bench

HOST = Bucket("~host", learns=True)
START = Bucket("start", (Window(8, 0.2),), learns=True)


class Api:
    """Calls of a bucket that learns, with the answers that a test wants."""

    def __init__(self, bench: Bench, bucket: Bucket = HOST) -> None:
        self.bench, self.bucket = bench, bucket
        self._number = 0

    def answer(
        self,
        allowed: bool,
        *,
        at: float | None = None,
        wait: float | None = None,
        unnoted: int = 0,
        told: tuple[Window, ...] = (),
    ) -> Learned:
        self._number += 1
        return self.bench.limiter.learn(
            self.bucket,
            ticket=f"call {self._number}",
            at=self.bench.now() if at is None else at,
            allowed=allowed,
            wait=wait,
            unnoted=unnoted,
            told=told,
        )

    def call(self, allowed: bool, *, wait: float | None = None) -> Learned:
        """A call that has its turn first."""
        return self.answer(allowed, at=self.bench.turn(self.bucket).at, wait=wait)

    def open(self) -> int:
        """How many calls are let through now."""
        turns = 0
        while turns < 100 and isinstance(self.bench.acquire(self.bucket), Turn):
            turns += 1
        return turns


@pytest.fixture
def api(bench: Bench) -> Api:
    return Api(bench)


def test_nothing_is_limited_until_the_api_has_limited_a_call(api: Api) -> None:
    assert api.answer(True) == Learned(None, None)
    assert api.open() == 100


class TestFirstLimit:
    def test_as_many_as_were_allowed_before_it_are_let_through(self, api: Api, bench: Bench) -> None:
        for _ in range(3):
            api.answer(True)
        found = api.answer(False, unnoted=4)
        assert found.count == 7
        assert api.open() == 7

    def test_calls_that_were_on_their_way_are_counted_and_nothing_else_is_learned_from_them(
        self, api: Api, bench: Bench
    ) -> None:
        before = bench.now()
        assert api.answer(False, unnoted=5, wait=30).count == 5
        assert api.answer(True, at=before).count == 6
        assert api.answer(False, at=before, unnoted=2, wait=30).count == 8  # of another process
        assert api.answer(False, at=before, wait=30).count == 8

    def test_nothing_is_let_through_for_the_time_that_the_api_names(self, api: Api, bench: Bench) -> None:
        until = bench.now() + 20
        found = api.answer(False, unnoted=5, wait=20)
        assert found.cooling_until is not None
        assert until <= found.cooling_until <= until + 2.1
        queued = bench.refused(HOST)
        assert queued.at == pytest.approx(found.cooling_until, abs=1e-3)

    def test_none_was_allowed_before_it(self, api: Api) -> None:
        assert api.answer(False).count == 1
        assert api.call(True).count == 2  # what may be is found out quickly

    def test_a_user_of_the_host_has_its_own(self, api: Api, bench: Bench) -> None:
        api.answer(False, wait=30)
        assert isinstance(bench.acquire(Bucket("~host#1234", learns=True)), Turn)


class TestLaterLimits:
    def test_no_less_than_half_is_let_through_after_one_answer(self, api: Api) -> None:
        api.answer(False, unnoted=20)
        api.call(True)
        assert api.call(False).count == 10
        assert api.call(False).count == 10  # that none was allowed between them may be the same accident

    def test_a_limited_call_without_a_time_lets_the_others_wait_longer_each_time(self, api: Api, bench: Bench) -> None:
        api.answer(False, unnoted=20)
        waits = []
        for _ in range(3):
            now = bench.now()
            found = api.answer(False, at=now + 3600)  # after all the waits
            assert found.cooling_until is not None
            waits.append(found.cooling_until - now)
        assert waits == [pytest.approx(wait, abs=0.1) for wait in (1, 2, 4)]

    def test_what_the_api_tells_is_believed(self, api: Api, bench: Bench) -> None:
        api.answer(False, unnoted=20, told=(Window(3, 10.0), Window(50, 3600.0)))
        assert api.open() == 3
        assert isinstance(bench.acquire(HOST), Queued)


class TestAdapting:
    def test_more_are_let_through_while_all_are_used_and_none_is_limited(self, bench: Bench) -> None:
        api = Api(bench, START)
        counts = [api.call(True).count for _ in range(40)]
        assert counts[0] == 8
        assert counts[-1] is not None
        assert counts[-1] >= 16

    def test_nothing_changes_while_few_are_used(self, bench: Bench) -> None:
        api = Api(bench, START)
        assert [api.call(True).count for _ in range(4)] == [8] * 4

    def test_the_first_limit_is_met_at_once_and_the_next_trial_comes_later(self, bench: Bench) -> None:
        api = Api(bench, START)
        for _ in range(3):
            api.call(True)
        assert api.call(False).count == 3
        counts = {api.call(True).count for _ in range(6)}
        assert counts == {3}  # two windows

    @pytest.mark.slow
    def test_an_api_whose_limit_is_a_fifth_is_used_up(self, bench: Bench) -> None:
        """For three seconds as many calls as are let through, to an API that allows ten in a fifth of a second."""
        bucket, limit = Bucket("fast", (Window(50, 0.2),), learns=True), SlidingLimit(10, 0.195)
        api, allowed, limited = Api(bench, bucket), 0, 0
        began = bench.now()
        while (now := bench.now()) < began + 3:
            turn = bench.acquire(bucket)
            if isinstance(turn, Queued):
                continue
            is_allowed = limit.take(now) == 0
            api.answer(is_allowed, at=turn.at)
            allowed, limited = allowed + is_allowed, limited + (not is_allowed)
        assert allowed > 0.7 * 150
        assert limited < 0.1 * allowed


class TestLoose:
    """An API that limits single resources answers some calls with 429 however few they are."""

    @staticmethod
    def loosen(api: Api) -> None:
        api.answer(False, unnoted=40)
        for _ in range(20):
            api.answer(True, at=api.bench.now() + 5000)
            if api.answer(False, at=api.bench.now() + 5000).cooling_until is None:
                return
        pytest.fail("it was never found out")

    def test_a_limited_call_says_nothing_about_the_others(self, api: Api, bench: Bench) -> None:
        self.loosen(api)
        assert api.open() == 100
        assert api.answer(False, wait=60).cooling_until is None
        assert api.open() == 100

    def test_until_most_calls_are_limited(self, api: Api) -> None:
        self.loosen(api)
        found = [api.answer(False, at=api.bench.now() + 6000, wait=5).cooling_until for _ in range(40)]
        assert found[:10] == [None] * 10
        assert found[-1] is not None

    def test_an_api_whose_quota_is_used_up_is_not_loose(self, api: Api) -> None:
        for _ in range(40):
            api.answer(True)
        found = [api.answer(False, at=api.bench.now() + 5000, wait=1) for _ in range(40)]
        assert all(each.cooling_until is not None for each in found)
