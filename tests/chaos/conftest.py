"""``--rounds`` says how often each failpoint kills."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.rabbitmq import find_rabbitmq

from .rig import Rig, rigged


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=3, help="kills for each failpoint and mode")


@pytest.fixture(scope="session")
def rounds(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--rounds", 3))


class _Rigs:
    """One of each kind, kept as long as no test has spoilt it."""

    def __init__(self, make: Callable[[bool, ExitStack], Rig]) -> None:
        self._make = make
        self._kept: dict[bool, tuple[Rig, ExitStack]] = {}

    def get(self, fake: bool) -> Rig:
        if fake in self._kept and self._kept[fake][0].is_spoilt:
            self._kept.pop(fake)[1].close()
        if fake not in self._kept:
            self.close()  # one world at a time: they have two cores
            stack = ExitStack()
            self._kept[fake] = self._make(fake, stack), stack
        return self._kept[fake][0]

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1][1].close()


@pytest.fixture(scope="session")
def rigs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Rigs]:
    broker = request.config.getoption("broker")
    if broker == "rabbitmq" and find_rabbitmq() is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("There is no rabbitmq-server.")

    def make(fake: bool, stack: ExitStack) -> Rig:
        return stack.enter_context(rigged(tmp_path_factory.mktemp("rig"), broker, fake=fake))

    made = _Rigs(make)
    yield made
    made.close()


@pytest.fixture
def rig(rigs: _Rigs) -> Iterator[Rig]:
    """A world with the real gateway."""
    yield from _used(rigs.get(False))


@pytest.fixture
def fake_rig(rigs: _Rigs) -> Iterator[Rig]:
    """A world whose service does what the test says."""
    yield from _used(rigs.get(True))


def _used(rig: Rig) -> Iterator[Rig]:
    # A test that does not reach its end leaves things behind that the next one must not meet.
    rig.is_spoilt = True
    rig.victims.clear()
    yield rig
    rig.striker.disarm()
    rig.let_go()
