"""The continuations of an app in a process: one for each app, for as long as there is the app."""

from __future__ import annotations

import gc
import multiprocessing
import weakref

import pytest
from celery import Celery

from celery_ezthrottle.continuations.manager import Continuations


def an_app() -> Celery:
    return Celery("kept", broker="memory://", set_as_current=False)


def test_an_app_has_one() -> None:
    one, other = an_app(), an_app()
    assert Continuations.of(one) is Continuations.of(one)
    assert Continuations.of(one) is not Continuations.of(other)


def test_no_app_is_kept_alive() -> None:
    app = an_app()
    Continuations.of(app)
    gone = weakref.ref(app)
    app.close()
    del app
    gc.collect()
    assert gone() is None


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_its_own() -> None:
    app = an_app()
    ours = Continuations.of(app)
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        sender.send(Continuations.of(app) is not ours)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    assert receiver.poll(20)
    assert receiver.recv() is True
    process.join()
