"""What all that keep their keys in Redis have in common."""

from __future__ import annotations

import pickle
from contextlib import closing
from typing import Any

import pytest
import redis

from celery_ezthrottle.batches.store import BatchStore
from celery_ezthrottle.deduplication.calls_on_their_way import CallsOnTheirWay
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.store.redis.store import RedisStore

URL = "redis://:secret@127.0.0.1:1/0"

ALL = pytest.mark.parametrize("kind", [BatchStore, CallsOnTheirWay, Limiter, RedisStore])


@ALL
def test_a_client_that_decodes_is_refused(kind: Any) -> None:
    with (
        closing(redis.Redis.from_url(URL, decode_responses=True)) as client,
        pytest.raises(ConfigurationError, match=f"{kind.__name__} reads bytes: give it a Redis client without"),
    ):
        kind(client, prefix="{x}:")
    with pytest.raises(ConfigurationError, match="without decode_responses"):
        kind.from_url(URL, prefix="{x}:", decode_responses=True)


@ALL
def test_it_shows_no_secret_and_is_not_pickled(kind: Any) -> None:
    with closing(kind.from_url(URL, prefix="{x}:")) as made:
        assert repr(made) == f"{kind.__name__}(127.0.0.1:1/0, prefix='{{x}}:')"
        with pytest.raises(TypeError, match="do not pickle it"):
            pickle.dumps(made)
