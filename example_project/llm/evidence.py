"""What the model API and the tasks leave behind, for the verdict. Times are Unix seconds: one machine, one clock."""

from __future__ import annotations

from typing import TypedDict

from example_project.evidence import Request

__all__ = ["Books", "Completion", "Enriched", "ModelRequest", "Totals"]


class Completion(TypedDict):
    """A text that the model wrote. It is paid for, also when the same text is asked for again."""

    id: str
    product: int | None
    text: str
    tokens: int


class ModelRequest(Request):
    """A request as the model API got it.

    ``retry_after`` is the wait in seconds that its answer asked for, 0 without one. ``sdk_retries`` is how often the SDK had sent
    the call before, in the same run, as the SDK itself says: between these it has slept in the worker slot.
    """

    retry_after: int
    sdk_retries: int


class Books(TypedDict):
    """The books of the model API, in the order in which things happened."""

    completions: list[Completion]
    requests: list[ModelRequest]


class Enriched(TypedDict):
    """The text of a product, and the tokens of all its calls."""

    product: int
    text: str
    tokens: int


class Totals(TypedDict):
    products: int
    tokens: int
