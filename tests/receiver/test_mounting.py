"""The receiver as a part of other ASGI applications."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.receiver.asgi import Application, create_app
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, sign
from celery_ezthrottle.settings.load import load_settings
from celery_ezthrottle.store.redis.store import RedisStore

from .conftest import SECRET

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402 (needs the extra)
from starlette.routing import Mount  # noqa: E402

BODY = json.dumps({"job_id": "job_1", "status": "success", "response": {"status_code": 200}}).encode()


def beside(receiver: Application) -> Application:
    site: Any = Starlette()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        is_webhook = scope["type"] == "http" and scope["path"].startswith("/ez/")
        await (receiver if is_webhook else site)(scope, receive, send)

    return application


def with_path_cut_off(receiver: Application) -> Application:
    """As older frameworks mount an application."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receiver(scope | {"root_path": "/ez", "path": scope["path"].removeprefix("/ez")}, receive, send)

    return application


def post(application: Any, url: str, root_path: str = "") -> int:
    """Send a webhook; gives the status of the answer."""

    async def send() -> int:
        transport = httpx2.ASGITransport(application, root_path=root_path)
        async with httpx2.AsyncClient(transport=transport) as client:
            headers = {SIGNATURE_HEADER: sign(SECRET, BODY, int(time.time()))}
            status: int = (await client.post(url, content=BODY, headers=headers)).status_code
            return status

    return asyncio.run(send())


@pytest.mark.parametrize(
    "mounted",
    [
        lambda receiver: receiver,
        lambda receiver: Starlette(routes=[Mount("/ez", receiver)]),
        lambda receiver: Starlette(routes=[Mount("/", receiver)]),
        beside,
        with_path_cut_off,
    ],
    ids=["alone", "in Starlette", "at its root", "beside", "with its path cut off"],
)
def test_a_mounted_receiver_takes_webhooks(
    app: Celery, store: RedisStore, mounted: Callable[[Application], Application]
) -> None:
    application = mounted(create_app(app))
    url = webhook_url(load_settings(app), "c0ffee")
    assert post(application, url) == 200
    assert store._client.keys("*j:job_1")
    assert post(application, url.replace("/ez/hook", "/ez/other")) == 404


@pytest.mark.parametrize(("path", "status"), [("/hook", 200), ("/ez/hook", 200), ("/ez/ez/hook", 404), ("/", 404)])
def test_behind_a_proxy_that_takes_a_prefix_away(app: Celery, store: RedisStore, path: str, status: int) -> None:
    assert post(create_app(app), f"http://inside{path}", root_path="/ez") == status


def test_the_clock_is_reported_with_the_first_webhook_where_no_lifespan_event_comes(
    app: Celery, store: RedisStore
) -> None:
    application = Starlette(routes=[Mount("/ez", create_app(app))])
    assert store.health().receiver_clock is None
    assert post(application, webhook_url(load_settings(app), "c0ffee")) == 200
    assert store.health().receiver_clock is not None
