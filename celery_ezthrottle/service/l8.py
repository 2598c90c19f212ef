"""L8 v0.1, by which ezthrottle-local proves its webhooks: Ed25519 signatures. No I/O. Needs the extra ``l8``.

In a handshake, the sender challenges the receiver to prove that it has its private key, and signs the challenge. Then it signs
each webhook.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from celery_ezthrottle.settings.l8_keys import key_of

from .signatures import TIMESTAMP, BadSignature, check_clock

__all__ = ["DeliveryCheck", "Identity", "is_signed"]

_SIGNATURE, _TIMESTAMP = "X-L8-Signature", "X-L8-Timestamp"
_KEY_ID, _DELIVERY_ID = "X-L8-Key-Id", "X-L8-Delivery-Id"


class Identity:
    """The receiver's pair of keys.

    Args:
        private_key: 32 bytes in base64.

    Attributes:
        public_key: 32 bytes in base64.

    Raises:
        ValueError: the private key has another form.
    """

    def __init__(self, private_key: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(key_of(private_key))
        self.public_key = _in_base64(self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> str:
        """Return the signature in base64."""
        return _in_base64(self._private.sign(message))


def is_signed(message: bytes, signature: str, public_key: bytes) -> bool:
    """Return whether ``signature``, which is in base64, is that of ``message``."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):
        return False
    return True


class DeliveryCheck:
    """The check of one webhook: a :class:`.signatures.BodyCheck`.

    Args:
        headers: of the request, by lower-case name.
        keys: gives the public keys of the sender, and may block for that: the one that is known, then a newer one.

    Raises:
        BadSignature: a header is missing or has another form.
    """

    def __init__(self, headers: Mapping[str, str], keys: Callable[[], Iterable[bytes]]) -> None:
        found = {name: headers.get(name.lower(), "") for name in (_SIGNATURE, _TIMESTAMP, _KEY_ID, _DELIVERY_ID)}
        if missing := [name for name, value in found.items() if not value]:
            raise BadSignature(
                f"The header {missing[0]} is missing: with ezthrottle_l8_private_key, webhooks are only accepted signed. Let "
                "the sender reach /.well-known/l8 and /l8/challenge at this receiver's host."
            )
        if not TIMESTAMP.fullmatch(found[_TIMESTAMP]):
            raise BadSignature(f"The header {_TIMESTAMP} must be Unix seconds.")
        self._timestamp, self._delivery_id = found[_TIMESTAMP], found[_DELIVERY_ID]
        self._signature, self._key_id = found[_SIGNATURE], found[_KEY_ID]
        self._keys = keys
        self._as_sent, self._as_utf_8 = hashlib.sha256(), hashlib.sha256()

    def clock(self, now: float, tolerance: float) -> None:
        check_clock(int(self._timestamp), now, tolerance)

    def update(self, piece: bytes | bytearray) -> None:
        self._as_sent.update(piece)
        # ezthrottle-local signs the body before it sends each character as one byte.
        self._as_utf_8.update(piece.decode("latin-1").encode())

    def end(self) -> None:
        """Check the signature of the whole body.

        Raises:
            BadSignature: no key of the sender has signed it.
            Exception: what ``keys`` raises.
        """
        digests = {self._as_sent.digest(), self._as_utf_8.digest()}
        messages = [f"{self._delivery_id}.{self._timestamp}.{_in_base64(digest)}".encode() for digest in digests]
        for key in self._keys():
            if self._key_id == _in_base64(key[:8]) and any(is_signed(m, self._signature, key) for m in messages):
                return
        raise BadSignature(
            "The L8 signature is not that of the server at ezthrottle_url: see that ezthrottle_url (or ezthrottle_l8_sender_key) "
            "names the server that sends the webhooks, and that nothing between changes the body."
        )


def _in_base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
