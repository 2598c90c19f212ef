import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from celery_ezthrottle.errors import InvalidJob
from celery_ezthrottle.service.job import MAX_DEPTH, Job, RetryPolicy, Trigger, Webhook

URL = "https://api.example.com/v1/charges"
HOOK = "https://app.example.com/ezthrottle/webhook"

FULL: dict[str, Any] = {
    "url": URL,
    "method": "POST",
    "headers": {"Content-Type": "application/json"},
    "body": '{"amount": 5}',
    "metadata": {"order": 7, "tags": ["a", None, 1.5, {"deep": True}]},
    "webhooks": [{"url": HOOK, "regions": ["iad"]}, {"url": HOOK, "has_quorum_vote": False}, {"url": HOOK}],
    "webhook_quorum": 2,
    "regions": ["iad", "lax"],
    "region_policy": "strict",
    "execution_mode": "fanout",
    "retry_policy": {"max_retries": 0, "max_reroutes": 2, "retry_codes": [429, 503], "reroute_codes": []},
    "fallback_job": {
        "url": URL,
        "method": "GET",
        "trigger": {"type": "on_error", "codes": [500, 502]},
        "fallback_job": {"url": URL, "method": "GET", "trigger": {"type": "on_timeout", "timeout_ms": 500}},
    },
    "on_success": {"url": URL, "method": "PUT", "on_success": {"url": URL, "method": "GET"}},
    "on_failure": {"url": URL, "method": "DELETE"},
    "on_failure_timeout_ms": 60_000,
    "idempotent_key": "order-7",
    "retry_at": 1_763_674_210_055,
}


def job(**fields: Any) -> Job:
    """A job from untyped values, as options and settings give them."""
    return Job(**{"url": URL, **fields})


# The wire


def test_a_job_on_the_wire_holds_only_what_differs_from_the_defaults() -> None:
    assert Job(URL).to_wire() == {"url": URL, "method": "GET"}


def test_a_full_job_survives_the_wire_and_back() -> None:
    read = Job.from_wire(FULL)
    assert read.to_wire() == FULL
    assert Job.from_wire(json.loads(json.dumps(read.to_wire()))) == read


def test_a_job_is_made_of_plain_dicts_or_of_the_classes() -> None:
    assert job(**{name: value for name, value in FULL.items() if name != "url"}) == Job.from_wire(FULL)
    typed = Job(
        URL,
        webhooks=(Webhook(HOOK, regions=("iad",)),),
        retry_policy=RetryPolicy(max_retries=3, retry_codes=(429,)),
        fallback_job=Job(URL, trigger=Trigger("on_timeout", timeout_ms=5)),
    )
    assert Job.from_wire(typed.to_wire()) == typed


def test_unknown_fields_of_jobs_on_the_wire_are_ignored_at_every_depth() -> None:
    read = Job.from_wire({"url": URL, "customer_id": "c1", "on_success": {"url": URL, "new": 1}})
    assert read == Job(URL, on_success=Job(URL))


def test_null_on_the_wire_is_absence() -> None:
    assert Job.from_wire({"url": URL, **dict.fromkeys([name for name in FULL if name != "url"])}) == Job(URL)


@pytest.mark.parametrize("data", [None, [], "x", 5, {}, {"url": None}, {"method": "GET"}, {"url": 5}, {5: 6}])
def test_what_is_not_a_job_on_the_wire_is_refused(data: Any) -> None:
    with pytest.raises(InvalidJob, match=r"^the job must|^url "):
        Job.from_wire(data)


def test_an_empty_body_is_kept() -> None:
    assert job(body="").to_wire()["body"] == ""
    assert "body" not in job(body=None).to_wire()
    assert Job.from_wire({"url": URL, "body": ""}).body == ""


def test_a_fallback_for_any_failure_has_an_empty_trigger_on_the_wire() -> None:
    wire = Job(URL, fallback_job=Job(URL)).to_wire()
    assert wire["fallback_job"] == {"url": URL, "method": "GET", "trigger": {}}
    assert Job.from_wire(wire) == Job(URL, fallback_job=Job(URL))


def test_an_empty_retry_policy_is_none() -> None:
    assert job(retry_policy={}) == job(retry_policy=RetryPolicy()) == Job(URL)
    assert job(retry_policy={"retry_codes": []}).to_wire()["retry_policy"] == {"retry_codes": []}


def test_codes_given_as_a_set_are_sorted() -> None:
    assert job(retry_policy={"retry_codes": {503, 429}}).to_wire()["retry_policy"] == {"retry_codes": [429, 503]}


# Nothing is shared


def test_a_job_shares_nothing_with_what_it_was_made_from() -> None:
    given = copy.deepcopy(FULL)
    made = job(**given)
    given["webhooks"].append({"url": "https://other.example.com/"})
    given["webhooks"][0]["regions"].append("ord")
    given["regions"].append("ord")
    given["headers"]["X-Later"] = "1"
    given["metadata"]["tags"].append("later")
    given["on_success"]["url"] = "nonsense"
    assert made.to_wire() == FULL


