"""``limited("spotify")``: keep a limit around any call: in a web view, a script, any task, and in asyncio."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from celery._state import get_current_app

from celery_ezthrottle._common.validators import NUMBER, WAIT
from celery_ezthrottle.continuations.manager import Continuations
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.http.flow import run, run_async
from celery_ezthrottle.limits.waiting import ASYNC, THREAD
from celery_ezthrottle.settings.limits_setting import limit_pattern

from .limited_block import Block

if TYPE_CHECKING:
    from celery import Celery

    from celery_ezthrottle.limits.bucket import Bucket

__all__ = ["Limited", "limited"]

P = ParamSpec("P")
R = TypeVar("R")


def limited(
    name: str,
    *,
    context: str = "",
    per: str | None = None,
    priority: float | None = None,
    wait: float | None = None,
    app: Celery | None = None,
) -> Limited:
    """Keep the limit ``name`` of ``ezthrottle_limits`` around calls, together with all other processes that use it.

    What it returns wraps a function: ``limited("spotify")(client.search)("miles davis")``. It is a decorator, and a context
    manager for ``with`` and ``async with``. An ``async def`` stays one, and waits without blocking the event loop. It can be used
    again and again, by many threads and coroutines at once.

    Each call waits until it is its turn, and no newcomer overtakes it, except by ``priority``. It counts for the limit ``name``,
    and for each other limit that matches ``name`` and has neither a path nor ``per``: "*" counts them all. If its response, or an
    error that has one, names a time before which the API wants no call, nobody calls before that.

    Nothing is read or sent before the first call.

    Args:
        name: a name in ``ezthrottle_limits``: a name without a host, such as "spotify", or a pattern of hosts, whose limit the
            calls of tasks keep too.
        context: what the call is for. It stands in logs and errors: "spotify (search tracks): waited 0.4 s for its turn".
        per: the value of this call, if the limit has ``per``: that of the header, or what the callable returns.
        priority: as the task option: a call with a higher one overtakes. None = 0.
        wait: most seconds to wait for the turn. None = without end.
        app: the Celery app whose limits and store are used; the current app by default.

    Raises:
        ConfigurationError: an argument is wrong. At the first call: ``ezthrottle_limits`` has no limit ``name``.
        LimitReached: of a call that was not made: there was no turn within ``wait`` seconds; or the store is out of reach, and
            ``ezthrottle_limits_required`` is set.
    """
    return Limited(name, context=context, per=per, priority=priority, wait=wait, app=app)


class Limited:
    """See :func:`limited`, which makes it."""

    def __init__(
        self,
        name: str,
        *,
        context: str,
        per: str | None,
        priority: float | None,
        wait: float | None,
        app: Celery | None,
    ) -> None:
        try:
            self._name = limit_pattern(name)
        except ConfigurationError:
            raise ConfigurationError(
                'limited() needs the name of a limit in ezthrottle_limits, such as "spotify" or "api.example.com", and no URL.'
            ) from None
        for what, value in (("context", context), ("per", per)):
            if value is not None and not isinstance(value, str):
                raise ConfigurationError(f"limited({self._name!r}): {what} must be a string.")
        self._context, self._per, self._app = context, per, app
        try:
            self._priority = NUMBER.of_option(priority) or 0.0
        except ValueError as exc:
            raise ConfigurationError(f"limited({self._name!r}): priority must be {exc}.") from None
        try:
            self._patience: float = WAIT.of_option(wait)
        except ValueError:
            raise ConfigurationError(
                f"limited({self._name!r}): wait must be a number of seconds from 0, or None to wait without end."
            ) from None
        #: The ``with`` blocks that the code of a context is in, the innermost last; and all that have not ended, by their ids.
        self._inside: ContextVar[tuple[Block, ...]] = ContextVar("ezthrottle_inside", default=())
        self._open: dict[int, Block] = {}

    def __repr__(self) -> str:
        return f"limited({self.label!r})"

    @property
    def label(self) -> str:
        """Name and context, for logs and errors."""
        return f"{self._name} ({self._context})" if self._context else self._name

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Wrap ``function``: each call of it takes a turn.

        Raises:
            ConfigurationError: ``function`` is no function that can be wrapped.
        """
        if not callable(function):
            raise ConfigurationError(
                f"limited({self._name!r}) wraps a function, and got {type(function).__name__}: write "
                f"limited({self._name!r})(client.search)(query), with the arguments behind it."
            )
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"limited({self._name!r}) does not wrap generators, which make their calls later: write "
                f"`with limited({self._name!r}):` around each call in it."
            )
        return self._wrap_async(function) if _is_async(function) else self._wrap(function)

    def _wrap(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def calling(*args: P.args, **kwargs: P.kwargs) -> R:
            block = self._block()
            run(block.enter(THREAD))
            try:
                returned = function(*args, **kwargs)
            except BaseException as exc:
                run(block.leave(THREAD, exc))
                raise
            run(block.leave(THREAD, returned))
            return returned

        return calling

    def _wrap_async(self, function: Callable[P, Any]) -> Callable[P, Any]:
        @functools.wraps(function)
        async def calling(*args: P.args, **kwargs: P.kwargs) -> Any:
            block = self._block()
            await run_async(block.enter(ASYNC))
            try:
                returned = await function(*args, **kwargs)
            except GeneratorExit as exc:  # nobody waits for the coroutine any more, and it may not wait either
                run(block.leave(THREAD, exc))
                raise
            except BaseException as exc:
                await run_async(block.leave(ASYNC, exc))
                raise
            await run_async(block.leave(ASYNC, returned))
            return returned

        return calling

    def __enter__(self) -> Self:
        block = self._block()
        run(block.enter(THREAD))
        return self._entered(block)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        run(self._left().leave(THREAD, error))

    async def __aenter__(self) -> Self:
        block = self._block()
        await run_async(block.enter(ASYNC))
        return self._entered(block)

    async def __aexit__(self, _type: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        block = self._left()
        if isinstance(error, GeneratorExit):
            run(block.leave(THREAD, error))
        else:
            await run_async(block.leave(ASYNC, error))

    def _entered(self, block: Block) -> Self:
        self._open[id(block)] = block
        self._inside.set((*self._inside.get(), block))
        return self

    def _left(self) -> Block:
        inside = [block for block in self._inside.get() if id(block) in self._open]
        # A generator may be closed in another context than that in which it has entered the block.
        block = inside.pop() if inside else next(reversed(self._open.values()))
        self._inside.set(tuple(inside))
        return self._open.pop(id(block))

    def _block(self) -> Block:
        continuations = Continuations.of(self._app or get_current_app())
        return Block(self.label, continuations, self._buckets(continuations), self._priority, self._patience)

    def _buckets(self, continuations: Continuations) -> tuple[Bucket, ...]:
        matching = continuations.matching.now()
        limit = matching.limits.get(self._name)
        if limit is None:
            known = ", ".join(map(repr, matching.limits)) or "none"
            raise ConfigurationError(
                f"limited({self._name!r}): ezthrottle_limits of the app {continuations.app.main!r} has no such limit. It has: "
                f"{known}. Add it, or name another app with app=."
            )
        if (limit.per is None) != (self._per is None):
            said = (
                "is not split: leave per out."
                if limit.per is None
                else f"is split (per), so a call needs its value: limited({self._name!r}, per=...)."
            )
            raise ConfigurationError(f"limited({self._name!r}): the limit {said}")
        return matching.named(self._name, self._per)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether a call of ``function`` is awaited. Some clients hide their coroutine functions behind a plain wrapper."""
    candidates = (function, getattr(function, "__call__", None), inspect.unwrap(function))  # noqa: B004 -- of an object
    return any(map(inspect.iscoroutinefunction, candidates))
