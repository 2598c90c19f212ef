"""The functions that verify webhooks: what the SDK's return, without its defects."""

from __future__ import annotations

import hashlib
import hmac
import time

import pytest

from celery_ezthrottle import (
    EZThrottleError,
    WebhookVerificationError,
    try_verify_with_secrets,
    verify_webhook_signature,
    verify_webhook_signature_strict,
)
from celery_ezthrottle.service.signatures import sign

SECRET = "a secret of sixteen or more"
OTHER = "another secret, just as long"
BODY = b'{"job_id": "job_1"}'


def signed(body: bytes = BODY, secret: str = SECRET, ago: int = 0) -> str:
    return sign(secret, body, int(time.time()) - ago)


@pytest.mark.parametrize("body", [BODY, b"", b"\xff\xfe not UTF-8"])
@pytest.mark.parametrize("separator", [",", ", ", " , "])
def test_a_webhook_of_the_service_is_valid(body: bytes, separator: str) -> None:
    """Defects of the SDK: a blank after the comma, and bytes that are not UTF-8."""
    header = signed(body).replace(",", separator)
    assert verify_webhook_signature(body, header, SECRET) == (True, "valid")
    verify_webhook_signature_strict(body, header, SECRET)
    assert try_verify_with_secrets(body, header, SECRET) == (True, "valid_primary")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "no_signature_header"),
        (None, "no_signature_header"),
        ("t=1", "missing_v1_signature"),
        ("v1=00", "malformed_timestamp"),
        ("t=soon,v1=00", "malformed_timestamp"),
        ("t=1,v1=\u00e9", "malformed_header"),
        ("t=1,v1=00", "signature_mismatch"),
    ],
)
def test_a_webhook_that_is_not_valid_has_a_reason(header: str | None, reason: str) -> None:
    assert verify_webhook_signature(BODY, header, SECRET) == (False, reason)
    with pytest.raises(WebhookVerificationError, match=f": {reason}$") as caught:
        verify_webhook_signature_strict(BODY, header, SECRET)
    assert isinstance(caught.value, EZThrottleError)


def test_the_tolerance_is_in_seconds() -> None:
    header = signed(ago=400)
    verified, reason = verify_webhook_signature(BODY, header, SECRET)
    assert not verified
    assert reason.startswith("timestamp_expired (diff=40")
    assert reason.endswith("s, tolerance=300s)")
    assert verify_webhook_signature(BODY, header, SECRET, tolerance=500) == (True, "valid")


def test_no_secret_verifies_nothing() -> None:
    """Defect of the SDK: what anybody signs with an empty key is valid."""
    at = str(int(time.time())).encode()
    forged = f"t={at.decode()},v1={hmac.new(b'', at + b'.' + BODY, hashlib.sha256).hexdigest()}"
    assert verify_webhook_signature(BODY, forged, "") == (False, "no_secret")
    assert try_verify_with_secrets(BODY, forged, "", "") == (False, "both_secrets_failed (primary: no_secret)")


def test_while_secrets_are_rotated_either_is_valid() -> None:
    assert try_verify_with_secrets(BODY, signed(), SECRET, OTHER) == (True, "valid_primary")
    assert try_verify_with_secrets(BODY, signed(), OTHER, SECRET) == (True, "valid_secondary")


def test_each_secret_has_its_own_reason() -> None:
    """Defect of the SDK: the secondary's reason is told as the primary's."""
    header = signed(secret="a third secret of sixteen")
    assert try_verify_with_secrets(BODY, header, SECRET, OTHER) == (
        False,
        "both_secrets_failed (primary: signature_mismatch, secondary: signature_mismatch)",
    )
    assert try_verify_with_secrets(BODY, header, "", OTHER) == (
        False,
        "both_secrets_failed (primary: no_secret, secondary: signature_mismatch)",
    )
