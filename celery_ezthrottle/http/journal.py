"""The journal of a task: the answered HTTP calls of its runs, and which of them answers a call of a later run. No I/O.

An entry holds digests of its request, never the request. A call of a resumed run is answered by the first unused entry with the
same method, URL and body. If there is none, it is answered by the first unused entry whose body differs only in parts that look
like a UUID or a time and are not in the task's arguments. Nothing looser matches, because the answer to one item must never
be given to another item.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

from .fingerprint import Fingerprint
from .stored_answer import OUTCOME_UNKNOWN, StoredAnswer, StoredError, StoredResponse, dump_answer, load_answer

__all__ = [
    "Entry",
    "Match",
    "Replay",
    "dump_entries",
    "for_resume",
    "for_retry",
    "for_suspension",
    "forwarded_entry",
    "load_entries",
]

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
    """

    fingerprint: Fingerprint
    answer: StoredAnswer | None
    forwards: int = 0
    key: str | None = field(default=None, repr=False)
    unknown: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether a call that matches the entry must not be sent."""
        return self.answer is not None or self.unknown


class Match(Enum):
    ANSWERED = "answered"
    SEND = "send"
    FORWARD = "forward"
    MISMATCH = "mismatch"


class Replay:
    """The entries of earlier runs. Each matching call uses up one entry. Entries may stay unused.

    When the last entry is used, the replay ends for safe calls: from then on every safe call is sent, because a loop that polls
    needs new data. Unsafe calls are still matched, because a run may make its calls in another order than the run before it,
    and no unsafe call may be executed twice.

    An unsafe call without an entry is a mismatch if an unsafe entry for the same place is unused: the call may be the earlier
    one with another body. After the end of the replay it is sent, as the next item of a loop that skips finished items. But if
    the unused entry is unknown, it stays a mismatch, because nobody can have finished that item.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries = tuple(entries)
        self._used: set[int] = set()
        self._used_exactly: set[int] = set()
        self.ended = not entries

    @property
    def kept(self) -> tuple[Entry, ...]:
        """The entries for the journal of the next run. If a call was sent again, its old entry is left out for the newer one."""
        return tuple(entry for i, entry in enumerate(self.entries) if i not in self._used or entry.is_settled)

    def match(self, call: Fingerprint) -> tuple[Match, Entry | None]:
        """Find the entry for ``call`` and use it up. Return what to do with the call, and the entry or None."""
        if self.ended and call.safe:
            return Match.SEND, None
        index = self._find(lambda entry: entry.fingerprint.exact == call.exact)
        if index is None and self._may_vary(call):
            index = self._find(lambda entry: entry.fingerprint.loose == call.loose)
        if index is None:
            if not call.safe and self._has_unused_unsafe(call.place):
                return Match.MISMATCH, None
            return Match.SEND, None
        self._used.add(index)
        if self.entries[index].fingerprint.exact == call.exact:
            self._used_exactly.add(index)
        self.ended |= index == len(self.entries) - 1
        entry = self.entries[index]
        if entry.unknown:
            return Match.FORWARD, entry
        return (Match.SEND if entry.answer is None else Match.ANSWERED), entry

    def _may_vary(self, call: Fingerprint) -> bool:
        """Whether the UUIDs and times in the body of ``call`` may be new values in a call that an earlier run made too.

        They are not if they distinguish answered items, or if the same values occurred in an earlier run.
        """
        alike = [(i, entry) for i, entry in enumerate(self.entries) if entry.fingerprint.loose == call.loose]
        answered = {entry.fingerprint.exact for _, entry in alike if entry.forwards or not _failed(entry.answer)}
        return len(answered) <= 1 and not any(
            i in self._used_exactly or entry.fingerprint.exact == call.exact for i, entry in alike
        )

    def _find(self, matches: Callable[[Entry], bool]) -> int | None:
        found = [i for i, entry in enumerate(self.entries) if i not in self._used and matches(entry)]
        # Prefer a settled entry: a call that failed in a run that Celery retried must not hide its later answer.
        return next((i for i in found if self.entries[i].is_settled), found[0] if found else None)

    def _has_unused_unsafe(self, place: str) -> bool:
        # An entry that is not settled does not count: its call would be sent again anyway, as in any of Celery's retries.
        return any(
            i not in self._used
            and (entry.unknown if self.ended else entry.is_settled)
            and not entry.fingerprint.safe
            and entry.fingerprint.place == place
            for i, entry in enumerate(self.entries)
        )


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
            return _failed(entry.answer)
        same_job = entry.key is not None and entry.key == forwarded.key
        return entry.unknown and same_job and entry.fingerprint.loose == made.loose

    return (*(entry for entry in (*earlier, *calls) if not is_superseded(entry)), forwarded)


