"""Which entry of the journal answers a call of a resumed run. No I/O."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from .fingerprint import Fingerprint
from .journal import Entry, failed, forwarded_entry

__all__ = ["NO_REPLAY", "Match", "Replay"]


class Match(Enum):
    ANSWERED = "answered"
    SEND = "send"
    FORWARD = "forward"
    MISMATCH = "mismatch"


class Replay:
    """The entries of earlier runs. Each matching call uses up one entry. Entries may stay unused.

    When the last entry is used, the replay ends for safe calls: from then on a safe call is sent, because a loop that polls
    needs new data. Only a safe call that the suspended run made after the forwarded one is still answered. Unsafe calls are
    still matched, because a run may make its calls in another order than the run before it, and no unsafe call may be executed
    twice.

    An unsafe call without an entry is the forwarded call if the journal has no other unsafe call with its method, origin and
    path, if it is the first such call of this run, and if nothing else of the run goes on beside it: of several threads or
    tasks, another may come first in each run. Else it is a mismatch if an unsafe entry for the same place is unused: the
    call may be the earlier one with another body. After the end of the replay it is sent, as the next item of a loop that skips
    finished items. But if the unused entry is unknown, it stays a mismatch, because nobody can have finished that item.

    Args:
        entries: the entries of earlier runs.
        send_unmatched: send an unsafe call without an entry, whatever else is in the journal.
        job_id: id of the job that brought the last answer, for error texts; "" when it is not known.
    """

    def __init__(self, entries: Sequence[Entry] = (), *, send_unmatched: bool = False, job_id: str = "") -> None:
        #: A used entry is replaced by one that is not unseen.
        self.entries = list(entries)
        self.send_unmatched = send_unmatched
        self.job_id = job_id
        self.ended = not entries
        self._used: set[int] = set()
        #: The targets of the unsafe calls that this run has made.
        self._called: set[str] = set()
        #: The unused entries by digest, in their order. Used ones are dropped when they come up.
        self._exact, self._loose = _by(self.entries, "exact"), _by(self.entries, "loose")
        #: For each loose digest: the exact digests of the answered items, of all entries, and whether one was used exactly.
        self._items: defaultdict[str, set[str]] = defaultdict(set)
        self._known: defaultdict[str, set[str]] = defaultdict(set)
        self._repeated: set[str] = set()
        #: The unused unsafe entries of each place: all that are settled, and those that are unknown.
        self._settled: defaultdict[str, int] = defaultdict(int)
        self._unknown: defaultdict[str, int] = defaultdict(int)
        for entry in self.entries:
            made = entry.fingerprint
            self._known[made.loose].add(made.exact)
            if entry.forwards or not failed(entry.answer):
                self._items[made.loose].add(made.exact)
            self._count(entry, 1)

    @property
    def kept(self) -> tuple[Entry, ...]:
        """The entries for the journal of the next run. If a call was sent again, its old entry is left out for the newer one."""
        return tuple(entry for i, entry in enumerate(self.entries) if i not in self._used or entry.is_settled)

    @property
    def stalled(self) -> Entry | None:
        """The call for which the task was suspended last, if neither this run nor an earlier one has used its answer."""
        forwarded = forwarded_entry(self.entries)
        return forwarded if forwarded is not None and forwarded.unseen else None

    def match(self, call: Fingerprint, *, is_alone: Callable[[], bool] = lambda: True) -> tuple[Match, Entry | None]:
        """Find the entry for ``call`` and use it up. Return what to do with the call, and the entry or None.

        Args:
            is_alone: returns whether nothing else of the run goes on beside what makes the call.
        """
        index = self._find(self._exact.get(call.exact), call)
        exactly = index is not None
        if index is None and self._may_vary(call):
            index = self._find(self._loose.get(call.loose), call)
        if index is None and not call.safe:
            index = self._forwarded_as(call)
            if index is not None and not is_alone():
                index = None
        if not call.safe:
            self._called.add(call.target)
        if index is None:
            if not call.safe and not self.send_unmatched and self._has_unused_unsafe(call.place):
                return Match.MISMATCH, None
            return Match.SEND, None
        entry = self.entries[index]
        self._used.add(index)
        self._count(entry, -1)
        if exactly:
            self._repeated.add(call.loose)
        self.ended |= index == len(self.entries) - 1
        if entry.unseen:
            entry = self.entries[index] = replace(entry, unseen=False)
        if entry.unknown:
            return Match.FORWARD, entry
        return (Match.SEND if entry.answer is None else Match.ANSWERED), entry

    def mismatch(self, call: Fingerprint) -> str:
        """Return in what ``call``, which is a mismatch, differs from the earlier call, and which job answered that one."""
        unused = (entry for i, entry in enumerate(self.entries) if i not in self._used and not entry.fingerprint.safe)
        near = [entry for entry in unused if entry.fingerprint.place == call.place]
        earlier = next((entry for entry in reversed(near) if entry.forwards), near[-1]) if near else None
        if earlier is None or not earlier.fingerprint.target:
            differs = "another query or body"
        elif earlier.fingerprint.target != call.target:
            differs = "another method"
        else:
            differs = "another body" if earlier.fingerprint.query == call.query else "another query"
        was_forwarded = earlier is not None and earlier.forwards and self.job_id
        return f"{differs} (EZThrottle's job {self.job_id} answered the earlier call)" if was_forwarded else differs

    def _count(self, entry: Entry, by: int) -> None:
        if not entry.fingerprint.safe:
            self._settled[entry.fingerprint.place] += by * entry.is_settled
            self._unknown[entry.fingerprint.place] += by * entry.unknown

    def _may_vary(self, call: Fingerprint) -> bool:
        """Whether the UUIDs and times in the body of ``call`` may be new values in a call that an earlier run made too.

        They are not if they distinguish answered items, or if the same values occurred in an earlier run.
        """
        loose = call.loose
        return (
            len(self._items.get(loose, ())) <= 1
            and loose not in self._repeated
            and call.exact not in self._known.get(loose, ())
        )

    def _find(self, found: deque[int] | None, call: Fingerprint) -> int | None:
        found = found or deque()
        while found and found[0] in self._used:
            found.popleft()
        first = None
        for i in found:
            if i in self._used or (self.ended and call.safe and not self.entries[i].after):
                continue
            # Prefer a settled entry: a call that failed in a run that Celery retried must not hide its later answer.
            if self.entries[i].is_settled:
                return i
            first = i if first is None else first
        return first

    def _forwarded_as(self, call: Fingerprint) -> int | None:
        """Return the index of the forwarded call if ``call`` can only be that one in another form."""
        if self.send_unmatched or call.target in self._called:
            return None
        # An entry of an earlier version has no target: its place must do.
        near = [
            i
            for i, entry in enumerate(self.entries)
            if not entry.fingerprint.safe
            and entry.fingerprint.place == call.place
            and entry.fingerprint.target in {call.target, ""}
        ]
        if len(near) != 1 or near[0] in self._used:
            return None
        entry = self.entries[near[0]]
        is_it = entry.fingerprint.target and entry.forwards and entry.answer is not None
        return near[0] if is_it else None

    def _has_unused_unsafe(self, place: str) -> bool:
        # An entry that is not settled does not count: its call would be sent again anyway, as in any of Celery's retries.
        return (self._unknown if self.ended else self._settled)[place] > 0


def _by(entries: Sequence[Entry], digest: str) -> Mapping[str, deque[int]]:
    found: defaultdict[str, deque[int]] = defaultdict(deque)
    for i, entry in enumerate(entries):
        found[getattr(entry.fingerprint, digest)].append(i)
    return found


#: Of a run that has no entries. Nothing is ever matched with it, so all such runs share it.
NO_REPLAY = Replay()
