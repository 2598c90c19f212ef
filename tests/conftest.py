"""One laboratory for the session: real processes take a second to start."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator

import pytest

from .lab import Lab, laboratory


@pytest.fixture(scope="session")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
        # Results unsubscribe when they are released; without a server, older versions of Celery try that for minutes.
        gc.collect()


@pytest.fixture
def lab(shared_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The laboratory; ``tests.project.app`` sends to it."""
    from .project import app

    for name, value in shared_lab.environment.items():
        monkeypatch.setenv(name, value)
    app.conf.update(
        broker_url=shared_lab.environment["TEST_REDIS"], result_backend=shared_lab.environment["TEST_REDIS"]
    )
    return shared_lab


@pytest.fixture
def path() -> str:
    """A path of the upstream that no other test uses."""
    return f"/{uuid.uuid4().hex[:8]}"
