"""A worker for each pool, with the tasks of this folder, and the client packages that are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.lab import Lab

from .table import SDKS, Sdk

#: The environments of tox.ini say here what they have installed, so that nothing is skipped there by mistake.
REQUIRED = [Requirement(line) for line in os.environ.get("EZTHROTTLE_TEST_SDKS", "").split()]


@pytest.fixture
def sdk(package: str) -> Sdk:
    """The row of the package that a test names by ``package``. The test is skipped where it is not installed."""
    found = SDKS[package]
    try:
        installed = version(found.distribution)
    except PackageNotFoundError:
        installed = ""
    required = next((line for line in REQUIRED if line.name == found.distribution), None)
    if required is not None and not (installed and required.specifier.contains(installed, prereleases=True)):
        pytest.fail(f"{required} is not installed, but {installed or 'nothing'}; this environment must have it.")
    if not installed:
        pytest.skip(f"{found.distribution} is not installed; the dependency group sdks has it.")
    return found


@pytest.fixture(scope="session")
def queue_of(shared_lab: Lab) -> Iterator[Callable[[str], str]]:
    """Gives the queue of a pool. Its worker begins when it is asked for the first time, and ends with the session."""
    with ExitStack() as workers:
        begun: set[str] = set()

        def queue_of(pool: str) -> str:
            queue = f"sdks-{pool}"
            if queue not in begun:
                begun.add(queue)
                options = ("-P", pool, "-c", "2", "-Q", queue, "-I", "tests.sdks.tasks,tests.sdks.preload")
                workers.enter_context(shared_lab.worker(queue, *options))
            return queue

        yield queue_of


@pytest.fixture
def send(lab: Lab, queue_of: Callable[[str], str]) -> Callable[..., Any]:
    """``send(task, *args, pool=…)`` gives the result of a task that is sent to the worker of a pool."""

    def send(task: Any, *args: Any, pool: str = "prefork") -> Any:
        return task.apply_async(args, queue=queue_of(pool))

    return send
