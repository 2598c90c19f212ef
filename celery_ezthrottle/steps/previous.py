"""How a step takes the previous result: by placeholders, or by a function that is registered under a name. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from celery_ezthrottle.errors import ConfigurationError, InvalidJob

from . import template
from .results import is_step_result

if TYPE_CHECKING:
    from .spec import StepSpec

__all__ = ["NOTHING", "fill", "step_function"]

#: There is no previous result.
NOTHING: Any = object()

_FUNCTIONS: dict[str, Callable[[Any], Mapping[str, Any]]] = {}
_OVERRIDES = ("url", "method", "headers", "body")

F = TypeVar("F", bound=Callable[[Any], Mapping[str, Any]])


def step_function(name: str) -> Callable[[F], F]:
    """Register a function that makes the request of a step of the previous result: ``Step().from_result(name)``.

    The function gets what ``{result}`` is, and returns a dictionary with some of ``url``, ``method``, ``headers`` and ``body``.
    These take the place of what the step has; headers are added to those of the step. Only the name travels in messages, so each
    worker must import the module of the function.

    Raises:
        ConfigurationError: the name is taken by another function.
    """

    def register(function: F) -> F:
        known = _FUNCTIONS.get(name, function)
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise ConfigurationError(
                f"step_function({name!r}) is {known.__module__}.{known.__qualname__}: take another name."
            )
        _FUNCTIONS[name] = function
        return function

    return register


def fill(step: StepSpec, previous: Any = NOTHING) -> StepSpec:
    """Return ``step`` with its request made of the previous result; ``step`` itself when it takes none.

    Its children are the same: they take the result of ``step``.

    Args:
        previous: the return value of the task or step before.

    Raises:
        InvalidJob: there is no previous result, a value is missing or cannot be in its place, or the function returns something
            else than it should. No text shows a value.
        ConfigurationError: the function is not registered.
    """
    if not step.takes_result:
        return step
    if previous is NOTHING:
        raise InvalidJob("the step takes the result of a task or step before it, and there is none.")
    given = {} if step.function is None else _given_by(step.function, _result(previous))
    overridden = {name.lower() for name in given.get("headers", {})}
    filled: dict[str, Any] = {
        "url": step.url,
        "headers": {name: content for name, content in step.headers.items() if name.lower() not in overridden},
        "body": step.body,
    }
    if step.template:
        filled = _rendered(
            {name: value for name, value in filled.items() if name not in given or name == "headers"}, previous
        )
    filled = {**filled, **given, "headers": {**filled["headers"], **given.get("headers", {})}}
    if not filled["url"]:
        raise InvalidJob("url is missing: neither the step nor its function gives one.")
    return replace(step, template=False, function=None, **filled)


def _rendered(parts: dict[str, Any], previous: Any) -> dict[str, Any]:
    def look_up(root: str, names: tuple[str, ...]) -> Any:
        return _look_up(root, names, previous)

    headers = template.render_headers(parts["headers"], look_up)
    rendered = {**parts, "headers": headers}
    if "url" in parts:
        rendered["url"] = template.render_url(parts["url"], look_up)
    if parts.get("body") is not None:
        rendered["body"] = template.render_body(parts["body"], headers, look_up)
    return rendered


def _look_up(root: str, names: tuple[str, ...], previous: Any) -> Any:
    if root == "step" and not is_step_result(previous):
        raise InvalidJob(
            "{step[...]} reads the result of a step, and the previous result is that of another task: use {result}."
        )
    value = previous if root == "step" else _result(previous)
    for i, name in enumerate(names):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list | tuple) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            path = "".join(f"[{each}]" for each in names[: i + 1])
            raise InvalidJob(f"{{{root}{path}}} is missing: the previous result has no such value.")
    return list(value) if isinstance(value, tuple) else value


def _result(previous: Any) -> Any:
    """What ``{result}`` is: the response of a step, decoded when it is JSON; else the return value itself."""
    if not is_step_result(previous):
        return previous
    response = previous["response"]
    try:
        return json.loads(response)
    except (TypeError, ValueError, RecursionError):
        return response


def _given_by(name: str, result: Any) -> dict[str, Any]:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise ConfigurationError(
            f"no function is registered as {name!r} in this process: import the module that has @step_function({name!r})."
        )
    given: Any = function(result)
    if not isinstance(given, Mapping) or not set(given) <= set(_OVERRIDES):
        raise InvalidJob(
            f"the function {name!r} must return a dictionary with some of {', '.join(_OVERRIDES)}, and nothing else."
        )
    if not isinstance(given.get("headers", {}), Mapping):
        raise InvalidJob(f"the function {name!r} must return headers as a dictionary.")
    return dict(given)
