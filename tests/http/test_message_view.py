"""Requests and responses of each library look the same to a callable of the user."""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
import requests

from celery_ezthrottle import message_view

URL = "https://api.example.com/orders?page=2"


def of_requests(status: int, text: str) -> tuple[Any, Any]:
    request = requests.Request("POST", URL, json={"item": 1}, headers={"X-Team": "a"}).prepare()
    response = requests.Response()
    response.status_code, response.request, response.encoding = status, request, "utf-8"
    response.headers["Retry-After"] = "7"
    vars(response)["_content"] = text.encode()
    return request, response


def of_httpx(module: Any) -> Any:
    def made(status: int, text: str) -> tuple[Any, Any]:
        request = module.Request("POST", URL, json={"item": 1}, headers={"X-Team": "a"})
        return request, module.Response(status, text=text, headers={"Retry-After": "7"}, request=request)

    return made


@pytest.mark.parametrize("made", [of_requests, of_httpx(httpx), of_httpx(httpx2)], ids=["requests", "httpx", "httpx2"])
def test_one_callable_serves_all(made: Any) -> None:
    request, response = made(429, "später")
    seen = message_view(request)
    assert (seen.method, seen.url, seen.status_code) == ("POST", URL, None)
    assert seen.text.replace(" ", "") == '{"item":1}'
    assert (seen.headers["x-team"], seen.headers["content-type"]) == ("a", "application/json")
    seen = message_view(response)
    assert (seen.method, seen.url, seen.status_code, seen.text) == ("POST", URL, 429, "später")
    assert seen.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    "unread",
    [
        requests.Response(),
        httpx.Response(200, stream=httpx.ByteStream(b"x")),
        httpx2.Response(200, stream=httpx2.ByteStream(b"x")),
    ],
)
def test_what_was_not_read_is_not_read_by_a_look(unread: Any) -> None:
    made = {"requests": requests.Request("GET", URL).prepare(), "httpx": httpx.Request("GET", URL)}
    unread.request = made.get(type(unread).__module__.partition(".")[0], httpx2.Request("GET", URL))
    unread.status_code = 200
    assert message_view(unread).text == ""


def test_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="not dict"):
        message_view({})


def test_nothing_secret_is_shown() -> None:
    request = httpx2.Request("GET", f"{URL}&key=s3cret", headers={"Authorization": "Bearer s3cret"})
    assert "s3cret" not in repr(message_view(request))
