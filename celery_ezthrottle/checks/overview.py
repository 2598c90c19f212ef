"""Say what is set: which tasks take which route and what that needs, and the limits. No I/O. No text contains a secret."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.options import resolve
from celery_ezthrottle.tasks.decorator import given_to

from .setup import frugal_tasks, listed

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["overview"]

_ROUTES = {
    "workers": "a limited call waits for its turn, and the task makes it again; needs the store",
    "service": "EZThrottle makes a limited call again; needs its account, a receiver and the store",
}


def overview(settings: Settings, app: Celery) -> Iterator[str]:
    """Yield a line for each route that a frugal task takes, and for each limit. A task with wrong options has no route."""
    names: dict[str, list[str]] = {route: [] for route in _ROUTES}
    for task in frugal_tasks(app):
        with contextlib.suppress(ConfigurationError):
            names[resolve(given_to(task), settings).route or ""].append(task.name)
    for route, needs in _ROUTES.items():
        if names[route]:
            yield f"route {route}: {listed(names[route])}: {needs}."
    for pattern, limit in settings.limits.items():
        yield f"limit {pattern}: {limit}"
