"""The headers of a delivered response, as the library would have got them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["headers_of"]

#: One cookie of several that were joined by commas. A comma ends it if a name and "=" follow, unlike that in ``Expires``.
_COOKIE = re.compile(r'(?:"[^"]*"|,(?!\s*[!#$%&\'*+\-.^_`|~\w]+\s*=)|[^,])+', re.ASCII)


def headers_of(response: Mapping[str, Any], size: int | None) -> tuple[tuple[str, str], ...]:
    """Return names and values. A repeated field has a pair for each value.

    Args:
        response: a delivered response with ``headers``, where repeated fields are joined by commas, and perhaps
            ``repeated_headers``: name to values.
        size: bytes of the body, of which the headers must be true. None: there is no body, and they tell what GET would get.
    """
    return tuple(
        (name, str(size) if name.lower() == "content-length" and size is not None else value)
        for name, value in _fields(response)
        # The connection that this is about is not ours, and the body is decoded.
        if name.lower() != "transfer-encoding" and (name.lower() != "content-encoding" or size is None)
    )


def _fields(response: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    repeated = {name.lower(): values for name, values in response.get("repeated_headers", {}).items()}
    for name, value in response["headers"].items():
        values = [value]
        if name.lower() in repeated:
            values = repeated[name.lower()]
        elif name.lower() == "set-cookie":
            values = [cookie.strip() for cookie in _COOKIE.findall(value)]
        yield from ((name, value) for value in values)
