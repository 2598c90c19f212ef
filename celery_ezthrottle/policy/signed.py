"""Tell whether a request is signed for a time or for one use, so that it would be refused when it is sent later.

There are too many schemes to name them. Nearly all of them put a signature or a MAC beside a time or a nonce: in headers, in the
``Authorization`` header, in the query, or in a form or JSON body. That is what is looked for. A signature without a time, such as
the HMAC of a body, stays valid.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from urllib.parse import unquote, urlsplit

from celery_ezthrottle.http.library import SentRequest

__all__ = ["is_signed"]

#: Schemes of ``Authorization`` whose credentials answer a challenge, or belong to one connection or one request.
_CHALLENGED = re.compile(
    r"(digest|ntlm|negotiate|kerberos|hoba|mutual|concealed|privatetoken|scram-[\w-]+)(\s|$)", re.IGNORECASE
)
#: Claims of a JSON Web Token that is made for one request, as in DPoP: the method, the URL or the query that it signs.
_OF_ONE_REQUEST = frozenset({"htm", "htu", "uri", "uris", "qsh", "bodyhash"})

_AUTHORIZATIONS = frozenset({"authorization", "authentication", "auth"})
_SIGNATURES = frozenset({"signature", "sign", "sig", "hmac", "mac"})
_TIMES = frozenset({"timestamp", "time", "ts", "date", "datetime", "created", "expires", "expiry", "expiration", "exp"})
#: Names that are too short to be a word among others: of Stripe's signature, and of Azure's shared access signatures.
_SHORT_TIMES = frozenset({"t", "se"})
_NONCES = frozenset({"nonce", "tonce"})

#: The words of a name, however it is written: ``X-Hub-Signature``, ``oauth_signature``, ``SignatureNonce``.
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: What may follow the word for a signature: an algorithm or a version, as in ``X-Hub-Signature-256``.
_ALGORITHM = re.compile(r"\d+|v|sha|md|ed|rsa|ecdsa|hex|base")
_PAIR = re.compile(r"""([\w.-]+)\s*=\s*["']?([^"',;&\s]*)""")

_TOKEN = r"[A-Za-z0-9+/_-]{20,1400}={0,2}"  # noqa: S105 -- a pattern
_MAC = re.compile(rf"(?<![\w+/-]){_TOKEN}(?![\w+/-])")
_ID_AND_MAC = re.compile(rf"(?:\S+\s+)?[^\s:,;=]+:{_TOKEN}")
#: A time of day, not only a date: Unix time in s, ms, us or ns; ISO 8601, also the basic form; the form of HTTP. A query has "+"
#: for a blank. It is kept, because it is a part of base64 too.
_TIME = re.compile(
    r"""[12]\d{9}(?:\d{3}|\d{6}|\d{9})?(?!\d)
    | \d{4}-?\d\d-?\d\d[T +]\d\d:?\d\d
    | (?:\w+,\s)?\d\d?[ -]\w{3}[ -]\d{2,4}\s\d\d:\d\d""",
    re.VERBOSE,
)

_Field = tuple[str, str]


def is_signed(sent: SentRequest) -> bool:
    """Return whether ``sent`` carries a signature or a MAC beside a time or a nonce, or credentials that are used once."""
    authorization = sent.header("Authorization") or ""
    if _CHALLENGED.match(authorization) or any(map(_is_of_one_request, sent.headers.values())):
        return True
    outside, inside = [*_of_headers(sent), *_of_query(urlsplit(sent.url).query)], list(_of_body(sent))
    if any(map(_is_signature, outside)):
        # A time in the body is a part of what is signed, such as the time of an event. A nonce there is looked for again.
        return any(map(_is_time, outside)) or any(map(_is_nonce, (*outside, *inside)))
    return any(map(_is_signature, inside)) and any(_is_time(found) or _is_nonce(found) for found in (*outside, *inside))


def _of_headers(sent: SentRequest) -> Iterator[_Field]:
    for name, value in sent.headers.items():
        yield name, value
        words = set(_words(name))
        if words & _AUTHORIZATIONS:
            yield from _of_credentials(value)
        if words & (_AUTHORIZATIONS | _SIGNATURES):
            yield from _PAIR.findall(unquote(value))
        if words & {"payload"}:
            yield from _decoded(value)


def _of_credentials(value: str) -> Iterator[_Field]:
    """Yield the signature of credentials that do not name it: ``HMAC <mac>``, ``SharedKey <account>:<mac>``."""
    scheme, _, rest = value.partition(" ")
    if set(_words(scheme)) & _SIGNATURES or _ID_AND_MAC.fullmatch(value):
        yield "signature", rest.rpartition(":")[2]


def _of_query(query: str) -> Iterator[_Field]:
    for part in query.split("&"):
        name, _, value = part.partition("=")
        yield unquote(name), unquote(value)


def _of_body(sent: SentRequest) -> Iterator[_Field]:
    text = (sent.body or b"").decode("utf-8", "replace")
    if text.startswith("{"):
        yield from _of_object(text)
    elif "form-urlencoded" in (sent.header("Content-Type") or ""):
        yield from _of_query(text)


def _of_object(text: str | bytes) -> Iterator[_Field]:
    """Yield the members of a JSON object that are text or numbers; nothing if ``text`` is no JSON object."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, (str, int, float)):
                yield name, str(value)
            elif isinstance(value, list):
                yield name, ""


def _decoded(value: str) -> Iterator[_Field]:
    """Yield the members of a JSON object in base64."""
    try:
        yield from _of_object(base64.b64decode(value.replace("-", "+").replace("_", "/") + "=="))
    except ValueError:
        return


def _is_of_one_request(value: str) -> bool:
    """Whether a header is a JSON Web Token that is made for one request."""
    token = value.rpartition(" ")[2]
    if not token.startswith("eyJ") or token.count(".") != 2:
        return False
    return any(name.lower() in _OF_ONE_REQUEST for name, _ in _decoded(token.split(".")[1]))


def _is_signature(found: _Field) -> bool:
    name, value = found
    words = _words(name)
    while words and _ALGORITHM.fullmatch(words[-1]):
        words.pop()
    return bool(words) and words[-1] in _SIGNATURES and any(map(_is_opaque, _MAC.findall(value)))


def _is_time(found: _Field) -> bool:
    name, value = found
    words = _words(name)
    return (bool(_TIMES.intersection(words)) or name.lower() in _SHORT_TIMES) and bool(_TIME.match(value))


def _is_nonce(found: _Field) -> bool:
    name, value = found
    return bool(value) and bool(_NONCES.intersection(_words(name)))


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _is_opaque(token: str) -> bool:
    """Whether ``token`` looks like encoded bytes, and not like words."""
    return bool(re.search(r"\d", token)) or not (token.islower() or token.isupper() or token.istitle())
