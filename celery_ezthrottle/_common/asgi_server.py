"""Run an ASGI application with uvicorn, on one listening socket, until SIGTERM or SIGINT."""

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
        ConfigurationError: a module is missing. The text names it and the extra.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(f"{what} needs {', '.join(missing)}: install celery-ezthrottle[{extra}].")


def parse_bind(bind: str) -> tuple[str, int]:
    """Split ``HOST:PORT`` or ``[IPV6]:PORT`` into host and port. Port 0 means any free port.

    Raises:
        ConfigurationError: ``bind`` has neither form.
    """
    host, _, port = bind.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ConfigurationError(f"The address {bind!r} is not of the form HOST:PORT, such as 127.0.0.1:8085.")
    return host, int(port)


def serve_application(
    make_app: Callable[[Callable[[], None]], Any],
    *,
    name: str,
    bind: str,
    most_connections: int | None = None,
    head_timeout: float = 10.0,
) -> None:
    """Serve until SIGTERM or SIGINT. Then give open requests 5 seconds to finish, and return.

    Prints ``<name> listening on http://HOST:PORT`` to stdout once the server accepts requests.

    Args:
        make_app: makes the ASGI application. Its argument is a callable, which the application must call once it has started.
        name: name of the server, for the printed line and for errors.
        bind: the address, as for :func:`parse_bind`.
        most_connections: while there are more connections, requests are answered with 503. None: there may be any number.
        head_timeout: seconds in which the head of a request must come. Else its connection is closed.

    Raises:
        ConfigurationError: ``bind`` is malformed, or the process cannot listen on that address.
    """
    import uvicorn

    from .http_protocol import impatient

    host, port = parse_bind(bind)
    with _ended_by_signals(), closing(_listen(host, port, name)) as listener:
        app = make_app(lambda: _announce(name, host, listener.getsockname()[1]))
        config = uvicorn.Config(
            app,
            http=impatient(name, head_timeout),
            lifespan="on",
            limit_concurrency=most_connections,
            ws="none",
            access_log=False,  # the URL of a webhook contains a token
            log_config=None,  # the caller configures logging
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
    # Accepted connections inherit this option. asyncio sets it only on sockets made with an explicit protocol. Without it,
    # each answer on a kept-alive connection waits 40 ms for the client's delayed ACK, and occupies a worker slot meanwhile.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announce(name: str, host: str, port: int) -> None:
    sys.stdout.write(f"{name} listening on http://{f'[{host}]' if ':' in host else host}:{port}\n")
    sys.stdout.flush()


class _Ended(BaseException):
    """A signal asked the process to end."""


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the block normally.

    uvicorn stops gracefully on either signal. Then it raises the signal again, which would kill the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
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
