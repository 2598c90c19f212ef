"""The JSON of a webhook of ezthrottle-local: flat, and without key, metadata and headers.

``{"job_id", "status": "completed", "response_status", "body"}``, or ``{"job_id", "status": "failed", "reason"}``. That server
takes each byte of the upstream's body for one character, and sends each character as one byte. So the bytes of ``body``, after
the escapes of JSON, are those that the upstream sent. They need not be UTF-8. "completed" says that there is an answer, whatever
it is.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from .payload import Payload, payload_of, read_json, read_payload
from .reply import Refused

__all__ = ["read_local_payload"]


def read_local_payload(body: bytes | bytearray) -> Payload:
    """Read a webhook. One in the form of the other dialects is read too.

    Raises:
        Refused: the body is not JSON, or the text of the error names the field that is wrong.
    """
    data = read_json(body.decode("latin-1"))
    if not isinstance(data, dict) or "response_status" not in data:
        return read_payload(body)
    code, text = data["response_status"], data.get("body")
    if isinstance(code, bool) or not isinstance(code, int) or not 100 <= code <= 599:
        raise Refused(422, "response_status must be an HTTP status.")
    if not isinstance(text, str | None):
        raise Refused(422, "body must be a string or null.")
    status = data.get("status")
    if status == "completed":
        status = "success" if code < 400 else "failed"  # as the other dialects have it
    return payload_of({**data, "status": status, "response": {"status_code": code, **_response(text or "", body)}})


def _response(text: str, body: bytes | bytearray) -> dict[str, Any]:
    try:
        content = text.encode("latin-1")
    except UnicodeEncodeError:  # another server, which sends text
        content = str(read_json(body)["body"]).encode("utf-8", "surrogatepass")
    try:
        exact, text = None, content.decode()
    except UnicodeDecodeError:
        exact, text = base64.b64encode(content).decode(), content.decode("utf-8", "replace")
    return {"headers": _headers(text), "body": text, "body_base64": exact}


def _headers(text: str) -> dict[str, str]:
    """The type of the body, if it can be told. Client packages do not parse a body without one."""
    if text.lstrip()[:1] in {"{", "["}:
        try:
            json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return {"content-type": "application/json"}
    return {}
