"""What ``benchmarks.limiter`` sets side by side: our limiter, two libraries, and a bare GCRA script."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import redis

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Turn
from celery_ezthrottle.settings.limit import Window

__all__ = ["CONTENDERS", "Ask", "missing"]

PREFIX = "{bench}:"
MAX_WAIT = 0.5  # seconds that one of our callers waits for its turn
RETRY = 0.01  # seconds until a caller asks again that was refused, and not told for how long

#: Ask once. Gives whether a turn was taken; the seconds to wait, for the turn or until it is worth asking again; the time of the
#: turn by the clock of the server, if the contender tells it. Only our turns may be a little ahead.
Ask = Callable[[], tuple[bool, float, float | None]]

#: KEYS: the time at which the next call would come if all came evenly. ARGV: microseconds between two calls, calls at once.
#: Returns the microseconds to wait, 0 when the call may go out. At most some 10 lines: it has one limit, and no concurrency.
_GCRA = """
local time = redis.call('TIME')
local now = time[1] * 1e6 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local tat = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0))
local early = tat - (burst - 1) * interval
if early > now then return early - now end
redis.call('SET', KEYS[1], string.format('%.0f', tat + interval), 'PX', math.ceil((tat + interval - now) / 1e3))
return 0
"""


def _ours(url: str, count: int) -> Ask:
    limiter, numbers = Limiter(redis.Redis.from_url(url), prefix=PREFIX), iter(range(10**9))
    buckets = [Bucket(f"bench{count}", (Window(count, 1.0),))]

    def ask() -> tuple[bool, float, float | None]:
        ticket = f"0123456789ab-{next(numbers)}"
        turn = limiter.acquire(buckets, ticket=ticket, max_wait=MAX_WAIT, margin=0.025, lease=60)
        return (True, turn.wait, turn.at) if isinstance(turn, Turn) else (False, RETRY, None)

    return ask


def _gcra(url: str, count: int) -> Ask:
    script = redis.Redis.from_url(url).register_script(_GCRA)

    def ask() -> tuple[bool, float, float | None]:
        wait: Any = script(keys=[f"gcra{count}"], args=[1_000_000 // count, count])
        return wait == 0, wait / 1e6, None

    return ask


def _limits(strategy: str) -> Callable[[str, int], Ask]:
    def made(url: str, count: int) -> Ask:
        import limits

        limiter = getattr(limits.strategies, strategy)(limits.storage.storage_from_string(url))
        item = limits.RateLimitItemPerSecond(count)

        def ask() -> tuple[bool, float, float | None]:
            return limiter.hit(item, strategy), RETRY, None

        return ask

    return made


def _pyrate(url: str, count: int) -> Ask:
    from pyrate_limiter import Duration, Rate, RedisBucket
    from pyrate_limiter import Limiter as PyrateLimiter

    bucket = RedisBucket.init([Rate(count, Duration.SECOND)], redis.Redis.from_url(url), f"pyrate{count}")
    limiter = PyrateLimiter(bucket)

    def ask() -> tuple[bool, float, float | None]:
        return bool(limiter.try_acquire("bench", blocking=False)), RETRY, None

    return ask


#: Each makes, for the URL of a server and a number of calls in any second, what asks for one call.
CONTENDERS: dict[str, Callable[[str, int], Ask]] = {
    "ours": _ours,
    "gcra": _gcra,
    "limits_fixed": _limits("FixedWindowRateLimiter"),
    "limits_moving": _limits("MovingWindowRateLimiter"),
    "limits_sliding": _limits("SlidingWindowCounterRateLimiter"),
    "pyrate": _pyrate,
}


def missing(contender: str) -> bool:
    """Whether the library of a contender is not installed."""
    library = {"limits": "limits", "pyrate": "pyrate_limiter"}.get(contender.partition("_")[0])
    return library is not None and find_spec(library) is None
