"""The model API: ``python -m example_project.llm.model --bind 127.0.0.1:8091 --limit 20 --window 4``. A process of its own.

It speaks as much of OpenAI's API as its SDK needs for ``POST /v1/chat/completions``, without streams. All callers together may
make ``--limit`` requests in any ``--window`` seconds; what is more gets a 429 with ``Retry-After``. The key is that of the
environment variable ``MODEL_KEY``. There is no Idempotency-Key: each request that is accepted is a completion, and costs.

``GET /ledger``: the books, outside the limit; see :class:`example_project.llm.evidence.Books`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from typing import Any
from uuid import uuid4

from example_project.api import Asked, LimitedApi, Reply, serve

from .evidence import Books, Completion, ModelRequest

__all__ = ["Model"]

PATH = "/v1/chat/completions"


class Model(LimitedApi):
    """The books, and a model that says at once what it is always going to say."""

    def __init__(self, limit: int, seconds: float, key: str) -> None:
        super().__init__(limit, seconds)
        self._key = key
        self._ledger: Books = {"completions": [], "requests": []}

    def call_of(self, asked: Asked) -> str:
        digest = hashlib.sha256(json.dumps(asked.content, sort_keys=True).encode()).hexdigest()[:12]
        return f"{asked.method} {asked.path} {digest}"

    def item_of(self, asked: Asked) -> int | None:
        match asked.content:
            case {"metadata": {"product": str(number)}} if number.isascii() and number.isdecimal():
                return int(number)
        return None

    def noted(self, asked: Asked, reply: Reply) -> ModelRequest:
        return {
            **super().noted(asked, reply),
            "retry_after": int(reply.headers.get("Retry-After", 0)),
            "sdk_retries": int(asked.headers.get("x-stainless-retry-count", 0)),
        }

    def refusal(self) -> Any:
        return _error("Rate limit reached. Please try again later.", "requests", "rate_limit_exceeded")

    def answer(self, asked: Asked) -> Reply:
        if (asked.method, asked.path) != ("POST", PATH):
            return Reply(
                404, _error(f"Unknown URL: {asked.method} {asked.path}", "invalid_request_error", "unknown_url")
            )
        if asked.headers.get("authorization") != f"Bearer {self._key}":
            return Reply(401, _error("Incorrect API key.", "invalid_request_error", "invalid_api_key"))
        match asked.content:
            case {"model": str(model), "messages": [*_, {"role": "user", "content": str(prompt)}]}:
                return self._complete(model, prompt, self.item_of(asked))
        return Reply(
            400, _error("model and messages are needed, the last from the user", "invalid_request_error", None)
        )

    def _complete(self, model: str, prompt: str, product: int | None) -> Reply:
        text = f"Whoever asks “{prompt}” deserves the best."
        asked_for, written = len(prompt.split()), len(text.split())
        completion: Completion = {
            "id": f"chatcmpl-{uuid4().hex[:12]}",
            "product": product,
            "text": text,
            "tokens": asked_for + written,
        }
        self._ledger["completions"].append(completion)
        content = {
            "id": completion["id"],
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": asked_for, "completion_tokens": written, "total_tokens": completion["tokens"]},
        }
        return Reply(200, content, {"x-request-id": f"req_{uuid4().hex[:12]}"})


def _error(message: str, kind: str, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m example_project.llm.model", description="A language model's API.")
    parser.add_argument("--bind", default="127.0.0.1:8091", metavar="HOST:PORT")
    parser.add_argument("--limit", default=20, type=int, help="requests in any one window, of all callers together")
    parser.add_argument("--window", default=4.0, type=float, help="its length in seconds")
    options = parser.parse_args()
    serve(Model(options.limit, options.window, os.environ["MODEL_KEY"]), options.bind, "model API")


if __name__ == "__main__":
    main()
