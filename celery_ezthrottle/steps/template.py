"""Placeholders for the previous result in the URL, the header values and the body of a step. No I/O.

``{result}`` is the previous result, ``{result[name][0]}`` a value in it. ``{step[status_code]}`` is a value of the result mapping
of the step before. Nothing else is a placeholder, so the braces of JSON are safe. ``{{result}}`` is the text ``{result}``.

A value is escaped for its place, and stays in it: no value can add a path segment, a parameter, a header or a JSON field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from celery_ezthrottle.errors import InvalidJob

__all__ = ["check", "read", "render_body", "render_headers", "render_url", "without_placeholders"]

_NAMES = r"(?:\[[^\[\]{}\r\n]+\])*"
_PATTERN = re.compile(
    rf"\{{(?P<literal>\{{(?:result|step){_NAMES}\}})\}}|\{{(?P<root>result|step)(?P<names>{_NAMES})\}}"
)
_NOT_IN_HEADER = re.compile(r"[\r\n\0]|[^\x00-\xff]")

#: Gives the value of a placeholder by its root and its names.
Lookup = Callable[[str, tuple[str, ...]], Any]


def read(url: str, headers: Mapping[str, str], body: str | None) -> dict[str, Any]:
    """Return the fields of a step for a request as the user has written it.

    With a placeholder anywhere they are a template. Without one, ``{{result}}`` becomes ``{result}`` now.
    """
    texts = (url, body or "", *headers.values())
    if any(found["root"] for text in texts for found in _PATTERN.finditer(text)):
        return {"url": url, "headers": headers, "body": body, "template": True}
    return {
        "url": _unescaped(url),
        "headers": {name: _unescaped(content) for name, content in headers.items()},
        "body": None if body is None else _unescaped(body),
    }


def _unescaped(text: str) -> str:
    return _PATTERN.sub(lambda found: found["literal"], text)


def without_placeholders(url: str) -> str:
    """Return ``url`` with something for each placeholder, to check the rest."""
    return _PATTERN.sub("1", url)


def check(url: str, headers: Mapping[str, str], body: str | None) -> None:
    """Check where the placeholders stand, before any value is known.

    Raises:
        InvalidJob: one stands in the host, or in a JSON body at a place where no value and no string can be.
    """
    host_ends = re.compile(r"[/?#]|$").search(url, url.find("://") + 3)
    for found in _PATTERN.finditer(url):
        if found["root"] and host_ends is not None and found.start() < host_ends.start():
            raise InvalidJob(
                f"url has {found[0]} before its path: a previous result must not choose the host; use a registered function."
            )
    if body is not None and _says_json(headers) and not _is_json(body):
        raise InvalidJob(
            "body is no JSON although its Content-Type says so: a placeholder must stand for a value, or stand in a string."
        )


def render_url(url: str, lookup: Lookup) -> str:
    """Return ``url`` with the values, percent-encoded.

    Raises:
        InvalidJob: a value is missing, is null, a list or an object, or would be an empty segment of the path, "." or "..".
    """
    path_ends = re.compile(r"[?#]|$").search(_masked(url))
    end = path_ends.start() if path_ends else len(url)
    pieces = []
    for found, literal in _pieces(url):
        if found is None:
            pieces.append(literal)
            continue
        value = _plain_text("url", found[0], lookup(found["root"], _names(found)))
        if not value and found.start() < end:
            raise InvalidJob(f"url: {found[0]} is empty, and a path without it is another resource.")
        try:
            pieces.append(quote(value, safe=""))
        except UnicodeEncodeError:
            raise InvalidJob(f"url: {found[0]} holds half a surrogate pair, which UTF-8 cannot carry.") from None
    rendered = "".join(pieces)
    if _dots(rendered) != _dots(without_placeholders(url)):
        raise InvalidJob('url: a value makes a segment of the path "." or "..", which names another resource.')
    return rendered


def render_headers(headers: Mapping[str, str], lookup: Lookup) -> dict[str, str]:
    """Return ``headers`` with the values in them.

    Raises:
        InvalidJob: a value is missing, is null, a list or an object, or has what a header cannot carry.
    """
    return {name: _render_header(f"headers[{name!r}]", content, lookup) for name, content in headers.items()}


def _render_header(name: str, content: str, lookup: Lookup) -> str:
    def render(found: re.Match[str]) -> str:
        value = _plain_text(name, found[0], lookup(found["root"], _names(found)))
        if _NOT_IN_HEADER.search(value):
            raise InvalidJob(f"{name}: {found[0]} has line breaks, NUL or characters above U+00FF: encode it.")
        return value

    return "".join(literal if found is None else render(found) for found, literal in _pieces(content))


def render_body(body: str, headers: Mapping[str, str], lookup: Lookup) -> str:
    """Return ``body`` with the values, in the form of its ``Content-Type``.

    A form: percent-encoded. JSON, or no Content-Type and a body that is JSON: as a JSON value, and inside a string as its
    content. Anything else: as text.

    Raises:
        InvalidJob: a value is missing, or cannot be in that place.
    """
    if _content_type(headers) == "application/x-www-form-urlencoded":
        return _render(body, lookup, _in_form)
    if _says_json(headers) or (not _content_type(headers) and _is_json(body)):
        return _render_json(body, lookup)
    return _render(body, lookup, _as_text)


def _render(body: str, lookup: Lookup, form: Callable[[str, Any], str]) -> str:
    return "".join(
        literal if found is None else form(found[0], lookup(found["root"], _names(found)))
        for found, literal in _pieces(body)
    )


def _render_json(body: str, lookup: Lookup) -> str:
    pieces, in_string, escaped = [], False, False
    for found, literal in _pieces(body):
        if found is None:
            in_string, escaped = _after(literal, in_string, escaped)
            pieces.append(literal)
        elif escaped:
            raise InvalidJob(
                f"body: there is a backslash before {found[0]}, which would escape the begin of the value."
            )
        else:
            value = lookup(found["root"], _names(found))
            if in_string:
                pieces.append(_json(found[0], _as_text(found[0], value))[1:-1])
            else:
                pieces.append(_json(found[0], value))
    return "".join(pieces)


def _after(text: str, in_string: bool, escaped: bool) -> tuple[bool, bool]:
    """Read JSON text. Return whether its end is in a string, and whether it is behind a backslash there."""
    for character in text:
        if escaped:
            escaped = False
        elif character == "\\" and in_string:
            escaped = True
        elif character == '"':
            in_string = not in_string
    return in_string, escaped


def _in_form(placeholder: str, value: Any) -> str:
    try:
        return quote(_plain_text("body", placeholder, value), safe="")
    except UnicodeEncodeError:
        raise InvalidJob(f"body: {placeholder} holds half a surrogate pair, which UTF-8 cannot carry.") from None


def _as_text(placeholder: str, value: Any) -> str:
    return (
        _json(placeholder, value, ascii_only=False)
        if isinstance(value, list | dict)
        else _plain_text("body", placeholder, value)
    )


def _plain_text(place: str, placeholder: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict):
        what = "null" if value is None else "a list" if isinstance(value, list) else "an object"
        raise InvalidJob(f"{place}: {placeholder} is {what}, and only a string, a number or a boolean can stand there.")
    return _json(placeholder, value)


def _json(placeholder: str, value: Any, *, ascii_only: bool = True) -> str:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=ascii_only)
    except (TypeError, ValueError, RecursionError):
        raise InvalidJob(f"{placeholder} is a {type(value).__name__} that JSON cannot express.") from None


def _pieces(text: str) -> Iterator[tuple[re.Match[str] | None, str]]:
    """Yield the placeholders, each with "", and the texts between them, each with None."""
    end = 0
    for found in _PATTERN.finditer(text):
        yield None, text[end : found.start()] + (found["literal"] or "")
        if found["root"]:
            yield found, ""
        end = found.end()
    yield None, text[end:]


def _names(found: re.Match[str]) -> tuple[str, ...]:
    return tuple(re.findall(r"\[([^\]]+)\]", found["names"]))


def _masked(url: str) -> str:
    """Return ``url`` with placeholders of the same length that have no sign of a URL in them."""
    return _PATTERN.sub(lambda found: "1" * len(found[0]), url)


def _dots(url: str) -> int:
    return sum(segment in {".", ".."} for segment in urlsplit(url).path.split("/"))


def _content_type(headers: Mapping[str, str]) -> str:
    found = next((content for name, content in headers.items() if name.lower() == "content-type"), "")
    return found.partition(";")[0].strip().lower()


def _says_json(headers: Mapping[str, str]) -> bool:
    return re.fullmatch(r"application/json|[^/]+/(?:[^/]+\+)?json", _content_type(headers)) is not None


def _is_json(body: str) -> bool:
    try:
        json.loads(_PATTERN.sub(lambda found: found["literal"] or "null", body))
    except (ValueError, RecursionError):
        return False
    return True
