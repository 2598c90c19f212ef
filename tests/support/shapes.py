"""The shapes that real tasks have, one small task each; bodies as people write them."""

from __future__ import annotations

import functools
import json
import os
import signal
import uuid
from collections.abc import Callable
from typing import Any, TypeAlias

import httpx2
import requests
from celery import Task
from celery.signals import task_postrun
from requests.adapters import HTTPAdapter
from tenacity import retry, retry_if_exception_type, stop_after_attempt
from urllib3.util import Retry

from celery_ezthrottle import EZThrottleTask, frugal, message_view

from .http_clients import CLIENTS
from .project import UPSTREAM, app, fetch, get, note, post

BoundTask: TypeAlias = "Task[Any, Any]"  # not subscriptable before Celery 5.7


class ApiError(Exception):
    """An error of the project's own."""


@app.task(bind=True)
@frugal
def retries_by_status(self: BoundTask, path: str, library: str = "requests") -> Any:
    response = CLIENTS[library].get(path)
    if response.status_code == 429:
        raise self.retry(countdown=3600)
    return response.json()["path"]


@app.task(bind=True)
@frugal
def retries_with_exc(self: BoundTask, path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    try:
        return http.get_json(path)["path"]
    except http.AnyError as exc:
        raise self.retry(exc=exc, countdown=3600) from exc


@app.task(bind=True, base=EZThrottleTask)
def retries_by_base_class(self: BoundTask, path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    try:
        return http.get_json(path)["path"]
    except http.AnyError as exc:
        self.retry(exc=exc, countdown=3600)


@app.task(bind=True)
@frugal
def retries_without_throwing(self: BoundTask, path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    response = http.get(path)
    if not http.is_ok(response):
        held = self.retry(countdown=3600, throw=False)
        note(path, type(held).__name__)
        raise held
    return response.json()["path"]


@app.task(bind=True)
@frugal
def retries_twice_over(self: BoundTask, path: str, library: str = "requests") -> Any:
    try:
        response = CLIENTS[library].get(path)
        if response.status_code == 429:
            raise self.retry(countdown=3600)
        return response.json()["path"]
    except Exception as exc:
        note(path, "caught", type(exc).__name__)
        raise self.retry(exc=exc, countdown=3600) from exc


@app.task(bind=True, max_retries=5)
@frugal
def retries_with_other_arguments(self: BoundTask, path: str, page: int = 1) -> Any:
    response = requests.get(f"{UPSTREAM}{path}/{page}", timeout=5)
    if not response.ok:
        raise self.retry((path, page + 1), countdown=0)
    return response.json()["path"]


@app.task(bind=True, base=EZThrottleTask, max_retries=5)
def retries_with_other_keywords(self: BoundTask, path: str, page: int = 1) -> Any:
    response = requests.get(f"{UPSTREAM}{path}/{page}", timeout=5)
    if not response.ok:
        raise self.retry(kwargs={"page": page + 1}, countdown=0)
    return response.json()["path"]


@app.task(bind=True)
@frugal(forward_on_retry=False)
def retries_by_itself(self: BoundTask, path: str) -> Any:
    response = requests.get(UPSTREAM + path, timeout=5)
    if response.status_code == 429:
        raise self.retry(countdown=0)
    return response.json()["path"]


@app.task
@frugal
def own_exception_with_cause(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    try:
        return http.get_json(path)["path"]
    except http.StatusError as exc:
        raise ApiError("limited") from exc


@app.task
@frugal
def own_exception_when_not_ok(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    response = http.get(path)
    if not http.is_ok(response):
        raise ApiError("limited")
    return response.json()["path"]


@app.task
@frugal
def own_exception_when_false(path: str) -> Any:
    response = requests.get(UPSTREAM + path, timeout=5)
    if not response:
        raise ApiError("limited")
    return response.json()["path"]


@app.task
@frugal
def own_exception_without_cause(path: str, library: str = "requests") -> Any:
    response = CLIENTS[library].get(path)
    if response.status_code != 200:
        raise ApiError("limited")
    return response.json()["path"]


@app.task
@frugal
def gives_a_row_back(path: str, library: str = "requests") -> Any:
    note(path, "take row")
    try:
        return CLIENTS[library].get_json(path)["path"]
    finally:
        note(path, "give row back")


@app.task(bind=True, max_retries=3)
@frugal
def has_a_dead_letter(self: BoundTask, path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    try:
        return http.get_json(path)["path"]
    except http.StatusError as exc:
        if self.request.retries >= (self.max_retries or 0):
            note(path, "dead letter", exc.response.status_code)
            return "dead"
        raise self.retry(exc=exc, countdown=3600) from exc


@app.task
@frugal
def tolerates(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    response = http.get(path)
    try:
        response.raise_for_status()
    except http.StatusError:
        note(path, "tolerated")
    raise ApiError("of another matter")


@app.task
@frugal
def swallows(path: str, library: str = "requests") -> str:
    http = CLIENTS[library]
    try:
        return str(http.get_json(path)["path"])
    except http.StatusError:
        return "fallback"


@app.task
@frugal
def retries_in_the_adapter(path: str) -> Any:
    with requests.Session() as session:
        session.mount("http://", HTTPAdapter(max_retries=Retry(2, status_forcelist=[429], backoff_factor=0)))
        return session.get(UPSTREAM + path, timeout=5).json()["path"]


@app.task
@frugal
def retries_with_tenacity(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]

    @retry(stop=stop_after_attempt(3), retry=retry_if_exception_type(http.StatusError))
    def fetch() -> Any:
        note(path, "try")
        return http.get_json(path)["path"]

    return fetch()


@app.task
@frugal
def refreshes_its_token(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    response = http.get(path, headers={"Authorization": "Bearer old"})
    if response.status_code == 401:
        token = http.post(f"{path}/token").json()["n"]
        response = http.get(path, headers={"Authorization": f"Bearer {token}"})
    response.raise_for_status()
    return response.json()["path"]


@app.task
@frugal
def paginates(path: str, library: str = "requests") -> list[Any]:
    return [CLIENTS[library].get_json(path, params={"page": page})["n"] for page in range(1, 6)]


@app.task
@frugal
def sends_a_fresh_id(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    http.post_json(f"{path}/first", json={"request_id": str(uuid.uuid4()), "item": 1})
    return http.post_json(f"{path}/second", json={"request_id": str(uuid.uuid4()), "item": 2})["path"]


@app.task
@frugal
def calls_twice(path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    first = http.post_json(f"{path}/first", json={"item": 1})
    note(path, "between")
    return [first["n"], http.post_json(f"{path}/second", json={"item": 2})["n"]]


@app.task
@frugal
def skips_finished_items(path: str) -> Any:
    """Marks what is done as it goes, as a loop over database rows does."""
    rows: Any = app.backend
    with rows.client.pipeline() as pipe:
        done = f"done:{path}"
        for item in range(6):
            if rows.client.sismember(done, str(item)):
                continue
            post(path, json={"item": item})
            pipe.sadd(done, str(item)).execute()
            note(path, item)
    return "all"


@app.task(ignore_result=True)
@frugal
def ignores_its_result(path: str) -> Any:
    note(path, "end", get(path)["path"])


@app.task(autoretry_for=(ZeroDivisionError,), default_retry_delay=0, max_retries=2)
@frugal(keep_answers="retries")
def fails_once_after_the_call(path: str, library: str = "requests") -> Any:
    answer = CLIENTS[library].post_json(path, json={"item": 1})
    note(path, "after")
    rows: Any = app.backend
    if rows.client.incr(f"runs:{path}") == 1:
        raise ZeroDivisionError
    return answer["n"]


#: Celery takes the errors when it makes the task.
ANY_ERROR = (requests.RequestException, httpx2.HTTPError)


@app.task(autoretry_for=ANY_ERROR, retry_backoff=600, retry_jitter=False, max_retries=4)
@frugal
def retries_automatically(path: str, library: str = "requests") -> Any:
    note(path, "run")
    return CLIENTS[library].get_json(path)["path"]


class ClassBased(EZThrottleTask):
    """As people still write them, with autoretry as an attribute."""

    name = "tests.support.shapes.class_based"
    autoretry_for = ANY_ERROR
    retry_backoff = 600
    retry_jitter = False  # which takes any number of seconds from 0 on
    max_retries = 4

    def run(self, path: str, library: str = "requests") -> Any:
        note(path, "run")
        return CLIENTS[library].get_json(path)["path"]


class_based = app.register_task(ClassBased())


@app.task
@frugal(is_limited=lambda response: response.json().get("error") == "ratelimited")
def is_limited_with_200(path: str, library: str = "requests") -> Any:
    answer = CLIENTS[library].get_json(path)
    if "error" in answer:
        raise ApiError(answer["error"])
    return answer["path"]


@app.task
@frugal(
    is_limited=lambda response: "ratelimited" in message_view(response).text,
    forward_if=lambda request: message_view(request).headers["x-when"] == "later",
    idempotency=lambda request: f"order {message_view(request).text}",
)
def has_options_for_all_libraries(path: str, when: str, library: str = "requests") -> Any:
    answer = CLIENTS[library].post_json(path, json=path, headers={"X-When": when})
    if "error" in answer:
        raise ApiError(answer["error"])
    return answer["path"]


@app.task
@frugal(forward_hosts=["public"])
def calls_a_private_host(path: str, library: str = "requests") -> Any:
    return CLIENTS[library].get_json(path)["path"]


@app.task
@frugal
def streams(path: str, library: str = "requests") -> Any:
    return json.loads(CLIENTS[library].stream(path))["path"]


@app.task
@frugal(forward_hosts=["127.0.0.1"])
def calls_a_closed_port(path: str, port: int, library: str = "requests") -> Any:
    return CLIENTS[library].post(f"http://127.0.0.1:{port}{path}", json={"a": 1}).json()


@app.task
@frugal(idempotency="hash")
def shares_a_job(path: str) -> Any:
    return get(path)["n"]


@app.task
@frugal(idempotency="order-{order}", metadata={"team": "billing"}, regions=["iad", "lax"])
def has_its_own_key(path: str, order: str) -> Any:
    return get(path)["path"]


@app.task
@frugal(result_timeout=1.0, submit_timeout=0.5)
def gives_up_early(path: str, library: str = "requests") -> Any:
    note(path, "run")
    return CLIENTS[library].post_json(path, json={"item": 1})["path"]


@app.task(max_retries=2, bind=True)
@frugal(submit_timeout=0.5)
def shows_its_retries(self: BoundTask, path: str, library: str = "requests") -> Any:
    note(path, self.request.retries)
    return CLIENTS[library].get_json(path)["path"]


@app.task(acks_late=False)
@frugal
def dies_after_submitting(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


@app.task(acks_late=True, reject_on_worker_lost=True)
@frugal
def dies_after_submitting_late(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


@app.task(time_limit=2)
@frugal
def exceeds_its_time_limit(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


@task_postrun.connect
def hang(task: Any = None, args: Any = (), state: str | None = None, **_: Any) -> None:
    """Hold a run of these tasks between its suspension and its end, until it is killed."""
    if state == "IGNORED" and task.name in {
        dies_after_submitting.name,
        dies_after_submitting_late.name,
        exceeds_its_time_limit.name,
    }:
        note(f"{args[0]}/pid", os.getpid())
        task.backend.client.blpop(f"never:{args[0]}", timeout=20)


@app.task
@frugal
def dies_before_its_call(path: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Flaky(Exception):
    """What a task of the project fails with, apart from its calls."""


def _fails_around_its_call(self: BoundTask, path: str, before: int, after: int) -> Any:
    """Fails in its first ``before`` runs before its call, and ``after`` times after it."""
    rows: Any = app.backend
    note(path, self.request.retries)
    if rows.client.incr(f"before:{path}") <= before:
        raise Flaky("before")
    answer = post(path, json={"item": 1})
    if rows.client.incr(f"after:{path}") <= after:
        raise Flaky("after")
    return answer["n"]


#: The same task for each value of keep_answers.
fails_around_its_call: dict[str, Any] = {
    keep: app.task(
        name=f"fails_around_its_call_{keep}",
        bind=True,
        autoretry_for=(Flaky,),
        default_retry_delay=0,
        max_retries=2,
    )(frugal(keep_answers=keep)(_fails_around_its_call))
    for keep in ("resume", "retries")
}


@app.task(bind=True, autoretry_for=(requests.HTTPError,), default_retry_delay=0, max_retries=2)
@frugal(exhaust_retries=False, keep_answers="retries")
def retries_what_was_given_up(self: BoundTask, path: str) -> Any:
    note(path, self.request.retries)
    post(f"{path}/first", json={"item": 1})
    return post(path, json={"item": 2})["n"]


@app.task(bind=True, default_retry_delay=0, max_retries=5)
@frugal
def polls_by_retrying(self: BoundTask, path: str) -> Any:
    note(path, self.request.retries)
    post(f"{path}/job")
    seen = get(path)["n"]
    if seen < 5:
        raise self.retry()
    return seen


@app.task(bind=True, max_retries=None, default_retry_delay=0)
@frugal
def retries_without_end(self: BoundTask, path: str) -> Any:
    note(path, self.request.retries)
    try:
        return get(path)["n"]
    except requests.HTTPError as exc:
        raise self.retry(exc=exc) from exc


def catches_everything(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def caught(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as exc:  # noqa: BLE001 -- as people write it
            return f"caught {type(exc).__name__}"

    return caught


@app.task
@catches_everything
@frugal
def is_under_a_decorator_that_catches(path: str, library: str = "requests") -> Any:
    return CLIENTS[library].get_json(path)["path"]


@app.task(bind=True)
@frugal
def retries_by_position(self: BoundTask, path: str, library: str = "requests") -> Any:
    http = CLIENTS[library]
    response = http.get(path)
    if not http.is_ok(response):
        raise self.retry((path, library), {}, None, True, None, 3600)
    return response.json()["path"]


class RetriesItsOwnWay(EZThrottleTask):
    def retry(self, exc: Exception, delay: float = 0, **kwargs: Any) -> Any:  # type: ignore[override]
        return super().retry(exc=exc, countdown=delay, **kwargs)


@app.task(bind=True, base=RetriesItsOwnWay)
def retries_its_own_way(self: RetriesItsOwnWay, path: str) -> Any:
    try:
        return get(path)["path"]
    except requests.HTTPError as exc:
        raise self.retry(exc, 0)  # noqa: B904 -- as people write it


@app.task(autoretry_for=(requests.RequestException,), retry_kwargs={"max_retries": 5, "countdown": 0})
@frugal
def has_retry_kwargs(path: str) -> Any:
    note(path, "run")
    return get(path)["path"]


@app.task(bind=True)
@frugal
def replaces_itself(self: BoundTask, path: str) -> Any:
    get(path)
    return self.replace(fetch.si(f"{path}/other"))
