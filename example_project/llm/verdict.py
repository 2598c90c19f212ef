"""From the evidence of an enrichment to numbers and a judgement. Pure: nothing is assumed that the evidence does not show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from example_project.evidence import Span
from example_project.runs import Judgement, Runs, limits_met, listed, repeated, runs_of

from .evidence import Books, Enriched, Totals
from .products import LEAST_FORWARDED, PRODUCTS, calls_for

__all__ = ["Evidence", "Verdict", "judge"]

#: A run that does not sleep ends soon after its 429. To hold its slot for more than this part of the asked wait is to sleep.
MOST_OF_WAIT = 0.5


def _empty_books() -> Books:
    return {"completions": [], "requests": []}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run has left behind.

    Attributes:
        texts: what the catalogue says of each product.
        catalogues: one record for each time that the chord has ended.
        summary: the result of the chord; None when there is none.
        makespan: seconds from sending the job to the result, or to giving up.
        failure: why the run ended early; None when it did not.
    """

    ledger: Books = field(default_factory=_empty_books)
    texts: list[Enriched] = field(default_factory=list)
    catalogues: list[Totals] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    summary: Totals | None = None
    makespan: float = 0.0
    failure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict(Judgement):
    """What became of the products.

    Attributes:
        enriched_once: products for which the model has written exactly as many texts as were needed.
        texts: products whose text in the catalogue is the last one that the model has written for them.
        sdk_retries: requests that the SDK sent after it had slept in the slot.
        asked_seconds: the waits that the API asked for, at the first 429 of each run. An SDK that obeys sleeps that long.
    """

    things: ClassVar[str] = "products"
    praise: ClassVar[str] = (
        "The model wrote each text exactly once, the chord ended once, and no worker slot was held while an SDK slept."
    )

    enriched_once: int
    texts: int
    chords_ended: int
    sdk_retries: int
    asked_seconds: int

    def rows(self) -> Mapping[str, str]:
        return {
            "seconds that the SDK would have slept in the slots": f"at least {self.asked_seconds}",
            "tries of the SDK in a slot after a sleep": str(self.sdk_retries),
            "products enriched exactly once": f"{self.enriched_once} of {len(PRODUCTS)}",
            "products with their text": f"{self.texts} of {len(PRODUCTS)}",
            "chord ended": f"{self.chords_ended} time(s)",
        }

    def counts(self) -> Mapping[str, int]:
        return {
            "products": len(PRODUCTS),
            "enriched_once": self.enriched_once,
            "texts": self.texts,
            "chords_ended": self.chords_ended,
            "sdk_retries": self.sdk_retries,
            "asked_seconds": self.asked_seconds,
        }


def judge(evidence: Evidence) -> Verdict:
    """Count, and check the shop's records against the books of the model API."""
    requests = evidence.ledger["requests"]
    enriched_once = _products_enriched_once(evidence.ledger)
    with_text = _products_with_text(evidence)
    runs = runs_of(evidence.spans, requests)
    asked = sum(met[0]["retry_after"] for span in evidence.spans if (met := limits_met(span, requests)))
    return Verdict(
        problems=tuple(_problems(evidence, enriched_once, with_text, runs, asked)),
        runs=runs,
        makespan=evidence.makespan,
        enriched_once=len(enriched_once),
        texts=len(with_text),
        chords_ended=len(evidence.catalogues),
        sdk_retries=sum(request["sdk_retries"] > 0 for request in requests),
        asked_seconds=asked,
    )


def _problems(
    evidence: Evidence, enriched_once: set[int], with_text: set[int], runs: Runs, asked: int
) -> Iterator[str]:
    completions, requests = evidence.ledger["completions"], evidence.ledger["requests"]
    if evidence.failure is not None:
        yield evidence.failure
        if not completions:
            return  # it ended before there was anything to judge
    if wrong := set(PRODUCTS) - enriched_once:
        yield f"Not enriched exactly once: {listed(wrong)}."
    if strange := sum(completion["product"] not in PRODUCTS for completion in completions):
        yield f"Completions for no product: {strange}."
    if again := repeated(requests):
        yield f"Requested again after they were answered: {', '.join(again)}."
    if tried := {request["item"] for request in requests if request["sdk_retries"]}:
        yield f"The SDK slept in the slot and tried again: {listed(item for item in tried if item is not None)}."
    if runs.slot_seconds > asked * MOST_OF_WAIT:
        yield f"Slots were held for {runs.slot_seconds:.1f} s after a 429, and the API asked to wait for {asked} s."
    if wrong := set(PRODUCTS) - with_text:
        yield f"Without exactly one text, their last: {listed(wrong)}."
    if len(evidence.catalogues) != 1:
        yield f"The chord has ended {len(evidence.catalogues)} times."
    yield from runs.problems(Verdict.things, LEAST_FORWARDED)
    booked = {"products": len(PRODUCTS), "tokens": sum(completion["tokens"] for completion in completions)}
    if evidence.summary != booked:
        yield f"The summary says {evidence.summary}, and the books say {booked}."


def _products_enriched_once(books: Books) -> set[int]:
    written = Counter(completion["product"] for completion in books["completions"])
    return {number for number in PRODUCTS if written[number] == calls_for(number)}


def _products_with_text(evidence: Evidence) -> set[int]:
    """The products with one text in the catalogue, which is the last one that the model wrote for them."""
    last = {completion["product"]: completion["text"] for completion in evidence.ledger["completions"]}
    kept = Counter(text["product"] for text in evidence.texts)
    return {
        text["product"]
        for text in evidence.texts
        if kept[text["product"]] == 1 and last.get(text["product"]) == text["text"]
    }
