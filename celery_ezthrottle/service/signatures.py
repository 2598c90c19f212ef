"""The proofs that a webhook is genuine: the signature over its body, and the token in its URL. No I/O."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Protocol

from celery_ezthrottle.errors import ConfigurationError, WebhookVerificationError

__all__ = [
    "SIGNATURE_HEADER", "BadSignature", "BodyCheck", "SignatureCheck", "Unsigned", "check_clock", "mac_token", "sign",
    "split_token", "verify",
]  # fmt: skip

SIGNATURE_HEADER = "X-EZThrottle-Signature"

# Separates the keys: both MACs come from the same secret, but a MAC for a URL must never be valid for a body.
_URL_LABEL = b"celery-ezthrottle webhook url"
_URL_MAC_LENGTH = 32  # hex digits: 128 bits
#: Unix seconds. Fifteen digits are 30 million years. int() of an unbounded string is slow and, from 4,301 digits on, an error.
TIMESTAMP = re.compile(r"[0-9]{1,15}")


class BadSignature(WebhookVerificationError):
    """A webhook does not prove that EZThrottle sent it. The receiver must answer 401 and keep nothing of it.

    Attributes:
        reason: what is wrong. It contains no part of a secret or of a MAC.
        code: the same in one word, as the EZThrottle SDK has it.
    """

    def __init__(self, reason: str, code: str = "") -> None:
        super().__init__(reason, code)
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return self.reason


def sign(secret: str, body: bytes, timestamp: int) -> str:
    """Return the value of ``X-EZThrottle-Signature``: ``t=<Unix seconds>,v1=<64 hex digits>``.

    Args:
        secret: the webhook secret.
        body: the raw bytes of the body that is sent.
        timestamp: the current Unix time in whole seconds.

    Raises:
        ConfigurationError: the secret is empty.
    """
    (key,) = _keys([secret])
    return f"t={timestamp},v1={hmac.new(key, f'{timestamp}.'.encode() + body, hashlib.sha256).hexdigest()}"


def verify(header: str | None, body: bytes, secrets: Sequence[str], *, now: float, tolerance: float) -> None:
    """Check that one of ``secrets`` signed a webhook, and that its timestamp is near ``now``. Return nothing.

    Args:
        header: the value of ``X-EZThrottle-Signature``, or None when the request has none. Several ``v1`` entries,
            spaces around entries, upper-case hex digits and entries with other names are allowed.
        body: the raw bytes of the body as received.
        secrets: the primary secret and, while secrets are rotated, the secondary one. Empty secrets are ignored.
        now: the current Unix time in seconds.
        tolerance: largest accepted difference between the timestamp and ``now``, in seconds, in either direction.

    Raises:
        BadSignature: the webhook is not accepted. ``reason`` says why.
        ConfigurationError: every secret is empty, or there is none.
    """
    check = SignatureCheck(header, secrets)
    check.update(body)
    check.end()
    check.clock(now, tolerance)


def check_clock(timestamp: int, now: float, tolerance: float) -> None:
    """Check that what was signed at ``timestamp`` is not older, or newer, than ``tolerance`` seconds.

    Raises:
        BadSignature: it is.
    """
    ahead = timestamp - now
    if not abs(ahead) <= tolerance:
        raise BadSignature(
            f"The clocks differ: the signature was made {abs(ahead):.0f} s {'after' if ahead > 0 else 'before'} this "
            f"machine's time, more than the {tolerance:g} s allowed. Set the clock; or it is an old webhook, replayed.",
            f"timestamp_expired (diff={abs(ahead):.0f}s, tolerance={tolerance:g}s)",
        )


class BodyCheck(Protocol):
    """The check of one webhook whose body comes in pieces. It holds no piece. Each method raises BadSignature if it fails."""

    def clock(self, now: float, tolerance: float) -> None:
        """Check the time of the signature. It needs no body."""

    def update(self, piece: bytes | bytearray) -> None:
        """Take the next piece of the body."""

    def end(self) -> None:
        """Check the signature of the whole body."""


class Unsigned:
    """In the place of a check, for a sender that does not sign. Only the token in the URL proves who it is."""

    def clock(self, now: float, tolerance: float) -> None:
        pass

    def update(self, piece: bytes | bytearray) -> None:
        pass

    def end(self) -> None:
        pass


class SignatureCheck:
    """The check of one webhook whose body comes in pieces. It holds no piece.

    Args:
        header, secrets: as for :func:`verify`.

    Raises:
        BadSignature: the header is missing or has another form.
        ConfigurationError: every secret is empty, or there is none.
    """

    def __init__(self, header: str | None, secrets: Sequence[str]) -> None:
        keys = _keys(secrets)
        self._timestamp, self._signatures = _parse(header)
        self._macs = [hmac.new(key, self._timestamp.encode() + b".", hashlib.sha256) for key in keys]

    def update(self, piece: bytes | bytearray) -> None:
        """Take the next piece of the body."""
        for mac in self._macs:
            mac.update(piece)

    def end(self) -> None:
        """Check the signature of the whole body.

        Raises:
            BadSignature: none of the secrets signed it.
        """
        matched = False
        for mac in self._macs:
            expected = mac.hexdigest()
            for signature in self._signatures:
                # No early exit: the time taken would show which secret matched.
                matched |= hmac.compare_digest(expected, signature)
        if not matched:
            raise BadSignature(
                "The signature matches none of the webhook secrets: set the secret that the EZThrottle account signs with, "
                "and see that nothing between changes the body.",
                "signature_mismatch",
            )

    def clock(self, now: float, tolerance: float) -> None:
        """Check the timestamp of the header. It needs no body.

        Raises:
            BadSignature: the timestamp is not near ``now``.
        """
        check_clock(int(self._timestamp), now, tolerance)


def mac_token(secret: str, continuation_id: str) -> str:
    """Return the MAC for a webhook URL: 32 hex digits. The URL's token is ``<continuation_id>.<mac>``.

    Raises:
        ConfigurationError: the secret is empty.
    """
    (key,) = _keys([secret])
    return _url_mac(key, continuation_id)


def split_token(token: str, secrets: Sequence[str]) -> str:
    """Check the token ``<continuation id>.<mac>`` of a webhook URL, and return its continuation id.

    Args:
        token: the token as it came in the URL.
        secrets: the primary secret and, while secrets are rotated, the secondary one. Empty secrets are ignored.

    Raises:
        BadSignature: the token has another form, or was made with none of the secrets.
        ConfigurationError: every secret is empty, or there is none.
    """
    keys = _keys(secrets)
    continuation_id, _, mac = token.rpartition(".")
    if not continuation_id or not token.isascii():
        raise BadSignature("The token in the webhook URL is missing or incomplete: use the URL of the job unchanged.")
    matched = False
    for key in keys:
        matched |= hmac.compare_digest(_url_mac(key, continuation_id), mac)
    if not matched:
        raise BadSignature("The token in the webhook URL was made with none of the webhook secrets of this receiver.")
    return continuation_id


def _keys(secrets: Sequence[str]) -> list[bytes]:
    if isinstance(secrets, str):
        # A string is a sequence of strings: each of its characters would be taken for a secret.
        raise TypeError("secrets must be a list or tuple of strings, not one string.")
    keys = [secret.encode() for secret in secrets if secret]
    if not keys:
        raise ConfigurationError(
            "There is no webhook secret: set ezthrottle_webhook_secret to the secret of your EZThrottle account."
        )
    return keys


def _parse(header: str | None) -> tuple[str, list[str]]:
    """Return the timestamp as text, because the MAC covers that text, and every ``v1`` value in lower case."""
    if not header:
        raise BadSignature(
            f"The header {SIGNATURE_HEADER} is missing: webhooks are only accepted signed.", "no_signature_header"
        )
    if not header.isascii():
        raise BadSignature(f"The header {SIGNATURE_HEADER} has characters other than ASCII.", "malformed_header")
    entries = [entry.strip().partition("=") for entry in header.split(",")]
    timestamps = [value for name, _, value in entries if name == "t"]
    signatures = [value.lower() for name, _, value in entries if name == "v1"]
    if len(timestamps) != 1 or not TIMESTAMP.fullmatch(timestamps[0]):
        raise BadSignature(f"The header {SIGNATURE_HEADER} needs exactly one t=<Unix seconds>.", "malformed_timestamp")
    if not signatures:
        raise BadSignature(f"The header {SIGNATURE_HEADER} has no v1=<hex>.", "missing_v1_signature")
    return timestamps[0], signatures


def _url_mac(key: bytes, continuation_id: str) -> str:
    derived = hmac.new(key, _URL_LABEL, hashlib.sha256).digest()
    return hmac.new(derived, continuation_id.encode(), hashlib.sha256).hexdigest()[:_URL_MAC_LENGTH]
