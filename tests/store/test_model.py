"""The model keeps the contract, and a real store does what the model predicts, whatever befalls its tasks."""

from __future__ import annotations

import os
from contextlib import closing
from copy import deepcopy

import pytest
import redis
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from .bench import Kind
from .conftest import PREFIX
from .contract import StoreContract
from .machine import Machine
from .model import ModelStore
from .records import Data


class ModelBench:
    def __init__(self) -> None:
        self.data = Data()

    def open(self, *, max_unclaimed: int = 10_000, max_unclaimed_bytes: int = 2**26) -> ModelStore:
        return ModelStore(self.data, max_unclaimed, max_unclaimed_bytes)

    def disown(self, kind: Kind, record_id: str) -> None:
        self.data.foreign.add((kind, record_id))

    def snapshot(self) -> object:
        return {name: deepcopy(value) for name, value in vars(self.data).items() if name not in {"counted", "lock"}}


class TestModel(StoreContract):
    @pytest.fixture
    def bench(self) -> ModelBench:
        return ModelBench()


@pytest.mark.slow
def test_a_real_store_does_what_the_model_predicts(server: str) -> None:
    with closing(redis.Redis.from_url(server)) as client:
        machine = type("Machine", (Machine,), {"client": client, "prefix": PREFIX})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=80,
                stateful_step_count=40,
                deadline=None,
                database=None,
                derandomize=os.environ.get("CI") == "true",
                print_blob=True,
            ),
        )
