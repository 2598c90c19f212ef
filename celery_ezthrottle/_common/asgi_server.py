"""Run an ASGI application until SIGTERM: one listening socket, uvicorn around it."""

from __future__ import annotations

import importlib.util
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from types import FrameType
from typing import Any

from celery_ezthrottle.errors import ConfigurationError

__all__ = ["parse_bind", "require", "serve_application"]


def require(what: str, extra: str, modules: Sequence[str]) -> None:
    """Check that the modules of an extra are installed, without importing them.

    Raises:
        ConfigurationError: naming what is missing, and the extra.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"{what} needs {', '.join(missing)}: install celery-ezthrottle[{extra}].")


def parse_bind(bind: str) -> tuple[str, int]:
    """``HOST:PORT`` or ``[IPV6]:PORT`` as an address; port 0 means any free one.

    Raises:
        ConfigurationError: it is neither.
    """
    host, _, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigurationError(f"The address {bind!r} is not of the form HOST:PORT, such as 127.0.0.1:8085.")
    return host, int(port)


def serve_application(make_app: Callable[[Callable[[], None]], Any], *, name: str, bind: str) -> None:
    """Serve until SIGTERM or SIGINT; then return, having ended what was on its way within a few seconds.

    Prints ``<name> listening on http://HOST:PORT`` to stdout once it takes requests.

    Args:
        make_app: makes the ASGI application; gets a callable that the application calls once it has started.
        bind: the address, as for :func:`parse_bind`.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    import uvicorn

    host, port = parse_bind(bind)
    with _ended_by_signals(), closing(_listen(host, port, name)) as listener:
        app = make_app(lambda: _announce(name, host, listener.getsockname()[1]))
        config = uvicorn.Config(
            app,
            lifespan="on",
            ws="none",
            access_log=False,  # a webhook's URL holds a token
            log_config=None,  # how to log is the caller's business
            server_header=False,
            timeout_graceful_shutdown=5,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as exc:
        raise ConfigurationError(f"The {name} cannot listen on {host}:{port}: {exc}. Choose another address.") from exc
    # Connections inherit it. asyncio sets it only on sockets made with an explicit protocol; without it each answer on a
    # kept connection waits 40 ms for the client's delayed ACK, and holds a worker slot meanwhile.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announce(name: str, host: str, port: int) -> None:
    sys.stdout.write(f"{name} listening on http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()


class _Ended(BaseException):
    """A signal asked the process to end."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGINT end the block normally.

    uvicorn stops gracefully on either, and then raises the signal again, which would kill the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return

    def end(_signum: int, _frame: FrameType | None) -> None:
        raise _Ended

    before = {signum: signal.signal(signum, end) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        with suppress(_Ended):
            yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
