"""The job, as one chord: each product gets its text, some texts are translated, and a catalogue ends it all.

Imported once the environment holds the shop's settings.
"""

from __future__ import annotations

from typing import Any

from celery import Signature, chord
from celery.result import AsyncResult

from .products import PRODUCTS, TRANSLATED
from .tasks import catalogue, enrich, enrich_translated

__all__ = ["enrich_all"]


def enrich_all() -> AsyncResult[Any]:
    """Send everything; the result is that of the catalogue."""
    return chord([_text_of(number, name) for number, name in PRODUCTS.items()])(catalogue.s())


def _text_of(number: int, name: str) -> Signature[Any]:
    return enrich_translated.s(number, name) if number in TRANSLATED else enrich.s(number, name)
