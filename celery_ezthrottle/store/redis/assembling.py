"""Lua scripts of a folder. Each script contains the shared functions that it needs, and no others.

Lua defines the functions anew in each call. A function that is not called would still cost time, in every act and for all
clients.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files

__all__ = ["Scripts"]

_NAMES = re.compile(r"local (?:function )?(\w+(?:, \w+)*)")
_COMMENT = re.compile(r"(^|\s)--.*")


class Scripts:
    """The scripts of one folder.

    Args:
        package: the package that has the files.
        parts: names of the files of shared functions. The functions of a file may use those of the files before it.
        head: definitions that stand before all others.
    """

    def __init__(self, package: str, parts: Sequence[str], head: str = "") -> None:
        self._package, self._parts, self._head = package, parts, head
        self._sources: dict[str, str] = {}

    def source(self, act: str) -> str:
        """The script of an act. The first lines of its file say what it takes and returns."""
        if act not in self._sources:
            self._sources[act] = self._assembled(act)
        return self._sources[act]

    def _assembled(self, act: str) -> str:
        script, used = [self._read(act)], set(re.findall(r"\w+", self._read(act)))
        for names, definition in reversed(self._definitions):
            if names & used:
                script.append(definition)
                used |= set(re.findall(r"\w+", definition))
        return "\n".join(reversed(script))

    @cached_property
    def _definitions(self) -> tuple[tuple[frozenset[str], str], ...]:
        """The definitions of the shared files, in order: the names that each one defines, and its text."""
        text = self._head + "\n".join(map(self._read, self._parts))
        return tuple(
            (frozenset(found.group(1).split(", ")), definition.strip())
            for definition in re.split(r"^(?=local )", text, flags=re.MULTILINE)
            if (found := _NAMES.match(definition))
        )

    def _read(self, name: str) -> str:
        text = (files(self._package) / f"{name}.lua").read_text(encoding="utf-8")
        return "\n".join(_COMMENT.sub("", line) for line in text.splitlines())
