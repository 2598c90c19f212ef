"""Failpoints: named points before and after each step, where a test may kill this process or another one.

Nothing happens at them in production: :func:`reach` calls :data:`handler`, which is None there. A test sets a handler in the
process under test. docs/reliability.md says what holds at each point.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FAILPOINTS", "handler", "reach"]

#: Every point, in the order in which a task passes them. A thread passes those of ``submit``, beside the run or after it.
FAILPOINTS = (
    "suspend.begin",  # the body has ended; nothing is stored
    "suspend.stored",  # the continuation is stored; its job does not wait to be submitted yet
    "suspend.left",  # in the worker: the run has ended; its message is not acknowledged
    "submit.begin",  # a thread submits the job next
    "submit.answered",  # the service has taken the job; its answer is not stored
    "submit.bound",  # the job id is stored
    "deliver.begin",  # the receiver has checked a webhook; nothing is stored
    "deliver.stored",  # the result is stored; the message is not published
    "publish.sent",  # the broker has the message; the store does not know that
    "publish.noted",  # the store knows that; the webhook is not answered
    "resume.begin",  # a resumed run begins; it has claimed nothing
    "resume.started",  # the run has claimed the continuation; its body has not begun
    "resume.left",  # the body has ended; no result is stored
    "step.taken",  # a step that may have been sent twice belongs to this message; it has not begun
    "step.sent",  # the steps after a step are sent; its task has not ended
    "resume.recorded",  # Celery has sent result, callbacks and chain; the continuation is not finished
    "resume.finished",  # the continuation is finished, or (early acks) soon will be; with late acks, the message is not acked
    "sweep.claimed",  # the sweeper has claimed something that is due
    "settle.stored",  # a task has an outcome of our own (refused, never taken, unknown); its message is not published
    "cancel.stored",  # a task is cancelled; its message is not published
    "batch.claimed",  # a member has ended, and the next ones are claimed; they are not published
    "batch.sent",  # the broker has the messages of claimed members; the store does not know that
    "gateway.taken",  # the gateway has stored a job; the submission is not answered
    "gateway.called",  # the gateway has the upstream's answer; it is not stored
    "gateway.ended",  # the end of a request is stored, with webhooks and spawned jobs; none of these is sent
    "gateway.delivered",  # the receiver has answered a webhook; the gateway has not stored that
)

#: Called with the name of each point that is reached. None = nothing is called.
handler: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """Call :data:`handler`, if one is set: the point ``name`` is reached."""
    if handler is not None:
        handler(name)
