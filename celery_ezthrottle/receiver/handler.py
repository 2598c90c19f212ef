"""The receiver without a web framework. Input: method, path, query, headers and body. Output: status and JSON.

The receiver answers 2xx only after the store has kept the result. After any other answer, the sender sends the webhook again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from celery_ezthrottle._common.asgi_server import require
from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations import job_result
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.service.signatures import (
    SIGNATURE_HEADER,
    BadSignature,
    BodyCheck,
    SignatureCheck,
    Unsigned,
    split_token,
)
from celery_ezthrottle.settings.validate import receiver_problems
from celery_ezthrottle.store.records import Verdict

from .incoming import Incoming
from .local_payload import read_local_payload
from .payload import is_job_id, read_payload
from .reply import Refused, Reply
from .room import RETRY_AFTER, Room
from .sender_key import KeyUnknown

if TYPE_CHECKING:
    from .l8 import L8

__all__ = ["Receiver", "Reply", "refuse"]

#: Bytes that are held of all bodies at once, while they come and until they are kept.
_ROOM = 64 * 1024 * 1024
_STRANGERS_ROOM = 16 * 1024 * 1024


class Receiver:
    """Accepts webhooks for the continuations of one app.

    Webhooks are only accepted signed: with the webhook secret, or with L8 where that is configured. The dialect "local" without
    L8 is the exception. Its server does not sign, so there the token in the URL is the proof.

    Raises:
        ConfigurationError: the webhook secret, the webhook URL, the store or a key of L8 is missing or wrong, or the extra that
            L8 needs.
    """

    def __init__(self, continuations: Continuations) -> None:
        settings = continuations.settings
        problems = receiver_problems(settings)
        if problems:
            raise ConfigurationError("\n".join(problems))
        self._continuations = continuations
        self._secrets = settings.webhook_secrets
        self._tolerance = settings.webhook_tolerance
        #: The path of ``ezthrottle_webhook_url``.
        self.path = settings.webhook_path
        #: Size limit of a webhook in bytes. For one byte of the response, JSON may need six, and base64 4/3 more. 64 KiB are for
        #: the rest.
        self.max_body = 8 * settings.max_response + 64 * 1024
        self._max_response = settings.max_response
        # Strangers, who have no token, cannot take the room of those who have one.
        self._room, self._strangers_room = (Room(max(most, 2 * self.max_body)) for most in (_ROOM, _STRANGERS_ROOM))
        self._is_local = settings.dialect == "local"
        self._l8 = self._l8_of(continuations) if self._is_local and settings.l8_private_key else None
        #: All paths that the receiver serves.
        self.paths = (self.path,) if self._l8 is None else (self.path, *self._l8.paths)

    def open(
        self, method: str, path: str, query: str, headers: Mapping[str, str], content_length: int | None = None
    ) -> Incoming:
        """Check the head of a request, before its body is read. Add the body to what is returned, then call :meth:`take`.

        Args:
            method: HTTP method of the request.
            path: path of the request.
            query: query string of the request as received, without "?".
            headers: headers of the request, by lower-case name.
            content_length: the number in the request's ``Content-Length``; None when it is missing or not a number.

        Raises:
            Refused: the reply refuses the request.
        """
        if path != self.path:
            if self._l8 is not None and path in self._l8.paths:
                return self._l8.open(method, path, content_length)
            raise Refused(404, f"Not found; webhooks go to {self.path}.")
        if method != "POST":
            raise Refused(405, "Webhooks come by POST.", Allow="POST")
        try:
            tokens = parse_qs(query).get("ez", [])
            signature = self._check_of(headers, has_token=bool(tokens))
            signature.clock(time.time(), self._tolerance)
            continuation_id = split_token(tokens[-1], self._secrets) if tokens else None
        except BadSignature as exc:
            raise Refused(401, str(exc)) from None
        room = self._strangers_room if continuation_id is None else self._room
        incoming = Incoming(continuation_id, signature, self.max_body, room)
        incoming.expect(content_length or 0)
        return incoming

    def _check_of(self, headers: Mapping[str, str], *, has_token: bool) -> BodyCheck:
        """The check of a webhook.

        Raises:
            BadSignature: what must be signed is not.
        """
        signature = headers.get(SIGNATURE_HEADER.lower())
        if signature is not None or not self._is_local:
            return SignatureCheck(signature, self._secrets)
        if self._l8 is not None:
            return self._l8.check(headers)
        if not has_token:
            raise BadSignature(
                "The webhook is neither signed, nor has its URL a token: use the URL of the job unchanged."
            )
        return Unsigned()

    def take(self, incoming: Incoming) -> Reply:
        """Process a webhook whose body is complete. Blocks while it waits for the store and the broker.

        Raises:
            Refused: the reply refuses the request.
        """
        try:
            incoming.signature.end()
            if self._l8 is not None and (answer := self._l8.answer(incoming)) is not None:
                return answer
        except BadSignature as exc:
            raise Refused(401, str(exc)) from None
        except KeyUnknown as exc:
            logger.error("Who sent a webhook is not known: %s", exc)
            raise Refused(503, "The key of the sender is not known.", Retry_After=str(RETRY_AFTER)) from None
        if incoming.is_too_large:
            # The beginning names the job in practice. Else any name is right that no other job has.
            job_id = incoming.named("job_id")
            job_id = job_id if is_job_id(job_id) else f"unnamed-{incoming.continuation_id}"
            result = self._not_kept(job_id, incoming.named("status") or None)
        else:
            payload = (read_local_payload if self._is_local else read_payload)(incoming.body)
            job_id = payload.job_id
            result = (
                job_result.of_job(job_id, payload.status, payload.response, payload.reason)
                if payload.size <= self._max_response
                else self._not_kept(job_id, payload.status)
            )
        try:
            verdict = self._continuations.deliver(incoming.continuation_id, job_id, result)
        except StoreError as exc:
            logger.error("A webhook could not be kept; it will be sent again: %s", exc)
            return Reply(503, {"error": "The result could not be stored."}, {"Retry-After": str(RETRY_AFTER)})
        logger.info("The webhook of job %r was taken: %s.", job_id, verdict)
        return Reply(200, {"status": "accepted" if verdict is Verdict.FIRST else "duplicate"})

    def handle(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Process one webhook that was read already, and return the reply. The arguments are those of :meth:`open`."""
        try:
            with self.open(method, path, query, headers, len(body)) as incoming:
                incoming.add(body)
                return self.take(incoming)
        except Refused as refused:
            return refuse(refused)

    @staticmethod
    def _l8_of(continuations: Continuations) -> L8:
        require("L8 (ezthrottle_l8_private_key)", "l8", ["cryptography"])
        from .l8 import L8

        return L8(continuations)

    def _not_kept(self, job_id: str, status: str | None = None) -> bytes:
        """The result of a job whose answer is too large. Its task is resumed at once: nobody can send a smaller answer."""
        lost = f"The answer to job {job_id} was not kept: it is larger than ezthrottle_max_response = {self._max_response} bytes."
        logger.warning("%s Its task is resumed without it.", lost)
        return job_result.not_kept(lost, status)


def refuse(refused: Refused) -> Reply:
    """Log a refusal, and return the reply."""
    logger.warning("A webhook was refused with %d: %s", refused.reply.status, refused)
    return refused.reply
