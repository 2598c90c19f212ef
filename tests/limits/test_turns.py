"""Turns of single calls: windows, burst, several buckets, concurrency, cool-down, and what is given back."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import time
from contextlib import closing
from typing import Any

import pytest
import redis

from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import PAUSE, Limiter
from celery_ezthrottle.limits.turns import Queued, Turn
from celery_ezthrottle.settings.limit import Window
from tests.support.servers import free_port

from .conftest import PREFIX, Bench, gaps
from .over import overruns

THREE = Bucket("three", (Window(3, 10.0),))
US = 1e-6


def near(at: float, within: float = 2 * US) -> object:
    return pytest.approx(at, abs=within)


class TestWindows:
    def test_a_full_window_opens_when_its_oldest_grant_leaves(self, bench: Bench) -> None:
        times = bench.turns(7, THREE)
        assert times[2] - times[0] < 5
        assert [later - earlier for earlier, later in zip(times, times[3:], strict=False)] == [near(10)] * 4

    def test_all_windows_hold(self, bench: Bench) -> None:
        bucket = Bucket("two", (Window(2, 1.0), Window(5, 60.0)))
        times = bench.turns(11, bucket)
        assert overruns(bucket, times) == 0
        assert times[5] - times[0] == near(60)
        assert times[2] - times[0] == near(1)

    def test_a_turn_too_far_off_is_not_taken(self, bench: Bench) -> None:
        times = bench.turns(3, THREE)
        queued = bench.refused(THREE, max_wait=9)
        assert (queued.key, queued.at) == ("three", near(times[0] + 10))
        assert bench.turn(THREE, max_wait=10).at == near(times[0] + 10)

    def test_the_wait_is_from_now(self, bench: Bench) -> None:
        before = time.monotonic()
        assert bench.turn(THREE).wait == 0
        bench.turns(2, THREE)
        turn = bench.turn(THREE)
        assert 5 < turn.wait <= 10
        assert turn.at == near(bench.now() + turn.wait, 5)
        assert before + turn.wait <= turn.ready <= time.monotonic() + turn.wait

    def test_a_window_that_is_over_is_whole_again(self, bench: Bench) -> None:
        bucket = Bucket("short", (Window(3, 0.1),))
        last = bench.turns(3, bucket)[-1]
        bench.wait_until(last + 0.1)
        assert [bench.turn(bucket).wait for _ in range(3)] == [0, 0, 0]
        assert bench.limiter.status(bucket).used == (3,)

    def test_a_limit_may_change(self, bench: Bench) -> None:
        """The grants that are there count for the new one."""
        first = bench.turns(3, THREE)[0]
        more, less = Bucket("three", (Window(5, 10.0),)), Bucket("three", (Window(2, 10.0),))
        assert [bench.turn(more).wait for _ in range(2)] == [0, 0]
        assert bench.turn(less).at >= first + 10

    def test_a_burst_and_then_evenly(self, bench: Bench) -> None:
        bucket = Bucket("burst", (Window(60, 60.0), Window(1000, 3600.0)), burst=4)  # 3.6 seconds apart
        times = bench.turns(20, bucket)
        assert times[3] - times[0] < 3
        assert gaps(times[4:]) == [near(3.6)] * 15
        assert times[4] == near(times[0] + 3.6)

    def test_without_a_bucket_nothing_waits(self, bench: Bench) -> None:
        assert bench.turn().wait == 0
        assert bench.stored() == []

    @pytest.mark.parametrize("of", [10_001, 20_000, 1_000_003])
    def test_a_large_window_needs_little_memory(self, bench: Bench, of: int) -> None:
        bucket = Bucket("large", (Window(of, 3600.0),))
        calls = 3_000
        times = bench.turns(calls, bucket)
        assert times[-1] - times[0] < 600
        assert bench.limiter.status(bucket).used == (calls,)
        entries = bench.client.llen(PREFIX + f"l:w:large:3600000001:{-(-of // 5000)}")
        assert entries == -(-calls // -(-of // 5000))

    def test_a_large_window_is_not_over_and_nearly_all_of_it_is_used(self, bench: Bench) -> None:
        bucket = Bucket("large", (Window(10_001, 300.0),))
        times = bench.turns(10_100, bucket)
        assert overruns(bucket, times) == 0
        assert times[9_999] - times[0] > 300 > times[9_998] - times[0]
        memory = sum(bench.client.memory_usage(key, samples=0) or 0 for key in bench.client.scan_iter())
        assert memory < 100_000

    def test_a_grant_takes_ten_bytes(self, bench: Bench) -> None:
        bucket = Bucket("many", (Window(10_000, 3600.0),))
        bench.turns(5_000, bucket)
        memory = sum(bench.client.memory_usage(key, samples=0) or 0 for key in bench.client.scan_iter())
        assert memory / 5_000 < 13

    def test_a_bucket_that_lets_nothing_through_is_refused(self, bench: Bench) -> None:
        for bucket in (
            Bucket("none", (Window(0, 1.0),)),
            Bucket("none", (Window(1, 1.0),), burst=0),
            Bucket("none", concurrency=0),
            Bucket("none", (Window(1, 0.0),)),
        ):
            with pytest.raises(ValueError, match="The bucket none"):
                bench.acquire(bucket)


class TestSeveralBuckets:
    def test_a_call_passes_all_of_them(self, bench: Bench) -> None:
        slow, quick = Bucket("slow", (Window(1, 10.0),)), Bucket("quick", (Window(3, 1.0),))
        times = bench.turns(3, slow, quick)
        assert times[1:] == [near(times[0] + 10, 1e-5), near(times[0] + 20, 1e-5)]
        assert bench.refused(slow, quick).key == "slow"
        assert bench.limiter.status(quick).used == (3,)

    def test_nothing_is_taken_of_one_when_the_other_is_full(self, bench: Bench) -> None:
        other = Bucket("other", (Window(3, 10.0),), concurrency=1)
        bench.turns(3, THREE)
        bench.refused(THREE, other)
        assert bench.limiter.status(other).used == (0,)
        assert bench.limiter.status(other).leases == 0

    def test_a_turn_far_ahead_keeps_nobody_from_the_time_before_it(self, bench: Bench) -> None:
        """The seventh call waits for the bucket `slow`; those of `quick` alone do not wait for the seventh."""
        slow, quick = Bucket("slow", (Window(1, 30.0),)), Bucket("quick", (Window(4, 10.0),))
        first, second = bench.turns(2, slow, quick)
        assert second == near(first + 30)
        times = bench.turns(8, quick)
        assert [at < first + 5 for at in times] == [True] * 3 + [False] * 5
        assert times[3] == near(first + 10)
        assert overruns(quick, [first, second, *times]) == 0
        # It has the thirtieth second, so that only three of the four in its window are left for others.
        assert sum(at < first + 30 for at in times) == 8
        more = bench.turns(8, quick)
        assert overruns(quick, [first, second, *times, *more]) == 0

    def test_the_same_bucket_twice_is_one(self, bench: Bench) -> None:
        assert bench.turn(THREE, THREE).wait == 0
        assert bench.limiter.status(THREE).used == (1,)


class TestConcurrency:
    PAIR = Bucket("pair", concurrency=2)

    def test_as_many_as_it_says(self, bench: Bench) -> None:
        bench.turn(self.PAIR, ticket="a")
        bench.turn(self.PAIR, ticket="b")
        assert bench.refused(self.PAIR, max_wait=3600) == Queued(key="pair", at=None)
        assert bench.limiter.status(self.PAIR).leases == 2
        bench.limiter.release((self.PAIR,), "a")
        assert bench.turn(self.PAIR).wait == 0

    def test_a_ticket_counts_once(self, bench: Bench) -> None:
        first = bench.turn(self.PAIR, ticket="a")
        bench.turn(self.PAIR, ticket="b")
        assert isinstance(bench.acquire(self.PAIR, ticket="a", late=first), Turn)
        assert bench.limiter.status(self.PAIR).leases == 2

    def test_the_lease_of_a_killed_process_is_free_after_its_time(self, bench: Bench) -> None:
        one, lease = Bucket("one", concurrency=1), 1.0
        script = f"""
