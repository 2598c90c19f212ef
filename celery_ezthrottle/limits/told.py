"""What a response says about the limits of its API. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from celery_ezthrottle.settings.limit import Window

from .moments import moment, number
from .structured import read_list

__all__ = ["MAX_WAIT", "SHORTEST", "Notice", "retry_after", "told"]

#: Longest wait in seconds that a response can ask for (a day). Quotas of a month exist, but a header that was misread must not
#: silence an API for weeks: after a day it is asked again.
MAX_WAIT = 24 * 3600.0
TOO_MANY_REQUESTS, UNAVAILABLE = 429, 503
#: Statuses that mean "too many calls" even where no header says that none is left.
_LIMITED = (TOO_MANY_REQUESTS, UNAVAILABLE)
#: Shortest time in seconds for which a limit is taken to hold.
SHORTEST = 1.0
#: Largest count of a window that is kept. More calls than that need no pace.
MOST = 10_000


@dataclass(frozen=True)
class Notice:
    """What a response says about limits. None = it does not say.

    Attributes:
        until: Unix time in seconds. The next call should not be made before it. From ``now`` to :data:`MAX_WAIT` after it.
        remaining: how many calls are left. Of several quotas, that with the fewest calls left is shown.
        limit: how many calls that quota has in all.
        reset: Unix time in seconds at which that quota is full again.
        windows: what the API says to allow, such as 100 calls in 60 seconds; () if it does not say both numbers.
    """

    until: float | None = None
    remaining: float | None = None
    limit: float | None = None
    reset: float | None = None
    windows: tuple[Window, ...] = ()

    def is_limit(self, status: int) -> bool:
        """Whether a response with this status says that a limit is reached. 503 does so only if it names a time."""
        return status == TOO_MANY_REQUESTS or (status == UNAVAILABLE and self.until is not None)

    def wait(self, now: float) -> float | None:
        """Seconds for which the API asks to wait, at least :data:`SHORTEST`; None = it does not say."""
        return None if self.until is None else max(SHORTEST, self.until - now)

    def windows_with(self, margin: float) -> list[Window]:
        """The windows that are worth a pace, each longer by ``margin`` seconds, as those of the settings are."""
        return [Window(window.count, window.seconds + margin) for window in self.windows if window.count <= MOST]


class _Quota(NamedTuple):
    """One limit that a response tells of. ``seconds`` is the length of its window."""

    remaining: float | None = None
    limit: float | None = None
    reset: float | None = None
    seconds: float | None = None
    of_calls: bool = True  # or of tokens, bytes and the like

    @property
    def window(self) -> Window | None:
        """What the quota allows; None if the response does not say both numbers."""
        if self.limit is None or self.limit < 1 or not self.seconds:
            return None
        return Window(int(self.limit), self.seconds)


#: Gets the headers that say something about limits, their names in lower case, and the current Unix time.
_Reader = Callable[[Mapping[str, str], float], Iterator[_Quota]]


def told(status: int, headers: Mapping[str, str], now: float) -> Notice:
    """Return what a response says about limits.

    A wait is told by ``Retry-After`` in an error (400 and above). Otherwise the latest reset of the quotas counts that have
    nothing left; and, with status 429 or 503, that of quotas which do not say what is left, when none does. What is malformed is
    ignored.

    Args:
        status: the HTTP status.
        headers: the headers of the response. The case of the names does not matter.
        now: the current Unix time in seconds.
    """
    found = {lower: value for name, value in headers.items() if (lower := name.lower()) in _NAMES}
    if not found:
        return _NOTHING
    quotas = [quota for names, read in _FORMS if not found.keys().isdisjoint(names) for quota in read(found, now)]
    of_calls = [quota for quota in quotas if quota.of_calls]
    counted = [quota for quota in of_calls if quota.remaining is not None] or of_calls
    least = min(counted, key=lambda quota: quota.remaining or 0.0, default=_Quota())
    return Notice(
        until=_until(status, found, quotas, now),
        remaining=least.remaining,
        limit=least.limit,
        reset=least.reset,
        windows=tuple(dict.fromkeys(window for quota in of_calls if (window := quota.window))),
    )


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the Unix time in seconds that ``retry-after-ms`` or ``Retry-After`` names; it may be past. None = neither does.

    Args:
        headers: headers that are found by names in lower case.
        now: the current Unix time in seconds.
    """
    # The first one is more exact. APIs that send it round the second one up.
    milliseconds = number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return now + milliseconds / 1000
    return moment(headers.get("retry-after"), now)


