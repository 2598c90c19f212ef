"""The secrets that sign the webhooks, as clients set them. They stay in the database."""

from __future__ import annotations

import asyncio
from typing import Any

from celery_ezthrottle.settings.app_settings import MIN_SECRET

from .database import Database
from .delivery import Deliveries
from .refused import Refused

__all__ = ["WebhookSecrets"]

CUSTOMER_ID = "gateway"  # a gateway has one customer


class WebhookSecrets:
    """The API of the secrets.

    Until a client sets a secret, and again after it has deleted that, the configured secret signs the webhooks: no webhook goes
    out unsigned.

    Args:
        configured: the secret of the settings.
        deliveries: sign with the secret that is valid.
    """

    def __init__(self, database: Database, deliveries: Deliveries, configured: str) -> None:
        self._database = database
        self._deliveries = deliveries
        self._configured = configured

    async def load(self) -> None:
        """Let the webhooks be signed with the secret that was set before, if there is one."""
        primary, _ = await self._read()
        self._deliveries.secret = primary or self._configured

    async def show(self) -> dict[str, Any]:
        """Return the secrets, masked.

        Raises:
            Refused: 404, because they were deleted.
        """
        primary, secondary = await self._read()
        if primary is None:
            raise Refused(404, "No webhook secret is set: the gateway signs with the one that it was started with.")
        return {
            "customer_id": CUSTOMER_ID,
            "primary_secret": _masked(primary),
            "secondary_secret": None if secondary is None else _masked(secondary),
            "has_secondary": secondary is not None,
        }

    async def set(self, data: Any) -> dict[str, Any]:
        """Set the primary secret, which signs from now on, and the secondary one.

        Args:
            data: ``primary_secret``, and perhaps ``secondary_secret``.

        Raises:
            Refused: 400, because a secret is missing or too short.
        """
        if not isinstance(data, dict):
            raise Refused(400, "The body must be a JSON object with primary_secret.")
        primary = _checked("primary_secret", data.get("primary_secret"))
        secondary = data.get("secondary_secret")
        await self._store(primary, None if secondary is None else _checked("secondary_secret", secondary))
        return {"status": "ok", "message": "The webhook secrets are set.", "customer_id": CUSTOMER_ID}

    async def delete(self) -> dict[str, Any]:
        """Delete the secrets. The configured secret signs from now on."""
        await self._store(None, None)
        return {"status": "ok", "message": "The webhook secrets are deleted.", "customer_id": CUSTOMER_ID}

    async def _read(self) -> tuple[str | None, str | None]:
        kept = await asyncio.to_thread(self._database.webhook_secrets)
        return (self._configured, None) if kept is None else kept

    async def _store(self, primary: str | None, secondary: str | None) -> None:
        await asyncio.to_thread(self._database.set_webhook_secrets, primary, secondary)
        self._deliveries.secret = primary or self._configured


def _checked(name: str, value: Any) -> str:
    try:
        if isinstance(value, str) and len(value) >= MIN_SECRET and value.encode():
            return value
    except UnicodeEncodeError:
        pass
    raise Refused(400, f"{name} must be a text of at least {MIN_SECRET} characters.")


def _masked(secret: str) -> str:
    return f"{secret[:4]}****{secret[-4:]}"
