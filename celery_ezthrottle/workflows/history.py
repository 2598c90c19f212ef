"""What became of a step and of the steps after it, in whatever process they ran."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery.result import AsyncResult, GroupResult

from celery_ezthrottle.steps.results import is_step_result

__all__ = ["history", "trace"]

_SHOWN = 200  # characters of a response


def history(result: Any) -> list[dict[str, Any]]:
    """Return one record for each step that was executed or is under way, each before the steps after it.

    Args:
        result: the ``AsyncResult`` of a step, or what ``Step.execute()`` returned.

    Returns:
        Records with ``step`` (its description, or method and URL), ``status`` ("success" or "failed"; of a task that has no
        result yet its state, in lower case) and, where they are known, ``response``, ``response_meaning``, ``error``,
        ``status_code``, ``executed_locally``, ``job_id`` and ``task_id``.
    """
    return list(_of_results(result) if isinstance(result, Mapping) else _of_tasks(result))


def trace(records: list[dict[str, Any]]) -> str:
    """Return the records as text, for people and language models."""
    if not records:
        return "No execution history."
    return "\n".join(line for number, record in enumerate(records, 1) for line in _lines(number, record))


def _lines(number: int, record: Mapping[str, Any]) -> Iterator[str]:
    yield f"{number}. [{record['status'].upper()}] {record['step']}"
    if record.get("response") is not None:
        text = str(record["response"])
        yield f"   Response: {text if len(text) <= _SHOWN else text[:_SHOWN] + '...'}"
    if "response_meaning" in record:
        yield f"   Meaning: {record['response_meaning']}"
    if record.get("error"):
        yield f"   Error: {record['error']}"


def _of_results(result: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield _record(result)
    yield from map(_record, result.get("children", ()))


def _of_tasks(result: Any) -> Iterator[dict[str, Any]]:
    todo = [result]
    while todo:
        each = todo.pop()
        if isinstance(each, GroupResult):
            todo.extend(reversed(each.results or ()))
        elif isinstance(each, AsyncResult):
            record = _of_task(each)
            if record is not None:
                yield record
            todo.extend(reversed(each.children or ()))


def _of_task(result: AsyncResult[Any]) -> dict[str, Any] | None:
    """Return the record of a task; None if it is not the task of a step."""
    state = result.state
    value: Any = result.result
    if isinstance(value, BaseException):
        value = next((part for part in value.args if is_step_result(part)), None)
    if is_step_result(value):
        return {**_record(value), "task_id": result.id}
    if result.ready():
        return None
    return {"step": f"task {result.id}", "status": state.lower(), "task_id": result.id}


def _record(result: Mapping[str, Any]) -> dict[str, Any]:
    names = ("step", "status", "response", "response_meaning", "error", "status_code", "executed_locally", "job_id")
    return {name: result[name] for name in names if result.get(name) is not None}
