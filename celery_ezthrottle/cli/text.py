"""Wording that several commands share."""

from __future__ import annotations

__all__ = ["number_of"]


def number_of(number: int, what: str) -> str:
    """Return a number and its noun: "1 task", "2 tasks"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
