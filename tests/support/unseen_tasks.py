"""Tasks whose calls the plugin does not see: made with libraries that have no adapter, or where no recorder is."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import requests
from celery import Task

from celery_ezthrottle import frugal

from .project import UPSTREAM, app

__all__ = ["CALLS", "FRUGAL", "STOCK", "retries", "succeeds"]

# The libraries are imported where they are used: each worker of the tests would wait for them.


def by_aiohttp(url: str) -> Any:
    import aiohttp

    async def ask() -> Any:
        async with aiohttp.ClientSession(raise_for_status=True) as session, session.get(url) as response:
            return await response.json()

    return asyncio.run(ask())


def by_boto3(url: str) -> Any:
    """A call for the bucket that the path names."""
    import boto3
    from botocore.config import Config

    parts = urlsplit(url)
    client = boto3.client(
        "s3",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        region_name="eu-north-1",
        aws_access_key_id="none",
        aws_secret_access_key="none",
        config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    try:
        return client.list_objects_v2(Bucket=parts.path.strip("/"))
    finally:
        client.close()


def by_slack_sdk(url: str) -> Any:
    from slack_sdk import WebClient

    base, _, method = url.rpartition("/")
    return WebClient("none", base_url=f"{base}/").api_call(method).data


def by_urllib(url: str) -> Any:
    with urlopen(url, timeout=5) as response:
        return response.read()


def by_urllib3(url: str) -> Any:
    import urllib3

    retries = urllib3.Retry(1, status_forcelist=[429, 500, 503], backoff_factor=0)
    with urllib3.PoolManager(retries=retries) as pool:
        return pool.request("GET", url, timeout=5).json()


def by_requests_unseen(url: str) -> Any:
    """In a thread of a kind that the plugin does not follow."""
    made: Future[Any] = Future()

    def work() -> None:
        try:
            response = requests.get(url, timeout=5)
            response.raise_for_status()
            made.set_result(response.json())
        except requests.RequestException as exc:
            made.set_exception(exc)

    _thread.start_new_thread(work, ())
    return made.result(timeout=30)


#: How a call is made, by the name of the library that the warning has.
CALLS: dict[str, Callable[[str], Any]] = {
    "aiohttp": by_aiohttp,
    "botocore": by_boto3,
    "requests": by_requests_unseen,
    "slack_sdk": by_slack_sdk,
    "urllib.request": by_urllib,
    "urllib3": by_urllib3,
}


def _task(name: str, call: Callable[[str], Any], *, stock: bool) -> Task[Any, Any]:
    def body(path: str) -> Any:
        return call(UPSTREAM + path)

    made: Task[Any, Any] = app.task(name=name)(body if stock else frugal(body))
    return made


#: The same body as a frugal task and as a stock task, for each library.
FRUGAL = {name: _task(f"unseen.{name}", call, stock=False) for name, call in CALLS.items()}
STOCK = {name: _task(f"stock.{name}", call, stock=True) for name, call in CALLS.items()}


@app.task(name="unseen.retries", bind=True, default_retry_delay=0, max_retries=1)
@frugal
def retries(self: Task[Any, Any], path: str) -> Any:
    try:
        return by_urllib(UPSTREAM + path)
    except OSError as exc:
        raise self.retry(exc=exc) from exc


@app.task(name="unseen.succeeds")
@frugal
def succeeds(path: str) -> Any:
    return by_urllib3(UPSTREAM + path)
