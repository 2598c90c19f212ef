"""Check whether the broker can be reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .findings import Finding, Level

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["look_at_broker"]

#: Time limit in seconds for a connection to the broker.
PATIENCE = 5


def look_at_broker(app: Celery) -> tuple[list[Finding], str]:
    """Try to connect to the broker of ``app``. Return the findings, and the address of the broker without its password."""
    # The findings name only the type of an error. Its text may quote the URL, which may contain a password.
    try:
        connection = app.connection_for_write()
        where = f"broker {connection.as_uri().replace('//:**@', '//')}"  # as_uri() masks the password
        if connection.transport.driver_type == "redis":  # by default kombu sets no time limit for Redis
            limits = {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}
            connection.transport_options = {**limits, **(connection.transport_options or {})}
    except Exception as exc:  # noqa: BLE001 -- reported; loading the module of a transport may raise anything
        text = f"broker_url cannot be used ({type(exc).__name__}): check its form, and that its transport is installed."
        return [Finding(Level.ERROR, text)], "no broker"
    try:
        with connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=PATIENCE)
    except Exception as exc:  # noqa: BLE001 -- reported; each transport has its own error types
        kind = type(exc.__cause__ or exc).__name__  # kombu wraps the error of the transport
        text = f"The {where} cannot be reached ({kind}): check that it is up and that broker_url names it."
        return [Finding(Level.FAILED, text)], where
    return [], where
