"""Verify webhooks in an application of one's own. The names and the returned values are those of the EZThrottle SDK."""

from __future__ import annotations

import time

from celery_ezthrottle.errors import WebhookVerificationError
from celery_ezthrottle.service.signatures import BadSignature, verify

__all__ = ["try_verify_with_secrets", "verify_webhook_signature", "verify_webhook_signature_strict"]


def verify_webhook_signature(
    payload: bytes, signature_header: str | None, secret: str, tolerance: float = 300
) -> tuple[bool, str]:
    """Check the signature of a webhook.

    Args:
        payload: the raw bytes of the body.
        signature_header: the value of ``X-EZThrottle-Signature``; "" or None when the request has none.
        secret: the webhook secret. With an empty one, nothing is valid.
        tolerance: largest accepted difference between the timestamp and this machine's clock, in seconds.

    Returns:
        ``(True, "valid")``, or ``(False, reason)`` with one of the reasons "no_signature_header", "malformed_header",
        "malformed_timestamp", "missing_v1_signature", "timestamp_expired (diff=…s, tolerance=…s)", "signature_mismatch" and
        "no_secret".
    """
    if not secret:
        return False, "no_secret"
    try:
        verify(signature_header, payload, [secret], now=time.time(), tolerance=tolerance)
    except BadSignature as exc:
        return False, exc.code
    return True, "valid"


def verify_webhook_signature_strict(
    payload: bytes, signature_header: str | None, secret: str, tolerance: float = 300
) -> None:
    """Check the signature of a webhook as :func:`verify_webhook_signature` does, and return nothing.

    Raises:
        WebhookVerificationError: it is not valid. The text ends with the reason.
    """
    verified, reason = verify_webhook_signature(payload, signature_header, secret, tolerance)
    if not verified:
        raise WebhookVerificationError(f"Webhook signature verification failed: {reason}")


def try_verify_with_secrets(
    payload: bytes,
    signature_header: str | None,
    primary_secret: str,
    secondary_secret: str | None = None,
    tolerance: float = 300,
) -> tuple[bool, str]:
    """Check the signature of a webhook with two secrets, while they are rotated.

    Returns:
        ``(True, "valid_primary")``, ``(True, "valid_secondary")``, or ``(False, text)``, where the text is
        "both_secrets_failed (primary: …, secondary: …)" with the reasons of :func:`verify_webhook_signature`. Without a secondary
        secret, it has only the primary's.
    """
    verified, primary = verify_webhook_signature(payload, signature_header, primary_secret, tolerance)
    if verified:
        return True, "valid_primary"
    if not secondary_secret:
        return False, f"both_secrets_failed (primary: {primary})"
    verified, secondary = verify_webhook_signature(payload, signature_header, secondary_secret, tolerance)
    if verified:
        return True, "valid_secondary"
    return False, f"both_secrets_failed (primary: {primary}, secondary: {secondary})"
