"""One laboratory for the session: real processes take a second to start. ``--broker`` says what carries its messages."""

from __future__ import annotations

import gc
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.lab import Lab, laboratory
from tests.support.rabbitmq import find_rabbitmq, rabbitmq_server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--broker", choices=["redis", "rabbitmq"], default="redis", help="broker of the laboratory")


#: Folders whose tests start workers of their own, or many.
SLOW = {"chaos", "fidelity", "guard", "pools"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if SLOW & set(item.path.parts):
            item.add_marker(pytest.mark.slow)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    # Times, and what is packed with one, differ from process to process; each that runs tests has to find the same ones.
    varies = (isinstance(val, float) and val > 1e9) or (isinstance(val, bytes) and val.startswith(b"\x1f\x8b"))
    return argname if varies else None


@pytest.fixture(scope="session")
def shared_lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with ExitStack() as stack:
        broker = None
        if request.config.getoption("broker") == "rabbitmq":
            if find_rabbitmq() is None:
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("There is no rabbitmq-server.")
            broker = stack.enter_context(rabbitmq_server())
        yield stack.enter_context(laboratory(tmp_path_factory.mktemp("lab"), broker=broker))
        # Results unsubscribe when they are released; without a server, older versions of Celery try that for minutes.
        gc.collect()


@pytest.fixture
def lab(shared_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The laboratory; ``tests.support.project.app`` sends to it."""
    from tests.support.project import app

    for name, value in shared_lab.environment.items():
        monkeypatch.setenv(name, value)
    app.conf.update(
        broker_url=shared_lab.environment["TEST_BROKER"], result_backend=shared_lab.environment["TEST_REDIS"]
    )
    return shared_lab


@pytest.fixture
def path() -> str:
    """A path of the upstream that no other test uses."""
    return f"/{uuid.uuid4().hex[:8]}"
