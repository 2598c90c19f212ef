"""The keys of L8 as the settings hold them: 32 bytes of Ed25519 in base64."""

from __future__ import annotations

import base64
import secrets

__all__ = ["key_of", "new_private_key"]

_SIZE = 32  # bytes


def key_of(text: str) -> bytes:
    """Return the bytes of a key.

    Raises:
        ValueError: the text is not 32 bytes in base64.
    """
    key = base64.b64decode(text, validate=True)
    if len(key) != _SIZE:
        raise ValueError(f"a key has {_SIZE} bytes, not {len(key)}")
    return key


def new_private_key() -> str:
    """Return a new private key, for ``ezthrottle_l8_private_key``. Any 32 random bytes are one (RFC 8032, section 5.1.5)."""
    return base64.b64encode(secrets.token_bytes(_SIZE)).decode()
