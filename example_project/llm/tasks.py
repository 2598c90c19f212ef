"""The job's tasks. They are written as if the model API had no rate limit, with the ``openai`` SDK as it comes.

Those that call the model are made frugal, by the decorator or by the base class. Without that, the SDK would sleep in the worker
slot for as long as the API asks, and try again there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from openai import OpenAI

from celery_ezthrottle import EZThrottleTask, frugal
from example_project import records
from example_project.celeryapp import app

from .evidence import Enriched, Totals

__all__ = ["catalogue", "enrich", "enrich_translated"]

client = OpenAI(
    base_url=os.environ.get("MODEL_URL", "http://127.0.0.1:8091/v1"),
    api_key=os.environ.get("MODEL_KEY", "none"),
    timeout=10.0,
)


@app.task
@frugal
def enrich(product: int, name: str) -> Enriched:
    """Let the model write a text about a product."""
    return _asked(product, f"Write two lines about this product: {name}.")


@app.task(base=EZThrottleTask)
def enrich_translated(product: int, name: str) -> Enriched:
    """Let the model write a text, then translate it. A task that goes on at the second call does not repeat the first."""
    written = _asked(product, f"Write two lines about this product: {name}.")
    translated = _asked(product, f"Translate into French: {written['text']}")
    return {**translated, "tokens": written["tokens"] + translated["tokens"]}


@app.task
def catalogue(texts: Sequence[Enriched]) -> Totals:
    """Keep all texts, once each of them is there."""
    for text in texts:
        records.add("texts", text)
    totals: Totals = {"products": len(texts), "tokens": sum(text["tokens"] for text in texts)}
    records.add("catalogues", totals)
    return totals


def _asked(product: int, prompt: str) -> Enriched:
    completion = client.chat.completions.create(
        model="local-writer",
        messages=[{"role": "system", "content": "You write for a shop."}, {"role": "user", "content": prompt}],
        metadata={"product": str(product)},
    )
    assert completion.usage is not None
    text = completion.choices[0].message.content or ""
    return {"product": product, "text": text, "tokens": completion.usage.total_tokens}
