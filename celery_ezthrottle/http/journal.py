"""The journal of a task: the HTTP calls it has had answered, and which of them answers a call of a later run. No I/O.

An entry holds digests of its request, never the request. A call of a resumed run is answered by the first unused entry of the
same method, URL and body; failing that, by the one whose body is the same but for what looks like a UUID or a time, and is
not in the task's arguments. Nothing looser: the answer to one item must never be given to another.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum

from .stored_answer import OUTCOME_UNKNOWN, StoredAnswer, StoredError, StoredResponse, dump_answer, load_answer

__all__ = [
    "Entry",
    "Fingerprint",
    "Match",
    "Replay",
    "dump_entries",
    "fingerprint",
    "for_resume",
    "for_retry",
    "for_suspension",
    "forwarded_entry",
    "load_entries",
    "varying",
]

#: Methods whose repetition changes nothing at the origin server (RFC 9110, section 9.2.1).
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})

_VARYING = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # UUID
    rb"|(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])"  # UUID as plain hex
    rb"|\d{4}-\d\d-\d\d(?:[T ]|%20|\+)\d\d(?::|%3a)\d\d(?:(?::|%3a)\d\d(?:[.,]\d+)?)?(?:z|(?:[+-]|%2b)\d\d(?::|%3a)?\d\d)?"
    rb"|(?<![\d.])1[5-9]\d{8}(?:\.\d+|\d{3}|\d{6}|\d{9})?(?![\d.])",  # Unix time in s, ms, us or ns
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a request in the journal.

    Attributes:
        exact: digest of method, URL and body.
        loose: the same, the body's UUIDs and times masked.
        place: digest of origin and path.
        safe: the method is safe (RFC 9110, section 9.2.1).
    """

    exact: str
    loose: str
    place: str
    safe: bool


def varying(text: str) -> frozenset[bytes]:
    """What looks like a UUID or a time in ``text``."""
    return frozenset(found.lower() for found in _VARYING.findall(text.encode("utf-8", "surrogatepass")))


def fingerprint(
    method: str, url: str, body: bytes | None, stable: Callable[[], frozenset[bytes]] = frozenset
) -> Fingerprint:
    """Digest a request. A body of None and an empty one are the same.

    Args:
        stable: gives the UUIDs and times that are the same on every run, and so are not masked; see :func:`varying`. Asked
            only where the body has any.
    """
    method, body, sent = method.upper(), body or b"", url.partition("#")[0]  # a fragment never goes on the wire
    head = f"{method} {sent}\n"
    masked = _VARYING.sub(lambda found: found[0] if found[0].lower() in stable() else b"*", body)
    exact = _digest(head, body)
    return Fingerprint(
        exact=exact,
        loose=exact if masked == body else _digest(head, masked),
        place=_digest(sent.partition("?")[0]),
        safe=method in SAFE_METHODS,
    )


def _digest(head: str, body: bytes = b"") -> str:
    return hashlib.sha256(head.encode("utf-8", "surrogatepass") + body).hexdigest()[:32]


