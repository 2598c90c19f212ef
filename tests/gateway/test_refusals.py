"""What a gateway refuses: strangers, nonsense, and settings that cannot work."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.gateway import GatewayConfig, serve
from tests.support.gateway_process import API_KEY, SECRET, Gateway

for extra in ("httpx2", "starlette", "uvicorn"):
    pytest.importorskip(extra)

JOBS = "/api/v1/jobs"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for the whole module: nothing here leaves anything in it."""
    gateway = Gateway(tmp_path_factory.mktemp("gateway"))
    with gateway.running():
        yield gateway


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/api/v1/proxy", {}),
        ("POST", "/api/v1/proxy", {"Authorization": API_KEY}),
        ("POST", "/api/v1/proxy", {"X-API-Key": API_KEY}),
        ("POST", "/api/v1/proxy", {"Authorization": "Bearer w\xf6ng"}),
        ("POST", JOBS, {}),
        ("POST", JOBS, {"X-API-Key": API_KEY[:-1]}),
        ("POST", JOBS, {"Authorization": f"Bearer {API_KEY}"}),
        ("GET", f"{JOBS}/job_1", {}),
        ("GET", "/api/v1/webhook-secrets", {"Authorization": f"Bearer {API_KEY}"}),
        ("DELETE", "/api/v1/webhook-secrets", {}),
        ("PUT", "/api/v1/regions/local", {}),
        ("GET", "/api/v1/nothing", {}),
    ],
)
def test_without_the_key_nothing_is_told(gateway: Gateway, method: str, path: str, headers: dict[str, str]) -> None:
    status, answer = gateway.request(method, path, "{}" if method == "POST" else None, headers)
    assert status == 401
    assert list(answer) == ["error"]


def test_nonsense_is_refused(gateway: Gateway) -> None:
    key = {"X-API-Key": API_KEY}
    good = {"url": "http://127.0.0.1:9/"}
    nonsense: list[str | bytes] = [
        *("", "{", "[]", "null", "1", '"x"', "[" * 100_000, b"\xff\xfe\x00", '{"url": NaN}', "{}", '{"url": 5}'),
        *(json.dumps({"url": url}) for url in ("", "/x", "ftp://host", "http://", "http://h:99999/", "http://[::1/")),
        json.dumps({**good, "body": {"an": "object"}}),
        json.dumps({**good, "body": "\ud800"}),
        json.dumps({**good, "idempotent_key": "\udfff"}),
        json.dumps({**good, "headers": {"X": 1}}),
        json.dumps({**good, "headers": {"X": "a\r\nY: b"}}),
        json.dumps({**good, "headers": {"X": "\u20ac"}}),
        json.dumps({**good, "retry_at": "soon"}),
        json.dumps({**good, "retry_at": 10**400}),
        json.dumps({**good, "webhooks": [{"url": 1}]}),
        json.dumps({**good, "on_success": {**good, "body": "\ud800"}}),
        json.dumps({**good, "fallback_job": {**good, "trigger": {"type": "on_error"}}}),
        json.dumps({**good, "webhook_quorum": 2, "webhooks": [good]}),
        '{"url": "http://h/", "on_success": ' * 1000 + "1" + "}" * 1000,
    ]
    for text in nonsense:
        status, answer = gateway.request("POST", JOBS, text, key)
        assert (status, list(answer)) == (400, ["error"]), text[:100]
        if isinstance(text, str):
            assert gateway.proxy(text) == (400, answer)
    for envelope in (
        "[]",
        "{",
        "{}",
        '{"target_url": 1, "method": "POST"}',
        '{"target_url": "", "method": "", "body": {}}',
    ):
        bearer = {"Authorization": f"Bearer {API_KEY}"}
        assert gateway.request("POST", "/api/v1/proxy", envelope, bearer)[0] == 400
    for target, method, refused in (
        ("https://ezthrottle.example/api/v1/webhook-secrets", "PUT", 405),
        ("https://ezthrottle.example/api/v1/jobs", "GET", 405),
        ("https://ezthrottle.example/api/v1/jobs/job_1", "POST", 405),
        ("https://ezthrottle.example/api/v1/proxy", "POST", 404),
        ("https://ezthrottle.example/jobs", "POST", 404),
        ("https://[ezthrottle/api/v1/jobs", "POST", 404),
    ):
        assert gateway.proxy("{}", target, method)[0] == refused
        if refused == 405:
            assert gateway.direct(method, target.rpartition("/api/v1/")[2])[0] == refused
    assert gateway.request("POST", JOBS, b" " * (8 * 1024 * 1024 + 1), key)[0] == 413
    assert gateway.request("GET", f"{JOBS}/job_1_1", headers=key)[0] == 404
    assert gateway.request("GET", "/healthz") == (200, {"status": "ok"})


def test_two_gateways_do_not_share_a_database(gateway: Gateway) -> None:
    config = GatewayConfig(**{**gateway.settings, "bind": "127.0.0.1:0"})
    with pytest.raises(ConfigurationError, match="a file of its own"):
        serve(config)


def test_an_address_that_is_taken(gateway: Gateway, tmp_path: Path) -> None:
    config = GatewayConfig(API_KEY, SECRET, bind=f"127.0.0.1:{gateway.port}", database=tmp_path / "other.sqlite3")
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        serve(config)


def test_settings_that_are_missing_or_wrong() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GatewayConfig(
            "",
            "short",
            bind="8086",
            default_rate=0.0,
            rates={"h": -1.0},
            max_attempts=0,
            timeout=0.0,
            regions=["iad", "iad"],
        )
    text = str(caught.value)
    for name in (
        "api_key",
        "webhook_secret",
        "'8086'",
        "default_rate",
        "rate of h",
        "max_attempts",
        "timeout",
        "regions",
    ):
        assert name in text
    for regions in ([], ["a b"], ["../jobs"], [""]):
        with pytest.raises(ConfigurationError, match="region"):
            GatewayConfig(API_KEY, SECRET, regions=regions)
    shown = repr(GatewayConfig(API_KEY, SECRET))
    assert API_KEY not in shown
    assert SECRET not in shown


def test_without_the_extra_serve_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    with pytest.raises(ConfigurationError, match=re.escape("install celery-ezthrottle[gateway]")):
        serve(GatewayConfig(API_KEY, SECRET))
