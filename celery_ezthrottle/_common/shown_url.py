"""A URL as texts and reprs may show it."""

from __future__ import annotations

from urllib.parse import urlsplit

__all__ = ["shown_url"]


def shown_url(url: str) -> str:
    """Return ``url`` without user info, query and fragment, which may hold secrets.

    Raises:
        ValueError: ``url`` is no URL.
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