def test_the_wire_form_shares_nothing_with_the_job() -> None:
    made = job(**FULL)
    for _ in range(2):  # the SDK's list of webhooks grew with every use
        wire = made.to_wire()
        assert wire == FULL
        wire["webhooks"].append({})
        wire["headers"].clear()
        wire["metadata"]["tags"].clear()
        wire["fallback_job"]["fallback_job"]["trigger"].clear()


def test_a_job_is_frozen_can_be_pickled_and_changed_by_replace() -> None:
    made = job(**FULL)
    with pytest.raises(FrozenInstanceError):
        made.url = "x"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(made)) == made
    assert replace(made, idempotent_key="other").to_wire() == {**FULL, "idempotent_key": "other"}


# Validation


def test_the_method_is_kept_in_upper_case() -> None:
    assert job(method="post").method == "POST"
    assert job(method="m-Search").to_wire()["method"] == "M-SEARCH"


def test_headers_may_hold_anything_latin_1() -> None:
    headers = {"X-Name": "caf\u00e9 \t;=,\x80", "x!#$%&'*+.^_`|~9": ""}
    assert job(headers=headers).to_wire()["headers"] == headers


@pytest.mark.parametrize(
    "url", ["http://h", "HTTPS://h:443/p?q#f", "http://u:p@h/", "http://[::1]:80/", "http://bücher.example/"]
)
def test_urls_that_are_fine(url: str) -> None:
    assert Job(url).url == url


BAD_URLS = [
    None, 5, b"http://h", "", "/p", "h", "h.example/p", "ftp://h", "http://", "http:///p", "http://:80/", "http://[::1/",
    "http://h:x/", "http://h:0/", "http://h:99999/", "http://h/a b", " http://h", "http://h\n", "http://h/\x00", "http://h/\ud800",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_urls_that_are_not(url: Any) -> None:
    with pytest.raises(InvalidJob, match=r"^url must|^url holds"):
        job(url=url)
    with pytest.raises(InvalidJob, match=r"^webhooks\[1\]\.url "):
        job(webhooks=[{"url": HOOK}, {"url": url or ""}])


TRIGGERS: list[Any] = [
    5, {"type": "x"}, {"codes": [500]}, {"type": "on_error"}, {"type": "on_timeout"},
    {"type": "on_timeout", "timeout_ms": 0}, {"type": "on_timeout", "timeout_ms": True},
    {"type": "on_error", "codes": [500], "timeout_ms": 5}, {"type": "on_timeout", "timeout_ms": 5, "codes": [500]},
]  # fmt: skip
CODES: list[Any] = [429, "429", [99], [600], [True], ["429"], [429.0], [None], {"429"}]

BAD_FIELDS: dict[str, list[Any]] = {
    "method": [None, 5, b"GET", "", "GE T", "GET\n", "G\u00c9T", "GET/"],
    "headers": [
        *(None, [], "a: b", [("a", "b")], {5: "x"}, {"": "x"}, {"a b": "x"}, {"\u00e4": "x"}, {"a:": "x"}),
        *({"X-A": value} for value in (None, 5, b"x", ["x"], "a\r", "a\nb", "a\0", "\u0100", "\U0001f600")),
    ],
    "body": [b"x", 5, {}, "\ud800"],
    "metadata": [
        *(None, [], "x", {5: 1}, {"a": {5: 1}}, {"a": [{None: 1}]}),
        *({"a": value} for value in ({1, 2}, b"x", float("nan"), float("inf"), object(), "\ud800", 10**5000)),
    ],
    "webhooks": [
        *(None, "x", {}, {"url": HOOK}, [5], ["x"], [{}], [{"url": HOOK, "hasQuorumVote": True}]),
        *([{"url": HOOK, "has_quorum_vote": value}] for value in (1, 0, "yes")),
        *([{"url": HOOK, "regions": value}] for value in ("iad", [""], [5])),
    ],
    "webhook_quorum": [None, 0, -1, True, 1.0, "1", 2],
    "regions": [None, "iad", [""], [None], {"iad"}, ["a", 5]],
    "region_policy": [None, "", "Strict", "other", 5, []],
    "execution_mode": [None, "", "both", 5, {}],
    "retry_policy": [
        *(5, "x", [], {"maxRetries": 3}, {"max_retries": -1}, {"max_retries": True}, {"max_reroutes": "1"}),
        *({"retry_codes": value} for value in CODES),
        *({"reroute_codes": value} for value in CODES),
    ],
    "fallback_job": [
        *(5, "x", [], {}, {"url": "x"}, {"url": URL, "unknown": 1}, {"url": URL, "body": 5}),
        *({"url": URL, "trigger": value} for value in TRIGGERS),
    ],
    "on_success": [5, [], {}, {"url": URL, "trigger": {"type": "on_error", "codes": [500]}}],
    "on_failure": [5, [], {}, Job(URL, trigger=Trigger("on_timeout", timeout_ms=1))],
    "on_failure_timeout_ms": [0, -1, True, 1.5, "5"],
    "idempotent_key": ["", 5, b"x", "\ud800"],
    "retry_at": [-1, True, 1.5, "5", 10**400],
    "trigger": ["on_error", [], *TRIGGERS],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_FIELDS.items() for value in values])
