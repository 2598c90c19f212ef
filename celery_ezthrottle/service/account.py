"""The account at the service, and its URLs. What is not usable is an error that names the setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import requests

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["Account", "base_url", "key_for_header"]


@dataclass(frozen=True)
class Account:
    """The account at the service. Each dialect checks what it needs of it.

    Attributes:
        api_key: the API key.
        url: base URL of EZThrottle itself.
        tracktags_url: base URL of the proxy that authenticates submissions.
        user_id: whose jobs they are, for a service that does not know accounts.
        namespace: what sets the keys of this app's jobs apart from those of others, for a service that does not.
    """

    api_key: str = field(repr=False)
    url: str
    tracktags_url: str
    user_id: str = "celery"
    namespace: str = ""


def key_for_header(api_key: str) -> str:
    """Return the API key as it is.

    Raises:
        ConfigurationError: it is missing, or no HTTP header can carry it.
    """
    if not api_key or not api_key.strip():
        raise ConfigurationError("ezthrottle_api_key is not set: set it to the API key of your EZThrottle account.")
    if not api_key.isprintable() or max(api_key) > "\xff":
        raise ConfigurationError(
            "ezthrottle_api_key holds a line break or a character that no HTTP header can carry: copy the key again."
        )
    return api_key


def base_url(name: str, url: str) -> str:
    """Return the URL of the setting ``ezthrottle_<name>`` without a slash at its end.

    Raises:
        ConfigurationError: it cannot be called.
    """
    try:
        parts = urlsplit(url)
        # User info in the URL would make requests replace our Authorization header.
        fine = parts.scheme in {"http", "https"} and "@" not in parts.netloc and not parts.query and not parts.fragment
        requests.Request("POST", url).prepare()
    except ValueError:  # InvalidURL and MissingSchema are ValueErrors
        fine = False
    if not fine or any(character.isspace() for character in url):
        raise ConfigurationError(
            f"ezthrottle_{name} must be an http:// or https:// URL without user info, query and fragment: correct it."
        )
    return url.rstrip("/")
