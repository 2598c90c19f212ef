"""L8 at the receiver's HTTP surface, with a store, against a server as it was recorded or a fake of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from celery import Celery

from celery_ezthrottle.continuations.build_job import webhook_url
from celery_ezthrottle.errors import ConfigurationError, StoreError
from celery_ezthrottle.receiver import sender_key
from celery_ezthrottle.receiver.asgi import Application, create_app
from celery_ezthrottle.service.l8 import Identity, is_signed
from celery_ezthrottle.service.signatures import sign
from celery_ezthrottle.settings.app_settings import Settings
from celery_ezthrottle.settings.l8_keys import key_of, new_private_key
from celery_ezthrottle.store.redis.store import RedisStore
from tests.support.fake_local import RECORDED, signed_headers
from tests.support.upstream import Answer, Received, running

SECRET = RECORDED["webhook_secret"]
PATH = "/ez/hook"
TOKEN = webhook_url(Settings(webhook_url="https://app.example.com", webhook_secret=SECRET), "c0ffee").partition("?")[2]
WEBHOOK = b'{"body":"{}","job_id":"job_1","response_status":200,"status":"completed"}'
NOT_ASCII = '{"body":"ö €","job_id":"job_1","response_status":200,"status":"completed"}'.encode()
AGES = 1e9  # seconds; recorded signatures are old
MINE = Identity(RECORDED["receiver_private_key"])


class Sender:
    """The server at ezthrottle_url, as far as the receiver asks it. Counts how often its key is fetched."""

    def __init__(self) -> None:
        self.identity = Identity(new_private_key())
        self.card: dict[str, Any] | None = None
        self.status = 200
        self.asked = 0
        self.url = ""

    def respond(self, received: Received) -> Answer:
        assert (received.method, received.path) == ("GET", "/.well-known/l8")
        self.asked += 1
        card = self.card if self.card is not None else {"public_key": self.identity.public_key}
        return Answer(self.status, json.dumps(card))

    def signs(self, body: bytes, *, at: float | None = None, by: Identity | None = None) -> dict[str, str]:
        return signed_headers(by or self.identity, body, int(time.time() if at is None else at))

    def challenge(self, *, by: Identity | None = None, nonce: str = "n1", at: float | None = None) -> dict[str, Any]:
        identity = by or self.identity
        return {
            "challenge_id": "c1",
            "nonce": nonce,
            "timestamp": int(time.time() if at is None else at),
            "sender_public_key": identity.public_key,
            "signature": identity.sign(f"c1:{nonce}".encode()),
        }


@pytest.fixture
def sender() -> Iterator[Sender]:
    sender = Sender()
    with running(sender.respond) as sender.url:
        yield sender


@pytest.fixture
def local(app: Celery, store: RedisStore, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> Celery:
    monkeypatch.setattr(sender_key, "FETCH_EVERY", 0.0)
    app.conf.update(
        ezthrottle_dialect="local",
        ezthrottle_url=sender.url,
        ezthrottle_webhook_secret=SECRET,
        ezthrottle_l8_private_key=RECORDED["receiver_private_key"],
    )
    return app


@pytest.fixture
def receiver(local: Celery) -> Application:
    return create_app(local)


def ask(
    receiver: Application, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """What the application answers: status and JSON."""
    sent: list[Any] = []
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(message: Any) -> None:
        sent.append(message)

    async def serve() -> None:
        await receiver(scope, receive, send)

    asyncio.run(serve())
    return sent[0]["status"], json.loads(sent[1]["body"])


def deliver(receiver: Application, body: bytes, headers: Mapping[str, str], query: str = TOKEN) -> int:
    return ask(receiver, "POST", f"{PATH}?{query}" if query else PATH, body, headers)[0]


def challenge(receiver: Application, given: object) -> tuple[int, dict[str, Any]]:
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    return ask(receiver, "POST", "/l8/challenge", body)


# As it was recorded


def test_the_recorded_conversation(local: Celery, sender: Sender, store: RedisStore) -> None:
    """The handshake, and each webhook: with the keys and the signatures of that day."""
    local.conf.ezthrottle_webhook_tolerance = AGES
    sender.card = RECORDED["sender"]
    receiver = create_app(local)
    card, handshake = RECORDED["handshake"]
    status, found = ask(receiver, card["method"], card["path"])
    assert (status, found) == (200, {**card["answer"], "service_name": "celery-ezthrottle"})
    answer = ask(receiver, handshake["method"], handshake["path"], handshake["body"].encode("latin-1"))
    assert answer == (200, handshake["answer"])  # Ed25519 signs alike each time
    for recorded in RECORDED["deliveries"]:
        body, query = recorded["body"].encode("latin-1"), recorded["path"].partition("?")[2]
        assert deliver(receiver, body, recorded["headers"], query) == 200, recorded["name"]
        assert deliver(receiver, body + b" ", recorded["headers"], query) == 401
    assert store.counts().unclaimed == len(RECORDED["deliveries"])
    assert sender.asked > 1


# Deliveries


@pytest.mark.parametrize("sent", [WEBHOOK, NOT_ASCII])
@pytest.mark.parametrize("form", ["as sent", "each byte as a character"])
def test_both_forms_of_a_signature_are_accepted(receiver: Application, sender: Sender, sent: bytes, form: str) -> None:
    signed = sent if form == "as sent" else sent.decode("latin-1").encode()
    assert deliver(receiver, sent, sender.signs(signed)) == 200
    assert sender.asked == 1


def test_the_key_is_fetched_once(receiver: Application, sender: Sender) -> None:
    for _ in range(3):
        assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    assert sender.asked == 1


def test_without_a_token_the_job_id_alone_correlates(receiver: Application, sender: Sender) -> None:
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK), query="") == 200
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK), query="ez=c0ffee.00") == 401


@pytest.mark.parametrize(
    "missing",
    ["", "X-L8-Signature", "X-L8-Timestamp", "X-L8-Key-Id", "X-L8-Delivery-Id"],
    ids=lambda name: name or "all",
)
def test_what_is_not_signed_is_refused_though_its_token_is_good(
    receiver: Application, sender: Sender, missing: str
) -> None:
    headers = {name: value for name, value in sender.signs(WEBHOOK).items() if missing not in {"", name}}
    assert deliver(receiver, WEBHOOK, headers) == 401
    assert sender.asked == 0


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-L8-Signature", "AAAA"),
        ("X-L8-Signature", "no base64"),
        ("X-L8-Signature", MINE.sign(b"")),
        ("X-L8-Timestamp", "1"),
        ("X-L8-Timestamp", "soon"),
        ("X-L8-Timestamp", "9" * 5000),
        ("X-L8-Key-Id", "AAAAAAAAAAA="),
        ("X-L8-Delivery-Id", "another"),
    ],
)
def test_a_header_that_was_changed(receiver: Application, sender: Sender, header: str, value: str) -> None:
    assert deliver(receiver, WEBHOOK, {**sender.signs(WEBHOOK), header: value}) == 401


@pytest.mark.parametrize(("ago", "status"), [(290, 200), (-290, 200), (310, 401), (-310, 401)])
def test_the_clocks_may_differ_by_the_tolerance(receiver: Application, sender: Sender, ago: float, status: int) -> None:
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, at=time.time() - ago)) == status


def test_another_sender_is_refused(receiver: Application, sender: Sender) -> None:
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=Identity(new_private_key()))) == 401
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=MINE)) == 401


def test_what_ezthrottle_signed_is_still_taken(receiver: Application) -> None:
    body = b'{"job_id": "job_1", "status": "success", "response": {"status_code": 200}}'
    assert deliver(receiver, body, {"X-EZThrottle-Signature": sign(SECRET, body, int(time.time()))}) == 200


# The key of the sender


def test_a_new_key_is_found_out(receiver: Application, sender: Sender) -> None:
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    old, sender.identity = sender.identity, Identity(new_private_key())
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    assert sender.asked == 2
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=old)) == 401


def test_wrong_signatures_cause_no_more_than_one_fetch_in_a_while(
    receiver: Application, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_key, "FETCH_EVERY", 3600.0)
    for _ in range(4):
        assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=MINE)) == 401
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    assert sender.asked == 1


@pytest.mark.parametrize(
    ("status", "card"),
    [(503, {}), (404, {}), (302, {}), (200, {}), (200, {"public_key": 5}), (200, {"public_key": "AAAA"}), (200, [])],
)
def test_without_the_senders_key_it_is_asked_to_come_back(
    receiver: Application, sender: Sender, status: int, card: Any
) -> None:
    sender.status, sender.card = status, card
    for _ in range(2):
        assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 503
        assert challenge(receiver, sender.challenge())[0] == 503
    sender.status, sender.card = 200, None
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    sender.status = 503  # now the known key is enough, and tells what is wrong
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 200
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=MINE)) == 401


def test_a_pinned_key_is_the_only_one(local: Celery, sender: Sender) -> None:
    pinned = Identity(new_private_key())
    local.conf.ezthrottle_l8_sender_key = pinned.public_key
    receiver = create_app(local)
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK, by=pinned)) == 200
    assert deliver(receiver, WEBHOOK, sender.signs(WEBHOOK)) == 401
    assert challenge(receiver, sender.challenge())[0] == 401
    assert challenge(receiver, sender.challenge(by=pinned))[0] == 200
    assert sender.asked == 0


# The handshake


def test_the_challenge_is_answered_with_our_signature(receiver: Application, sender: Sender) -> None:
    status, answer = challenge(receiver, sender.challenge(nonce="ö"))
    assert (status, answer["challenge_id"], answer["nonce"]) == (200, "c1", "ö")
    assert answer["receiver_public_key"] == MINE.public_key
    assert is_signed("c1:ö".encode(), answer["receiver_signature"], key_of(MINE.public_key))


def test_a_nonce_is_answered_once_by_all_receivers(local: Celery, receiver: Application, sender: Sender) -> None:
    assert challenge(receiver, sender.challenge())[0] == 200
    for other in (receiver, create_app(local)):
        assert challenge(other, sender.challenge()) == (400, {"error": "The nonce was used before."})
    assert challenge(receiver, sender.challenge(nonce="n2"))[0] == 200


@pytest.mark.parametrize(("ago", "status"), [(290, 200), (-290, 200), (310, 400), (-310, 400)])
def test_a_challenge_may_be_as_old_as_the_tolerance(
    receiver: Application, sender: Sender, ago: float, status: int
) -> None:
    assert challenge(receiver, sender.challenge(at=time.time() - ago))[0] == status


def test_only_the_sender_may_challenge_and_only_with_its_signature(
    receiver: Application, sender: Sender, store: RedisStore
) -> None:
    stranger = Identity(new_private_key())
    assert challenge(receiver, sender.challenge(by=stranger))[0] == 401
    forged = {**sender.challenge(by=stranger), "sender_public_key": sender.identity.public_key}
    assert challenge(receiver, forged)[0] == 401
    assert challenge(receiver, {**sender.challenge(), "nonce": "n2"})[0] == 401
    assert store.take_nonce("n1", "me", time.time()) == "me"  # strangers use up no nonce


@pytest.mark.parametrize(
    "changed",
    [
        *(
            {name: value}
            for name in ("challenge_id", "nonce", "sender_public_key", "signature")
            for value in (None, "", 5)
        ),
        *({"timestamp": value} for value in (None, "1", True, 1.5, -1, 10**400)),
        {"sender_public_key": "no base64"},
        {"nonce": "half a pair \ud83d"},
    ],
    ids=str,
)
def test_a_malformed_challenge(receiver: Application, sender: Sender, changed: dict[str, Any]) -> None:
    assert challenge(receiver, sender.challenge() | changed)[0] == 400
    assert sender.asked == 0


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"[]", 400), (b'{"a": ' + b"9" * 5000, 413), (b" " * 4097, 413)]
)
def test_what_is_no_challenge(receiver: Application, body: bytes, status: int) -> None:
    assert challenge(receiver, body)[0] == status


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/.well-known/l8"), ("HEAD", "/.well-known/l8"), ("GET", "/l8/challenge")]
)
def test_another_method_is_405(receiver: Application, method: str, path: str) -> None:
    assert ask(receiver, method, path)[0] == 405
    assert ask(receiver, method, f"{path}/")[0] == 404


def test_a_lost_store_is_503(receiver: Application, sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> bool:
        raise StoreError("The continuation store cannot be reached.")

    monkeypatch.setattr(RedisStore, "take_nonce", lose)
    assert challenge(receiver, sender.challenge())[0] == 503


# Settings


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"ezthrottle_l8_private_key": "AAAA"}, r"ezthrottle_l8_private_key is not a key of 32 bytes.*l8 keygen"),
        ({"ezthrottle_l8_sender_key": "?"}, "ezthrottle_l8_sender_key is not a key of 32 bytes"),
        (
            {"ezthrottle_l8_private_key": "", "ezthrottle_l8_sender_key": MINE.public_key},
            "ezthrottle_l8_sender_key is set without ezthrottle_l8_private_key",
        ),
    ],
)
def test_it_does_not_start_with_wrong_keys(local: Celery, changed: dict[str, str], named: str) -> None:
    local.conf.update(changed)
    with pytest.raises(ConfigurationError, match=named) as caught:
        create_app(local)
    assert "AAAA" not in str(caught.value)
