"""L8 at the receiver: its two endpoints, and the check of the webhooks. Needs the extra ``l8``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import StoreError
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.service.l8 import DeliveryCheck, Identity, is_signed
from celery_ezthrottle.service.signatures import BadSignature, Unsigned, check_clock
from celery_ezthrottle.service.words import QUESTION
from celery_ezthrottle.settings.l8_keys import key_of

from .incoming import Incoming
from .payload import read_json
from .reply import Refused, Reply
from .room import RETRY_AFTER, Room
from .sender_key import SenderKey

__all__ = ["L8"]

WELL_KNOWN, CHALLENGE = "/.well-known/l8", "/l8/challenge"

_METHODS = {WELL_KNOWN: "GET", CHALLENGE: "POST"}
#: Bytes. A challenge has some 300.
_LARGEST = 4096
#: Bytes that are held of all challenges at once.
_ROOM = 256 * _LARGEST
#: Seconds to connect to the sender, and to wait for its key. It waits 5 s for us.
_PATIENCE = (2.0, 3.0)
_TEXTS = ("challenge_id", "nonce", "sender_public_key", "signature")
_LATEST = 10**15  # Unix seconds; a larger integer may be too large for a float


class L8:
    """Speaks L8 with the one sender that the settings name.

    Raises:
        ConfigurationError: the sender's URL is not usable.
    """

    #: The paths of the endpoints, at the root of the receiver's host.
    paths = (WELL_KNOWN, CHALLENGE)

    def __init__(self, continuations: Continuations) -> None:
        settings = continuations.settings
        self._continuations, self._room = continuations, Room(_ROOM)
        self._tolerance = settings.webhook_tolerance
        self._identity = Identity(settings.l8_private_key)
        client = ServiceClient.from_settings(settings)
        client.timeout = _PATIENCE
        self._sender = SenderKey(lambda: client.call("GET", WELL_KNOWN, words=QUESTION), settings.l8_sender_key)

    def check(self, headers: Mapping[str, str]) -> DeliveryCheck:
        """Return the check of a webhook. Its ``end`` raises KeyUnknown when the sender's key could not be fetched.

        Raises:
            BadSignature: a header is missing or has another form.
        """
        return DeliveryCheck(headers, self._sender.candidates)

    def open(self, method: str, path: str, content_length: int | None) -> Incoming:
        """Check the head of a request to one of the endpoints. Add its body to what is returned.

        Raises:
            Refused: the reply refuses the request.
        """
        if method != _METHODS[path]:
            raise Refused(405, f"{path} is asked by {_METHODS[path]}.", Allow=_METHODS[path])
        endpoint = _Endpoint(path, self._room)
        endpoint.expect(content_length or 0)
        return endpoint

    def answer(self, incoming: Incoming) -> Reply | None:
        """Answer a request to one of the endpoints, whose body is complete. None: ``incoming`` is another request.

        Blocks while it waits for the sender's key and the store.

        Raises:
            Refused: the challenge is malformed, old, used before or from somebody else.
            KeyUnknown: the sender's key could not be fetched.
        """
        if not isinstance(incoming, _Endpoint):
            return None
        return self._card() if incoming.path == WELL_KNOWN else self._challenge(incoming.body)

    def _card(self) -> Reply:
        """What a sender must know of this receiver."""
        return Reply(
            200,
            {
                "protocol_version": "0.1",
                "service_name": "celery-ezthrottle",
                "public_key": self._identity.public_key,
                "challenge_endpoint": CHALLENGE,
                "supported_algorithms": ["ed25519"],
                "capabilities": ["signed_payloads"],
            },
        )

    def _challenge(self, body: bytes | bytearray) -> Reply:
        asked = _read(body)
        try:
            check_clock(asked["timestamp"], time.time(), self._tolerance)
        except BadSignature as exc:
            raise Refused(400, str(exc)) from None
        message = f"{asked['challenge_id']}:{asked['nonce']}".encode()
        if all(asked["sender"] != key for key in self._sender.candidates()):
            raise Refused(401, "The challenge is not from the server at ezthrottle_url.")
        if not is_signed(message, asked["signature"], asked["sender"]):
            raise Refused(401, "The signature of the challenge is wrong.")
        try:
            challenge = token_hex(8)
            until = asked["timestamp"] + self._tolerance
            is_new = self._continuations.store.take_nonce(asked["nonce"], challenge, until) == challenge
        except StoreError as exc:
            logger.error("A challenge could not be answered: %s", exc)
            raise Refused(503, "The nonce could not be stored.", Retry_After=str(RETRY_AFTER)) from None
        if not is_new:
            raise Refused(400, "The nonce was used before.")
        logger.info("The challenge of the server at ezthrottle_url was answered: it will sign its webhooks.")
        return Reply(
            200,
            {
                "challenge_id": asked["challenge_id"],
                "nonce": asked["nonce"],
                "receiver_signature": self._identity.sign(message),
                "receiver_public_key": self._identity.public_key,
            },
        )


class _Endpoint(Incoming):
    """A request to an endpoint of L8, whose head was accepted."""

    def __init__(self, path: str, room: Room) -> None:
        super().__init__(None, Unsigned(), _LARGEST, room)
        self.path = path


def _read(body: bytes | bytearray) -> dict[str, Any]:
    """Return the fields of a challenge, and the bytes of its ``sender_public_key`` as ``sender``."""
    data = read_json(body)
    if not isinstance(data, dict):
        raise Refused(400, "The body must be a JSON object.")
    for name in _TEXTS:
        if not isinstance(data.get(name), str) or not data[name]:
            raise Refused(400, f"{name} must be a non-empty string.")
    timestamp = data.get("timestamp")
    if isinstance(timestamp, bool) or not isinstance(timestamp, int) or not 0 <= timestamp < _LATEST:
        raise Refused(400, "timestamp must be Unix seconds.")
    try:
        f"{data['challenge_id']}{data['nonce']}".encode()  # impossible when the JSON had one half of a surrogate pair
        return {**data, "sender": key_of(data["sender_public_key"])}
    except ValueError:  # UnicodeEncodeError is one
        raise Refused(400, "challenge_id, nonce or sender_public_key is malformed.") from None
