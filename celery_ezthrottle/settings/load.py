"""Read settings: ``app.conf.ezthrottle_*``, then ``EZTHROTTLE_*`` in the environment, then the default.

Settings are read once, when a worker, a receiver or a gateway starts. They are never read at import or in ``.delay()``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from celery_ezthrottle._common.validators import Kind
from celery_ezthrottle.errors import ConfigurationError

from . import names
from .app_settings import Settings
from .celery_redis import redis_of
from .options import OPTION_NAMES, check_key
from .validate import report

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["is_configured", "knows_service", "load_settings", "lookup"]

#: Default of ``max_forwards`` where the service does not try a limited call again by itself. All of them take some four minutes.
FORWARDS = 10


def load_settings(app: Celery, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read and convert the settings of ``app``.

    Args:
        app: the Celery app.
        environ: environment variables; ``os.environ`` by default.

    Raises:
        ConfigurationError: a setting has a value of the wrong type, or a name is no setting. The text names each of them.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    problems = list(names.unknown(app, environ, (spec.name for spec in fields(Settings))))
    # Task options come last: problems with the account are reported before problems with an option.
    for spec in sorted(fields(Settings), key=lambda spec: spec.name in OPTION_NAMES):
        found, source = lookup(app, environ, spec.name)
        kind: Kind = spec.metadata["kind"]
        if found is None and not (kind.takes_none and hasattr(app.conf, f"ezthrottle_{spec.name}")):
            continue
        try:
            values[spec.name] = kind.of_setting(found)
            if spec.name == "idempotency":
                check_key(source, values[spec.name])
        except ValueError as exc:
            problems.append(f"{source} must be {exc}.")
        except ConfigurationError as exc:
            problems.append(str(exc))
    if problems:
        raise ConfigurationError(report(problems))
    values["key_prefix"] = values.get("key_prefix") or _default_prefix(app)
    values["user_id"] = values.get("user_id") or app.main or "celery"
    if not values.get("store"):
        values["store"], options = redis_of(app)
        values["store_options"] = {**options, **values.get("store_options", {})}
    settings = Settings(**values)
    if settings.route is None:
        settings = replace(settings, route="service" if settings.has_service else "workers")
    if not settings.service_tries_again and "max_forwards" not in values:
        return replace(settings, max_forwards=FORWARDS)
    return settings


def is_configured(app: Celery, *, environ: Mapping[str, str] | None = None) -> bool:
    """Whether a receiver is configured: the tasks of ``app`` may be suspended."""
    environ = os.environ if environ is None else environ
    return all(lookup(app, environ, name)[0] for name in ("webhook_url", "webhook_secret"))


def knows_service(app: Celery, *, environ: Mapping[str, str] | None = None) -> bool:
    """Whether this process has a setting of a service, or is told that there is one: ``ezthrottle_route = "service"``."""
    environ = os.environ if environ is None else environ
    return lookup(app, environ, "route")[0] == "service" or any(
        lookup(app, environ, name)[0] for name in ("api_key", "webhook_url", "webhook_secret", "url")
    )


def lookup(app: Celery, environ: Mapping[str, str], name: str) -> tuple[Any, str]:
    """Return the value of the setting ``name`` as it is written, and where it was found. The value is None if it is not set."""
    # By attribute, because app.conf.get() looks up a namespaced key differently.
    value = getattr(app.conf, f"ezthrottle_{name}", None)
    if value is not None:
        return value, f"ezthrottle_{name}"
    variable = f"EZTHROTTLE_{name.upper()}"
    return environ.get(variable) or None, variable  # an empty variable is one that is not set


def _default_prefix(app: Celery) -> str:
    return f"{{ezthrottle:{app.main}}}:" if app.main else "{ezthrottle}:"
