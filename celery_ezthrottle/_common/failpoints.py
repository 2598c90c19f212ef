"""Named points at the edges of every act, where a test may kill the process, or another one.

Nothing happens at them in production: :func:`reach` calls :data:`handler`, and there is none. A test sets one in the process
under test. docs/reliability.md says what holds at each.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["FAILPOINTS", "handler", "reach"]

#: Every point, in the order in which a task passes them.
FAILPOINTS = (
    "suspend.begin",  # the body has ended, nothing is stored
    "suspend.stored",  # the continuation is stored, nothing is submitted
    "submit.answered",  # the service took the job, the answer is not stored
    "submit.bound",  # the job id is stored; the run has not left its body
    "suspend.left",  # in the worker: the run has left, its message is not acknowledged
    "deliver.begin",  # the receiver has checked a webhook, nothing is stored
    "deliver.stored",  # the result is stored, the message is not published
    "publish.sent",  # the broker has the message, the store does not know
    "publish.noted",  # the store knows; the webhook is not answered
    "resume.begin",  # a resumed run begins, it holds nothing
    "resume.started",  # it holds the continuation; its body has not begun
    "resume.left",  # its body has ended; no result is stored
    "resume.recorded",  # result, callbacks and chain are out; the continuation is not done
    "resume.finished",  # the continuation is done, or soon will be (early acks); a late message is not acknowledged
    "sweep.claimed",  # the sweeper has claimed something that is due
    "sweep.settled",  # the sweeper has given a task an outcome of its own
    "cancel.stored",  # a task is cancelled, its message is not published
    "gateway.taken",  # the gateway has stored a job, and not answered
    "gateway.called",  # the gateway has the upstream's answer, and not stored it
    "gateway.delivered",  # the receiver has answered a webhook, the gateway has not stored that
)

#: Called with the name of each point that is reached; None: nothing is.
handler: Callable[[str], None] | None = None


def reach(name: str) -> None:
    """A point is reached."""
    if handler is not None:
        handler(name)
