"""Processes that ask for turns as fast as they can: ``python -m tests.limits.saturating``, with a JSON object as argument.

They do not wait for the turns that they get: a turn is judged by its time. Some come too late, and are taken anew. Some that get
no turn wait in the queue, and each process calls those that are due; some of these leave, and some never come. Prints a JSON
list with an object for each process: how often it has ``asked``, and ``used``: for each turn that would be used its time and the
keys of its buckets.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from typing import Any

import redis

from celery_ezthrottle.limits.bucket import Bucket
from celery_ezthrottle.limits.limiter import Limiter
from celery_ezthrottle.limits.turns import Turn
from celery_ezthrottle.settings.limit import Window

THREADS = 2
PATIENCE = 60.0  # seconds for all processes to begin

Grant = tuple[float, list[str]]


def bucket_of(values: dict[str, Any]) -> Bucket:
    windows = tuple(Window(number, seconds) for number, seconds in values["windows"])
    return Bucket(values["key"], windows, values.get("burst"))


def work(job: dict[str, Any], number: int, begun: Any, results: Any) -> None:
    """One process."""
    with closing(redis.Redis.from_url(job["url"])) as client:
        client.ping()
        begun.wait(PATIENCE)
        until = now(client) + job["seconds"]
        with ThreadPoolExecutor(THREADS) as pool:
            done = [pool.submit(ask, client, job, f"{number} {thread}", until) for thread in range(THREADS)]
        asked, used = zip(*(each.result() for each in done), strict=True)
    results.put({"asked": sum(asked), "used": [grant for grants in used for grant in grants]})


def ask(client: redis.Redis, job: dict[str, Any], name: str, until: float) -> tuple[int, list[Grant]]:
    limiter = Limiter(client, prefix=job["prefix"])
    buckets = [bucket_of(values) for values in job["buckets"]]
    choice = random.Random(f"{job['seed']} {name}")
    used: list[Grant] = []
    for number in count():
        if now(client) > until:
            return number, used
        of = choice.sample(buckets, choice.randint(1, len(buckets)))
        keys = [bucket.key for bucket in of]
        ticket = " ".join([name, str(number), *keys])
        options = {"max_wait": choice.choice(job["max_waits"]), "margin": 0.025, "lease": 0.2}
        turn = limiter.acquire(of, ticket=ticket, **options)
        if isinstance(turn, Turn) and choice.random() < job["late"]:
            turn = limiter.acquire(of, ticket=ticket, **options, late=turn)
        if isinstance(turn, Turn):
            used.append((turn.at, keys))
        elif choice.random() < job["queued"]:
            limiter.wait_in_queue(of, ticket, turn, lease=0.2, lifetime=60, priority=choice.randint(0, 3))
            for called, _ in limiter.due(3, 0.05).turns:
                if choice.random() < 0.2:
                    limiter.leave(called)
                elif choice.random() < 0.9:
                    keys = called.split()[3:]
                    turn = limiter.acquire(
                        [bucket for bucket in buckets if bucket.key in keys], ticket=called, **options
                    )
                    used += [(turn.at, keys)] if isinstance(turn, Turn) else []
    raise AssertionError("count() has ended")


def now(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


def main(job: dict[str, Any]) -> None:
    forking = multiprocessing.get_context("fork")  # a process that imports everything anew takes long to begin
    begun, results = forking.Barrier(job["processes"]), forking.SimpleQueue()
    processes = [forking.Process(target=work, args=(job, number, begun, results)) for number in range(job["processes"])]
    for process in processes:
        process.start()
    json.dump([results.get() for _ in processes], sys.stdout)
    for process in processes:
        process.join()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
