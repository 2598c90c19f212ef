"""A task of ``EZThrottleTask`` is also what the app's own task class is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from celery import Celery, Task

from celery_ezthrottle import EZThrottleTask
from celery_ezthrottle.tasks.decorator import is_frugal
from tests.support.lab import PATIENCE, Lab
from tests.support.project import app as project


class Own(Task):  # type: ignore[type-arg]
    """A user's task class, with a state that its constructor makes."""

    def __init__(self) -> None:
        self.sessions: dict[str, str] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.sessions["current"] = "open"
        return self.run(*args, **kwargs)


class Frugal(EZThrottleTask):
    max_retries = 7


class OwnAndFrugal(EZThrottleTask, Own):
    pass


def body(path: str) -> str:
    return path


APPS_CLASS = pytest.mark.parametrize("app", [Own, OwnAndFrugal], ids=["stock", "frugal"], indirect=True)


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[Celery]:
    with Celery("own", task_cls=getattr(request, "param", Own), set_as_current=False) as made:
        yield made


@APPS_CLASS
@pytest.mark.parametrize("base", [EZThrottleTask, Frugal, OwnAndFrugal])
def test_the_base_of_a_task_is_joined_with_the_apps_own_class(app: Celery, base: Any) -> None:
    own: Any = app.Task
    decorate: Any = app.task
    made = decorate(base=base, name="own.task", shared=False)(body)

    assert isinstance(made, base)
    assert isinstance(made, own)
    assert is_frugal(made)
    assert made("a") == "a"
    assert made.sessions == {"current": "open"}
    assert made.max_retries == (7 if base is Frugal else 3)


def test_a_class_of_the_users_own_may_list_both(app: Celery) -> None:
    own: Any = app.Task

    class Charge(EZThrottleTask, own):  # type: ignore[misc]
        name = "own.charge"

        def run(self, path: str) -> str:
            return path

    made: Any = app.register_task(Charge())

    assert (is_frugal(made), made("a"), made.sessions) == (True, "a", {"current": "open"})


def test_a_class_without_an_app_is_left_alone() -> None:
    assert Frugal.__mro__[1:3] == (EZThrottleTask, Task)


@pytest.fixture(scope="module")
def django_worker(request: pytest.FixtureRequest, shared_lab: Lab) -> Iterator[dict[str, str]]:
    """The environment of a Django project, and its worker."""
    pytest.importorskip("django")
    environment = {**os.environ, **shared_lab.environment, "DJANGO_TASK_CLS": request.param}
    name = f"django{request.param}@test"
    words = ["celery", "-A", "tests.support.django_shop.celeryapp", "worker", "-n", name, "-P", "solo"]
    words += ["--without-mingle", "--without-gossip", "-l", "INFO"]
    with ExitStack() as stack:
        stack.enter_context(shared_lab.command(name, words, ready=f"{name} ready.", environment=environment))
        yield environment


@pytest.mark.parametrize(
    ("django_worker", "task"),
    [
        pytest.param("", "decorator", id="decorator"),
        pytest.param("", "base class", id="base class"),
        pytest.param("yes", "plain", id="task class of the app"),
    ],
    indirect=["django_worker"],
)
def test_a_task_of_a_django_project_is_sent_on_commit(
    lab: Lab, path: str, django_worker: dict[str, str], task: str
) -> None:
    lab.upstream.plan(path, 429)
    command = [sys.executable, "-m", "tests.support.django_shop.order", task, path]
    done = subprocess.run(command, env=django_worker, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    (task_id,) = done.stdout.split()

    assert project.AsyncResult(task_id).get(timeout=PATIENCE) == path

    assert lab.effects(path) == ["run", "run"]
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
