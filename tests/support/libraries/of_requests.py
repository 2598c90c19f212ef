"""What tests have to know about ``requests``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
)

from celery_ezthrottle.http.call import Call
from celery_ezthrottle.http.requests_adapter import REQUESTS

from .base import Client, Hook, HttpLibrary, finished

__all__ = ["RequestsLibrary"]


class _RequestsClient(Client):
    def __init__(self, raw: requests.Session) -> None:
        self.raw: Any = raw

    def prepare(self, method: str, url: str, **options: Any) -> Any:
        return self.raw.prepare_request(requests.Request(method, url, **options))

    async def later(self, method: str, url: str, *, follow: bool = True, **options: Any) -> Any:
        return self.raw.request(method, url, allow_redirects=follow, **options)

    def run(self, coroutine: Any) -> Any:
        return finished(coroutine)

    def send(self, request: Any, *, stream: bool = False) -> Any:
        return self.raw.send(request, stream=stream)

    def chunks(self, response: Any) -> list[bytes]:
        with response:
            return list(response.iter_content(3))

    def close(self) -> None:
        self.raw.close()


def _behind(reason: Exception, cls: type[requests.RequestException] = requests.ConnectionError) -> Exception:
    """As requests raises it when urllib3 has given up for ``reason``."""
    return cls(MaxRetryError(HTTPConnectionPool("api.example.com"), "/charges", reason))


class _RequestsRefreshing(requests.auth.AuthBase):
    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer old"
        request.register_hook("response", self.handle)  # type: ignore[no-untyped-call]
        return request

    def handle(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        if response.status_code != 401:
            return response
        _ = response.content  # gives the connection back
        token = requests.post(f"{self.url}/token", data={"grant_type": "refresh_token"})
        token.raise_for_status()
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {token.json()['n']}"
        answer = response.connection.send(again, **kwargs)  # type: ignore[attr-defined,unused-ignore]
        answer.history.append(response)
        return answer


class RequestsLibrary(HttpLibrary):
    name = "requests"
    module = requests
    client_class = requests.Session
    adapter = REQUESTS
    any_error = failure = requests.RequestException
    of_a_response = ("reason", "ok", "apparent_encoding")
    status_error = requests.HTTPError
    hung_up = requests.ConnectionError
    too_many_redirects = requests.TooManyRedirects
    refused = staticmethod(lambda: _behind(NewConnectionError(HTTPConnection("api.example.com"), "refused")))
    reset = staticmethod(lambda: requests.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError())))
    #: As Session.request() hands them to Session.send().
    arguments: Mapping[str, Any] = {
        "stream": False,
        "timeout": 5,
        "verify": True,
        "cert": None,
        "proxies": {},
        "allow_redirects": True,
    }
    network_errors = (
        ("refused", refused(), True, True),
        (
            "unknown name",
            _behind(NameResolutionError("api.example.com", HTTPConnection("api.example.com"), OSError())),  # type: ignore[arg-type]
            True,
            True,
        ),
        ("ConnectTimeout", _behind(ConnectTimeoutError("slow"), requests.ConnectTimeout), True, True),
        ("ReadTimeout", requests.ReadTimeout("slow"), False, True),
        ("Timeout", requests.Timeout("slow"), False, True),
        ("reset", reset(), False, True),
        ("ConnectionError without cause", requests.ConnectionError(), False, True),
        ("ChunkedEncodingError", requests.exceptions.ChunkedEncodingError("cut"), False, True),
        ("SSLError", requests.exceptions.SSLError("expired"), False, False),
        ("InvalidURL", requests.exceptions.InvalidURL("?"), False, False),
        ("TooManyRedirects", requests.TooManyRedirects("30"), False, False),
        ("ContentDecodingError", requests.exceptions.ContentDecodingError("gzip"), False, False),
        ("OSError", ConnectionResetError("not of requests"), False, False),
        ("SystemExit", SystemExit(), False, False),
    )

    def _client(self, hook: Hook | None, transport: Any, made_by: Any, **options: Any) -> Client:
        raw = (made_by or self.client_class)()
        if hook is not None:
            raw.hooks["response"].append(functools.partial(self._hooked, hook))
        if transport is not None:
            raw.mount("http://", transport)
        for name, value in options.items():
            setattr(raw, name, value)
        return _RequestsClient(raw)

    @staticmethod
    def _hooked(hook: Hook, response: Any, **__: Any) -> None:
        _ = response.content  # gives the connection back
        finished(hook(response))

    def request(self, method: str, url: str, **options: Any) -> Any:
        return requests.Request(method, url, **options).prepare()

    def response(self, status: int, request: Any, *, body: str = "", headers: Mapping[str, str] | None = None) -> Any:
        response = requests.Response()
        response.status_code, response.request, response.url = status, request, request.url
        response._content = body.encode()
        response.headers.update(headers or {})
        return response

    def made(self, request: Any, *, client: Client | None = None, stream: bool = False, **attributes: Any) -> Call:
        arguments = {**self.arguments, "stream": stream}
        if client is not None:
            arguments |= {name: getattr(client.raw, name) for name in ("verify", "cert", "proxies")}
        return Call(REQUESTS, request, arguments, **attributes)

    def digest(self, user: str, password: str) -> Any:
        return requests.auth.HTTPDigestAuth(user, password)

    def refreshing(self, url: str) -> Any:
        return _RequestsRefreshing(url)

    def counting(self, sent: list[str]) -> Any:
        class Counting(HTTPAdapter):
            def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
                sent.append(str(request.url))
                return super().send(request, *args, **kwargs)

        return Counting()

    @staticmethod
    def reason(response: Any) -> str:
        return str(response.reason)

    @staticmethod
    def next_request(response: Any) -> Any:
        return response.next