import signal
import redis
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
limiter = Limiter(redis.Redis.from_url({bench.url!r}), prefix={PREFIX!r})
turn = limiter.acquire([{one!r}], ticket="theirs", max_wait=0, margin=0, lease={lease})
print(turn.at, flush=True)
signal.pause()
"""
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
            assert process.stdout
            began = float(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        refused, deadline = 0, bench.now() + 10
        while isinstance(found := bench.acquire(one), Queued):
            refused += 1
            assert bench.now() < deadline
        assert refused
        assert began + lease <= found.at < began + lease + 1


class TestLateTurns:
    def test_a_turn_is_late_after_the_margin(self) -> None:
        now = time.monotonic()
        assert not Turn(at=1.0, wait=0.0, ready=now).is_late(60)
        assert not Turn(at=1.0, wait=0.0, ready=now + 60).is_late(0)
        assert Turn(at=1.0, wait=0.0, ready=now - 2).is_late(1)

    def test_it_is_taken_anew_and_the_old_one_given_back(self, bench: Bench) -> None:
        times = bench.turns(2, THREE)
        late = bench.turn(THREE, ticket="late")
        anew = bench.turn(THREE, ticket="late", late=late)
        assert anew.wait == 0
        assert anew.at > late.at
        assert bench.limiter.status(THREE).used == (3,)
        assert bench.turn(THREE).at == near(times[0] + 10)

    def test_a_reserved_turn_that_is_given_back_goes_to_another(self, bench: Bench) -> None:
        first = bench.turns(3, THREE)[0]
        reserved = bench.turn(THREE, ticket="a")
        assert reserved.at == near(first + 10)
        assert isinstance(bench.acquire(THREE, ticket="a", max_wait=0, late=reserved), Queued)
        assert bench.turn(THREE).at == reserved.at

    def test_what_left_a_list_still_counts_when_a_turn_is_given_back(self, bench: Bench) -> None:
        single = Bucket("single", (Window(1, 10.0),))
        first = bench.turn(single)
        reserved = bench.turn(single, ticket="a")
        anew = bench.turn(single, ticket="a", late=reserved)
        assert anew.at == near(first.at + 10)

    def test_without_a_new_turn_its_lease_is_free(self, bench: Bench) -> None:
        bucket = Bucket("both", (Window(1, 10.0),), concurrency=1)
        turn = bench.turn(bucket, ticket="a")
        bench.limiter.cool_down(["both"], bench.now() + 60)
        assert isinstance(bench.acquire(bucket, ticket="a", late=turn), Queued)
        assert bench.limiter.status(bucket).leases == 0
        assert bench.limiter.status(bucket).used == (0,)


class TestCoolDown:
    WIDE = Bucket("wide", (Window(100, 10.0),))

    def test_nothing_is_granted_before_its_end(self, bench: Bench) -> None:
        until = bench.now() + 20
        assert bench.limiter.cool_down(["wide"], until) == 1
        queued = bench.refused(self.WIDE, max_wait=10)
        assert queued.key == "wide"
        cooling = bench.limiter.status(self.WIDE).cooling_until
        assert cooling is not None
        assert until - US <= cooling <= until + 1 + US
        assert queued.at == cooling == bench.turn(self.WIDE).at

    def test_it_goes_on_slowly(self, bench: Bench) -> None:
        bench.turn(self.WIDE)
        bench.limiter.cool_down(["wide"], bench.now() + 20)
        times = bench.turns(20, self.WIDE)
        steps = gaps(times)
        assert steps[:10] == [near(0.1)] * 10
        assert steps[10:] == [0] * 9

    def test_it_goes_on_slowly_with_a_burst(self, bench: Bench) -> None:
        bucket = Bucket("burst", (Window(100, 10.0),), burst=5)
        bench.turn(bucket)
        bench.limiter.cool_down(["burst"], bench.now() + 20)
        times = bench.turns(30, bucket)
        assert overruns(bucket, times) == 0
        assert gaps(times[:10]) == [near(0.1)] * 9

    def test_a_bucket_without_windows_goes_on_slowly_too(self, bench: Bench) -> None:
        many = Bucket("many", concurrency=100)
        bench.limiter.cool_down(["many"], bench.now() + 5)
        assert gaps(bench.turns(4, many)) == [near(0.1)] * 3

    def test_it_is_never_shortened(self, bench: Bench) -> None:
        bench.limiter.cool_down(["wide"], bench.now() + 60)
        before = bench.limiter.status(self.WIDE)
        assert bench.limiter.cool_down(["wide", "other"], bench.now() + 30) == 1
        assert bench.limiter.status(self.WIDE) == before
        bench.limiter.cool_down(["wide"], bench.now() + 90)
        assert bench.limiter.status(self.WIDE) != before

    def test_one_in_the_past_does_nothing(self, bench: Bench) -> None:
        assert bench.limiter.cool_down(["wide"], bench.now() - 1) == 0
        assert bench.stored() == []

    def test_a_short_one_ends(self, bench: Bench) -> None:
        bench.limiter.cool_down(["wide"], bench.now() + 0.1)
        bench.refused(self.WIDE)
        bench.wait_until(bench.now() + 0.15)
        assert bench.turn(self.WIDE, max_wait=0).wait == 0
        assert bench.limiter.status(self.WIDE).cooling_until is None

    def test_other_buckets_go_on(self, bench: Bench) -> None:
        bench.limiter.cool_down(["wide"], bench.now() + 60)
        assert bench.turn(THREE, max_wait=0).wait == 0
        assert bench.refused(THREE, self.WIDE).key == "wide"

    def test_a_pause_lasts_until_it_is_ended(self, bench: Bench) -> None:
        bench.limiter.pause(["wide"])
        assert bench.refused(self.WIDE, max_wait=PAUSE * 2) == Queued(key="wide", at=None)
        assert bench.limiter.status(self.WIDE).paused
        bench.limiter.resume(["wide"])
        assert not bench.limiter.status(self.WIDE).paused
        first, second = bench.turns(2, self.WIDE)
        assert second - first == near(0.1)

    def test_the_end_of_a_pause_ends_no_cool_down(self, bench: Bench) -> None:
        bench.limiter.cool_down(["wide"], bench.now() + 60)
        bench.limiter.pause(["wide"])
        bench.limiter.resume(["wide"])
        assert bench.refused(self.WIDE).at is not None


class TestKeys:
    """That every key expires and is under the prefix, the fixture ``bench`` checks after each test."""

    def test_lifetimes(self, bench: Bench) -> None:
        bucket = Bucket("all", (Window(2, 30.0),), burst=1, concurrency=5)
        bench.turns(2, bucket)
        lifetimes = {key.removeprefix(PREFIX): bench.client.ttl(key) for key in bench.stored()}
        assert lifetimes == {
            "l:w:all:30000001": near(15 + 30 + 60, 5),
            "l:b:all": near(30 + 60, 5),
            "l:c:all": near(15 + 60 + 60, 5),
        }

    def test_two_limiters_with_one_prefix_share(self, bench: Bench) -> None:
        with closing(Limiter.from_url(bench.url, prefix=PREFIX)) as other:
            bench.turns(3, THREE)
            options: dict[str, Any] = {"ticket": "t", "max_wait": 0, "margin": 0, "lease": 60}
            assert isinstance(other.acquire([THREE], **options), Queued)
        with closing(Limiter.from_url(bench.url, prefix=PREFIX + "l:other:")) as other:
            assert isinstance(other.acquire([THREE], **options), Turn)


class TestConnections:
    def test_a_server_that_is_down(self) -> None:
        with closing(Limiter.from_url(f"redis://:s3cr3t@127.0.0.1:{free_port()}", prefix=PREFIX)) as limiter:
            with pytest.raises(StoreError, match="cannot be reached") as caught:
                limiter.acquire([THREE], ticket="t", max_wait=0, margin=0, lease=60)
            assert "s3cr3t" not in f"{caught.value} {limiter!r}"

    def test_a_client_that_decodes_is_refused(self, bench: Bench) -> None:
        with (
            closing(redis.Redis.from_url(bench.url, decode_responses=True)) as client,
            pytest.raises(ConfigurationError, match="decode_responses"),
        ):
            Limiter(client, prefix=PREFIX)

    def test_it_cannot_be_pickled(self, bench: Bench) -> None:
        with pytest.raises(TypeError, match="make one in each process"):
            pickle.dumps(bench.limiter)

    def test_a_client_of_ones_own_stays_open(self, bench: Bench) -> None:
        bench.turn(THREE)
        connection = bench.client.client_id()
        bench.limiter.close()
        assert bench.client.client_id() == connection
