"""Steps as Celery's signatures. A message carries the step as JSON, and shows nothing of it but its title."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import celery

from celery_ezthrottle._common.when_imported import when_imported
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.load import knows_service
from celery_ezthrottle.steps.spec import StepSpec, dump

from .task import TASK_NAME, shown

if TYPE_CHECKING:
    from celery.canvas import Signature

__all__ = ["checked", "signature"]


class _Nodes(list[Any]):
    """The JSON of a step. Its ``repr`` shows no header and no body, because a signature is shown in logs."""

    def __init__(self, step: StepSpec) -> None:
        super().__init__(dump(step))
        self._shown = shown(step)

    def __repr__(self) -> str:
        return self._shown

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)

    def __deepcopy__(self, _: object) -> _Nodes:
        return self  # nobody changes it


def _let_yaml_dump(yaml: Any) -> None:
    """``yaml.safe_dump``, with ``task_serializer="yaml"``, refuses each class that derives from ``list``."""
    yaml.SafeDumper.add_representer(_Nodes, yaml.SafeDumper.represent_list)


when_imported("yaml", _let_yaml_dump)


def signature(step: StepSpec, *, immutable: bool = False, **kwargs: Any) -> Signature[Any]:
    """Return the signature of ``step``.

    Args:
        immutable: it takes no previous result.
        kwargs: further arguments of the task.
    """
    # Celery would show the arguments of a task in its events and in the worker's log.
    options = {"argsrepr": "(...)", "kwargsrepr": f"{{'step': {shown(step)}}}"}
    made: Signature[Any] = celery.signature(
        TASK_NAME, kwargs={"step": _Nodes(step), **kwargs}, options=options, immutable=immutable
    )
    return made


def checked(made: Signature[Any]) -> Signature[Any]:
    """Return ``made``, once it is known that there is a service for its step.

    Raises:
        ConfigurationError: nothing of a service is configured here.
    """
    if not made.app.conf.task_always_eager and not knows_service(made.app):
        raise ConfigurationError(
            "A step needs the service, and nothing of a service is configured here: set ezthrottle_api_key, "
            "ezthrottle_webhook_url and ezthrottle_webhook_secret. If only the workers have these settings, set "
            'ezthrottle_route = "service" here. Without a service, write a task with @frugal instead.'
        )
    return made
