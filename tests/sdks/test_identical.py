"""Two clients of a package make the same call, and so it counts as one: what they tell of themselves does not matter."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from celery_ezthrottle.http.install import install
from tests.support.seen_identities import seen_identities
from tests.support.upstream import Answer, running

from .table import Sdk

READS: dict[str, Callable[[Any], Any]] = {
    "openai": lambda client: client.models.list(),
    "groq": lambda client: client.models.list(),
    "anthropic": lambda client: client.models.list(),
    "mistralai": lambda client: client.models.list(),
    "cohere": lambda client: client.models.list(),
    "stripe": lambda client: client.v1.balance.retrieve(),
    "github": lambda client: client.get_user().login,
    "twilio": lambda client: client.api.accounts("AC1").fetch(),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # stripe leaves its connections open
@pytest.mark.parametrize("package", READS)
def test_a_call_of_two_clients_is_one(sdk: Sdk) -> None:
    install()
    read = READS[sdk.package]
    with (
        running(lambda _: Answer(200, "{}", {"Content-Type": "application/json"})) as base,
        seen_identities() as identities,
    ):
        for client in (sdk.client(base), sdk.client(base)):
            for _ in range(2):
                with suppress(Exception):  # what the package makes of an empty answer is not asked here
                    read(client)
    del client
    gc.collect()
    assert len(identities) == 4
    assert len(set(identities)) == 1
    assert None not in identities
