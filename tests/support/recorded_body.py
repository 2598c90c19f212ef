"""Runs of a task without a worker: a recorder around a body, and the recorder of the run that is resumed after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from celery_ezthrottle.http.journal import Entry, dump_entries, for_resume, for_suspension, load_entries
from celery_ezthrottle.http.recorder import Recorder, recording
from celery_ezthrottle.http.replay import Replay
from celery_ezthrottle.http.stored_answer import StoredAnswer, StoredResponse

__all__ = ["DELIVERED", "recorded", "recorder", "resumed"]

DELIVERED = StoredResponse(status_code=200, content=b'{"by": "service"}', encoding="utf-8", elapsed=61.5)


def recorder(
    entries: Sequence[Entry] = (),
    *,
    max_response: int = 10_000,
    max_journal: int = 40_000,
    send_unmatched: bool = False,
    **kwargs: Any,
) -> Recorder:
    replay = Replay(entries, send_unmatched=send_unmatched)
    return Recorder(replay, max_response=max_response, max_journal=max_journal, **kwargs)


def recorded(body: Callable[[], object], entries: Sequence[Entry] = (), **kwargs: Any) -> Recorder:
    """Run ``body`` as a run of a task."""
    made = recorder(entries, **kwargs)
    with recording(made):
        body()
    return made


def resumed(run: Recorder, answer: StoredAnswer = DELIVERED, **kwargs: Any) -> Recorder:
    """The recorder of the run that follows when the last call of ``run`` was forwarded; the journal was stored between."""
    assert run.last is not None
    assert run.last.fingerprint is not None
    forwarded = Entry(fingerprint=run.last.fingerprint, answer=None, forwards=1)
    journal = for_suspension(run.earlier(run.last), run.entries(without=run.last), forwarded)
    return recorder(for_resume(load_entries(dump_entries(journal)), answer), **kwargs)
