"""A finding: one problem, its level, and its remedy. No text contains a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["Finding", "Level", "error", "note", "of_error", "warning"]


class Level(Enum):
    """The level of a finding, from harmless to severe, with the exit code of ``check``."""

    NOTE = "note", 0
    WARNING = "warning", 1
    FAILED = "failed", 1  # the store or the broker cannot be reached
    ERROR = "error", 2  # a setting or an option is wrong

    def __init__(self, label: str, exit_code: int) -> None:
        self.label = label
        self.exit_code = exit_code


@dataclass(frozen=True)
class Finding:
    """One line of text that names a problem and its remedy."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level.label}: {self.text}"


def error(text: str) -> Finding:
    return Finding(Level.ERROR, text)


def warning(text: str) -> Finding:
    return Finding(Level.WARNING, text)


def note(text: str) -> Finding:
    return Finding(Level.NOTE, text)


def of_error(exc: ConfigurationError) -> Iterator[Finding]:
    """Yield one finding for each problem that the text of ``exc`` names."""
    first, *others = str(exc).splitlines()
    for problem in others or [first]:
        yield error(problem.removeprefix("- "))
