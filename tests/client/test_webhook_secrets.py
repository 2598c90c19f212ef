"""The account's webhook secrets, set, shown, rotated and deleted at the service."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.client.ezthrottle import EZThrottle
from celery_ezthrottle.errors import AuthenticationError, ServiceUnavailable, SubmitRefused
from tests.support.fake_proxy import FakeProxy

from .conftest import KEY, calls

URL = "https://ez.example.com/api/v1/webhook-secrets"
OLD, NEW = "the old secret, long enough", "a new secret, long enough"
SHOWN = {"customer_id": "c", "primary_secret": "the ****ough", "secondary_secret": None, "has_secondary": False}


def test_secrets_are_set(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.forwards(200, {"status": "ok", "message": "saved"})
    assert client.create_webhook_secret(NEW) == {"status": "ok", "message": "saved"}
    client.create_webhook_secret(primary_secret=NEW, secondary_secret=OLD)
    assert calls(proxy) == [
        (f"POST {URL}", {"primary_secret": NEW}),
        (f"POST {URL}", {"primary_secret": NEW, "secondary_secret": OLD}),
    ]


def test_secrets_are_shown_and_deleted(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.forwards(200, SHOWN)
    assert client.get_webhook_secret() == SHOWN
    proxy.forwards(200, {"status": "ok"})
    assert client.delete_webhook_secret() == {"status": "ok"}
    assert calls(proxy) == [(f"GET {URL}", None), (f"DELETE {URL}", None)]


def test_the_direct_dialect_needs_no_envelope(proxy: FakeProxy) -> None:
    proxy.answers(200, SHOWN)
    with EZThrottle(KEY, ezthrottle_url=proxy.url, dialect="direct") as client:
        assert client.get_webhook_secret() == SHOWN
    [(path, headers, body)] = proxy.requests
    assert (path, headers["X-API-Key"], body) == ("GET /api/v1/webhook-secrets", KEY, b"")


def test_no_secret_is_said_as_the_sdk_says_it(proxy: FakeProxy, client: EZThrottle) -> None:
    proxy.forwards(404, {"error": "not found"})
    with pytest.raises(SubmitRefused, match=r"^No webhook secrets configured\. Call create_webhook_secret") as caught:
        client.get_webhook_secret()
    assert caught.value.status_code == 404


ACTS: list[Callable[[EZThrottle], Any]] = [
    lambda client: client.create_webhook_secret(NEW, OLD),
    lambda client: client.get_webhook_secret(),
    lambda client: client.delete_webhook_secret(),
    lambda client: client.rotate_webhook_secret(NEW, OLD),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize(
    ("status", "kind"), [(400, SubmitRefused), (401, AuthenticationError), (500, ServiceUnavailable)]
)
@pytest.mark.parametrize("inner", [True, False])
def test_a_refusal_is_no_success(
    proxy: FakeProxy, client: EZThrottle, act: Callable[[EZThrottle], Any], status: int, kind: type, inner: bool
) -> None:
    """Defect of the SDK: it returns an inner 400 as if it were the answer."""
    (proxy.forwards if inner else proxy.answers)(status, {"error": f"bad secret {NEW} of {KEY}"})
    with pytest.raises(kind) as caught:
        act(client)
    error = caught.value
    assert isinstance(error, SubmitRefused | ServiceUnavailable)
    assert error.status_code == status
    for shown in (str(error), error.body):
        assert KEY not in shown
        assert "job" not in shown
    if act is ACTS[0]:
        assert NEW not in str(error) + error.body


@pytest.mark.parametrize("secrets", [("short",), (NEW, "short"), ("",)])
def test_a_short_secret_is_not_sent(proxy: FakeProxy, client: EZThrottle, secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="_secret must be at least 16 characters"):
        client.create_webhook_secret(*secrets)
    with pytest.raises(ValueError, match="new_secret must be at least 16 characters"):
        client.rotate_webhook_secret("short")
    assert proxy.requests == []


# Rotation. Defect of the SDK: it reads the old secret back masked, and gives it up.


def rotates(proxy: FakeProxy, *answers: tuple[int, Any]) -> None:
    proxy.turns = [functools.partial(proxy.forwards, *answer) for answer in answers]


def test_rotation_keeps_the_old_secret(proxy: FakeProxy, client: EZThrottle) -> None:
    rotates(proxy, (200, SHOWN), (200, {"status": "ok"}))
    assert client.rotate_webhook_secret(NEW, OLD) == {"status": "ok"}
    assert calls(proxy)[1:] == [(f"POST {URL}", {"primary_secret": NEW, "secondary_secret": OLD})]


@pytest.mark.parametrize(
    "configured", [{"webhook_secret": OLD}, {"webhook_secret": NEW, "webhook_secret_secondary": OLD}]
)
def test_the_old_secret_may_be_the_configured_one(proxy: FakeProxy, configured: dict[str, str]) -> None:
    app = Celery("rotating", set_as_current=False)
    app.conf.update({f"ezthrottle_{name}": value for name, value in configured.items()})
    app.conf.update(ezthrottle_api_key=KEY, ezthrottle_tracktags_url=proxy.url, ezthrottle_url="https://ez.example.com")
    rotates(proxy, (200, SHOWN), (200, {"status": "ok"}))
    with EZThrottle.from_app(app) as client:
        client.rotate_webhook_secret(NEW)
    assert calls(proxy)[1:] == [(f"POST {URL}", {"primary_secret": NEW, "secondary_secret": OLD})]


@pytest.mark.parametrize("old", [None, "not the old one, but as long"])
def test_rotation_does_not_lose_the_old_secret(proxy: FakeProxy, client: EZThrottle, old: str | None) -> None:
    proxy.forwards(200, SHOWN)
    with pytest.raises(ValueError, match="give old_secret"):
        client.rotate_webhook_secret(NEW, old)
    assert len(proxy.requests) == 1


def test_the_first_secret_is_simply_set(proxy: FakeProxy, client: EZThrottle) -> None:
    rotates(proxy, (404, ""), (200, {"status": "ok"}))
    client.rotate_webhook_secret(NEW, OLD)
    assert calls(proxy)[1:] == [(f"POST {URL}", {"primary_secret": NEW})]


@pytest.mark.parametrize("shown", ["hidden", None, 5])
def test_a_mask_of_another_form_proves_nothing(proxy: FakeProxy, client: EZThrottle, shown: Any) -> None:
    rotates(proxy, (200, {**SHOWN, "primary_secret": shown}), (200, {"status": "ok"}))
    assert client.rotate_webhook_secret(NEW, OLD) == {"status": "ok"}
