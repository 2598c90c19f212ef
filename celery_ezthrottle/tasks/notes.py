"""Say in the error that leaves a task what became of its call."""

from __future__ import annotations

from celery.utils.serialization import get_pickleable_exception

__all__ = ["add_note"]


def add_note(error: Exception, note: str) -> None:
    """Add a note to ``error``. It is shown with the traceback in the log and in the result.

    Celery stores an error that cannot be pickled, such as ``httpx.HTTPStatusError``, as one of its base classes, made of the same
    arguments. Notes are lost then, so the note is also put at the end of the text.
    """
    error.add_note(note)
    if error.args and isinstance(error.args[0], str) and get_pickleable_exception(error) is not error:
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
