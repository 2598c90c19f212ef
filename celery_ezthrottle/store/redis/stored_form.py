"""How values are written, and read again, where one field of a hash holds several of them."""

from __future__ import annotations

from collections.abc import Sequence

from celery_ezthrottle.store.records import Claim
from celery_ezthrottle.store.states import State

__all__ = ["claim_of", "joined"]


def claim_of(values: Sequence[bytes]) -> Claim:
    id_, state, facts, job_id, failure, attempts, publications, still_open, job, parked = values
    deadline, _, _, _, suspended_at, submit_deadline, task_id = facts.split(b" ", 6)
    message, envelope = _parted(parked)
    return Claim(
        id=id_.decode(),
        task_id=task_id.decode(),
        state=State(state.decode()),
        job=job,
        message=message,
        envelope=envelope,
        failure=failure,
        job_id=job_id.decode(),
        suspended_at=float(suspended_at),
        submit_deadline=float(submit_deadline),
        deadline=float(deadline),
        attempts=int(attempts or 0),
        publications=int(publications or 0),
        maybe_accepted=state == b"stored" and int(still_open) > 0,
    )


def joined(message: bytes, envelope: bytes) -> bytes:
    """Two values as one, because each field of a hash costs memory beside its payload."""
    return b"%d:%b%b" % (len(message), message, envelope)


def _parted(joined: bytes) -> tuple[bytes, bytes]:
    length, _, rest = joined.partition(b":")
    return rest[: int(length or 0)], rest[int(length or 0) :]
