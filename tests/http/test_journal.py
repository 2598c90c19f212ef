"""The journal: which entry answers a call, what is kept from run to run, and its stored form."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from celery_ezthrottle.http.fingerprint import Fingerprint, fingerprint, varying
from celery_ezthrottle.http.journal import (
    Entry,
    dump_entries,
    for_resume,
    for_retry,
    for_suspension,
    forwarded_entry,
    load_entries,
)
from celery_ezthrottle.http.replay import Match, Replay
from celery_ezthrottle.http.stored_answer import StoredAnswer, StoredError, StoredResponse, dump_answer, load_answer

URL = "https://api.example.com/charges"
OK = StoredResponse(status_code=200, content=b"fine")
LIMITED = StoredResponse(status_code=429)
LOST = StoredError(name="ConnectTimeout", text="too slow")


#: The rule of the task option keep_answers="retries".
keeping = functools.partial(for_retry, keep_answers=True)


def call(body: str | None = None, *, method: str = "POST", url: str = URL) -> Fingerprint:
    return fingerprint(method, url, None if body is None else body.encode())


def entry(
    body: str | None = None, answer: StoredAnswer | None = OK, *, forwarded: bool = False, **kwargs: str
) -> Entry:
    return Entry(fingerprint=call(body, **kwargs), answer=answer, forwards=int(forwarded))


def waiting(body: str, forwards: int = 1) -> Entry:
    """The entry of a call that is being forwarded."""
    return replace(entry(body, None), forwards=forwards, key="the key")


def ok(text: str) -> StoredResponse:
    return StoredResponse(status_code=200, content=text.encode())


def answers(entries: Sequence[Entry], *calls: Fingerprint) -> list[Any]:
    """What each call gets: the text of an answer, or the match that is none."""
    replay, found = Replay(entries), []
    for made in calls:
        match, used = replay.match(made)
        answered = match is Match.ANSWERED and used is not None and isinstance(used.answer, StoredResponse)
        found.append(used.answer.content.decode() if answered else match)  # type: ignore[union-attr]
    return found


# Fingerprints


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (call("a"), call("a")),
        (call(None), call("")),
        (call("a", method="post"), call("a", method="POST")),
        (call("a", url=f"{URL}#top"), call("a", url=URL)),
    ],
)
def test_the_same_request_has_the_same_fingerprint(same: Fingerprint, other: Fingerprint) -> None:
    assert same == other


@pytest.mark.parametrize(
    "other",
    [
        call("b"),
        call("a "),
        call("a", method="PUT"),
        call("a", url=f"{URL}/"),
        call("a", url=f"{URL}?page=2"),
        call("a", url="http://api.example.com/charges"),
        call("a", url="https://api.example.com:8443/charges"),
        call("a", url=f"{URL}/{uuid4()}"),
    ],
)
def test_another_request_has_another_fingerprint_also_loosely(other: Fingerprint) -> None:
    assert other.exact != call("a").exact
    assert other.loose != call("a").loose


def test_head_and_body_are_not_confused() -> None:
    assert call("x\ny", url=URL).exact != fingerprint("POST", URL + "x", b"y").exact


@pytest.mark.parametrize("url", [f"{URL}?page=2", f"{URL}#top"])
def test_the_place_is_origin_and_path(url: str) -> None:
    assert call("b", url=url, method="PUT").place == call("a").place
    assert call("a", url=f"{URL}/2").place != call("a").place
    assert call("a", url=URL.replace("https", "http")).place != call("a").place


@pytest.mark.parametrize(
    ("method", "safe"),
    [("GET", True), ("head", True), ("OPTIONS", True), ("POST", False), ("PUT", False), ("X", False)],
)
def test_safe_methods(method: str, safe: bool) -> None:
    assert call(method=method).safe is safe


def test_a_fingerprint_shows_nothing_of_the_request() -> None:
    found = fingerprint("POST", "https://user:s3cr3t@example.com/s3cr3t", b"s3cr3t")
    assert "s3cr3t" not in repr(found)
    assert all(len(digest) == 32 for digest in (found.exact, found.loose, found.place))


# What is masked

UUID_A, UUID_B = "0b9b3c1c-9d55-4f4e-9c8e-1f0a2b3c4d5e", "F47AC10B-58CC-4372-A567-0E02B2C3D479"


@pytest.mark.parametrize(
    ("one", "another"),
    [
        (f'{{"key": "{UUID_A}"}}', f'{{"key": "{UUID_B}"}}'),
        (f"urn:uuid:{UUID_A}&n=1", f"urn:uuid:{UUID_B}&n=1"),
        ("key=0b9b3c1c9d554f4e9c8e1f0a2b3c4d5e", "key=F47AC10B58CC4372A5670E02B2C3D479"),
        ("2026-01-02T03:04:05Z", "2026-11-12T13:14:15Z"),
        ("2026-01-02T03:04:05.678901+00:00", "2027-01-02T03:04:05.1+02:00"),
        ("2026-01-02T03:04", "2026-01-02T03:05"),
        ("2026-01-02 03:04:05", "2026-01-02 03:04:06"),
        ("at=2026-01-02T03%3A04%3A05%2B00%3A00", "at=2026-01-02T03%3A04%3A06%2B00%3A00"),
        ("at=2026-01-02+03%3A04%3A05", "at=2026-01-02+03%3A04%3A06"),
        ('{"at": 1763674210}', '{"at": 1763674211}'),
        ('{"at": 1763674210.5}', '{"at": 1763674211.25}'),
        ("t=1763674210123", "t=1763674210124"),
        ("t=1763674210123456", "t=1763674210123457"),
        ("t=1763674210123456789", "t=1763674210123456780"),
    ],
)
def test_masked(one: str, another: str) -> None:
    assert call(one).exact != call(another).exact
    assert call(one).loose == call(another).loose


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ('{"item": 1}', '{"item": 4}'),
        ('{"order": "A-100"}', '{"order": "A-101"}'),
        ('{"order": 2000000001}', '{"order": 2000000002}'),
        ('{"phone": "+15551234567"}', '{"phone": "+15551234568"}'),
        ('{"day": "2026-01-02"}', '{"day": "2026-01-03"}'),
        ('{"amount": 1.1763674210}', '{"amount": 1.1763674211}'),
        ('{"amount": 1763674210.50, "n": 1}', '{"amount": 1763674210.50, "n": 2}'),
        ("id=0b9b3c1c9d554f4e9c8e1f0a2b3c4d5e0", "id=f47ac10b58cc4372a5670e02b2c3d4790"),
        ('{"sha": "' + "a" * 40 + '"}', '{"sha": "' + "b" * 40 + '"}'),
        ('{"email": "ann@example.com"}', '{"email": "bob@example.com"}'),
    ],
)
def test_not_masked(one: str, another: str) -> None:
    assert call(one).loose != call(another).loose


def test_any_bytes_can_be_digested() -> None:
    binary = bytes(range(256))
    assert fingerprint("POST", URL, binary).exact != fingerprint("POST", URL, binary[::-1]).exact
    assert fingerprint("POST", "https://h/\udc80", b"").exact


# Which entry answers


def test_without_entries_every_call_goes_out() -> None:
    replay = Replay()
    assert replay.ended
    assert answers((), call("a"), call("a")) == [Match.SEND, Match.SEND]


def test_item_4_never_gets_the_answer_of_item_1() -> None:
    entries = [entry(f'{{"item": {n}}}', ok(f"item {n}"), method="GET") for n in (1, 2, 3)]
    assert answers(entries, call('{"item": 4}', method="GET")) == [Match.SEND]


def test_items_are_answered_by_their_own_entry_in_any_order() -> None:
    entries = [entry(f'{{"item": {n}}}', ok(f"item {n}")) for n in (1, 2, 3)]
    assert answers(entries, call('{"item": 2}'), call('{"item": 1}'), call('{"item": 3}')) == [
        "item 2",
        "item 1",
        "item 3",
    ]


def test_a_loop_that_skips_finished_items_leaves_their_entries_unused() -> None:
    entries = [entry(f'{{"item": {n}}}', ok(f"item {n}")) for n in (1, 2)]
    entries.append(entry('{"item": 3}', ok("item 3"), forwarded=True))
    assert answers(entries, call('{"item": 3}'), call('{"item": 4}'), call('{"item": 5}')) == [
        "item 3",
        Match.SEND,
        Match.SEND,
    ]


def test_equal_calls_are_answered_in_their_order_and_once_each() -> None:
    entries = [entry(None, ok(text), method="GET") for text in ("first", "second")]
    entries.append(entry("last"))
    assert answers(entries, *[call(None, method="GET")] * 3) == ["first", "second", Match.SEND]


def test_the_same_body_comes_before_one_that_is_only_loosely_the_same() -> None:
    entries = [entry(f"key={UUID_A}", ok("a")), entry(f"key={UUID_B}", ok("b")), entry("last")]
    assert answers(entries, call(f"key={UUID_B}"), call(f"key={UUID_A}")) == ["b", "a"]


def test_a_body_with_a_fresh_uuid_and_time_is_answered() -> None:
    entries = [entry(f"key={uuid4()}&at=1763674210", ok("charged")), entry("last")]
    assert answers(entries, call(f"key={uuid4()}&at=1763674999")) == ["charged"]


def test_a_query_with_a_fresh_uuid_or_time_is_answered() -> None:
    def search(request_id: object, until: str) -> Fingerprint:
        return fingerprint("GET", f"{URL}?q=tracks&to={until}&request_id={request_id}", None)

    entries = [Entry(fingerprint=search(uuid4(), "1763674210.123"), answer=ok("found"), forwards=1)]
    assert answers(entries, search(uuid4(), "1763674299.456")) == ["found"]
    assert search(1, "1763674210") != search(2, "1763674210")


def test_items_whose_queries_uuids_tell_apart_never_get_each_others_answer() -> None:
    one, two, three = (fingerprint("GET", f"{URL}?order={uuid4()}", None) for _ in range(3))
    entries = [Entry(fingerprint=each, answer=ok(name)) for each, name in ((one, "one"), (two, "two"))]
    assert answers(entries, three, one, two) == [Match.SEND, "one", "two"]


def test_items_that_uuids_tell_apart_never_get_each_others_answer() -> None:
    one, two, three = (f"order={uuid4()}" for _ in range(3))
    entries = [entry(one, ok("one")), entry(two, ok("two"), forwarded=True)]
    assert answers(entries, call(three)) == [Match.MISMATCH]
    assert answers(entries, call(two), call(three)) == ["two", Match.SEND]


def test_a_uuid_that_came_again_is_not_a_fresh_one() -> None:
    one, two = (f"order={uuid4()}" for _ in range(2))
    entries = [entry(one, ok("one")), entry(one, LIMITED), entry("last", OK, forwarded=True)]
    assert answers(entries, call(one), call(two)) == ["one", Match.MISMATCH]


@pytest.mark.parametrize("item", [UUID_A, "1763674210"])
def test_what_is_in_the_arguments_of_the_task_is_not_masked(item: str) -> None:
    stable = varying(repr((["x"], {"order": item})))
    assert stable == {item.encode().replace(b"-", b"")}
    one = fingerprint("POST", URL, f"order={item}&id={uuid4()}".encode(), lambda: stable)
    again = fingerprint("POST", URL, f"order={item}&id={uuid4()}".encode(), lambda: stable)
    other = fingerprint("POST", URL, f"order={uuid4()}&id={uuid4()}".encode(), lambda: stable)
    assert one.loose == again.loose != other.loose


def test_tries_with_a_fresh_key_each_are_answered_in_their_order() -> None:
    tries = [entry(f"key={uuid4()}", LIMITED), entry(f"key={uuid4()}", LIMITED)]
    entries = [*tries, entry(f"key={uuid4()}", ok("charged"), forwarded=True)]
    replay = Replay(entries)
    found = [replay.match(call(f"key={uuid4()}"))[1] for _ in range(3)]
    assert found == entries


def test_the_method_must_be_the_same() -> None:
    entries = [entry("a", method="GET"), entry("last")]
    assert answers(entries, call("a", method="HEAD")) == [Match.SEND]


def test_using_the_last_entry_ends_the_replay_for_safe_calls() -> None:
    replay = Replay([entry("a", method="GET"), entry("b", forwarded=True)])
    assert replay.match(call("b"))[0] is Match.ANSWERED
    assert replay.ended
    assert replay.match(call("a", method="GET")) == (Match.SEND, None)


def test_a_loop_that_polls_goes_on_after_the_forwarded_call() -> None:
    polled = [entry(None, ok("pending"), method="GET", url=f"{URL}/1") for _ in range(2)]
    entries = [entry("a", ok("made")), *polled, replace(polled[0], answer=ok("forwarded"), forwards=1)]
    poll = call(None, method="GET", url=f"{URL}/1")
    assert answers(entries, call("a"), *[poll] * 4) == ["made", "pending", "pending", "forwarded", Match.SEND]
    # Also one whose calls are unsafe: each entry is used once.
    entries = [entry("a", ok("pending")), entry("a", ok("forwarded"), forwarded=True)]
    assert answers(entries, *[call("a")] * 3) == ["pending", "forwarded", Match.SEND]


@pytest.mark.parametrize("answer", [ok("a"), StoredResponse(status_code=409, content=b"a")], ids=["success", "failure"])
def test_an_unsafe_call_that_was_answered_is_not_sent_after_the_end_either(answer: StoredAnswer) -> None:
    entries = [entry("a", answer), entry("b", ok("b"), forwarded=True)]
    assert answers(entries, call("b"), call("a"), call("a")) == ["b", "a", Match.SEND]
    replay = Replay(entries)
    for made in (call("b"), call("a")):
        replay.match(made)
        assert replay.ended


def test_after_the_end_a_fresh_uuid_is_matched_as_before_it() -> None:
    forwarded = entry("b", ok("b"), forwarded=True)
    entries = [entry(f"id={UUID_A}", ok("a")), forwarded]
    assert answers(entries, call("b"), *[call(f"id={uuid4()}") for _ in range(2)]) == ["b", "a", Match.SEND]
    items = [entry(f"order={UUID_A}", ok("one")), entry(f"order={UUID_B}", ok("two"))]
    assert answers([*items, forwarded], call("b"), call(f"order={uuid4()}")) == ["b", Match.SEND]


def test_after_the_end_what_failed_in_a_retried_run_goes_out() -> None:
    assert answers(keeping([entry("a", LOST), entry("b", ok("b"))]), call("b"), call("a")) == ["b", Match.SEND]


def test_the_replay_goes_on_while_the_last_entry_is_unused() -> None:
    replay = Replay([entry("a"), entry("b", forwarded=True)])
    assert replay.match(call("a"))[0] is Match.ANSWERED
    assert replay.match(call(None, method="GET", url=f"{URL}/new"))[0] is Match.SEND
    assert not replay.ended
    assert replay.match(call("b"))[0] is Match.ANSWERED


def test_an_error_is_an_answer() -> None:
    assert Replay([entry("a", LOST)]).match(call("a")) == (Match.ANSWERED, entry("a", LOST))


# Unsafe calls without an entry


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("url", [URL, f"{URL}?dry=1"])
def test_an_unsafe_call_to_the_place_of_an_unused_unsafe_entry_is_a_mismatch(method: str, url: str) -> None:
    assert answers([entry('{"amount": 5}')], call('{"amount": 6}', method=method, url=url)) == [Match.MISMATCH]


def test_a_mismatch_uses_nothing_up() -> None:
    assert answers([entry("a", ok("a"))], call("b"), call("a")) == [Match.MISMATCH, "a"]


@pytest.mark.parametrize(
    ("known", "made"),
    [
        (entry("a"), call("b", method="GET")),
        (entry("a"), call("b", url=f"{URL}/2")),
        (entry("a"), call("b", url="https://other.example.com/charges")),
        (entry("a", method="GET"), call("b")),
    ],
)
def test_other_calls_without_an_entry_go_out(known: Entry, made: Fingerprint) -> None:
    assert answers([known, entry("last", url="https://last.example.com/")], made) == [Match.SEND]


def test_an_unsafe_call_goes_out_when_the_entries_of_its_place_are_used() -> None:
    assert answers([entry("a", ok("a")), entry("last", url=f"{URL}/last")], call("a"), call("b")) == ["a", Match.SEND]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_after_the_end_only_an_unknown_outcome_makes_a_mismatch(method: str) -> None:
    last = entry("last", ok("last"), forwarded=True)
    known, unknown = entry("a", ok("a")), replace(waiting("a"), unknown=True)
    assert answers([known, last], call("last"), call("b", method=method)) == ["last", Match.SEND]
    assert answers([unknown, last], call("last"), call("b", method=method)) == ["last", Match.MISMATCH]
    elsewhere, safe = call("b", url=f"{URL}/2"), call("b", method="GET")
    assert answers([unknown, last], call("last"), elsewhere, safe) == ["last", Match.SEND, Match.SEND]
    assert answers([unknown, last], call("last"), call("a"), call("b")) == ["last", Match.FORWARD, Match.SEND]


# From run to run


def test_a_suspension_adds_the_calls_of_the_run_and_the_forwarded_one_last() -> None:
    made = for_suspension([entry("a")], [entry("b"), entry("c", LIMITED)], waiting("d"))
    assert made == (entry("a"), entry("b"), entry("c", LIMITED), waiting("d"))


@pytest.mark.parametrize("failed", [LIMITED, LOST, StoredResponse(status_code=400), None])
def test_failed_tries_at_the_forwarded_request_are_superseded(failed: StoredAnswer | None) -> None:
    made = for_suspension([], [entry("d", failed), entry("c"), entry("d", failed)], waiting("d"))
    assert made == (entry("c"), waiting("d"))


def test_earlier_success_of_the_forwarded_request_and_failed_tries_at_others_are_kept() -> None:
    kept = [entry("d"), entry("c", LIMITED), entry(f"k={UUID_A}", LIMITED)]
    assert for_suspension([], kept, waiting("d"))[:-1] == tuple(kept)
    assert for_suspension([], kept, waiting(f"k={UUID_B}"))[:-1] == tuple(kept)


def test_the_answer_goes_to_the_entry_that_waits() -> None:
    entries = (entry("a", LIMITED, forwarded=True), entry("b"), entry("c", None), entry("d", None, forwarded=True))
    assert for_resume(entries, OK) == (*entries[:3], replace(entry("d", OK, forwarded=True), unseen=True))


@pytest.mark.parametrize(
    "other", [replace(waiting("a"), unknown=True), waiting("a")], ids=["unknown", "refused by the service"]
)
def test_the_answer_goes_to_no_other_entry(other: Entry) -> None:
    answered = for_resume((other, waiting("b")), ok("b"))
    assert answered == (other, replace(waiting("b"), answer=ok("b"), unseen=True))
    # As for a run that takes over.
    assert for_resume((*answered, entry("c")), ok("b")) == (*answered, entry("c"))
    assert forwarded_entry((*answered, entry("c"))) == answered[-1]
    assert for_resume((replace(other, unknown=True),), ok("b")) == (replace(other, unknown=True),)


LOOK_UP = call(None, method="GET", url=f"{URL}/look-up")


def test_a_retry_of_celery_begins_again() -> None:
    found = Entry(fingerprint=LOOK_UP, answer=OK, forwards=1)
    kept = for_retry([entry("a"), found, entry("b", LIMITED, forwarded=True), entry("c", forwarded=True)])
    calls = [call("c"), LOOK_UP, call("a"), call("another one"), call("b"), call("a")]
    assert answers(kept, *calls) == [Match.SEND] * len(calls)
    assert all(made.answer is None and made.forwards == 0 for made in kept)


def test_an_answer_that_is_final_is_of_a_call_that_no_option_lets_be_forwarded_again() -> None:
    stored = dump_entries(for_resume([entry("a"), waiting("b")], ok("b"), is_final=True))
    first, forwarded = load_entries(stored)
    assert first.forwards == 0
    assert forwarded.forwards > 10**9
    (retried,) = for_retry([replace(forwarded, unseen=False)])
    assert retried.forwards == 0  # a retry by Celery begins again


def test_a_retry_keeps_an_answer_that_no_run_has_used() -> None:
    resumed = for_resume([entry("a"), waiting("b")], ok("b"))
    assert for_retry(resumed) == resumed
    assert for_retry(for_retry(load_entries(dump_entries(resumed)))) == resumed
    replay = Replay(resumed)
    assert (replay.match(call("a"))[0], replay.stalled) == (Match.ANSWERED, resumed[-1])
    assert (replay.match(call("b"))[0], replay.stalled) == (Match.ANSWERED, None)
    assert answers(for_retry(replay.kept), call("a"), call("b")) == [Match.SEND, Match.SEND]


def test_an_earlier_version_has_not_said_whether_an_answer_was_used() -> None:
    stored = json.loads(dump_entries(for_resume([waiting("a")], OK)))
    for name in ("target", "query", "unseen", "after", "since", "stalls"):
        del stored[0][name]
    (loaded,) = load_entries(json.dumps(stored).encode())
    assert loaded.unseen
    assert answers(for_retry([loaded]), call("a")) == ["fine"]


def test_across_a_retry_of_celery_answers_that_succeeded_stay_and_failed_ones_are_asked_for_again() -> None:
    earlier = [entry("a"), entry("b", LIMITED, forwarded=True), entry("c", forwarded=True)]
    made = keeping([*earlier, entry("d"), entry("e", LOST), entry("f", StoredResponse(status_code=404))])
    assert made == (entry("a"), entry("b", None), entry("c"), entry("d"), entry("e", None), entry("f", None))
    sent = Match.SEND
    assert answers(made, *map(call, "abcdef")) == ["fine", sent, "fine", "fine", sent, sent]


def test_a_retry_has_news_of_what_is_safe() -> None:
    pending = Entry(fingerprint=LOOK_UP, answer=ok("pending"), forwards=1, key="the key")
    assert keeping([Entry(fingerprint=LOOK_UP, answer=LIMITED)]) == ()
    assert answers(keeping([pending]), LOOK_UP, LOOK_UP) == [Match.SEND, Match.SEND]
    assert answers(keeping([entry("a"), pending, pending]), call("a"), LOOK_UP) == ["fine", Match.SEND]
    # What was answered to it may be what the body of a later call was made of.
    assert answers(keeping([pending, entry("a"), pending]), LOOK_UP, call("a"), LOOK_UP) == [
        "pending",
        "fine",
        Match.SEND,
    ]
    assert answers(keeping([pending, entry("a", LOST)]), LOOK_UP, call("a")) == [Match.SEND, Match.SEND]
    # A job that may be running is asked for under its key.
    unknown = replace(pending, answer=StoredError(name="OutcomeUnknown", text="nobody knows"))
    assert answers(keeping([unknown]), LOOK_UP) == [Match.FORWARD]


def test_a_retry_knows_the_key_of_what_was_forwarded() -> None:
    (kept,) = keeping([replace(waiting("a"), answer=OK)])
    assert (kept.key, kept.forwards, kept.answer) == (waiting("a").key, 0, OK)
    assert forwarded_entry([kept]) is None


def test_a_call_whose_outcome_is_unknown_is_never_sent_again() -> None:
    unknown = StoredError(name="OutcomeUnknown", text="nobody knows")
    told = replace(waiting("b"), answer=unknown)
    assert answers([entry("a"), told], call("a"), call("b")) == ["fine", Match.ANSWERED]

    made = keeping([entry("a"), told])
    assert made == (entry("a"), replace(waiting("b"), unknown=True))
    for retried in (made, keeping(made), load_entries(dump_entries(made))):
        assert answers(retried, call("a"), call("b")) == ["fine", Match.FORWARD]
        assert answers(retried, call("a"), call("other")) == ["fine", Match.MISMATCH]


def suspended(entries: Sequence[Entry], calls: Sequence[Entry], forwarded: Fingerprint, text: str) -> tuple[Entry, ...]:
    """The journal of the run that is resumed with this answer to the forwarded call."""
    waits = Entry(fingerprint=forwarded, answer=None, forwards=1, key="another key")
    return for_resume(load_entries(dump_entries(for_suspension(entries, calls, waits))), ok(text))


def test_a_call_whose_outcome_is_unknown_is_not_sent_after_a_new_call_that_was_forwarded_either() -> None:
    told = replace(waiting("a"), answer=StoredError(name="OutcomeUnknown", text="nobody knows"))
    retried = keeping([told])
    assert answers(retried, LOOK_UP) == [Match.SEND]  # and is limited
    resumed = suspended(retried, [], LOOK_UP, "not found")
    assert answers(resumed, LOOK_UP, call("a")) == ["not found", Match.FORWARD]
    assert answers(resumed, LOOK_UP, LOOK_UP, call("a")) == ["not found", Match.SEND, Match.FORWARD]
    # Forwarded under its key, it is the last entry, and each has its own answer.
    answered = for_resume(for_suspension(resumed, [], waiting("a")), ok("charged"))
    assert answers(answered, LOOK_UP, call("a"), call("a")) == ["not found", "charged", Match.SEND]
    # Retried by Celery instead, once its answer was used, it stays unknown.
    used = Replay(resumed)
    used.match(LOOK_UP)
    assert answers(keeping(used.kept), LOOK_UP, call("a")) == [Match.SEND, Match.FORWARD]


def test_a_call_that_was_answered_before_a_retry_is_not_sent_after_a_new_call_that_was_forwarded() -> None:
    retried = keeping([entry("first", ok("first"), forwarded=True), entry("a", ok("charged"))])
    resumed = suspended(retried, [], LOOK_UP, "found")
    assert answers(resumed, call("first"), LOOK_UP, call("a"), call("a")) == ["first", "found", "charged", Match.SEND]


def test_a_call_that_a_dead_run_had_answered_is_not_sent_after_an_earlier_one_that_was_forwarded() -> None:
    limited = Entry(fingerprint=LOOK_UP, answer=LIMITED)
    taken_over = for_resume([entry("first", ok("first"), forwarded=True), limited, entry("a", ok("charged"))])
    assert answers(taken_over, call("first"), LOOK_UP, LOOK_UP) == ["first", "", Match.SEND]
    resumed = suspended(taken_over, [], LOOK_UP, "found")
    assert answers(resumed, call("first"), LOOK_UP, call("a")) == ["first", "found", "charged"]


def test_failed_tries_with_another_key_do_not_hide_an_unknown_outcome() -> None:
    one, two, three, four = (f"id={uuid4()}" for _ in range(4))
    told = replace(waiting(two), answer=StoredError(name="OutcomeUnknown", text="nobody knows"))
    retried = keeping([entry(one, LIMITED), told])
    assert answers(retried, call(three)) == [Match.FORWARD]
    # Forwarded with the fresh id, the entry is superseded: what it waits for is the same job.
    made = for_suspension(retried, [], waiting(three))
    assert made == (entry(one, None), waiting(three))
    assert answers(for_resume(made, ok("charged")), call(four), call("b")) == ["charged", Match.SEND]


@pytest.mark.parametrize("key", ["another key", None])
def test_an_unknown_outcome_is_superseded_by_no_other_job(key: str | None) -> None:
    unknown = replace(waiting(f"order={UUID_A}"), unknown=True, key=key and "the key")
    assert for_suspension([unknown], [], replace(waiting(f"order={UUID_B}"), key=key))[0] == unknown
    # A key of the user's own may be that of two calls.
    unknown = replace(unknown, key="the key")
    assert for_suspension([unknown], [], waiting("b"))[0] == unknown


def test_a_failed_try_of_an_earlier_run_does_not_hide_the_answer_the_service_gave_later() -> None:
    retried = keeping([entry("a", ok("a")), entry("b", LOST)])
    entries = for_resume(for_suspension(retried, [], waiting("b")), ok("by the service"))
    assert answers(entries, call("a"), call("b")) == ["a", "by the service"]


def test_a_request_that_is_forwarded_again_gets_its_new_answer_only() -> None:
    before = [entry("a"), entry("d", LIMITED, forwarded=True)]
    made = for_suspension(before, [], waiting("d", 2))
    assert made == (entry("a"), waiting("d", 2))
    assert answers(for_resume(made, ok("at last")), call("a"), call("d")) == ["fine", "at last"]


@pytest.mark.parametrize("status", [401, 404, 409, 422, 429, 503])
def test_a_call_that_was_made_again_with_a_fresh_uuid_has_its_answers_in_their_order(status: int) -> None:
    refused = StoredResponse(status_code=status, content=b"no")
    entries = [entry(f"id={uuid4()}", refused), entry(f"id={uuid4()}", refused), entry(f"id={uuid4()}"), entry("last")]
    assert answers(entries, *(call(f"id={uuid4()}") for _ in range(3))) == ["no", "no", "fine"]


def test_a_uuid_that_came_before_is_not_a_fresh_one() -> None:
    entries = [entry(f"id={UUID_A}", LIMITED), entry(f"id={UUID_B}"), entry("last")]
    assert answers(entries, call(f"id={uuid4()}"), call(f"id={UUID_A}")) == ["", Match.MISMATCH]


def test_a_run_that_takes_over_has_what_the_dead_one_was_answered() -> None:
    kept = (entry("a"), entry("b", LIMITED, forwarded=True), entry("c"), entry("d", StoredResponse(status_code=402)))
    # What the service said about the forwarded call stays its last word.
    assert for_resume(kept, ok("other")) == kept
    assert answers(kept, *map(call, "abcd"), call("e")) == ["fine", "", "fine", "", Match.SEND]
    # Celery retries that run, and it makes again what failed.
    assert answers(keeping(kept), *map(call, "abcd")) == ["fine", Match.SEND, "fine", Match.SEND]


def test_an_answer_that_could_not_be_kept_is_asked_for_again_by_a_retry_and_not_by_a_run_that_takes_over() -> None:
    kept = load_entries(dump_entries([entry("a"), replace(entry("b", None), unknown=True), entry("c")]))
    assert answers(keeping(kept), *map(call, "abc")) == ["fine", Match.SEND, "fine"]
    taken_over = for_resume(kept)
    for entries in (taken_over, keeping(taken_over), for_resume(load_entries(dump_entries(taken_over)))):
        assert [made.unknown for made in entries] == [False] * 3
        match, found = Replay(entries).match(call("b"))
        assert match is Match.ANSWERED
        assert found is not None
        assert isinstance(found.answer, StoredError)
        assert (found.answer.name, "was not sent again" in found.answer.text) == ("OutcomeUnknown", True)


@pytest.mark.parametrize("forwards", [0, 1], ids=["a dead run had its answer", "the service had answered it"])
def test_the_answer_of_the_forwarded_call_is_superseded_though_its_uuid_is_another_one(forwards: int) -> None:
    limited = replace(entry(f"k={UUID_A}", LIMITED), forwards=forwards)
    made = for_suspension([entry("a"), limited], [], waiting(f"k={UUID_B}", forwards + 1), answered_by=limited)
    assert made == (entry("a"), waiting(f"k={UUID_B}", forwards + 1))
    assert answers(for_resume(made, ok("at last")), call("a"), call(f"k={uuid4()}")) == ["fine", "at last"]


@pytest.mark.parametrize("bodies", [("b", "b", "b", "b"), [f"k={uuid4()}" for _ in range(4)]], ids=["alike", "fresh"])
def test_failed_tries_of_an_earlier_run_do_not_hide_the_success_of_a_later_one(bodies: Sequence[str]) -> None:
    one, two, three, again = bodies
    retried = keeping([entry(one, LOST), entry(two, LIMITED)])
    retried = keeping([*retried, entry(three, ok("charged"))])
    entries = for_resume(for_suspension(retried, [], waiting("c")), OK)
    assert answers(entries, call(again)) == ["charged"]


def test_calls_that_fail_in_each_retry_are_kept_once() -> None:
    entries: tuple[Entry, ...] = (entry("a"), entry("b", None))
    for _ in range(5):
        replay = Replay(entries)
        for body in ("b", f"k={uuid4()}"):
            replay.match(call(body))
        entries = keeping([*replay.kept, entry("b", LIMITED), entry(f"k={uuid4()}", LOST)])
        assert [made.answer for made in entries] == [OK, None, None]


def test_a_call_that_failed_in_a_retried_run_may_be_made_with_another_body() -> None:
    assert answers(keeping([entry("a", LOST)]), call("b")) == [Match.SEND]


# The stored form


@pytest.mark.parametrize(
    "answer",
    [
        None,
        LOST,
        StoredError(name="SSLError", text="§"),
        StoredResponse(status_code=204),
        StoredResponse(
            status_code=201,
            reason="Created",
            url=URL,
            method="POST",
            headers=(("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\xe9")),
            content='{"id": "ö"}'.encode(),
            encoding="utf-8",
            elapsed=1.25,
            history=(StoredResponse(status_code=307, content=b"\x00\xff"), StoredResponse(status_code=302)),
        ),
        StoredResponse(status_code=200, content=bytes(range(256)), encoding=None),
        StoredResponse(status_code=200, content="\u2028 \0 ö".encode()),
    ],
)
def test_an_answer_survives_its_stored_form(answer: StoredAnswer | None) -> None:
    stored = json.loads(json.dumps(dump_answer(answer)))
    assert load_answer(stored) == answer


def test_entries_survive_their_stored_form() -> None:
    entries = (entry("a", ok("ö")), entry("b", LOST), entry("c", None), entry("d", None, forwarded=True))
    assert load_entries(dump_entries(entries)) == entries
    assert load_entries(dump_entries(())) == ()
    assert load_entries(b"") == ()


def test_what_is_stored_holds_nothing_of_the_request() -> None:
    stored = dump_entries([entry("s3cr3t", url="https://user:s3cr3t@example.com/s3cr3t")])
    assert b"s3cr3t" not in stored


def test_the_size_of_an_answer_counts_its_hops() -> None:
    hop = StoredResponse(status_code=302, content=b"12")
    assert StoredResponse(status_code=200, content=b"345", history=(hop, hop)).size == 7
    assert LOST.size == len("too slow")


# The one call it can be


@pytest.mark.parametrize(
    ("made", "again"),
    [
        (call("a", url=f"{URL}?request_id={uuid4()}"), call("a", url=f"{URL}?request_id={uuid4()}&v=2")),
        (call('{"digest": "6d7f"}'), call('{"digest": "a01c"}')),
        (call('{"items": [1, 2]}'), call('{"items": [2, 1]}')),
    ],
    ids=["query", "digest", "order"],
)
def test_the_only_unsafe_call_to_a_target_is_the_forwarded_one_whatever_differs(
    made: Fingerprint, again: Fingerprint
) -> None:
    safe = Entry(fingerprint=call("a", method="GET"), answer=OK)
    entries = [safe, Entry(fingerprint=made, answer=ok("charged"), forwards=1)]
    assert answers(entries, again) == ["charged"]
    assert answers(entries, again, again) == ["charged", Match.SEND]
    assert Replay(entries, send_unmatched=True).match(again) == (Match.SEND, None)


def test_what_is_ambiguous_is_a_mismatch_that_says_what_differs() -> None:
    forwarded = Entry(fingerprint=call("b"), answer=OK, forwards=1)
    assert answers([entry("a"), forwarded], call("c")) == [Match.MISMATCH]  # which of the two?
    assert answers([forwarded], call("b", url=f"{URL}/5"), call("c", method="PUT")) == [Match.SEND, Match.MISMATCH]
    assert answers([entry("a")], call("c")) == [Match.MISMATCH]  # not forwarded: it was answered in the earlier run
    # The second call of this run to the place is not the first one of the earlier run.
    two = [entry("a", url=f"{URL}/x"), forwarded]
    assert answers(two, call("b"), call("c")) == ["fine", Match.SEND]
    replay = Replay([entry("a"), forwarded], job_id="job-7")
    assert replay.mismatch(call("c")) == "another body (EZThrottle's job job-7 answered the earlier call)"
    assert "another method" in replay.mismatch(call("b", method="PUT"))
    assert "another query" in replay.mismatch(call("b", url=f"{URL}?page=2"))
    assert "job" not in Replay([entry("a")], job_id="job-7").mismatch(call("c"))


def test_safe_calls_after_the_forwarded_one_are_answered_once_each() -> None:
    """A loop goes on after a limited item; the next run makes the calls in their order."""
    items = [call(None, method="GET", url=f"{URL}/{n}") for n in range(3)]
    after = [Entry(fingerprint=made, answer=ok(f"item {n}"), after=True) for n, made in enumerate(items) if n != 1]
    entries = for_resume(load_entries(dump_entries([*after, Entry(fingerprint=items[1], answer=None, forwards=1)])), OK)
    assert answers(entries, *items, *items) == ["item 0", "fine", "item 2", *[Match.SEND] * 3]
