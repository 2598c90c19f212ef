"""The outside world: a payments API with a limit, in a process of its own. ``python -m tests.chaos.upstream``.

Each payment has a fate, drawn from the seed and its name, so that the same seed is the same load: most are refused with a
429 at first, some with 503, some lose their connection before or, worse, after they were executed. Above that, only so
many requests are let through in each second. It may also be slow, so that calls last, and have no ``Retry-After`` in most of
its answers, so that a limit that the callers keep is not always cooling down.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

from tests.support.upstream import Answer, Received, running

from .ledger import Ledger

__all__ = ["DECLINED", "Payments", "fate_of", "main"]

DECLINED = 402

#: Share of the payments, and the statuses of their first answers: 0 closes the connection before anything was executed, -1
#: after it was.
FATES: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.55, (429,)),
    (0.08, (503, 503)),
    (0.04, (0,)),
    (0.04, (-1,)),
)


def fate_of(payment: str, seed: int) -> tuple[int, ...]:
    """The first answers of a payment; after them it passes."""
    draw = _draw(payment, seed)
    for share, answers in FATES:
        if draw < share:
            return answers
        draw -= share
    return ()


#: Of a slow upstream: the share of the executed payments that are answered late, how late, and of the refusals that name a time.
SLOW, SLOW_FOR, COOLING = 0.2, 0.5, 0.004


def _draw(name: str, seed: int) -> float:
    """A number below 1."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8]) / 2**64


class Payments:
    """Answers ``POST /pay/<task id>/<number>``; a path below ``/limited`` is refused once, and ``/always`` each time. What is
    below ``/declined`` is refused each time, with a status at which nobody tries again; what is below ``/free`` passes each time.

    Args:
        per_second: how many requests pass in each second.
        slow: whether some payments that a worker makes are answered late, and few refusals name a time.
    """

    def __init__(self, ledger: Ledger, seed: int, per_second: int, *, slow: bool = False) -> None:
        self._ledger, self._seed, self._per_second, self._slow = ledger, seed, per_second, slow
        self._lock = threading.Lock()
        self._tries: Counter[str] = Counter()
        self._window: tuple[int, int] = (0, 0)

    def respond(self, received: Received) -> Answer:
        kind, _, payment = unquote(received.path).strip("/").partition("/")
        key = received.headers.get("Idempotency-Key", "")
        run = received.headers.get("X-Run", "")
        # What the plugin forwards has no Accept-Encoding: each connection says its own.
        direct = "Accept-Encoding" in received.headers and not received.by_service
        code = self._answer_to(kind, payment)
        refuse = None if code in {200, -1} else code
        entry = self._ledger.request(payment, key, run, direct=direct, refuse=refuse, silent=code == -1)
        if self._slow and direct and entry.what != "refused" and _draw(f"slow {payment}", self._seed) < SLOW:
            time.sleep(SLOW_FOR)  # this is the API, and it takes its time
        if entry.status == 0:
            return Answer(hang_up=True)
        names_time = entry.status == 429 and not (self._slow and _draw(f"cooling {payment}", self._seed) > COOLING)
        headers = {"Content-Type": "application/json", **({"Retry-After": "1"} if names_time else {})}
        return Answer(entry.status, json.dumps({"payment": payment}), headers)

    def _answer_to(self, kind: str, payment: str) -> int:
        with self._lock:
            number = self._tries[payment]
            self._tries[payment] += 1
            each_time = {"always": 429, "declined": DECLINED, "free": 200}
            if kind in each_time:
                return each_time[kind]
            fate = (429,) if kind == "limited" else fate_of(payment, self._seed)
            if number < len(fate):
                return fate[number]
            second, passed = self._window
            now = int(time.monotonic())
            passed = passed + 1 if second == now else 1
            self._window = now, passed
            return 200 if passed <= self._per_second else 429


def main() -> None:
    path, port, seed, per_second, *slow = sys.argv[1:]
    payments = Payments(Ledger(Path(path)), int(seed), int(per_second), slow=bool(slow))
    with running(payments.respond, int(port)):
        sys.stdin.read()  # until whoever started it closes it, or is gone


if __name__ == "__main__":
    main()
