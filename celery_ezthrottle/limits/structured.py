"""Read the lists of HTTP structured fields (RFC 9651), as far as the ``RateLimit`` fields use them.

There are libraries for all of that RFC. These fields are only lists of names or numbers with parameters, and everybody who
installs the package would have one more dependency.
"""

from __future__ import annotations

import re

__all__ = ["Member", "read_list"]

#: Name and parameters of a member of a list, all of them text. A string is without its quotes.
Member = tuple[str, dict[str, str]]

_ITEM = r'"(?:[^"\\]|\\["\\])*"|:[A-Za-z0-9+/=]*:|[^\s",;:=]+'
_KEY = r"[a-zA-Z*][\w.*-]*"
_PARAMETER = re.compile(rf"\s*;\s*({_KEY})(?:=({_ITEM}))?", re.ASCII)
#: A member of a list, or of a dictionary: ``key=item``.
_MEMBER = re.compile(rf"\s*(?:({_KEY})=)?({_ITEM})", re.ASCII)
_END = re.compile(r"\s*(?:,|\Z)")


def read_list(field: str) -> list[Member]:
    """Return the members of a list. A member of a dictionary, ``key=item``, has the key as name and the item as parameter "".

    Returns:
        [] if any of it is malformed: the RFC wants the whole field ignored then.
    """
    members: list[Member] = []
    at = 0
    while at < len(field):
        head = _MEMBER.match(field, at)
        if head is None:
            return []
        key, item = head.groups()
        parameters = {} if key is None else {"": _plain(item)}
        at = head.end()
        while parameter := _PARAMETER.match(field, at):
            parameters[parameter[1].lower()] = _plain(parameter[2] or "")
            at = parameter.end()
        end = _END.match(field, at)
        if end is None:
            return []
        at = end.end()
        members.append((_plain(item) if key is None else key.lower(), parameters))
    return members


def _plain(item: str) -> str:
    return re.sub(r"\\(.)", r"\1", item[1:-1]) if item.startswith('"') else item
