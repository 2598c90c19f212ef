"""The journal of a task: the answered HTTP calls of its runs, and what a later run gets of them. No I/O.

An entry holds digests of its request, never the request. A call of a resumed run is answered by the first unused entry with the
same method, URL and body. If there is none, it is answered by the first unused entry whose body differs only in parts that look
like a UUID or a time and are not in the task's arguments. Nothing looser matches, because the answer to one item must never
be given to another item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .fingerprint import Fingerprint
from .stored_answer import OUTCOME_UNKNOWN, StoredAnswer, StoredError, StoredResponse, dump_answer, load_answer

__all__ = [
    "Entry",
    "dump_entries",
    "failed",
    "for_resume",
    "for_retry",
    "for_suspension",
    "for_turn",
    "forwarded_entry",
    "load_entries",
]

#: A count of forwards that no ``max_forwards`` is above.
NO_MORE = 2**53
#: Answer for a run that takes over, in place of an answer that could not be kept.
_NOT_KEPT = StoredError(
    name=OUTCOME_UNKNOWN,
    text=(
        "An earlier run of this task, which died, had an answer to this call that could not be kept: it was streamed, or is "
        "over ezthrottle_max_response or ezthrottle_max_journal. The call was not sent again. Look it up upstream before running "
        "the task again."
    ),
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One call of an earlier run.

    Unless ``unknown``, ``answer`` is None in two cases. The call failed in a run that Celery retried: a call that matches the
    entry is sent. Or the call is forwarded and waits: the entry gets the service's answer before the resumed run starts.

    Attributes:
        fingerprint: identifies the request.
        answer: the answer to the call, or None.
        forwards: how often the call was forwarded.
        key: the idempotency key of the last forward, or None.
        unknown: nobody knows whether the call was executed. A call that matches the entry must not be sent, only forwarded under
            ``key``. Without a key, the run that made the call got an answer that could not be kept; see :func:`for_resume`.
        unseen: the service delivered the answer, and no run has used it yet.
        after: the suspended run made this safe call after the forwarded one.
        since: of a forwarded call: when the task's deadline began to count, in Unix seconds: at its first suspension, or
            at the last suspension before which it had used an answer. 0.0 when that is not known.
        stalls: of a forwarded call: how many suspensions in a row did not use the answer of the one before.
        stops: the client that made the call was told not to try again by itself. It is told so again with the answer.
    """

    fingerprint: Fingerprint
    answer: StoredAnswer | None
    forwards: int = 0
    key: str | None = field(default=None, repr=False)
    unknown: bool = False
    unseen: bool = False
    after: bool = False
    since: float = 0.0
    stalls: int = 0
    stops: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether a call that matches the entry must not be sent."""
        return self.answer is not None or self.unknown


def for_suspension(
    earlier: Iterable[Entry], calls: Iterable[Entry], forwarded: Entry, *, answered_by: Entry | None = None
) -> tuple[Entry, ...]:
    """Return the journal of a task that suspends for the call of ``forwarded``, which becomes the last entry.

    Entries that the service's new answer supersedes are left out: failed tries at exactly the forwarded request;
    ``answered_by``; and an unknown entry that is forwarded again under its key. The last two may differ from the forwarded
    request in a UUID or a time.

    Args:
        earlier: the entries of earlier runs.
        calls: the entries of the calls that this run sent, without the forwarded one.
        forwarded: the entry of the forwarded call.
        answered_by: the entry of ``earlier`` that answered the forwarded call before, or None.
    """
    made = forwarded.fingerprint

    def is_superseded(entry: Entry) -> bool:
        if entry is answered_by:
            return True
        if entry.fingerprint.exact == made.exact:
            return failed(entry.answer)
        same_job = entry.key is not None and entry.key == forwarded.key
        return entry.unknown and same_job and entry.fingerprint.loose == made.loose

    return (*(entry for entry in (*earlier, *calls) if not is_superseded(entry)), forwarded)


def for_retry(kept: Iterable[Entry], *, keep_answers: bool = False) -> tuple[Entry, ...]:
    """Return the entries of a Celery retry. As in stock Celery, it makes all calls again, with two exceptions.

    A call whose outcome is unknown is never sent again. An answer that no run has used yet is kept, together with the answers
    before it: the retry came before the call was made, as from ``before_start``.

    Args:
        keep_answers: keep also the answers of unsafe calls that succeeded, and of the safe calls before them, because the
            unsafe requests may contain data from those answers.
    """
    entries = tuple(kept)
    unseen = max((i for i, entry in enumerate(entries) if entry.unseen), default=-1)
    retried: list[Entry] = []
    is_followed = False
    for i, entry in reversed(tuple(enumerate(entries))):
        made = (
            entry if i <= unseen else _retried(entry, keep_answer=keep_answers and (is_followed or _is_unsafe(entry)))
        )
        # The fingerprint of an unsafe call stays, so that the call is known and is sent. A key stays, so that no other call of
        # the task is forwarded under it.
        if _is_unsafe(made) or made.is_settled or made.key:
            retried.append(made)
        is_followed |= made.is_settled and _is_unsafe(made)
    return tuple(reversed(retried))


def _retried(entry: Entry, *, keep_answer: bool) -> Entry:
    if not _is_not_kept(entry) and (entry.unknown or _is_unknown(entry.answer)):
        # Only a forwarded call has a key, by which the service can be asked for its result.
        return replace(entry, answer=None, unknown=True) if entry.key is not None else entry
    answer = entry.answer if keep_answer and not failed(entry.answer) else None
    return replace(entry, answer=answer, forwards=0, since=0.0, unknown=False)


def for_resume(
    kept: Iterable[Entry], answer: StoredAnswer | None = None, *, send_again: bool = False, is_final: bool = False
) -> tuple[Entry, ...]:
    """Return the entries of a resumed run: the calls before the suspension, and the forwarded call with ``answer``.

    With ``send_again``, a safe forwarded call stays without an answer, so that the run sends it. With ``is_final``, the call is
    not forwarded again, whatever the answer is.

    If the run takes over from a resumed run that died, the calls of the dead run follow. A call whose answer the dead run could
    not keep is not made again: its entry answers with OutcomeUnknown.
    """
    entries = tuple(replace(entry, answer=_NOT_KEPT, unknown=False) if _is_not_kept(entry) else entry for entry in kept)
    forwarded = forwarded_entry(entries)
    if answer is None or forwarded is None or forwarded.answer is not None:
        return entries
    if send_again and forwarded.fingerprint.safe:
        return entries
    forwards = NO_MORE if is_final else forwarded.forwards
    answered = replace(forwarded, answer=answer, unseen=True, forwards=forwards)
    return tuple(answered if entry is forwarded else entry for entry in entries)


def for_turn(kept: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries of a resumed run that makes the forwarded call itself: that call has no answer."""
    entries = for_resume(kept)
    forwarded = forwarded_entry(entries)
    return tuple(replace(entry, unseen=True) if entry is forwarded else entry for entry in entries)


