"""What the processes talk through, in a process of its own: ``python -m tests.chaos.wires``. It is never killed.

SIGUSR1 cuts the connections to Redis as store and result backend, SIGUSR2 those to the broker.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .history import History
from .tcp_proxy import TcpProxy
from .webhook_proxy import WebhookProxy

__all__ = ["CUTS", "Wires", "main"]

#: The signal that cuts each wire.
CUTS = {"redis": signal.SIGUSR1, "broker": signal.SIGUSR2}


@dataclass(frozen=True)
class Wires:
    """Ports: each pair is the one to connect to and the one behind it."""

    redis: tuple[int, int]
    broker: tuple[int, int]
    webhooks: tuple[int, int]
    history: str
    seed: int

    def command(self) -> list[str]:
        return [sys.executable, "-m", __name__, json.dumps(asdict(self))]


async def _run(wires: Wires) -> None:
    loop = asyncio.get_running_loop()
    for name, (port, target) in {"redis": wires.redis, "broker": wires.broker}.items():
        proxy = TcpProxy(target)
        await proxy.listen(port)
        loop.add_signal_handler(CUTS[name], proxy.cut)
    port, target = wires.webhooks
    await WebhookProxy(target, History(Path(wires.history)), wires.seed).listen(port)
    ended = asyncio.Event()
    loop.add_reader(0, lambda: ended.set() if not os.read(0, 4096) else None)  # until whoever started it closes it
    await ended.wait()


def main() -> None:
    asyncio.run(_run(Wires(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
