"""Carry the recorder of a run into the threads, executors and greenlets that its body starts.

A context variable holds the recorder, and a new thread or greenlet begins without it. So the functions that start them are
wrapped. A thread of a pool outlives what it was started for: there the recorder goes with each function that is handed over.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from importlib import import_module
from multiprocessing.pool import ThreadPool
from typing import Any

from .recorder import Recorder, begin_recording, current, recording

__all__ = ["install"]

#: Methods that hand a function over, and the method of what they return that tells whether the function has ended.
_HAND_OVER: tuple[tuple[type, str, str | None], ...] = (
    (ThreadPoolExecutor, "submit", "done"),
    (ThreadPool, "apply", None),
    (ThreadPool, "apply_async", "ready"),
    (ThreadPool, "map", None),
    (ThreadPool, "map_async", "ready"),
    (ThreadPool, "starmap", None),
    (ThreadPool, "starmap_async", "ready"),
    (ThreadPool, "imap", None),
    (ThreadPool, "imap_unordered", None),
)

_lock = threading.Lock()
#: What is not wrapped yet. A greenlet library is used only where the task's code, or Celery's pool, has imported it.
_to_wrap = ["threading", "gevent", "eventlet"]


def install() -> None:
    """Wrap what starts threads, and greenlets if their library is imported. Does nothing where that was done before."""
    # Each run asks, so this must be fast.
    for name in _to_wrap:
        if name in sys.modules:
            with _lock:
                _install()
            return


def _install() -> None:
    for name, wrap in (("threading", _wrap_threads), ("gevent", _wrap_gevent), ("eventlet", _wrap_eventlet)):
        if name in _to_wrap and name in sys.modules:
            wrap()
            _to_wrap.remove(name)


def _wrap_threads() -> None:
    _wrap(threading.Thread, "start", _start)
    _wrap(ThreadPool, "__init__", _without_recorder)
    for owner, name, ended in _HAND_OVER:
        _wrap(owner, name, functools.partial(_hand_over, ended))


def _wrap_gevent() -> None:
    import_module("gevent").Greenlet.add_spawn_callback(_follow)
    _wrap(import_module("gevent.threadpool").ThreadPool, "spawn", functools.partial(_hand_over, "ready"))


def _wrap_eventlet() -> None:
    _wrap(import_module("eventlet.greenthread").GreenThread, "__init__", _follow_new)
    for name in ("spawn_n", "starmap"):
        _wrap(import_module("eventlet.greenpool").GreenPool, name, functools.partial(_hand_over, None))


def _wrap(owner: type, name: str, wrapper: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        recorder = current()
        if recorder is None:
            return original(self, *args, **kwargs)
        return wrapper(recorder, original, self, *args, **kwargs)

    setattr(owner, name, wrapped)


def _start(recorder: Recorder, start: Callable[..., Any], thread: threading.Thread) -> None:
    run, found = thread.run, weakref.ref(recorder)

    def carried(
        *_: Any,
    ) -> None:  # who wraps it in turn, as sentry-sdk does, takes it for a method, and passes the thread
        vars(thread).pop("run", None)  # the thread would hold itself
        with recording(found):  # it may outlive the body by far, as one that runs an event loop for all tasks
            run()

    thread.run = carried  # type: ignore[method-assign]  # a subclass may have overridden it
    recorder.watch(_thread_works(recorder, thread))
    try:
        _without_recorder(recorder, start, thread)
    except BaseException:
        vars(thread).pop("run", None)
        raise


def _thread_works(recorder: Recorder, thread: threading.Thread) -> Callable[[], bool]:
    """A daemon thread that has made no call does not count: many packages start one that runs as long as the process."""
    found = weakref.ref(thread)

    def works() -> bool:
        thread = found()
        if thread is None or not thread.is_alive():
            return False
        return not thread.daemon or any(call.thread == thread.ident for call in recorder.calls)

    return works


def _hand_over(
    ended: str | None, recorder: Recorder, original: Callable[..., Any], pool: Any, *args: Any, **kwargs: Any
) -> Any:
    if not args:
        return original(pool, **kwargs)  # the function is missing, or was passed by name
    function, *rest = args
    handed_over = _without_recorder(recorder, original, pool, _carried(recorder, function), *rest, **kwargs)
    if ended is not None:
        recorder.watch(_works_until(handed_over, ended))
    return handed_over


def _carried(recorder: Recorder, function: Callable[..., Any]) -> Callable[..., Any]:
    def carried(*args: Any, **kwargs: Any) -> Any:
        with recording(recorder):
            return function(*args, **kwargs)

    return carried


def _works_until(handed_over: Any, ended: str) -> Callable[[], bool]:
    found = weakref.ref(handed_over)

    def works() -> bool:
        handed_over = found()
        return handed_over is not None and not getattr(handed_over, ended)()

    return works


def _without_recorder(_recorder: Recorder, original: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call ``original`` without the recorder: a thread that a pool starts must not keep the recorder of this run."""
    with recording(None):
        return original(*args, **kwargs)


def _follow_new(_recorder: Recorder, init: Callable[..., Any], greenlet: Any, *args: Any, **kwargs: Any) -> None:
    init(greenlet, *args, **kwargs)
    _follow(greenlet)


def _follow(greenlet: Any) -> None:
    """Let a greenlet that has not run yet begin with the recorder of the current context."""
    recorder = current()
    if recorder is None:
        return
    context = greenlet.gr_context.copy() if greenlet.gr_context is not None else Context()
    context.run(begin_recording, recorder)
    greenlet.gr_context = context
    found = weakref.ref(greenlet)
    recorder.watch(lambda: (greenlet := found()) is not None and not greenlet.dead)
