"""A delivered redirect is followed, and a delivered challenge met, by the resumed task: what the upstream saw of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import requests

from tests.support.answered_tasks import follows, follows_and_fetches, meets_a_challenge, refreshes_by_hook
from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

CHALLENGE = {"WWW-Authenticate": 'Digest realm="r", nonce="n1", qop="auth", algorithm=MD5'}


def seen(lab: Lab, path: str) -> Sequence[tuple[str, bool]]:
    """Method of each request, and whether the service made it."""
    return [(received.method, received.by_service) for received in lab.upstream.received(path)]


@pytest.mark.smoke
@pytest.mark.parametrize(
    ("method", "status", "then"),
    [("GET", 302, "GET"), ("GET", 308, "GET"), ("POST", 303, "GET"), ("POST", 301, "GET"), ("POST", 307, "POST")],
)
def test_a_delivered_redirect_is_followed(lab: Lab, path: str, method: str, status: int, then: str) -> None:
    lab.upstream.plan(path, 429, Answer(status, headers={"Location": f"{path}/b"}))

    told = follows.delay(path, method).get(timeout=PATIENCE)

    assert told == [then, f"{path}/b", [status]]
    assert seen(lab, path) == [(method, False), (method, True)]
    assert seen(lab, f"{path}/b") == [(then, False)]
    assert lab.upstream.received(f"{path}/b")[0].body == (f"order={path}" if then == "POST" else "")


def test_a_hop_that_is_limited_is_forwarded_too(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(302, headers={"Location": f"{path}/b"}))
    lab.upstream.plan(f"{path}/b", 429, Answer(307, headers={"Location": f"{path}/c"}))

    assert follows.delay(path).get(timeout=PATIENCE) == ["GET", f"{path}/c", [302, 307]]
    assert seen(lab, path) == seen(lab, f"{path}/b") == [("GET", False), ("GET", True)]
    assert seen(lab, f"{path}/c") == [("GET", False)]
    assert len(lab.service.jobs(path)) == len(lab.service.jobs(f"{path}/b")) == 1


def test_a_hop_that_changes_something_is_executed_once(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(307, headers={"Location": f"{path}/b"}))
    lab.upstream.plan(f"{path}/later", 429)

    told = follows_and_fetches.delay(path).get(timeout=PATIENCE)

    assert told == ["POST", f"{path}/b", [307], f"{path}/later"]
    assert seen(lab, path) == [("POST", False), ("POST", True)]
    assert seen(lab, f"{path}/b") == [("POST", False)]
    assert seen(lab, f"{path}/later") == [("GET", False), ("GET", True)]


def test_a_hop_to_a_host_that_is_not_listed_is_made_and_never_forwarded(lab: Lab, path: str) -> None:
    elsewhere = lab.upstream.url.replace("127.0.0.1", "localhost")
    lab.upstream.plan(path, 429, Answer(302, headers={"Location": f"{elsewhere}{path}/b"}))
    lab.upstream.plan(f"{path}/b", 429)

    result = follows.delay(path)
    with pytest.raises(requests.HTTPError, match="429"):
        result.get(timeout=PATIENCE)

    assert "is neither public nor listed; list it" in str(result.traceback)
    assert seen(lab, f"{path}/b") == [("GET", False)]
    assert lab.service.jobs(f"{path}/b") == []


@pytest.mark.smoke
def test_a_delivered_challenge_is_met(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, Answer(401, headers=CHALLENGE))

    assert meets_a_challenge.delay(path).get(timeout=PATIENCE) == ["POST", path, [401]]
    assert seen(lab, path) == [("POST", False), ("POST", True), ("POST", False)]
    answered = lab.upstream.received(path)[-1]
    assert answered.headers["Authorization"].startswith('Digest username="ann", realm="r", nonce="n1"')
    assert answered.body == "x"


def test_a_delivered_401_refreshes_the_token(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 401)

    assert refreshes_by_hook.delay(path).get(timeout=PATIENCE) == ["POST", path, [401]]
    assert seen(lab, f"{path}/token") == [("POST", False)]
    assert seen(lab, path) == [("POST", False), ("POST", True), ("POST", False)]
    assert lab.upstream.received(path)[-1].headers["Authorization"] == f"Bearer {path}/token 1"


def test_a_limit_on_the_way_to_the_token_is_forwarded(lab: Lab, path: str) -> None:
    lab.upstream.plan(path, 429, 401)
    lab.upstream.plan(f"{path}/token", 429)

    assert refreshes_by_hook.delay(path).get(timeout=PATIENCE) == ["POST", path, [401]]
    assert seen(lab, f"{path}/token") == [("POST", False), ("POST", True)]
    assert seen(lab, path) == [("POST", False), ("POST", True), ("POST", False)]
    assert lab.upstream.received(path)[-1].headers["Authorization"] == f"Bearer {path}/token 2"
