"""A message as it comes to the worker, cut in two: what Celery's request is made of, and what only this package needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_ezthrottle.broker.headers import MARKS, RECORD_HEADER, RESUME_HEADER, TIMES, TIMES_HEADER

__all__ = ["Incoming", "incoming_of"]


@dataclass(frozen=True)
class Incoming:
    """The parts of a message.

    Attributes:
        resume: id of the continuation that the message resumes, or None.
        record: value of :data:`~celery_ezthrottle.broker.headers.RECORD_HEADER`, or False.
        fields: what Celery's request is made of, without the marks of this package.
        times: of a message that resumes: its ``eta`` and ``expires``. They are None in ``fields``, because the task has started
            once: Celery must neither delay nor expire it. Its run sees them all the same.
    """

    resume: str | None
    record: bool | str
    fields: dict[str, Any] = field(repr=False)
    times: dict[str, Any]


def incoming_of(message: Any, fields: Mapping[str, Any] | None) -> Incoming:
    """The parts of a message.

    Args:
        message: a ``kombu.Message``.
        fields: what Celery has made of it: of a message of protocol 1, whose fields are in its body, or of one that has some
            fields in its body and some in its headers. None: the fields are the headers.
    """
    marks = message.headers
    resume = marks.get(RESUME_HEADER)
    plain = _unmarked(marks if fields is None else fields)
    if isinstance(plain.get("headers"), Mapping):  # protocol 1: the headers are one of the fields
        plain["headers"] = _unmarked(plain["headers"])
    times: dict[str, Any] = {}
    if resume is not None:
        times = {name: plain[name] for name in TIMES if plain.get(name) is not None} | marks.get(TIMES_HEADER, {})
        plain.update(dict.fromkeys(times))
    return Incoming(resume, marks.get(RECORD_HEADER, False), plain, times)


def _unmarked(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if name not in MARKS}