def forwarded_entry(entries: Sequence[Entry]) -> Entry | None:
    """Return the last entry that was forwarded and is not unknown, or None.

    Other entries follow it when a run takes over from a resumed run.
    """
    return next((entry for entry in reversed(entries) if entry.forwards and not entry.unknown), None)


def _is_unsafe(entry: Entry) -> bool:
    return not entry.fingerprint.safe


def _is_not_kept(entry: Entry) -> bool:
    return entry.unknown and entry.key is None


def _is_unknown(answer: StoredAnswer | None) -> bool:
    return isinstance(answer, StoredError) and answer.name == OUTCOME_UNKNOWN


def failed(answer: StoredAnswer | None) -> bool:
    return not isinstance(answer, StoredResponse) or answer.status_code >= 400


# The stored form: JSON. The first version reads the keys "request" (with exactly these fields), "answer", "forwards", "key" and
# "unknown", and ignores others. It may run in the same deployment.

_FIRST_FIELDS = ("exact", "loose", "place", "safe")


def dump_entries(entries: Iterable[Entry]) -> bytes:
    return json.dumps(
        [
            {
                "request": {name: getattr(entry.fingerprint, name) for name in _FIRST_FIELDS},
                "answer": dump_answer(entry.answer),
                "forwards": entry.forwards,
                "key": entry.key,
                "unknown": entry.unknown,
                "target": entry.fingerprint.target,
                "query": entry.fingerprint.query,
                "unseen": entry.unseen,
                "after": entry.after,
                "since": entry.since,
                "stalls": entry.stalls,
                "stops": entry.stops,
            }
            for entry in entries
        ],
        separators=(",", ":"),
    ).encode()


def load_entries(stored: bytes) -> tuple[Entry, ...]:
    if not stored:
        return ()
    return tuple(_load(entry) for entry in json.loads(stored))


def _load(entry: dict[str, Any]) -> Entry:
    known = {name: entry["request"][name] for name in _FIRST_FIELDS}
    answer = load_answer(entry["answer"])
    return Entry(
        fingerprint=Fingerprint(**known, target=entry.get("target", ""), query=entry.get("query", "")),
        forwards=entry["forwards"],
        key=entry["key"],
        unknown=entry["unknown"],
        answer=answer,
        # The first version does not say. An answer that would be lost to a retry by mistake counts as not used.
        unseen=entry.get("unseen", bool(entry["forwards"]) and not failed(answer)),
        after=entry.get("after", False),
        since=entry.get("since", 0.0),
        stalls=entry.get("stalls", 0),
        stops=entry.get("stops", False),
    )