def test_a_wrong_field_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidJob, match=f"^{name}"):
        job(**{name: value})


def test_the_path_to_a_wrong_field_is_named() -> None:
    with pytest.raises(InvalidJob, match=r"^on_success\.fallback_job\.retry_policy\.retry_codes\[1\] must be a whole"):
        job(on_success={"url": URL, "fallback_job": {"url": URL, "retry_policy": {"retry_codes": [500, "x"]}}})


@pytest.mark.parametrize("votes", [(), (False,), (True,), (True, False), (True, True)])
def test_the_quorum_is_at_most_the_number_of_votes(votes: tuple[bool, ...]) -> None:
    webhooks = tuple(Webhook(HOOK, has_quorum_vote=vote) for vote in votes)
    if votes == (False,):
        with pytest.raises(InvalidJob, match=r"^webhook_quorum is 1 but 0"):
            Job(URL, webhooks=webhooks)
        return
    Job(URL, webhooks=webhooks, webhook_quorum=max(sum(votes), 1))
    with pytest.raises(InvalidJob, match=r"^webhook_quorum"):
        Job(URL, webhooks=webhooks, webhook_quorum=sum(votes) + 1 if votes else 2)


def test_metadata_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["loop"] = loop
    with pytest.raises(InvalidJob, match=r"^metadata"):
        job(metadata=loop)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidJob, match=r"^metadata"):
        job(metadata={"deep": deep})
    while deep:  # freed level by level: the interpreter's own clean-up of such a list is deep too
        deep = deep.pop()


# Depth


def nested(name: str, levels: int) -> dict[str, Any]:
    wire: dict[str, Any] = {"url": URL}
    for _ in range(levels - 1):
        wire = {"url": URL, name: wire}
    return wire


@pytest.mark.parametrize("name", ["fallback_job", "on_success", "on_failure"])
def test_jobs_nest_up_to_the_bound_and_no_deeper(name: str) -> None:
    assert Job.from_wire(nested(name, MAX_DEPTH)) == job(**nested(name, MAX_DEPTH))
    for levels in (MAX_DEPTH + 1, 5_000):
        with pytest.raises(InvalidJob, match=f"nested more than {MAX_DEPTH} deep"):
            Job.from_wire(nested(name, levels))
        with pytest.raises(InvalidJob, match=f"nested more than {MAX_DEPTH} deep"):
            job(**nested(name, levels))


def test_the_bound_also_holds_for_jobs_built_from_the_inside_out() -> None:
    made = Job(URL)
    for _ in range(MAX_DEPTH - 1):
        made = Job(URL, on_success=made)
    with pytest.raises(InvalidJob, match=f"nested more than {MAX_DEPTH} deep"):
        Job(URL, on_failure=made)


def test_a_job_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"url": URL}
    loop["fallback_job"] = loop
    with pytest.raises(InvalidJob, match="nested"):
        Job.from_wire(loop)


# Secrets

SECRET = "s3cr3t"


def test_repr_shows_where_to_and_nothing_secret() -> None:
    made = Job(
        f"https://user:{SECRET}@api.example.com:8443/v1/x?token={SECRET}#{SECRET}",
        method="POST",
        headers={"Authorization": SECRET},
        body=SECRET,
        metadata={"a": SECRET},
        webhooks=(Webhook(f"https://app.example.com/hook?ez={SECRET}"),),
        idempotent_key=SECRET,
        on_success=Job(URL, body=SECRET),
    )
    assert repr(made) == "<Job POST https://api.example.com:8443/v1/x>"
    assert repr(made.webhooks) == "(<Webhook https://app.example.com/hook>,)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": f"ftp://{SECRET}@h/?{SECRET}"},
        {"headers": {"Authorization": f"{SECRET}\n"}},
        {"headers": {"Authorization": SECRET.encode()}},
        {"headers": {f"Authorization: {SECRET}": ""}},
        {"body": SECRET.encode()},
        {"body": f"{SECRET}\ud800"},
        {"metadata": {"a": SECRET.encode()}},
        {"method": f"{SECRET} "},
        {"idempotent_key": f"{SECRET}\ud800"},
        {"regions": SECRET},
        {"region_policy": SECRET},
    ],
)
def test_errors_show_no_values(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidJob) as caught:
        job(**wrong)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