def for_retry(kept: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the entries that answer the calls of a Celery retry. Calls that failed are made again.

    A call whose answer in the retried run could not be kept is made again too. So is a safe call, because a task that polls by
    retrying needs new data. But a safe call keeps its answer if an unsafe call that keeps its answer came after it: the unsafe
    request may contain data from that answer.
    """
    retried: list[Entry] = []
    is_followed = False
    for entry in map(_retried, reversed(tuple(kept))):
        if not entry.fingerprint.safe or entry.unknown or (is_followed and entry.is_settled):
            retried.append(entry)
        is_followed |= entry.is_settled and not entry.fingerprint.safe
    return tuple(reversed(retried))


def _retried(entry: Entry) -> Entry:
    if not _is_not_kept(entry) and (entry.unknown or _is_unknown(entry.answer)):
        # Only a forwarded call has a key, by which the service can be asked for its result.
        return replace(entry, answer=None, unknown=True) if entry.key is not None else entry
    # The key stays in the entry, so that no other call of the task is forwarded under it.
    return replace(entry, answer=None if _failed(entry.answer) else entry.answer, forwards=0, unknown=False)


def for_resume(kept: Iterable[Entry], answer: StoredAnswer | None = None) -> tuple[Entry, ...]:
    """Return the entries of a resumed run: the calls before the suspension, and the forwarded call with ``answer``.

    If the run takes over from a resumed run that died, the calls of the dead run follow. A call whose answer the dead run could
    not keep is not made again: its entry answers with OutcomeUnknown.
    """
    entries = tuple(replace(entry, answer=_NOT_KEPT, unknown=False) if _is_not_kept(entry) else entry for entry in kept)
    forwarded = forwarded_entry(entries)
    if answer is None or forwarded is None or forwarded.answer is not None:
        return entries
    return tuple(replace(entry, answer=answer) if entry is forwarded else entry for entry in entries)


def forwarded_entry(entries: Sequence[Entry]) -> Entry | None:
    """Return the last entry that was forwarded and is not unknown, or None.

    Other entries follow it when a run takes over from a resumed run.
    """
    return next((entry for entry in reversed(entries) if entry.forwards and not entry.unknown), None)


def _is_not_kept(entry: Entry) -> bool:
    return entry.unknown and entry.key is None


def _is_unknown(answer: StoredAnswer | None) -> bool:
    return isinstance(answer, StoredError) and answer.name == OUTCOME_UNKNOWN


def _failed(answer: StoredAnswer | None) -> bool:
    return not isinstance(answer, StoredResponse) or answer.status_code >= 400


# The stored form: JSON.


def dump_entries(entries: Iterable[Entry]) -> bytes:
    return json.dumps(
        [
            {
                "request": asdict(entry.fingerprint),
                "answer": dump_answer(entry.answer),
                "forwards": entry.forwards,
                "key": entry.key,
                "unknown": entry.unknown,
            }
            for entry in entries
        ],
        separators=(",", ":"),
    ).encode()


def load_entries(stored: bytes) -> tuple[Entry, ...]:
    if not stored:
        return ()
    return tuple(
        Entry(
            fingerprint=Fingerprint(**entry["request"]),
            forwards=entry["forwards"],
            key=entry["key"],
            unknown=entry["unknown"],
            answer=load_answer(entry["answer"]),
        )
        for entry in json.loads(stored)
    )
