"""The dialects: one module for each form in which the service is called.

``celery_ezthrottle/settings/dialects.py`` says what the settings must hold for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings import dialects as settings

from .dialect import Dialect, ServiceRequest
from .direct import Direct
from .local import Local
from .proxy import Proxy

__all__ = ["DIALECTS", "Dialect", "ServiceRequest", "dialect_named"]

DIALECTS: Mapping[str, type[Dialect]] = {cls.name: cls for cls in (Proxy, Direct, Local)}


def dialect_named(name: str) -> type[Dialect]:
    """Return the dialect with the name that ``ezthrottle_dialect`` has.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in DIALECTS:
        raise ConfigurationError(f"ezthrottle_dialect is {name!r}: it must be one of {', '.join(settings.DIALECTS)}.")
    return DIALECTS[name]
