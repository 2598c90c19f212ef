"""A step needs the service: where nothing of one is configured, it is not sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery, current_app

from celery_ezthrottle import ConfigurationError, Step, StepType

KNOWN = {
    "api_key": "key",
    "webhook_url": "https://app.example.com/hook",
    "webhook_secret": "a secret of sixteen",
    "url": "https://service.example.com",
    "route": "service",  # of a process that only sends, and has no secrets
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """The current app. It knows of no service."""
    for name in KNOWN:
        monkeypatch.delenv(f"EZTHROTTLE_{name.upper()}", raising=False)
    before = current_app._get_current_object()  # type: ignore[attr-defined]
    made = Celery("plain", broker="memory://", set_as_current=False)
    made.set_current()
    yield made
    before.set_current()
    made.close()


@pytest.mark.parametrize("kind", list(StepType))
@pytest.mark.parametrize("send", [Step.delay, Step.apply_async])
@pytest.mark.parametrize("settings", [{}, {"ezthrottle_route": "workers"}])
def test_a_step_is_not_sent(app: Celery, kind: StepType, send: Any, settings: dict[str, str]) -> None:
    app.conf.update(settings)
    step = Step().url("https://api.example.com/v1").type(kind)

    with pytest.raises(ConfigurationError, match=r"A step needs the service.*ezthrottle_webhook_secret.*@frugal"):
        send(step)

    assert step.get_execution_history() == []


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("where", ["conf", "environment"])
def test_a_step_is_sent_where_a_service_is_known(
    app: Celery, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    if where == "conf":
        app.conf.update({f"ezthrottle_{name}": KNOWN[name]})
    else:
        monkeypatch.setenv(f"EZTHROTTLE_{name.upper()}", KNOWN[name])

    assert Step().url("https://api.example.com/v1").delay().id
