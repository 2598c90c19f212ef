"""``make demo ARGS=--llm``: its model API is one that the SDK takes for real, and its verdict cannot be had by cheating."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
import requests
from openai.types.chat import ChatCompletion

from example_project.evidence import Span
from example_project.llm.evidence import Books, Completion, Enriched, ModelRequest, Totals
from example_project.llm.products import LEAST_FORWARDED, PRODUCTS, TRANSLATED, calls_for
from example_project.llm.verdict import Evidence, judge
from example_project.processes import free_ports, started

ROOT = Path(__file__).parents[2]
KEY = "the key of the model API"

# The verdict, on a run of which each product met a 429, was suspended and resumed.


def completion_of(product: int, number: int = 1) -> Completion:
    return {"id": f"chatcmpl-{product}-{number}", "product": product, "text": f"text {product} {number}", "tokens": 10}


def request_of(product: int, status: int, at: float, number: int = 1, sdk_retries: int = 0) -> ModelRequest:
    return {
        "call": f"POST /v1/chat/completions {product}-{number}",
        "item": product,
        "status": status,
        "at": at,
        "retry_after": 4 if status == 429 else 0,
        "sdk_retries": sdk_retries,
    }


def run_of(product: int, started: float, ended: float, state: str) -> Span:
    return {
        "task_id": f"task-{product}",
        "task": "enrich",
        "item": product,
        "started": started,
        "ended": ended,
        "state": state,
    }


@pytest.fixture
def evidence() -> Evidence:
    books: Books = {"completions": [], "requests": []}
    texts: list[Enriched] = []
    spans: list[Span] = []
    for product in PRODUCTS:
        start = 10.0 * product
        spans.append(run_of(product, start, start + 0.5, "IGNORED"))
        books["requests"].append(request_of(product, 429, start + 0.25))
        for number in range(1, calls_for(product) + 1):
            books["requests"].append(request_of(product, 200, start + 5.0, number))
            books["completions"].append(completion_of(product, number))
        spans.append(run_of(product, start + 6.0, start + 6.5, "SUCCESS"))
        texts.append({"product": product, "text": f"text {product} {calls_for(product)}", "tokens": 10})
    totals: Totals = {"products": len(PRODUCTS), "tokens": 10 * len(books["completions"])}
    return Evidence(ledger=books, texts=texts, catalogues=[totals], spans=spans, summary=totals, makespan=410.0)


def test_a_run_as_it_should_be(evidence: Evidence) -> None:
    verdict = judge(evidence)

    assert verdict.problems == ()
    assert (verdict.enriched_once, verdict.texts, verdict.chords_ended) == (40, 40, 1)
    assert (verdict.forwarded, verdict.resumed, verdict.sdk_retries) == (40, 40, 0)
    assert verdict.asked_seconds == 40 * 4
    assert verdict.runs.slot_seconds == 40 * 0.25


def test_a_product_enriched_twice(evidence: Evidence) -> None:
    """The same request, accepted again: there is no key that would keep the model from writing again."""
    evidence.ledger["requests"].append(request_of(2, 200, 1000.0))
    evidence.ledger["completions"].insert(0, completion_of(2))

    verdict = judge(evidence)

    assert verdict.problems[:2] == (
        "Not enriched exactly once: 2.",
        "Requested again after they were answered: POST /v1/chat/completions 2-1.",
    )
    assert verdict.enriched_once == 39


@pytest.mark.parametrize("number", [2, min(TRANSLATED)], ids=["one call", "two calls"])
def test_a_product_never_enriched(evidence: Evidence, number: int) -> None:
    evidence.ledger["completions"].remove(completion_of(number))

    assert f"Not enriched exactly once: {number}." in judge(evidence).problems


def test_a_completion_for_no_product(evidence: Evidence) -> None:
    evidence.ledger["completions"].append(completion_of(99))

    assert "Completions for no product: 1." in judge(evidence).problems


def test_an_sdk_that_tried_again_in_its_slot(evidence: Evidence) -> None:
    (answered,) = (
        request for request in evidence.ledger["requests"] if (request["item"], request["status"]) == (2, 200)
    )
    answered["sdk_retries"] = 1

    verdict = judge(evidence)

    assert verdict.problems == ("The SDK slept in the slot and tried again: 2.",)
    assert verdict.sdk_retries == 1


def test_slots_that_were_held_while_somebody_slept(evidence: Evidence) -> None:
    """Also without another try in the slot: it may have been given up, or not have said what it was."""
    for span in evidence.spans:
        if span["state"] == "IGNORED":
            span["ended"] += 3.0

    (problem,) = judge(evidence).problems

    assert problem == "Slots were held for 130.0 s after a 429, and the API asked to wait for 160 s."


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [{"product": 2, "text": "text 2 1", "tokens": 10}] * 2,
        [{"product": 2, "text": "text 3 1", "tokens": 10}],
    ],
    ids=["none", "two", "of another product"],
)
def test_a_product_without_its_text(evidence: Evidence, texts: list[Enriched]) -> None:
    others = [text for text in evidence.texts if text["product"] != 2]

    verdict = judge(replace(evidence, texts=others + texts))

    assert verdict.problems == ("Without exactly one text, their last: 2.",)
    assert verdict.texts == 39


@pytest.mark.parametrize("times", [0, 2])
def test_a_chord_that_did_not_end_once(evidence: Evidence, times: int) -> None:
    assert judge(replace(evidence, catalogues=evidence.catalogues * times)).problems == (
        f"The chord has ended {times} times.",
    )


def test_a_task_that_was_suspended_and_never_resumed(evidence: Evidence) -> None:
    spans = [span for span in evidence.spans if (span["item"], span["state"]) != (2, "SUCCESS")]

    verdict = judge(replace(evidence, spans=spans))

    assert verdict.problems == ("Suspended and not resumed to success: 2.",)
    assert (verdict.forwarded, verdict.resumed) == (40, 39)


def test_a_run_that_meets_no_limit_shows_nothing(evidence: Evidence) -> None:
    evidence.ledger["requests"][:] = [request for request in evidence.ledger["requests"] if request["status"] != 429]

    assert judge(evidence).problems == (
        f"Only 0 products were suspended; below {LEAST_FORWARDED} the run shows nothing.",
    )


def test_a_summary_that_disagrees(evidence: Evidence) -> None:
    (problem,) = judge(replace(evidence, summary={"products": 40, "tokens": 1})).problems

    assert problem.startswith("The summary says {'products': 40, 'tokens': 1}, and the books say")


def test_a_run_that_ended_early(evidence: Evidence) -> None:
    assert judge(replace(evidence, failure="worker ended with 1")).problems == ("worker ended with 1",)


def test_nothing_at_all_is_not_ok() -> None:
    assert not judge(Evidence()).ok


# The model API, asked by the SDK


@pytest.fixture
def model(tmp_path: Path) -> Iterator[str]:
    """A model API that takes two requests in an hour; its URL."""
    (port,) = free_ports(1)
    options = ("--bind", f"127.0.0.1:{port}", "--limit", "2", "--window", "3600")
    command = (sys.executable, "-m", "example_project.llm.model", *options)
    environment = {**os.environ, "MODEL_KEY": KEY, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with started("model", command, ready="listening on", folder=tmp_path, environment=environment) as process:
        process.wait_until_ready()
        yield f"http://127.0.0.1:{port}"


def ask(url: str, key: str = KEY, prompt: str = "Hello, model.") -> ChatCompletion:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        return client.chat.completions.create(
            model="local-writer", messages=[{"role": "user", "content": prompt}], metadata={"product": "7"}
        )


def books_of(url: str) -> Books:
    found: Books = requests.get(f"{url}/ledger", timeout=10).json()
    return found


def test_the_sdk_reads_a_completion(model: str) -> None:
    completion = ask(model)

    (choice,) = completion.choices
    assert (completion.model, choice.finish_reason, choice.message.role) == ("local-writer", "stop", "assistant")
    assert choice.message.content == "Whoever asks “Hello, model.” deserves the best."
    assert completion.usage is not None
    assert completion.usage.total_tokens == 2 + 7
    books = books_of(model)
    assert books["completions"] == [
        {"id": completion.id, "product": 7, "text": choice.message.content, "tokens": completion.usage.total_tokens}
    ]
    (request,) = books["requests"]
    assert (request["item"], request["status"], request["sdk_retries"], request["retry_after"]) == (7, 200, 0, 0)


def test_the_sdk_reads_a_limit(model: str) -> None:
    ask(model)
    ask(model, prompt="Another prompt.")

    with pytest.raises(openai.RateLimitError) as caught:
        ask(model)

    assert caught.value.code == "rate_limit_exceeded"
    assert 3500 < int(caught.value.response.headers["Retry-After"]) <= 3600
    first, second, limited = books_of(model)["requests"]
    assert limited["call"] == first["call"] != second["call"]
    assert limited["retry_after"] == int(caught.value.response.headers["Retry-After"])
    assert len(books_of(model)["completions"]) == 2


def test_the_sdk_reads_a_refused_key(model: str) -> None:
    with pytest.raises(openai.AuthenticationError):
        ask(model, key="another key")

    assert books_of(model)["completions"] == []
