"""How a step takes the previous result: by placeholders, or by a function that is registered under a name. No I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from celery_ezthrottle.errors import ConfigurationError, InvalidJob
from celery_ezthrottle.service import job_validation as check

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
    roots = {"result": _result(previous)}
    if is_step_result(previous):
        roots["step"] = previous
    given = {} if step.function is None else _given_by(step.function, roots["result"])
    own = given.get("headers", {})
    headers = {
        name: content for name, content in step.headers.items() if name.lower() not in {each.lower() for each in own}
    }
    filled: dict[str, Any] = {"url": step.url, "body": step.body, **given}
    if step.template:
        look_up = partial(_look_up, roots)
        headers = template.render_headers(headers, look_up)
        if "url" not in given:
            filled["url"] = template.render_url(step.url, look_up)
        if "body" not in given and step.body is not None:
            filled["body"] = template.render_body(step.body, {**headers, **own}, look_up)
    if not filled["url"]:
        raise InvalidJob("url is missing: neither the step nor its function gives one.")
    return replace(step, template=False, function=None, **{**filled, "headers": {**headers, **own}})


def _look_up(roots: Mapping[str, Any], root: str, names: tuple[str, ...]) -> Any:
    if root not in roots:
        raise InvalidJob(
            "{step[...]} reads the result of a step, and the previous result is that of another task: use {result}."
        )
    value = roots[root]
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
    return {**given, "headers": check.headers(given["headers"])} if "headers" in given else dict(given)
