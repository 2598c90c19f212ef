"""One thing that is wrong: how bad it is, and what to do. No text holds a secret."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["Finding", "Level", "error", "note", "of_error", "warning"]


class Level(Enum):
    """How bad a finding is, with the exit code of ``check``."""

    NOTE = "note", 0
    WARNING = "warning", 1
    FAILED = "failed", 1  # something is out of reach
    ERROR = "error", 2  # a setting or an option is wrong

    def __init__(self, label: str, exit_code: int) -> None:
        self.label = label
        self.exit_code = exit_code


@dataclass(frozen=True)
class Finding:
    """What is wrong and what to do about it, in one line."""

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
    """Each of the problems that one error names."""
    first, *others = str(exc).splitlines()
    for problem in others or [first]:
        yield error(problem.removeprefix("- "))
