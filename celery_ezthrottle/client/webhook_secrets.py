"""The methods of the client for the secrets with which the service signs webhooks."""

from __future__ import annotations

from typing import Any

from celery_ezthrottle.errors import InvalidSecret, SubmitRefused
from celery_ezthrottle.service.client import ServiceClient
from celery_ezthrottle.settings.app_settings import MIN_SECRET

__all__ = ["WebhookSecrets"]

_MASK = "****"


class WebhookSecrets:
    """A part of :class:`.ezthrottle.EZThrottle`."""

    _service: ServiceClient
    #: The secrets of the settings, the primary one first.
    _secrets: tuple[str, ...]

    def create_webhook_secret(self, primary_secret: str, secondary_secret: str | None = None) -> dict[str, Any]:
        """Set the secrets with which webhooks are signed. Those of before are gone.

        Args:
            primary_secret: signs the webhooks; at least 16 characters.
            secondary_secret: is accepted too, while secrets are rotated; at least 16 characters. None = none.

        Returns:
            The JSON object of the service's answer.

        Raises:
            InvalidSecret: a secret is too short. Nothing was sent.

        It also raises the errors of :meth:`.jobs.Jobs.submit_job` for a call that was refused, or not done now.
        """
        content = {"primary_secret": _long_enough("primary_secret", primary_secret)}
        if secondary_secret:
            content["secondary_secret"] = _long_enough("secondary_secret", secondary_secret)
        return self._service.secrets("POST", content)

    def get_webhook_secret(self) -> dict[str, Any]:
        """Return the secrets as the service shows them, which is masked.

        Returns:
            ``customer_id``; ``primary_secret``, as "abcd****efgh"; ``secondary_secret``, such a text or None; ``has_secondary``.

        Raises:
            SubmitRefused: there is no secret (``status_code`` is 404), or the call was refused.

        It also raises the errors of :meth:`.jobs.Jobs.submit_job` for a call that was not done now.
        """
        try:
            return self._service.secrets("GET")
        except SubmitRefused as exc:
            if exc.status_code != 404:
                raise
            # The SDK's words, which its users may look for.
            text = "No webhook secrets configured. Call create_webhook_secret() first."
            raise SubmitRefused(text, 404, exc.body) from None

    def delete_webhook_secret(self) -> dict[str, Any]:
        """Delete the secrets. Webhooks are not signed then, and the receiver refuses them.

        Returns:
            The JSON object of the service's answer.

        It raises the errors of :meth:`.jobs.Jobs.submit_job` for a call that was refused, or not done now.
        """
        return self._service.secrets("DELETE")

    def rotate_webhook_secret(self, new_secret: str, old_secret: str | None = None) -> dict[str, Any]:
        """Make ``new_secret`` the primary secret, and keep the old one as the secondary.

        The service shows the old secret only masked, so it must be given. When the account has no secret yet, the new one becomes
        its only one.

        Args:
            new_secret: at least 16 characters.
            old_secret: the primary secret until now. By default, with a client of :meth:`.ezthrottle.EZThrottle.from_app`:
                ``ezthrottle_webhook_secret``, or ``ezthrottle_webhook_secret_secondary`` where the first is ``new_secret``
                already.

        Returns:
            The JSON object of the service's answer.

        Raises:
            InvalidSecret: a secret is too short; the old secret is not given, or is not that of the account. Nothing was changed.

        It also raises the errors of :meth:`.jobs.Jobs.submit_job` for a call that was refused, or not done now.
        """
        _long_enough("new_secret", new_secret)
        try:
            known = self.get_webhook_secret()
        except SubmitRefused as exc:
            if exc.status_code != 404:
                raise
            return self.create_webhook_secret(new_secret)
        old = old_secret or next((secret for secret in self._secrets if secret != new_secret), None)
        if not old:
            raise InvalidSecret(
                "The old secret is not known, and the service shows it only masked: give old_secret, or call "
                "create_webhook_secret() to give the old one up."
            )
        if not _fits(old, known.get("primary_secret")):
            raise InvalidSecret(
                "The old secret is not the primary secret of the account, which would be lost: give old_secret as the account "
                "has it."
            )
        return self.create_webhook_secret(new_secret, old)


def _long_enough(name: str, secret: str) -> str:
    if len(secret) < MIN_SECRET:
        raise InvalidSecret(f"{name} must be at least {MIN_SECRET} characters long.")
    return secret


def _fits(secret: str, masked: Any) -> bool:
    """Whether ``masked`` may be ``secret`` as the service shows it."""
    if not isinstance(masked, str) or _MASK not in masked:
        return True  # not a mask that we know
    begins, _, ends = masked.partition(_MASK)
    return secret.startswith(begins) and secret.endswith(ends)
