"""The tasks of :mod:`benchmarks.slots`: the same call with each library, stock and frugal. The worker includes this module.

The clients are those that most code has: one for the process, made at import, with the retries of the SDK as they come.
"""

from __future__ import annotations

import os
import time

import requests
from anthropic import Anthropic
from openai import OpenAI

from celery_ezthrottle import frugal

from . import runs
from .project import app

__all__ = [
    "UPSTREAM",
    "anthropic_ours",
    "anthropic_stock",
    "openai_ours",
    "openai_stock",
    "requests_ours",
    "requests_stock",
    "runs",
]

#: Environment variable with the URL of the upstream.
UPSTREAM = "BENCH_UPSTREAM"

_url = os.environ.get(UPSTREAM, "http://127.0.0.1:9")  # nobody calls it where the tasks are only sent
_openai = OpenAI(base_url=f"{_url}/v1", api_key="none")
_anthropic = Anthropic(base_url=_url, api_key="none")


def _ask_openai(prompt: str) -> str | None:
    completion = _openai.chat.completions.create(model="model", messages=[{"role": "user", "content": prompt}])
    return completion.choices[0].message.content


def _ask_anthropic(prompt: str) -> str | None:
    message = _anthropic.messages.create(model="model", max_tokens=16, messages=[{"role": "user", "content": prompt}])
    (block,) = message.content
    return block.text if block.type == "text" else None


def _post(prompt: str) -> requests.Response:
    body = {"model": "model", "messages": [{"role": "user", "content": prompt}]}
    return requests.post(f"{_url}/v1/chat/completions", json=body, timeout=10)


def _text(response: requests.Response) -> str | None:
    response.raise_for_status()
    text: str | None = response.json()["choices"][0]["message"]["content"]
    return text


@app.task
def openai_stock(prompt: str) -> str | None:
    """The SDK meets the 429, sleeps and tries again."""
    return _ask_openai(prompt)


@app.task
@frugal
def openai_ours(prompt: str) -> str | None:
    return _ask_openai(prompt)


@app.task
def anthropic_stock(prompt: str) -> str | None:
    """The SDK meets the 429, sleeps and tries again."""
    return _ask_anthropic(prompt)


@app.task
@frugal
def anthropic_ours(prompt: str) -> str | None:
    return _ask_anthropic(prompt)


@app.task
def requests_stock(prompt: str) -> str | None:
    """``requests`` does not retry a 429, so people write the loop: sleep as the API asks, and try again."""
    while (response := _post(prompt)).status_code == requests.codes.too_many_requests:
        time.sleep(float(response.headers["Retry-After"]))
    return _text(response)


@app.task
@frugal
def requests_ours(prompt: str) -> str | None:
    return _text(_post(prompt))
