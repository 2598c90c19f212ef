"""The errors behind an error."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["all_behind", "causes"]


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, what it was raised from, and so on; and the members of groups."""
    return _walk(error, with_contexts=False)


def all_behind(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error`` and all errors behind it: causes, contexts and members of groups."""
    return _walk(error, with_contexts=True)


def _walk(error: BaseException, *, with_contexts: bool) -> Iterator[BaseException]:
    seen: set[int] = set()  # "raise error from error" makes a circle
    todo: list[BaseException | None] = [error]
    while todo:
        current = todo.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        if with_contexts:
            todo.append(current.__context__)
        if isinstance(current, BaseExceptionGroup):
            todo += current.exceptions
        todo.append(current.__cause__)
