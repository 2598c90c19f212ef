"""Whether the broker can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_ezthrottle.checks.findings import Finding, Level

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["look_at_broker"]

#: Seconds to connect to the broker.
PATIENCE = 5


def look_at_broker(app: Celery) -> tuple[list[Finding], str]:
    """What is wrong with the broker of ``app``, and its address without a password."""
    # Only the kind of an error is said: its text may quote the URL, and so a password.
    try:
        connection = app.connection_for_write()
        where = f"broker {connection.as_uri().replace('//:**@', '//')}"  # which it writes without a password too
        if connection.transport.driver_type == "redis":  # kombu lets it take as long as the operating system does
            limits = {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}
            connection.transport_options = {**limits, **(connection.transport_options or {})}
    except Exception as exc:  # noqa: BLE001 -- said; whatever the module of a transport does when it is loaded
        text = f"broker_url cannot be used ({type(exc).__name__}): check its form, and that its transport is installed."
        return [Finding(Level.ERROR, text)], "no broker"
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=PATIENCE)
    except Exception as exc:  # noqa: BLE001 -- said; each transport has errors of its own
        kind = type(exc.__cause__ or exc).__name__  # kombu's errors only wrap
        text = f"The {where} cannot be reached ({kind}): check that it is up and that broker_url names it."
        return [Finding(Level.FAILED, text)], where
    return [], where
