"""The message headers of the package. Messages of earlier versions contain them too, so they must never change."""

from __future__ import annotations

__all__ = ["BATCH_HEADER", "MARKS", "RECORD_HEADER", "RESUME_HEADER", "TAKES_OVER", "TIMES", "TIMES_HEADER"]

#: In a parked message that is published again: the id of its continuation, nothing else.
RESUME_HEADER = "ezthrottle_resume"

#: In a message by which Celery retries a task that was suspended: the store has a record for the retry. True, or
#: :data:`TAKES_OVER`.
RECORD_HEADER = "ezthrottle_record"

#: Value of :data:`RECORD_HEADER` when the retried run has died: the retry gets all answers of that run.
TAKES_OVER = "takes over"

#: In a parked message that is published again: its :data:`TIMES`, as they were. They are not where Celery looks for them: the
#: task has started once, so they decide no longer when it runs, or whether.
TIMES_HEADER = "ezthrottle_times"

#: In the messages of the members of a batch: see :mod:`celery_ezthrottle.batches.mark`. Runs see it, so that a retry has it too.
BATCH_HEADER = "ezthrottle_batch"

#: When a task is to start, and until when it may.
TIMES = ("eta", "expires")

#: The headers that a run does not see.
MARKS = frozenset({RESUME_HEADER, RECORD_HEADER, TIMES_HEADER})
