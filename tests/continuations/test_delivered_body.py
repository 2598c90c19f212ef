"""The bytes of a body that came as text."""

from __future__ import annotations

import base64
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_ezthrottle.continuations.delivered_body import NotExact, content_of


def content(text: str, kind: str = "", **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return content_of({"body": text, "headers": {"Content-Type": kind} | named if kind else named})


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        # In the charset of the header
        ("text/html; charset=iso-8859-1", "é", b"\xe9"),
        ("text/html; charset=windows-1252", "“€”", b"\x93\x80\x94"),
        ("text/html;charset=UTF-8", "é€", "é€".encode()),
        ('text/plain; charset="shift_jis"', "日", "日".encode("shift_jis")),
        ("application/json; charset=utf-16le", "\ufeff{}", b"\xff\xfe{\0}\0"),
        # In that of the document
        ("application/xml", '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>', None),
        ("text/xml", "<?xml version='1.0' encoding='windows-1252'?><a>€</a>", None),
        ("", '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>', None),
        ("image/svg+xml", '\ufeff<?xml version="1.0" encoding="utf-8"?><a>é</a>', None),
        ("text/html", '<html><META charset="windows-1252"><p>€', None),
        ("text/html", '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>€', None),
        # In that of the type
        ("application/json", "é", "é".encode()),
        ("application/problem+json", "\ufeff€", "\ufeff€".encode()),
        ("application/xml", "<a>é</a>", "<a>é</a>".encode()),
        ("text/xml", "<a>é</a>", "<a>é</a>".encode()),
        ("text/plain", "é", b"\xe9"),
        ("text/plain", "€", "€".encode()),
        ("", "é", "é".encode()),
        ("text/plain; charset=nonsense", "é", "é".encode()),
        ("text/plain; charset=zlib", "é", "é".encode()),
        ("text/plain; charset=a\0b", "é", "é".encode()),
        # A service has read each byte as one character
        ("application/json", '"' + "é€".encode().decode("latin-1") + '"', '"é€"'.encode()),
        ("text/html", "é€".encode().decode("latin-1"), "é€".encode()),
        # Nothing to find out
        ("image/png", "", b""),
        ("application/pdf", "%PDF-1.4", b"%PDF-1.4"),
        ("application/octet-stream", "\0\1", b"\0\1"),
    ],
)
def test_the_bytes_are_made_in_the_charset_that_is_declared(kind: str, text: str, found: bytes | None) -> None:
    if found is None:
        found = text.encode("utf-8" if "utf-8" in text else "windows-1252")
    assert content(text, kind) == found


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        ("image/png", "\x89PNG", "binary type image/png"),
        ("application/pdf; charset=utf-8", "%PDF é", "binary type application/pdf"),
        ("application/zip", "PK\ufffd", "binary type application/zip"),
        ("application/octet-stream", "é", "binary type application/octet-stream"),
        ("application/json", '"\ufffd"', "U+FFFD"),
        ("text/html", "caf\ufffd", "U+FFFD"),
        ("", "half a pair: \ud83d", "does not have"),
        ("text/html; charset=iso-8859-1", "€", "charset iso8859-1 does not have"),
        ("text/html; charset=us-ascii", "é", "charset ascii does not have"),
        ("application/json; charset=utf-16", "{}", "byte order of its charset utf-16"),
    ],
)
def test_what_is_not_certain_is_refused(kind: str, text: str, why: str) -> None:
    with pytest.raises(NotExact, match=why.replace("+", r"\+")):
        content(text, kind)


@pytest.mark.parametrize(
    ("kind", "text", "length", "found"),
    [
        ("text/plain", "é", 1, b"\xe9"),
        ("text/plain", "é", 2, "é".encode()),
        ("application/json", "Ã©", 2, "é".encode()),
        ("application/json", "Ã©", 4, "Ã©".encode()),
        ("application/json", '"\ufffd"', 5, '"\ufffd"'.encode()),
        ("text/html; charset=iso-8859-1", "€", 3, "€".encode()),
        ("application/json", "é", 7, "é".encode()),
    ],
)
def test_the_length_tells_between_charsets(kind: str, text: str, length: int, found: bytes) -> None:
    assert content(text, kind, content_length=str(length)) == found


@pytest.mark.parametrize("about", [{"content_encoding": "gzip"}, {"transfer_encoding": "chunked"}])
def test_the_length_of_something_else_tells_nothing(about: dict[str, str]) -> None:
    assert content("é", "text/plain", content_length="2", **about) == b"\xe9"
    with pytest.raises(NotExact):
        content("\ufffd", "text/plain", content_length="3", **about)


def test_bytes_that_came_beside_the_text_need_no_finding_out() -> None:
    headers = {"content-type": "image/png"}
    assert content_of({"body": "\ufffd", "headers": headers, "body_base64": "/w=="}) == b"\xff"
    assert content_of({"body": "\ufffd", "headers": headers, "body_base64": None}) == "\ufffd".encode()


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(), st.sampled_from(["utf-8", "latin-1", "cp1252"]), st.sampled_from(["text/html", "application/json"]))
def test_what_a_service_decodes_as_it_is_declared_is_exact(body: bytes, charset: str, kind: str) -> None:
    """Or it is refused; never wrong."""
    text = body.decode(charset, "replace")
    try:
        found = content(text, f"{kind}; charset={charset}", content_length=str(len(body)))
    except NotExact:
        assert "\ufffd" in text
    else:
        assert found == body or "\ufffd" in text


@settings(deadline=None)  # a busy machine is no failure
@given(st.text(), st.text(), st.one_of(st.none(), st.binary()))
def test_nothing_that_comes_breaks_it(kind: str, text: str, body: bytes | None) -> None:
    headers = {"content-type": kind, "content-length": text[:3]}
    delivered = {"body": text, "headers": headers}
    with contextlib.suppress(NotExact):
        content_of(delivered)
    if body is not None:
        assert content_of(delivered | {"body_base64": base64.b64encode(body).decode()}) == body
