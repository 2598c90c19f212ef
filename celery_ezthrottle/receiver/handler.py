"""The receiver without a web framework. Input: method, path, query, headers and body. Output: status and JSON.

The receiver answers 2xx only after the store has kept the result. After any other answer, the sender sends the webhook again.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.service.signatures import SIGNATURE_HEADER, BadSignature, split_token, verify
from celery_ezthrottle.settings.validate import receiver_problems
from celery_ezthrottle.store.records import Verdict

__all__ = ["Receiver", "Reply"]

_MAX_JOB_ID = 512  # characters
_RETRY_AFTER = 5  # seconds


@dataclass(frozen=True)
class Reply:
    """An HTTP response. The caller must send ``body`` as JSON."""

    status: int
    body: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)


class _Refused(Exception):
    def __init__(self, status: int, error: str, **headers: str) -> None:
        super().__init__(error)
        self.reply = Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


class Receiver:
    """Accepts webhooks for the continuations of one app.

    Raises:
        ConfigurationError: the webhook secret, the webhook URL or the store is missing or wrong. The receiver never accepts
            unsigned webhooks, so it needs a secret.
    """

    def __init__(self, continuations: Continuations) -> None:
        settings = continuations.settings
        problems = receiver_problems(settings)
        if problems:
            raise ConfigurationError("\n".join(problems))
        self._continuations = continuations
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance
        self._path = settings.webhook_path
        #: Size limit of a webhook in bytes. For one byte of the response, JSON may need six, and base64 4/3 more. 64 KiB are for
        #: the rest.
        self.max_body = 8 * settings.max_response + 64 * 1024
        self._max_response = settings.max_response

    def check(self, method: str, path: str, content_length: int | None = None) -> Reply | None:
        """Check a request before its body is read.

        Args:
            content_length: the number in the request's ``Content-Length``; None when it is missing or not a number.

        Returns:
            The reply that refuses the request, or None to go on.
        """
        try:
            if path != self._path:
                raise _Refused(404, f"Not found; webhooks go to {self._path}.")
            if method != "POST":
                raise _Refused(405, "Webhooks come by POST.", Allow="POST")
            if content_length is not None and content_length > self.max_body:
                raise _Refused(413, f"The body is larger than {self.max_body} bytes.")
        except _Refused as refused:
            return refused.reply
        return None

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Process one webhook and return the reply. Blocks while it waits for the store and the broker.

        Args:
            method: HTTP method of the request.
            path: path of the request.
            query: query string of the request as received, without "?".
            headers: headers of the request, by lower-case name.
            body: body of the request, as raw bytes.
        """
        refused = self.check(method, path, len(body))
        if refused is not None:
            return refused
        try:
            return self._take(query, headers, body)
        except _Refused as exc:
            logger.warning("A webhook was refused with %d: %s", exc.reply.status, exc)
            return exc.reply
        except BadSignature as exc:
            logger.warning("A webhook was refused: %s", exc)
            return Reply(401, {"error": str(exc)})
        except StoreError as exc:
            logger.error("A webhook could not be kept; it will be sent again: %s", exc)
            return Reply(503, {"error": "The result could not be stored."}, {"Retry-After": str(_RETRY_AFTER)})

    def _take(self, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        verify(
            headers.get(SIGNATURE_HEADER.lower()),
            body,
            self._secrets,
            now=time.time(),
            tolerance=self._tolerance,
        )
        tokens = parse_qs(query).get("ez", [])
        continuation_id = split_token(tokens[-1], self._secrets) if tokens else None
        job_id, result = self._read(body)
        verdict = self._continuations.deliver(continuation_id, job_id, result)
        logger.info("The webhook of job %r was taken: %s.", job_id, verdict)
        return Reply(200, {"status": "accepted" if verdict is Verdict.FIRST else "duplicate"})

    def _read(self, body: bytes) -> tuple[str, bytes]:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            raise _Refused(400, "The body is not JSON.") from None
        if not isinstance(data, dict):
            raise _Refused(422, "The body must be a JSON object.")
        job_id, status, reason = data.get("job_id"), data.get("status"), data.get("error", data.get("reason"))
        if not isinstance(job_id, str) or not 0 < len(job_id) <= _MAX_JOB_ID or not _is_unicode(job_id):
            raise _Refused(422, f"job_id must be a string of 1 to {_MAX_JOB_ID} characters.")
        if not isinstance(status, str) or not status:
            raise _Refused(422, "status must be a non-empty string.")
        response = self._response(data.get("response"))
        return job_id, job_result.of_job(job_id, status, response, reason if isinstance(reason, str) else None)

    def _response(self, response: Any) -> dict[str, Any] | None:
        if response is None:
            return None
        if not isinstance(response, dict):
            raise _Refused(422, "response must be an object or null.")
        code, headers, text = (response.get(name) for name in ("status_code", "headers", "body"))
        headers, text = {} if headers is None else headers, "" if text is None else text
        if isinstance(code, bool) or not isinstance(code, int) or not 100 <= code <= 599:
            raise _Refused(422, "response.status_code must be an HTTP status.")
        if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
            raise _Refused(422, "response.headers must be an object of strings.")
        if not isinstance(text, str):
            raise _Refused(422, "response.body must be a string.")
        kept = {"status_code": code, "headers": headers, "body": text}
        size = len(text.encode("utf-8", "surrogatepass"))
        if "body_base64" in response:
            encoded = kept["body_base64"] = response["body_base64"]
            size = size if encoded is None else _size_of_base64(encoded)
        if size > self._max_response:
            raise _Refused(413, f"The response is larger than {self._max_response} bytes (ezthrottle_max_response).")
        return kept


def _size_of_base64(encoded: object) -> int:
    try:
        if isinstance(encoded, str):
            return len(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        pass
    raise _Refused(422, "response.body_base64 must be base64 or null.")


def _is_unicode(text: str) -> bool:
    """Whether ``text`` can be encoded as UTF-8. It cannot when the JSON contained one half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
