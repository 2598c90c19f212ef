"""What a step returns: a JSON object with the keys of the SDK. No I/O."""

from __future__ import annotations

from typing import Any

from .spec import StepSpec

__all__ = ["is_step_result", "step_result"]

_KEYS = frozenset({"status", "executed_locally", "status_code", "response", "job_id", "error", "step", "path"})


def step_result(
    step: StepSpec,
    *,
    succeeded: bool,
    executed_locally: bool,
    path: str = "",
    status_code: int | None = None,
    response: str | None = None,
    job_id: str | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """Return the result of a step: a JSON object, always with all of these keys.

    - ``status``: "success" or "failed".
    - ``executed_locally``: whether the deciding request was sent by the client.
    - ``status_code``, ``response``: status and text of the deciding response, or None.
    - ``job_id``: id of the job that decided, or None.
    - ``error``: why the step failed, or None. It must hold no secret.
    - ``step``: the description, or method and URL without what may be secret.
    - ``path``: the path that decided: "" for the step's own request, "fallback[0]" and so on. For a job, the path of its first
      request: EZThrottle does not tell which of the nested fallbacks decided.

    ``response_meaning`` comes in addition when the step has a ``response_description``.
    """
    result: dict[str, Any] = {
        "status": "success" if succeeded else "failed",
        "executed_locally": executed_locally,
        "status_code": status_code,
        "response": response,
        "job_id": job_id,
        "error": error,
        "step": step.title,
        "path": path,
    }
    if step.response_description is not None:
        result["response_meaning"] = step.response_description
    return result


def is_step_result(value: Any) -> bool:
    """Return whether ``value`` is what :func:`step_result` returned, also after a way through JSON."""
    return isinstance(value, dict) and value.keys() >= _KEYS and value["status"] in {"success", "failed"}
