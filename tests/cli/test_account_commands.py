"""``submit`` and ``secrets``, with a fake proxy. No secret is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner, Result

from celery_ezthrottle.cli import ezthrottle
from celery_ezthrottle.client import submitting
from tests.client.conftest import calls, jobs
from tests.support.fake_proxy import FakeProxy, fake_proxy

KEY = "ck_live_cust_1_s3cr3t"
OLD, NEW = "s3cr3t of sixteen or more", "a new s3cr3t of sixteen or more"
URL = "https://api.example.com/v1/charges"
SECRETS = "https://ez.example.com/api/v1/webhook-secrets"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeProxy]:
    monkeypatch.setattr(submitting, "PAUSES", ())
    with fake_proxy() as server:
        yield server


def run(proxy: FakeProxy, *words: str, input: str = "", **settings: Any) -> Result:  # noqa: A002 -- click's name
    app = Celery("account", set_as_current=False)
    conf = {
        "api_key": KEY,
        "tracktags_url": proxy.url,
        "url": "https://ez.example.com",
        "webhook_secret": OLD,
        **settings,
    }
    app.conf.update({f"ezthrottle_{name}": value for name, value in conf.items()})
    done = CliRunner().invoke(ezthrottle, words, input=input, obj=SimpleNamespace(app=app))
    assert done.exception is None or isinstance(done.exception, SystemExit)
    assert "s3cr3t" not in done.output
    return done


# submit


def test_a_job_is_submitted(proxy: FakeProxy) -> None:
    done = run(
        proxy,
        *("submit", URL, "--json", '{"order": 7}', "--header", "X-A: b: c", "--key", "order-7", "--region", "iad"),
        *("--webhook", "https://a.example.com/", "--webhook", "https://b.example.com/", "--metadata", '{"order": 7}'),
    )
    assert (done.exit_code, json.loads(done.output)) == (0, {"job_id": "job_1", "status": "queued"})
    assert jobs(proxy) == [
        {
            "url": URL,
            "method": "POST",
            "headers": {"Content-Type": "application/json", "X-A": "b: c"},
            "body": '{"order": 7}',
            "metadata": {"order": 7},
            "webhooks": [{"url": "https://a.example.com/"}, {"url": "https://b.example.com/"}],
            "regions": ["iad"],
            "idempotent_key": "order-7",
        }
    ]


def test_what_is_secret_need_not_be_an_argument(proxy: FakeProxy, tmp_path: Path) -> None:
    (tmp_path / "headers").write_text("Authorization: Bearer s3cr3t\n\nX-A: b\n")
    done = run(proxy, "submit", URL, "--header", f"@{tmp_path / 'headers'}", "--data", "@-", input="s3cr3t body")
    assert done.exit_code == 0
    [job] = jobs(proxy)
    assert (job["headers"], job["body"]) == ({"Authorization": "Bearer s3cr3t", "X-A": "b"}, "s3cr3t body")


def test_a_request_without_a_body_is_a_get(proxy: FakeProxy) -> None:
    assert run(proxy, "submit", URL).exit_code == 0
    assert run(proxy, "submit", URL, "--method", "delete").exit_code == 0
    assert [job["method"] for job in jobs(proxy)] == ["GET", "DELETE"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["not-a-url"], "url must be an http:// or https:// URL"),
        ([URL, "--json", "{"], "it is not JSON"),
        ([URL, "--metadata", "7"], "metadata must be a dict"),
        ([URL, "--data", "x", "--json", "1"], "give one of them"),
        ([URL, "--header", "Authorization s3cr3t"], "a header must be"),
        ([URL, "--data", "@/no/such/file"], "/no/such/file cannot be read"),
    ],
)
def test_what_cannot_be_sent_is_an_error_of_usage(proxy: FakeProxy, words: list[str], said: str) -> None:
    done = run(proxy, "submit", *words)
    assert (done.exit_code, proxy.requests) == (2, [])
    assert said in done.output


@pytest.mark.parametrize(("status", "said"), [(401, "check ezthrottle_api_key"), (503, "submit it again later")])
def test_what_the_service_refuses_is_a_failure(proxy: FakeProxy, status: int, said: str) -> None:
    proxy.answers(status, {"error": f"bad key {KEY}"})
    done = run(proxy, "submit", URL)
    assert done.exit_code == 1
    assert said in done.output


def test_settings_that_are_wrong_are_told(proxy: FakeProxy) -> None:
    done = run(proxy, "submit", URL, api_key="")
    assert (done.exit_code, "ezthrottle_api_key is not set" in done.output) == (2, True)


# secrets


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_secret_is_set(proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, from_environment: bool) -> None:
    monkeypatch.setenv("OF_THE_VAULT", NEW)
    more = ["--env", "OF_THE_VAULT"] if from_environment else []
    done = run(proxy, "secrets", "create", *more, input=f"{NEW}\n", webhook_secret_secondary=NEW)
    assert (done.exit_code, done.output) == (0, "The webhook secret is set.\n")
    assert calls(proxy) == [(f"POST {SECRETS}", {"primary_secret": NEW})]


def test_a_secret_may_be_typed(proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    asked: list[tuple[str, bool, bool]] = []

    def prompt(what: str, *, hide_input: bool, confirmation_prompt: bool) -> str:
        asked.append((what, hide_input, confirmation_prompt))
        return NEW

    monkeypatch.setattr("celery_ezthrottle.cli.webhook_secrets.sys", SimpleNamespace(stdin=Terminal()))
    monkeypatch.setattr("click.prompt", prompt)
    assert run(proxy, "secrets", "create", "--anyway").exit_code == 0
    assert asked == [("New secret", True, True)]


def test_the_secrets_are_shown_masked(proxy: FakeProxy) -> None:
    proxy.forwards(200, {"customer_id": "c", "primary_secret": "abcd****efgh", "secondary_secret": NEW})
    done = run(proxy, "secrets", "show")
    shown = {"customer_id": "c", "primary_secret": "abcd****efgh", "secondary_secret": "****"}
    assert (done.exit_code, json.loads(done.output)) == (0, shown)


@pytest.mark.parametrize("given", [False, True])
def test_rotation_keeps_the_old_secret(proxy: FakeProxy, monkeypatch: pytest.MonkeyPatch, given: bool) -> None:
    monkeypatch.setenv("BEFORE", OLD)
    proxy.forwards(200, {"primary_secret": "s3cr****more"})
    settings = {"webhook_secret": NEW} if given else {"webhook_secret_secondary": NEW}
    more = ["--old-env", "BEFORE"] if given else []
    done = run(proxy, "secrets", "rotate", *more, input=f"{NEW}\r\n", **settings)
    assert (done.exit_code, done.output) == (0, "The new webhook secret is set.\n")
    assert calls(proxy)[1:] == [(f"POST {SECRETS}", {"primary_secret": NEW, "secondary_secret": OLD})]


def test_secrets_are_deleted_once_that_is_confirmed(proxy: FakeProxy) -> None:
    assert run(proxy, "secrets", "delete", input="n\n").exit_code == 1
    assert proxy.requests == []
    assert run(proxy, "secrets", "delete", "--yes").exit_code == 0
    assert calls(proxy) == [(f"DELETE {SECRETS}", None)]


@pytest.mark.parametrize("command", ["create", "rotate"])
@pytest.mark.parametrize(
    ("words", "typed", "said"),
    [
        ([], NEW, "set ezthrottle_webhook_secret_secondary to it first"),
        ([], "", "Standard input has no secret"),
        (["--env", "NOBODY_HAS_SET_IT"], NEW, "NOBODY_HAS_SET_IT is not set"),
        (["--anyway"], "short", "must be at least 16 characters"),
    ],
)
def test_a_secret_that_would_do_harm_is_not_set(
    proxy: FakeProxy, command: str, words: list[str], typed: str, said: str
) -> None:
    done = run(proxy, "secrets", command, *words, input=typed)
    assert (done.exit_code, proxy.requests) == (2, [])
    assert said in " ".join(done.output.split())
