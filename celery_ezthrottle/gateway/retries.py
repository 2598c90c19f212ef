"""Whether a request is made again after an attempt, and where. No I/O and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from celery_ezthrottle.service.job import RetryPolicy

__all__ = ["RETRY_CODES", "Next", "Tried", "next_try"]

#: Statuses after which a request is made again, when its job does not say otherwise.
RETRY_CODES = frozenset({429, 500, 502, 503, 504})


class Next(Enum):
    """What follows an attempt."""

    RETRY = "the same region"
    REROUTE = "another region"
    END = "no further attempt"


@dataclass(frozen=True)
class Tried:
    """The attempts at one request so far.

    Attributes:
        status_code: of the last attempt; None when it got no answer.
        attempts: how many were made, the last one included.
        reroutes: how many of them were made in another region than the one before.
    """

    status_code: int | None
    attempts: int
    reroutes: int


def next_try(
    policy: RetryPolicy | None, tried: Tried, *, most_attempts: int, has_fallback: bool, has_region: bool
) -> Next:
    """Return what follows an attempt. A retry comes before a reroute.

    Args:
        policy: of the job. Without one, a fallback comes before the retries of the gateway.
        most_attempts: how many attempts the gateway makes, when the job does not say it.
        has_fallback: whether a fallback applies to the failure.
        has_region: whether there is another region to go to.
    """
    if policy is None and has_fallback:
        return Next.END
    policy = policy or RetryPolicy()
    if _may_retry(policy, tried, most_attempts):
        return Next.RETRY
    return Next.REROUTE if has_region and _may_reroute(policy, tried) else Next.END


def _may_retry(policy: RetryPolicy, tried: Tried, most_attempts: int) -> bool:
    codes = RETRY_CODES.difference(policy.reroute_codes or ()) if policy.retry_codes is None else policy.retry_codes
    most = most_attempts - 1 if policy.max_retries is None else policy.max_retries
    return tried.attempts - 1 - tried.reroutes < most and (tried.status_code is None or tried.status_code in codes)


def _may_reroute(policy: RetryPolicy, tried: Tried) -> bool:
    if policy.max_reroutes is None and policy.reroute_codes is None:
        return False
    codes = RETRY_CODES if policy.reroute_codes is None else policy.reroute_codes
    # Without max_reroutes, each region is tried once: the caller looks for one that was not.
    within = policy.max_reroutes is None or tried.reroutes < policy.max_reroutes
    return within and (tried.status_code is None or tried.status_code in codes)
