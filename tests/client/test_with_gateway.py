"""The client and a real gateway, through both front doors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.errors import AuthenticationError, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.service_answer import JobState
from celery_ezthrottle.service.signatures import verify
from tests.support.gateway_process import API_KEY, SECRET, Gateway, Site, until

NEW = "a new secret, long enough"
DIALECTS = pytest.mark.parametrize("dialect", ["proxy", "direct"])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gateway")).running() as gateway:
        yield gateway


@pytest.fixture
def site() -> Iterator[Site]:
    """An upstream that is also what the webhooks go to."""
    with Site().running() as site:
        yield site


Make = Callable[..., EZThrottle]


@pytest.fixture
def make(gateway: Gateway) -> Iterator[Make]:
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{gateway.port}"
        yield lambda dialect, key=API_KEY: stack.enter_context(EZThrottle(key, url, url, dialect=dialect))


@DIALECTS
def test_a_job_is_taken_once_and_delivered(site: Site, make: Make, dialect: str) -> None:
    client = make(dialect)
    job: dict[str, Any] = {
        "url": f"{site.url}/charge/{dialect}",
        "method": "POST",
        "body": "x",
        "metadata": {"order": 7},
        "webhooks": [{"url": f"{site.url}/hook"}],
        "idempotent_key": f"order-{dialect}",
    }
    first, again = client.submit_job(**job), client.submit_job(**job)
    assert (first["status"], again["status"], again["job_id"]) == ("queued", "duplicate", first["job_id"])
    charged, hook = site.wait_for(2)
    assert (charged.path, charged.body) == (f"/charge/{dialect}", b"x")
    assert (hook.json["job_id"], hook.json["status"], hook.json["metadata"]) == (
        first["job_id"],
        "success",
        {"order": 7},
    )


@DIALECTS
def test_a_key_that_is_wrong_is_told(make: Make, dialect: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        make(dialect, "another key").submit_job("https://api.example.com/")
    assert caught.value.status_code == 401


@DIALECTS
def test_the_secrets_of_the_account(site: Site, make: Make, dialect: str) -> None:
    client = make(dialect)
    client.create_webhook_secret(SECRET)
    client.rotate_webhook_secret(NEW, SECRET)
    shown = client.get_webhook_secret()
    assert (shown["primary_secret"], shown["secondary_secret"]) == ("a ne****ough", "the ****ests")
    client.submit_job(site.url, webhooks=[{"url": f"{site.url}/hook"}])
    hook = site.wait_for(2)[1]
    at = int(hook.headers["x-ezthrottle-signature"].partition("t=")[2].partition(",")[0])
    verify(hook.headers["x-ezthrottle-signature"], hook.body, [NEW], now=at, tolerance=1)
    client.delete_webhook_secret()
    with pytest.raises(SubmitRefused, match="No webhook secrets configured"):
        client.get_webhook_secret()
    client.rotate_webhook_secret(NEW)


def test_a_job_is_looked_up(gateway: Gateway, site: Site) -> None:
    url = f"http://127.0.0.1:{gateway.port}"
    with ServiceClient(API_KEY, url=url, dialect="direct") as client, EZThrottle(API_KEY, url) as submitting:
        job_id = submitting.submit_job(f"{site.url}/slow", retry_at=9_000_000_000_000)["job_id"]
        assert client.look_up(job_id) == JobState(job_id, "queued")
        done = submitting.submit_job(f"{site.url}/done")["job_id"]
        until(lambda: client.look_up(done) == JobState(done, "completed"), "the end of the job")
        assert client.look_up("job_0_000000") is None