#: For a run that takes over, in place of an answer that could not be kept.
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

    ``answer`` is None for a call that failed in a run that Celery retried, and for the forwarded one while it waits: a
    call that matches the first goes out, the second gets its answer from the service before the run starts.

    Attributes:
        forwards: how often the call was forwarded.
        key: the idempotency key of its last forward, or None.
        unknown: nobody knows whether it was executed: a call that matches it must not go out, only be forwarded under ``key``.
            Without a key: the run that made it got an answer that could not be kept; see :func:`for_resume`.
    """

    fingerprint: Fingerprint
    answer: StoredAnswer | None
    forwards: int = 0
    key: str | None = field(default=None, repr=False)
    unknown: bool = False

    @property
    def is_settled(self) -> bool:
        """A call that matches it does not go out."""
        return self.answer is not None or self.unknown


class Match(Enum):
    ANSWERED = "answered"
    SEND = "send"
    FORWARD = "forward"
    MISMATCH = "mismatch"


class Replay:
    """The entries of earlier runs, used up call by call. Entries may stay unused.

    Using the last entry ends the replay for what may safely be sent: from then on every safe call goes out, since a loop that
    polls wants news. An unsafe call is still matched, since a run may make its calls in another order than the one before it,
    and none may be executed twice.

    An unsafe call without an entry, to a place that has an unused unsafe one, is a mismatch: it may be that call with another
    body. After the end it goes out, as the next item of a loop that skips finished ones; but where the unused entry is
    unknown, so that nobody can have finished it, it stays a mismatch.
    """

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries = tuple(entries)
        self._used: set[int] = set()
        self._used_exactly: set[int] = set()
        self.ended = not entries

    @property
    def kept(self) -> tuple[Entry, ...]:
        """The entries for the journal of the next run: without those whose calls went out again, and have a newer one."""
        return tuple(entry for i, entry in enumerate(self.entries) if i not in self._used or entry.is_settled)

    def match(self, call: Fingerprint) -> tuple[Match, Entry | None]:
        """Find what answers ``call``, and use it up."""
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
        """Whether the UUIDs and times in the body may be fresh ones. Those that tell items apart, or came before, are not."""
        alike = [(i, entry) for i, entry in enumerate(self.entries) if entry.fingerprint.loose == call.loose]
        answered = {entry.fingerprint.exact for _, entry in alike if entry.forwards or not _failed(entry.answer)}
        return len(answered) <= 1 and not any(
            i in self._used_exactly or entry.fingerprint.exact == call.exact for i, entry in alike
        )

    def _find(self, matches: Callable[[Entry], bool]) -> int | None:
        found = [i for i, entry in enumerate(self.entries) if i not in self._used and matches(entry)]
        # A call that failed in a run that Celery retried never hides what became of it later.
        return next((i for i in found if self.entries[i].is_settled), found[0] if found else None)

    def _has_unused_unsafe(self, place: str) -> bool:
        # One without an answer would go out again anyway, as it would in any retry of Celery's.
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
    """The journal of a task that suspends for the call of ``forwarded``, which becomes the last entry.

    ``calls`` are those of this run that went out, without the forwarded one. Failed tries at the very request that is
    forwarded are left out, and answers that the service gave to it before: its new answer supersedes them. So it does
    ``answered_by``, the one of ``earlier`` that the call was answered by, and an unknown entry that is forwarded once more,
    under its key: those perhaps with another UUID or time.
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
    """What a retry of Celery's is answered from what its task has had answered: what failed is made again.

    So is what was answered in the run that is retried, and could not be kept; and a safe call, since a task that polls by
    retrying wants news, unless an unsafe one that stays came after it and may have been made of its answer.
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
        # Only what was forwarded can be asked for, by its key.
        return replace(entry, answer=None, unknown=True) if entry.key is not None else entry
    # Its key is no other call's, still.
    return replace(entry, answer=None if _failed(entry.answer) else entry.answer, forwards=0, unknown=False)


def for_resume(kept: Iterable[Entry], answer: StoredAnswer | None = None) -> tuple[Entry, ...]:
    """What a resumed run is answered: the calls before the suspension, and the forwarded one with ``answer``.

    One that takes over from a resumed run that died finds its calls after them. What that one was answered and could not keep is
    not made again.
    """
    entries = tuple(replace(entry, answer=_NOT_KEPT, unknown=False) if _is_not_kept(entry) else entry for entry in kept)
    forwarded = forwarded_entry(entries)
    if answer is None or forwarded is None or forwarded.answer is not None:
        return entries
    return tuple(replace(entry, answer=answer) if entry is forwarded else entry for entry in entries)


def forwarded_entry(entries: Sequence[Entry]) -> Entry | None:
    """The last one that was forwarded. A run that takes over from one that was resumed finds others after it."""
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
