"""A step as an immutable value: one HTTP request, what is tried after it, and what comes next. No I/O.

A tree of steps may be a thousand levels deep (a long chain of ``on_success``), and one step may stand in several places of it.
So nothing here calls itself for a child, and each function looks once at each step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from celery_ezthrottle._common.shown_url import shown_url
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import Trigger

from . import step_validation as check

__all__ = ["FRUGAL", "PERFORMANCE", "StepSpec", "children_first", "dump", "join", "load", "trigger_on_wire"]

FRUGAL = "frugal"
PERFORMANCE = "performance"


@dataclass(frozen=True, repr=False, eq=False)
class StepSpec:
    """One step with all that hangs on it. The fields are checked and copied when it is created.

    Attributes:
        url: http or https URL with a host; "" only when ``function`` gives it.
        kind: "frugal": the client sends the request, and forwards it when it is limited. "performance" (the default): EZThrottle
            sends it.
        method: an HTTP method, in upper case; "GET" by default.
        headers: names to values.
        body: text, or None for no body.
        metadata: a JSON object that EZThrottle sends back in the webhook.
        webhooks: the user's webhooks in wire form, with the fields that were given.
        webhook_quorum: how many webhooks with a vote must be delivered; 1 by default.
        regions: names of the regions that execute the request; () = any region.
        region_policy: "fallback" (the default) or "strict".
        execution_mode: "race" (the default) or "fanout".
        retry_policy: how often EZThrottle tries, in wire form with the fields that were given; None = EZThrottle decides.
        retry_at: Unix time in **milliseconds** before which EZThrottle does not send the request; None = at once.
        idempotent_key: the key of the job; None = ``idempotent_strategy`` says how it is made.
        idempotent_strategy: "hash" (the default; EZThrottle makes it of the request), "unique" (a new one for each job) or
            "task" (one for each task id and step).
        fallback_on_error: statuses of the local call at which a frugal step is forwarded; (429, 500, 502, 503, 504) by default.
        local_timeout: longest time of one local call in seconds; 30 by default.
        description: what the step does, for people and language models, or None.
        response_description: what its response means, or None.
        template: whether ``url``, ``headers`` and ``body`` have placeholders for the previous result.
        function: name of a registered function that makes the request of the previous result, or None.
        fallbacks: what is tried after a failure, in order, each with its trigger; None as trigger = any failure.
        on_success: the step that runs after a success, or None.
        on_failure: the step that runs when every path has failed, or None.
        on_failure_timeout_ms: milliseconds from the step's begin after which it has failed; None = no limit.

    Raises:
        InvalidJob: a field is wrong. The text names it.
    """

    url: str
    kind: str = PERFORMANCE
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    webhooks: tuple[Mapping[str, Any], ...] = ()
    webhook_quorum: int = 1
    regions: tuple[str, ...] = ()
    region_policy: str = "fallback"
    execution_mode: str = "race"
    retry_policy: Mapping[str, Any] | None = None
    retry_at: int | None = None
    idempotent_key: str | None = None
    idempotent_strategy: str = "hash"
    fallback_on_error: tuple[int, ...] = (429, 500, 502, 503, 504)
    local_timeout: float = 30
    description: str | None = None
    response_description: str | None = None
    template: bool = False
    function: str | None = None
    fallbacks: tuple[tuple[StepSpec, Trigger | None], ...] = ()
    on_success: StepSpec | None = None
    on_failure: StepSpec | None = None
    on_failure_timeout_ms: int | None = None
    #: Whether EZThrottle can run the whole tree without the client.
    in_service: bool = field(init=False)

    def __post_init__(self) -> None:
        for name, kept in check.fields(self).items():
            object.__setattr__(self, name, kept)  # the class is frozen
        object.__setattr__(self, "fallbacks", tuple((step, trigger) for step, trigger in self.fallbacks))
        for path, child in self.children():
            if not isinstance(child, StepSpec):
                raise InvalidJob(f"{path} must be a StepSpec, not {type(child).__name__}.")
        self._set_in_service()

    def _set_in_service(self) -> None:
        inside = all(child.in_service for _, child in self.children())
        object.__setattr__(self, "in_service", inside and self.kind == PERFORMANCE and not self.takes_result)

    @property
    def takes_result(self) -> bool:
        """Whether the request is made of the previous result."""
        return self.template or self.function is not None

    @property
    def title(self) -> str:
        """The description, or the method and the URL without what may be secret in it."""
        return self.description or f"{self.method} {shown_url(self.url) if self.url else '(URL by a function)'}"

    def after(self) -> list[tuple[str, StepSpec]]:
        """Return name and step of what comes after this step: "on_success", "on_failure"."""
        both = (("on_success", self.on_success), ("on_failure", self.on_failure))
        return [(name, child) for name, child in both if child is not None]

    def children(self) -> list[tuple[str, StepSpec]]:
        """Return the path and the step of each direct child: fallbacks, ``on_success``, ``on_failure``."""
        return [*((f"fallback[{i}]", fallback) for i, (fallback, _) in enumerate(self.fallbacks)), *self.after()]

    def __repr__(self) -> str:
        return f"<StepSpec {self.kind} {self.method} {shown_url(self.url) if self.url else ''}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepSpec):
            return NotImplemented
        return self is other or dump(self) == dump(other)

    def __hash__(self) -> int:
        return hash((self.kind, self.method, self.url, self.body))

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (dump(self),)  # copy.deepcopy() and the like would call themselves for each level


_DEFAULTS: Mapping[str, Any] = {
    spec.name: spec.default if spec.default_factory is MISSING else spec.default_factory()
    for spec in fields(StepSpec)
    if spec.init
}
#: The fields that are JSON already.
_PLAIN = {
    spec.name: spec
    for spec in fields(StepSpec)
    if spec.init and spec.name not in {"fallbacks", "on_success", "on_failure"}
}


def children_first(step: StepSpec) -> Iterator[StepSpec]:
    """Yield each step of the tree once, children before parents. A step object that stands in several places comes once."""
    seen: set[int] = set()
    todo: list[tuple[StepSpec, bool]] = [(step, False)]
    while todo:
        each, children_are_done = todo.pop()
        if children_are_done:
            yield each
        elif id(each) not in seen:
            seen.add(id(each))
            todo.append((each, True))
            todo.extend((child, False) for _, child in reversed(each.children()))


def dump(step: StepSpec) -> list[dict[str, Any]]:
    """Return the tree as a flat JSON list: one object for each different step, with the indices of its children, the root last.

    Equal trees give equal lists.
    """
    nodes: list[dict[str, Any]] = []
    known: dict[str, int] = {}
    index: dict[int, int] = {}
    for each in children_first(step):
        node = _node(each, index)
        key = json.dumps(node, sort_keys=True)
        if key not in known:
            known[key] = len(nodes)
            nodes.append(json.loads(key))  # a copy: the node holds parts of the step
        index[id(each)] = known[key]
    return nodes


def load(data: Any) -> StepSpec:
    """Read what :func:`dump` returned, also after a way through JSON.

    The values are not checked once more: a long tree is read for each of its steps.

    Raises:
        InvalidJob: it is something else.
    """
    steps: list[StepSpec] = []
    try:
        for node in data:
            given = dict(node)
            given["fallbacks"] = tuple(
                (_earlier(steps, n), Trigger(**trigger) if trigger else None)
                for n, trigger in given.get("fallbacks", ())
            )
            for name in ("on_success", "on_failure"):
                if name in given:
                    given[name] = _earlier(steps, given[name])
            steps.append(_restored(given))
        return steps[-1]
    except (TypeError, IndexError, KeyError, ValueError):
        raise InvalidJob(
            "this is no step, or one of a later version of celery-ezthrottle: upgrade the workers."
        ) from None


def _restored(given: Mapping[str, Any]) -> StepSpec:
    if not given.keys() <= _DEFAULTS.keys() or "url" not in given:
        raise KeyError
    step = object.__new__(StepSpec)
    for name, default in _DEFAULTS.items():
        value = given.get(name, default)
        # In JSON a tuple is a list. A default that can be changed is copied.
        kept = tuple(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value
        object.__setattr__(step, name, kept)
    step._set_in_service()
    return step


def trigger_on_wire(trigger: Trigger | None) -> dict[str, Any]:
    """Return a trigger as JSON: {} for any failure."""
    if trigger is None:
        return {}
    if trigger.timeout_ms is not None:
        return {"type": trigger.type, "timeout_ms": trigger.timeout_ms}
    return {"type": trigger.type, "codes": list(trigger.codes)}


def join(base: str, path: str) -> str:
    """Return the path of what is at ``path``, seen from the step at ``base``. The path of a step itself is ""."""
    return f"{base}.{path}" if base and path else base or path


def _node(step: StepSpec, index: Mapping[int, int]) -> dict[str, Any]:
    node: dict[str, Any] = {}
    for name, spec in _PLAIN.items():
        value = getattr(step, name)
        if value != (spec.default if spec.default_factory is MISSING else spec.default_factory()):
            node[name] = list(value) if isinstance(value, tuple) else value
    if step.fallbacks:
        node["fallbacks"] = [[index[id(each)], trigger_on_wire(trigger)] for each, trigger in step.fallbacks]
    for name in ("on_success", "on_failure"):
        child = getattr(step, name)
        if child is not None:
            node[name] = index[id(child)]
    return node


def _earlier(steps: list[StepSpec], index: Any) -> StepSpec:
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(steps):
        raise IndexError
    return steps[index]
