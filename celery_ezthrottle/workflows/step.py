"""The builder of steps: the surface of the SDK's ``Step``, and how a step is run by Celery."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery_ezthrottle._common.shown_url import shown_url
from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import Trigger
from celery_ezthrottle.steps import step_validation, template
from celery_ezthrottle.steps.plan import plan
from celery_ezthrottle.steps.spec import StepSpec
from celery_ezthrottle.steps.wire import to_wire

from .step_types import IdempotentStrategy, StepType

if TYPE_CHECKING:
    from celery.canvas import Signature
    from celery.result import AsyncResult

__all__ = ["IdempotentStrategy", "Step", "StepType"]


class Step:
    """A builder of one step. Each method changes the builder and returns it.

    Nothing that is given is changed, and later changes to it are not seen: lists and dictionaries are copied, and another step
    is taken as it is at that moment. A builder can be used any number of times.

    Args:
        client: for :meth:`execute` only; may also be given there.

    Raises:
        InvalidJob: a value is wrong. Each method checks what it is given.
    """

    def __init__(self, client: Any = None) -> None:
        self.client = client
        self._fields: dict[str, Any] = {}
        self._fallbacks: list[tuple[StepSpec, Trigger | None]] = []
        self._last: Any = None

    # The request

    def url(self, url: str) -> Step:
        """Set the URL: http or https, with a host. Its path, query and fragment may have placeholders (``{result[id]}``)."""
        return self._set("url", url)

    def method(self, method: str) -> Step:
        """Set the HTTP method; "GET" by default."""
        return self._set("method", method)

    def headers(self, headers: Mapping[str, str]) -> Step:
        """Set all headers. Their values may have placeholders."""
        return self._set("headers", headers)

    def header(self, key: str, value: str) -> Step:
        """Set one header, instead of one that has the same name in any case. Its value may have placeholders."""
        others = {
            name: content
            for name, content in self._fields.get("headers", {}).items()
            if name.lower() != str(key).lower()
        }
        return self._set("headers", {**others, key: value})

    def body(self, body: str | bytes | None) -> Step:
        """Set the body: text, or bytes of UTF-8. It may have placeholders. "" is an empty body, None is no body."""
        return self._set("body", body)

    def from_result(self, name: str) -> Step:
        """Let a registered function make the request of the previous result. See :func:`celery_ezthrottle.step_function`."""
        return self._set("function", name)

    # The job

    def metadata(self, metadata: Mapping[str, Any]) -> Step:
        """Set a JSON object that EZThrottle sends back in the webhooks."""
        return self._set("metadata", metadata)

    def webhooks(self, webhooks: Sequence[Mapping[str, Any]]) -> Step:
        """Set webhooks of your own: ``url``, and perhaps ``regions`` and ``has_quorum_vote``."""
        return self._set("webhooks", webhooks)

    def webhook_quorum(self, quorum: int) -> Step:
        """Set how many webhooks with a vote must be delivered; 1 by default."""
        return self._set("webhook_quorum", quorum)

    def regions(self, regions: Sequence[str] | None) -> Step:
        """Set the regions that execute the request; None or none = any."""
        return self._set("regions", regions)

    def region_policy(self, policy: str) -> Step:
        """Set what happens when a region is down: "fallback" (the default) or "strict"."""
        return self._set("region_policy", policy)

    def execution_mode(self, mode: str) -> Step:
        """Set how several regions execute the request: "race" (the default) or "fanout"."""
        return self._set("execution_mode", mode)

    def retry_policy(self, policy: Mapping[str, Any] | None) -> Step:
        """Set how often EZThrottle tries: ``max_retries``, ``max_reroutes``, ``retry_codes``, ``reroute_codes``."""
        return self._set("retry_policy", policy)

    def retry_at(self, timestamp_ms: int | None) -> Step:
        """Set the Unix time in milliseconds before which EZThrottle does not send the request."""
        return self._set("retry_at", timestamp_ms)

    def idempotent_key(self, key: str | None) -> Step:
        """Set the idempotency key of the job."""
        return self._set("idempotent_key", key)

    def idempotent_strategy(self, strategy: IdempotentStrategy) -> Step:
        """Set how the idempotency key is made, when none is set; HASH by default."""
        return self._set("idempotent_strategy", getattr(strategy, "value", strategy))

    # The step

    def type(self, step_type: StepType) -> Step:
        """Set who sends the request; PERFORMANCE by default."""
        return self._set("kind", getattr(step_type, "value", step_type))

    def fallback_on_error(self, codes: Collection[int]) -> Step:
        """Set the statuses at which a FRUGAL step is forwarded; 429, 500, 502, 503 and 504 by default."""
        return self._set("fallback_on_error", codes)

    def local_timeout(self, timeout: float) -> Step:
        """Set the longest time of a local call in seconds; 30 by default."""
        return self._set("local_timeout", timeout)

    def timeout(self, timeout: float) -> Step:
        """Another name of :meth:`local_timeout`."""
        return self.local_timeout(timeout)

    def fallback(
        self,
        step: Step | StepSpec,
        trigger_on_error: Collection[int] | None = None,
        trigger_on_timeout: int | None = None,
    ) -> Step:
        """Add a step that is tried when what is before it has failed.

        Args:
            trigger_on_error: only after one of these statuses.
            trigger_on_timeout: only after an attempt that took so many milliseconds. Without both: after any failure.
        """
        self._fallbacks.append((_spec("fallback", step), step_validation.trigger(trigger_on_error, trigger_on_timeout)))
        return self

    def on_success(self, step: Step | StepSpec | None) -> Step:
        """Set the step that runs after a success."""
        return self._set_child("on_success", step)

    def on_failure(self, step: Step | StepSpec | None, timeout_ms: int | None = None) -> Step:
        """Set the step that runs when every path has failed.

        Args:
            timeout_ms: milliseconds from the step's begin after which it has failed. None leaves what was set before.
        """
        self._set_child("on_failure", step)
        if step is None:
            self._fields.pop("on_failure_timeout_ms", None)
        elif timeout_ms is not None:
            self._set("on_failure_timeout_ms", timeout_ms)
        return self

    def description(self, desc: str | None) -> Step:
        """Say what the step does, for people and language models."""
        return self._set("description", desc)

    def response_description(self, desc: str | None) -> Step:
        """Say what the response means, for people and language models."""
        return self._set("response_description", desc)

    def get_description(self) -> str | None:
        """Return what :meth:`description` was given."""
        return self._text("description")

    def get_response_description(self) -> str | None:
        """Return what :meth:`response_description` was given."""
        return self._text("response_description")

    # What it is

    @property
    def spec(self) -> StepSpec:
        """The step as it is now, as an immutable value.

        Raises:
            InvalidJob: the URL is missing, or values contradict each other. The text names the field.
        """
        fields = self._fields
        request = template.read(fields.get("url", ""), fields.get("headers", {}), fields.get("body"))
        return StepSpec(**{**fields, **request}, fallbacks=tuple(self._fallbacks))

    def to_job(self) -> dict[str, Any]:
        """Return the first job of the step as the JSON object that goes on the wire, without the webhooks of this package.

        A FRUGAL step gives the job that it is forwarded as. Of its children only those are in it that EZThrottle runs by itself.

        Raises:
            InvalidJob: the step takes the previous result, its key is made of a task id, or too many jobs are nested.
        """
        return to_wire(self.spec)

    def __copy__(self) -> Step:
        """Return a builder of its own: what is called on one changes nothing in the other. They share the client."""
        made = object.__new__(type(self))
        vars(made).update(vars(self), _fields=dict(self._fields), _fallbacks=[*self._fallbacks])
        return made

    def __deepcopy__(self, _: object) -> Step:
        return self.__copy__()  # what a builder holds is never changed, and a client cannot be copied

    def __repr__(self) -> str:
        kind, method, url = (self._text(name) for name in ("kind", "method", "url"))
        return f"<Step {kind or 'performance'} {method or 'GET'} {shown_url(url) if url else '?'}>"

    # How it is run

    def s(self) -> Signature[Any]:
        """Return a signature, which composes with others. In a chain, a step that takes the previous result gets it."""
        from . import signatures

        return signatures.signature(self._planned(), immutable=False)

    def si(self) -> Signature[Any]:
        """Return an immutable signature: it takes no previous result."""
        from . import signatures

        return signatures.signature(self._planned(), immutable=True)

    def delay(self, *args: Any) -> AsyncResult[Any]:
        """Send the step as a task. A step that takes the previous result gets ``args[0]`` for it."""
        return self.apply_async(args)

    def apply_async(self, args: Sequence[Any] = (), **options: Any) -> AsyncResult[Any]:
        """Send the step as a task, with the options of Celery's ``apply_async``. ConfigurationError: no service is configured."""
        from . import signatures

        sent = self._last = signatures.checked(self.s()).apply_async(tuple(args), **options)
        return sent

    def execute(self, client: Any = None) -> dict[str, Any]:
        """Run the step outside of Celery, and return its result. It changes nothing in the builder.

        Args:
            client: an ``EZThrottle``; None = that of the constructor.

        Raises:
            ValueError: there is no client.
        """
        from . import execute

        client = self.client if client is None else client
        if client is None:
            raise ValueError("a client is required: Step(client) or execute(client).")
        result = self._last = execute.execute(self._planned(), client)
        return result

    def get_execution_history(self, result: Any = None) -> list[dict[str, Any]]:
        """Return what was executed, also in other processes: one record for each step.

        Args:
            result: what :meth:`delay`, :meth:`apply_async` or :meth:`execute` returned; None = what it last returned here.
        """
        from . import history

        result = self._last if result is None else result
        return [] if result is None else history.history(result)

    def execution_trace(self, result: Any = None) -> str:
        """Return :meth:`get_execution_history` as text."""
        from . import history

        return history.trace(self.get_execution_history(result))

    def _planned(self) -> StepSpec:
        """The step, once it is known that all its jobs can be submitted."""
        return plan(self.spec).spec

    def _set(self, name: str, value: Any) -> Step:
        self._fields[name] = step_validation.field(name, value)
        return self

    def _set_child(self, name: str, step: Step | StepSpec | None) -> Step:
        self._fields[name] = None if step is None else _spec(name, step)
        return self

    def _text(self, name: str) -> str | None:
        found: str | None = self._fields.get(name)
        return found


def _spec(name: str, step: Any) -> StepSpec:
    if isinstance(step, StepSpec):
        return step
    if not isinstance(step, Step):
        raise InvalidJob(f"{name} must be a Step of celery_ezthrottle, not {type(step).__name__}.")
    return step.spec
