"""The shop's database: lists of JSON objects in its Redis."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, cast

import redis

from .celeryapp import REDIS_URL

__all__ = ["add", "all_of", "count"]


def add(name: str, record: Mapping[str, Any]) -> None:
    """Append a record to the list ``name``."""
    _client().rpush(f"shop:{name}", json.dumps(record))


def all_of(name: str) -> list[Any]:
    """The records of the list ``name``, oldest first."""
    return [json.loads(record) for record in cast("list[bytes]", _client().lrange(f"shop:{name}", 0, -1))]


def count(name: str) -> int:
    return _client().llen(f"shop:{name}")


@functools.cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(REDIS_URL)
