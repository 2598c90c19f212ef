"""The JSON of a webhook, checked field by field: it is data from outside. Fields with other names are ignored."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .reply import Refused

__all__ = ["Payload", "is_job_id", "payload_of", "read_json", "read_payload"]

_MAX_JOB_ID = 512  # characters


@dataclass(frozen=True)
class Payload:
    """What a webhook says.

    Attributes:
        response: None, or what :func:`celery_ezthrottle.continuations.job_result.of_job` takes.
        reason: why there is no response, or None.
        size: bytes of the response's body.
    """

    job_id: str
    status: str
    response: dict[str, Any] | None = field(repr=False)
    reason: str | None = field(repr=False)
    size: int


def read_payload(body: bytes | bytearray) -> Payload:
    """Read a webhook.

    Raises:
        Refused: the body is not JSON, or the text of the error names the field that is wrong.
    """
    return payload_of(read_json(body))


def read_json(body: bytes | bytearray | str) -> Any:
    """Return the JSON value that ``body`` is.

    Raises:
        Refused: it is not JSON.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None


def payload_of(data: Any) -> Payload:
    """Read the JSON value of a webhook.

    Raises:
        Refused: the text of the error names the field that is wrong.
    """
    if not isinstance(data, dict):
        raise Refused(422, "The body must be a JSON object.")
    job_id, status, reason = data.get("job_id"), data.get("status"), data.get("error", data.get("reason"))
    if not isinstance(job_id, str) or not is_job_id(job_id):
        raise Refused(422, f"job_id must be a string of 1 to {_MAX_JOB_ID} characters.")
    if not isinstance(status, str) or not status:
        raise Refused(422, "status must be a non-empty string.")
    response, size = (None, 0) if data.get("response") is None else _response(data["response"])
    return Payload(job_id, status, response, reason if isinstance(reason, str) else None, size)


def is_job_id(text: str) -> bool:
    """Return whether ``text`` can be the id of a job."""
    try:
        text.encode()  # impossible when the JSON contained one half of a surrogate pair
    except UnicodeEncodeError:
        return False
    return 0 < len(text) <= _MAX_JOB_ID


def _response(response: Any) -> tuple[dict[str, Any], int]:
    """Return a response in the stored form, and the size of its body in bytes."""
    if not isinstance(response, dict):
        raise Refused(422, "response must be an object or null.")
    code, text = response.get("status_code"), response.get("body")
    if isinstance(code, bool) or not isinstance(code, int) or not 100 <= code <= 599:
        raise Refused(422, "response.status_code must be an HTTP status.")
    kept = {"status_code": code, **_headers(response)}
    text = kept["body"] = "" if text is None else text
    if not isinstance(text, str):
        raise Refused(422, "response.body must be a string.")
    if "body_base64" in response:
        kept["body_base64"] = response["body_base64"]
    if kept.get("body_base64") is None:
        return kept, len(text.encode("utf-8", "surrogatepass"))
    try:
        return kept, len(base64.b64decode(kept["body_base64"], validate=True))
    except (TypeError, ValueError):
        raise Refused(422, "response.body_base64 must be base64 or null.") from None


def _headers(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``headers`` as an object of strings, and the fields that came several times apart, if there are any."""
    headers, repeated = response.get("headers"), response.get("repeated_headers")
    headers, repeated = {} if headers is None else headers, {} if repeated is None else repeated
    if not isinstance(headers, dict) or not all(
        isinstance(value, str) or _is_list(value) for value in headers.values()
    ):
        raise Refused(422, "response.headers must be an object of strings, or of lists of strings.")
    if not isinstance(repeated, dict) or not all(map(_is_list, repeated.values())):
        raise Refused(422, "response.repeated_headers must be an object of lists of strings.")
    repeated = repeated | {name: value for name, value in headers.items() if isinstance(value, list)}
    headers = {name: ", ".join(value) if isinstance(value, list) else value for name, value in headers.items()}
    return {"headers": headers} | ({"repeated_headers": repeated} if repeated else {})


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)
