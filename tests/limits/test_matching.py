"""Which buckets a call has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from celery_ezthrottle._common.callables import OptionFailed
from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.matching import HOSTS, Matching
from celery_ezthrottle.settings.limit import Limit
from celery_ezthrottle.settings.limits_setting import LIMITS

URL = "https://api.example.com/v1/orders?page=2"


def never(*_: object) -> Any:
    raise AssertionError("nothing has asked for it")


def matching(*patterns: str, **limits: Limit) -> Matching:
    return Matching(LIMITS.of_setting({pattern: Limit("2/s") for pattern in patterns} | limits))


def keys(found: Matching, url: str) -> list[str]:
    return [bucket.key for bucket in found.buckets(url, never, never)]


@pytest.mark.parametrize(
    ("pattern", "url", "matches"),
    [
        ("*", URL, True),
        ("*", "http://127.0.0.1:8000", True),
        ("api.example.com", URL, True),
        ("API.example.com", "https://api.EXAMPLE.com./v1", True),
        ("example.com", URL, False),
        ("*.example.com", URL, True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://evil-example.com/", False),
        ("*.example.com", "https://other.org/api.example.com", False),
        ("api.example.com", "https://api.example.com@other.org/", False),
        ("api.example.com", "https://user:secret@api.example.com/", True),
        ("api.example.com:443", URL, True),
        ("api.example.com:8443", URL, False),
        ("*:8000", "http://localhost:8000/", True),
        ("[::1]:8080", "http://[::1]:8080/", True),
        ("::1", "http://[::1]:8080/", True),
        # Paths.
        ("api.example.com/v1/*", URL, True),
        ("api.example.com/v1/orders", URL, True),
        ("api.example.com/v2/*", URL, False),
        ("api.example.com/v1", URL, False),
        ("api.example.com/V1/*", URL, False),
        ("*/v1/*", URL, True),
        ("other.org/v1/*", URL, False),
        ("api.example.com:443/v1/*", URL, True),
        ("api.example.com/*", "https://api.example.com", True),
        ("api.example.com/", URL, True),
        # No host, or none that can be read.
        ("*", "http://[::1", False),
        ("*", "http://api.example.com:99999/", False),
    ],
)
def test_patterns(pattern: str, url: str, matches: bool) -> None:
    found = matching(pattern)
    for _ in range(2):  # the second time from memory
        assert len(found.buckets(url, never, never)) == matches


def test_a_call_has_the_buckets_of_all_limits_that_it_matches() -> None:
    limits: Mapping[str, Limit] = LIMITS.of_setting(
        "*=40/s;burst=20, api.example.com=500/m;10/s;concurrency=3, other.org=1/s, *.com/v1/*=concurrency=7"
    )
    assert Matching(limits).buckets(URL, never, never) == (
        Bucket("*", limits["*"].windows, 20),
        Bucket("api.example.com", limits["api.example.com"].windows, None, 3),
        Bucket("*.com/v1/*", (), None, 7),
    )
    assert keys(Matching(limits), "https://api.example.com/v2") == ["*", "api.example.com"]
    assert keys(Matching(limits), "https://third.org/v1/x") == ["*"]


def test_a_pattern_has_one_bucket_for_all_hosts() -> None:
    found = matching("*.example.com")
    hosts = ["a.example.com", "b.example.com", "c.b.example.com:8443"]
    assert len({found.buckets(f"https://{host}/{host}", never, never) for host in hosts}) == 1


def test_an_adaptive_limit_has_a_bucket_of_the_rate_to_start_with() -> None:
    found = Matching({"*": Limit.adaptive("5/s", concurrency=3)})
    assert found.buckets(URL, never, never) == (Bucket("*", Limit("5/s").windows, None, 3, learns=True),)


def test_no_limit_looks_at_nothing() -> None:
    assert Matching({}).buckets(None, never, never) == ()  # type: ignore[arg-type]  # not even at the URL


class Request:
    """A request as the HTTP library has it."""

    def __init__(self, **headers: str) -> None:
        self.headers = headers


def split(per: str | Callable[[Any], str], **headers: str) -> Bucket:
    request = Request(**headers)
    found = Matching({"*": Limit("2/s", burst=1, concurrency=9, per=per)})
    (bucket,) = found.buckets(URL, lambda: request, headers.get)
    assert (bucket.windows, bucket.burst, bucket.concurrency) == (Limit("2/s").windows, 1, 9)
    return bucket


@pytest.mark.parametrize("per", ["token", lambda request: request.headers["token"]])
def test_per_splits_a_limit(per: str | Callable[[Any], str]) -> None:
    first, again, second = (split(per, token=token) for token in ("s3cr3t-1", "s3cr3t-1", "s3cr3t-2"))
    assert first == again
    assert first.key != second.key
    assert "s3cr3t" not in first.key
    digest = hashlib.blake2b(b"s3cr3t-1", digest_size=8).hexdigest()
    assert first.key == f"*#{digest}"  # the same in each process, and in each version


def test_calls_without_the_header_share_one_bucket() -> None:
    assert split("token").key == "*"
    assert split("token", token="").key != "*"


def test_a_value_may_be_any_string() -> None:
    assert len({split("token", token=token).key for token in ("\ud800", "ключ", "", "\0")}) == 4


def test_per_is_asked_only_where_its_pattern_matches() -> None:
    found = Matching({"other.org": Limit("2/s", per=never), "*/v2/*": Limit("2/s", per=never), "*": Limit("2/s")})
    assert keys(found, URL) == ["*"]


def test_two_limits_may_be_split_in_two_ways() -> None:
    found = Matching({"*": Limit("2/s", per="a"), "*.com": Limit("2/s", per=lambda request: request.headers["b"])})
    headers = {"a": "1", "b": "2"}
    seen = found.buckets(URL, lambda: Request(**headers), headers.get)
    assert [bucket.key.partition("#")[0] for bucket in seen] == ["*", "*.com"]
    assert len({bucket.key for bucket in seen}) == 2


def test_a_callable_that_raises_is_an_error_that_names_its_limit() -> None:
    with pytest.raises(OptionFailed, match=r"per of the limit '\*' raised KeyError\('token'\)") as caught:
        split(lambda request: str(request.headers["token"]))
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("value", [None, 7, b"s3cr3t"])
def test_a_callable_that_returns_no_string_is_an_error(value: Any) -> None:
    with pytest.raises(OptionFailed, match=rf"'\*' returned {type(value).__name__}; let it return a string") as caught:
        split(lambda _: value)
    assert "s3cr3t" not in str(caught.value)


def test_no_more_hosts_are_remembered_than_that() -> None:
    found = matching("*")
    for number in range(2 * HOSTS):
        found.buckets(f"https://{number}.example.com/", never, never)
    info = found._rules.cache_info()
    assert (info.currsize, info.misses) == (HOSTS, 2 * HOSTS)
    found.buckets(f"https://user:secret@{2 * HOSTS - 1}.example.com/", never, never)
    assert found._rules.cache_info().hits == 1  # whatever the user info
