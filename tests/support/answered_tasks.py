"""Tasks whose forwarded call is answered with a redirect or a challenge, on which ``requests`` goes on by itself."""

from __future__ import annotations

import base64
from typing import Any

import requests
from requests.auth import AuthBase, HTTPDigestAuth

from celery_ezthrottle import frugal

from .http_clients import CLIENTS
from .project import UPSTREAM, app, get

__all__ = [
    "Read",
    "follows",
    "follows_and_fetches",
    "jar",
    "logs_in",
    "measures",
    "meets_a_challenge",
    "read",
    "reads",
    "refreshes_by_hook",
]

#: The content in base64, its encoding and text, and the headers about it.
Read = list[Any]


def _told(response: requests.Response) -> list[Any]:
    response.raise_for_status()
    return [response.request.method, response.json()["path"], [hop.status_code for hop in response.history]]


def read(response: Any) -> Read:
    about = {"content-type", "content-length", "content-encoding"}
    headers = {name.lower(): value for name, value in response.headers.items() if name.lower() in about}
    return [base64.b64encode(response.content).decode(), response.encoding, response.text, headers]


@app.task
@frugal
def reads(path: str, method: str = "GET", library: str = "requests") -> Read:
    response = CLIENTS[library].request(method, path)
    response.raise_for_status()
    return read(response)


def jar(cookies: Any) -> list[list[Any]]:
    """Name, value, path and expiry of each cookie. httpx keeps them in a jar of the standard library too."""
    held = getattr(cookies, "jar", cookies)
    return sorted([cookie.name, cookie.value, cookie.path, cookie.expires] for cookie in held)


@app.task
@frugal
def logs_in(path: str, library: str = "requests") -> list[Any]:
    """The cookies of the response and of the session, and what the next call sends."""
    with CLIENTS[library].session() as session:
        response = session.get(UPSTREAM + path, timeout=5)
        response.raise_for_status()
        session.get(f"{UPSTREAM}{path}/next", timeout=5)
        return [jar(response.cookies), jar(session.cookies)]


@app.task
@frugal
def measures(path: str, method: str = "GET", library: str = "requests") -> int:
    response = CLIENTS[library].request(method, path)
    response.raise_for_status()
    return len(response.content)


@app.task
@frugal
def follows(path: str, method: str = "GET") -> list[Any]:
    body = None if method == "GET" else f"order={path}"
    return _told(requests.request(method, UPSTREAM + path, data=body, timeout=5))


@app.task(acks_late=True)
@frugal
def follows_and_fetches(path: str) -> list[Any]:
    told = _told(requests.post(UPSTREAM + path, data=f"order={path}", timeout=5))
    return [*told, get(f"{path}/later")["path"]]


@app.task
@frugal
def meets_a_challenge(path: str) -> list[Any]:
    return _told(requests.post(UPSTREAM + path, data="x", auth=HTTPDigestAuth("ann", "secret"), timeout=5))


class _Bearer(AuthBase):
    """Asks for a new token when the one it has is refused."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer old"
        request.register_hook("response", self.refresh)  # type: ignore[no-untyped-call]
        return request

    def refresh(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        if response.status_code != 401:
            return response
        token = requests.post(self.url, timeout=5)
        token.raise_for_status()
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {token.json()['id']}"
        answer: requests.Response = vars(response)["connection"].send(again, **kwargs)
        answer.history.append(response)
        return answer


@app.task
@frugal
def refreshes_by_hook(path: str) -> list[Any]:
    return _told(requests.post(UPSTREAM + path, data="x", auth=_Bearer(f"{UPSTREAM}{path}/token"), timeout=5))