def _until(status: int, found: Mapping[str, str], quotas: list[_Quota], now: float) -> float | None:
    # In a success or a redirect, Retry-After says when to look for the result, and nothing about limits.
    due = retry_after(found, now) if status >= 400 else None
    if due is None:
        used_up = [quota.reset for quota in quotas if quota.remaining is not None and quota.remaining < 1]
        if status in _LIMITED and all(quota.remaining is None for quota in quotas):
            used_up = [quota.reset for quota in quotas]
        due = max((reset for reset in used_up if reset is not None), default=None)
    return None if due is None else min(max(due, now), now + MAX_WAIT)


# The forms


def _rps(found: Mapping[str, str], _now: float) -> Iterator[_Quota]:
    """``X-EZTHROTTLE-RPS: 5``. The calls of a rate that is not whole come one at a time."""
    rate = number(found.get("x-ezthrottle-rps"))
    if rate and 1 / rate <= MAX_WAIT:
        yield _Quota(limit=rate, seconds=1.0) if rate.is_integer() else _Quota(limit=1.0, seconds=1 / rate)


def _ratelimit(found: Mapping[str, str], now: float) -> Iterator[_Quota]:
    """``RateLimit: "default";r=50;t=30`` with ``RateLimit-Policy: "default";q=100;w=10``, or one of them.

    Up to its seventh draft, the first was ``limit=100, remaining=50, reset=30``, and the second ``100;w=10``.
    """
    policies = dict(read_list(found.get("ratelimit-policy", "")))
    services = dict(read_list(found.get("ratelimit", "")))
    if any("" in parameters for parameters in services.values()):
        old = {name: parameters.get("", "") for name, parameters in services.items()}
        services = {old.get("limit", ""): {"r": old.get("remaining", ""), "t": old.get("reset", "")}}
    for name in {**policies, **services}:
        policy, service = policies.get(name, {}), services.get(name, {})
        yield _Quota(
            remaining=number(service.get("r")),
            limit=number(policy.get("q", name)),
            reset=moment(service.get("t"), now),
            seconds=number(policy.get("w")),
            of_calls=policy.get("qu", "requests") == "requests",
        )


def _three(names: tuple[str, ...], found: Mapping[str, str], now: float, *, of_calls: bool = True) -> Iterator[_Quota]:
    """Three headers: the limit, what remains of it, and when it is reset. ``100, 100;w=60`` as limit has the window too."""
    limit, remaining, reset = map(found.get, names)
    limits = read_list(limit or "")
    windows = [parameters["w"] for name, parameters in limits if name == limits[0][0] and "w" in parameters]
    yield _Quota(
        remaining=number(next((name for name, _ in read_list(remaining or "")), None)),
        limit=number(limits[0][0]) if limits else None,
        reset=moment(reset, now),
        seconds=number(windows[0]) if windows else None,
        of_calls=of_calls,
    )


def _shopify(found: Mapping[str, str], _now: float) -> Iterator[_Quota]:
    """``X-Shopify-Shop-Api-Call-Limit: 39/40``: used, and all."""
    used, limit = map(number, found.get("x-shopify-shop-api-call-limit", "").partition("/")[::2])
    if used is not None and limit is not None:
        yield _Quota(remaining=max(limit - used, 0.0), limit=limit)


def _row(template: str, *, of_calls: bool = True) -> tuple[tuple[str, ...], _Reader]:
    names = tuple(template.format(part) for part in ("limit", "remaining", "reset"))
    return names, partial(_three, names, of_calls=of_calls)


#: The forms in which APIs tell their limits: the names of the headers, and what reads them. ``Retry-After`` tells a time alone.
_FORMS: tuple[tuple[tuple[str, ...], _Reader], ...] = (
    (("x-ezthrottle-rps",), _rps),
    (("ratelimit", "ratelimit-policy"), _ratelimit),  # draft-ietf-httpapi-ratelimit-headers-10
    _row("ratelimit-{}"),  # the first drafts of it
    _row("x-ratelimit-{}"),  # GitHub and many others
    _row("x-rate-limit-{}"),  # X, Okta
    _row("x-ratelimit-{}-requests"),  # OpenAI, Groq
    _row("x-ratelimit-{}-tokens", of_calls=False),
    _row("anthropic-ratelimit-requests-{}"),
    _row("anthropic-ratelimit-tokens-{}", of_calls=False),
    _row("anthropic-ratelimit-input-tokens-{}", of_calls=False),
    _row("anthropic-ratelimit-output-tokens-{}", of_calls=False),
    (("x-shopify-shop-api-call-limit",), _shopify),
)
_NAMES = frozenset({"retry-after", "retry-after-ms"}.union(*(names for names, _ in _FORMS)))
_NOTHING = Notice()
