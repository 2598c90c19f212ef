"""Tasks whose runs do not make the same requests, and tasks that make them in threads."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from celery_ezthrottle import frugal

from .http_clients import CLIENTS
from .project import app, get, note, post

__all__ = [
    "asks_for_another_page_each_run",
    "asks_until_now",
    "asks_until_now_and_posts",
    "charges_in_threads",
    "charges_with_a_digest",
    "charges_with_an_id_in_the_query",
    "charges_with_items_in_any_order",
    "gives_up_after_its_own_retries",
    "goes_on_after_a_limited_item",
    "leaves_with_an_earlier_error",
    "polls_by_post",
    "takes_a_token_each_time",
]


def _nth_run(path: str) -> int:
    """How often the body has begun, from 1."""
    with redis.Redis.from_url(os.environ["TEST_REDIS"]) as client:
        count: Any = client.incr(f"runs:{path}")
    return int(count)


@app.task
@frugal
def asks_until_now(path: str, library: str = "requests") -> Any:
    return CLIENTS[library].get_json(path, params={"to": f"{time.time():.3f}"})["path"]


@app.task
@frugal
def asks_until_now_and_posts(path: str, library: str = "requests") -> Any:
    """Both answers are used, each by the next run."""
    http = CLIENTS[library]
    http.get_json(path, params={"to": f"{time.time():.3f}"})
    return http.post_json(f"{path}/report")["path"]


@app.task
@frugal
def asks_for_another_page_each_run(path: str) -> Any:
    """What differs from run to run is neither a UUID nor a time, so that no answer is ever found."""
    return get(path, params={"page": f"p{_nth_run(path)}"})["path"]


@app.task
@frugal
def charges_with_an_id_in_the_query(path: str, library: str = "requests") -> Any:
    return CLIENTS[library].post_json(path, params={"request_id": uuid.uuid4().hex})["path"]


@app.task
@frugal
def charges_with_a_digest(path: str, library: str = "requests") -> Any:
    return CLIENTS[library].post_json(
        path, json={"amount": 5, "digest": hashlib.sha256(str(time.time_ns()).encode()).hexdigest()}
    )["path"]


@app.task
@frugal
def charges_with_items_in_any_order(path: str, library: str = "requests") -> Any:
    items = ["pear", "plum", "fig"]
    first = _nth_run(path) % len(items)
    return CLIENTS[library].post_json(path, json=items[first:] + items[:first])["path"]


@app.task(max_retries=3)
@frugal
def gives_up_after_its_own_retries(path: str, library: str = "requests") -> Any:
    """As an SDK does: three tries of one request."""
    http = CLIENTS[library]
    for _ in range(3):
        response = http.post(path, json={"amount": 5})
        if http.is_ok(response):
            break
    response.raise_for_status()
    return response.json()["path"]


@app.task(bind=True, default_retry_delay=0, max_retries=10)
@frugal
def polls_by_post(self: Any, path: str, library: str = "requests") -> Any:
    """A GraphQL search: the query is the same each time, the answer is not."""
    found = CLIENTS[library].post_json(path, json={"query": "{ search }"})["n"]
    if found < 4:
        raise self.retry()
    return found


@app.task(bind=True, default_retry_delay=0, max_retries=3)
@frugal
def takes_a_token_each_time(self: Any, path: str) -> Any:
    """The token of an earlier run has expired: the upstream takes only the newest one."""
    token = post(f"{path}/token", data={"grant_type": "client_credentials"})["n"]
    post(path, headers={"Authorization": f"Bearer {token}"})
    note(path, token)
    if self.request.retries < 1:
        raise self.retry()
    return token


@app.task
@frugal
def charges_in_threads(path: str, library: str = "requests") -> Any:
    """Three charges beside one another, then a report that is limited."""
    http = CLIENTS[library]
    with ThreadPoolExecutor(3) as pool:
        charged = list(pool.map(lambda n: http.post_json(f"{path}/{n}", json={"order": n})["id"], range(3)))
    return [*charged, http.post_json(f"{path}/report")["path"]]


@app.task
@frugal
def leaves_with_an_earlier_error(path: str, library: str = "requests") -> Any:
    """Tells another system that its call has failed, before the error of that call leaves."""
    http = CLIENTS[library]
    try:
        return http.post_json(path)["path"]
    except http.AnyError:
        http.post_json(f"{path}/incidents")
        raise


@app.task
@frugal
def goes_on_after_a_limited_item(path: str, library: str = "requests") -> Any:
    """Reads all items, and raises the first error at the end."""
    http = CLIENTS[library]
    found, error = [], None
    for n in range(4):
        try:
            found.append(http.get_json(f"{path}/{n}")["n"])
        except http.StatusError as exc:
            error = error or exc
    if error is not None:
        raise error
    return found
