"""Install the adapters. A library is never imported for the user: its adapter waits for the user's code to import it."""

from __future__ import annotations

from types import ModuleType

from celery_ezthrottle._common.log import logger
from celery_ezthrottle._common.when_imported import when_imported

from . import requests_adapter

__all__ = ["install"]


def install() -> None:
    """Install the adapter of each library that is imported, and have the others installed when they are. Idempotent."""
    requests_adapter.install()  # this package imports requests itself
    for name in ("httpx", "httpx2"):
        when_imported(name, _install_httpx)


def _install_httpx(module: ModuleType) -> None:
    from .httpx_install import install

    try:
        install(module)
    except AttributeError as exc:  # the import of the user's code must go on
        version = getattr(module, "__version__", "of an unknown version")
        logger.warning("Calls with %s %s are not seen, so they are not forwarded: %s.", module.__name__, version, exc)
