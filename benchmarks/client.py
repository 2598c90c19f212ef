"""How fast jobs are submitted, beside the published SDK: ``python -m benchmarks.client``.

One process submits the same job with both clients, one after the other, in short blocks that take turns; over HTTP, and over TLS.
The service is another process on 127.0.0.1, and answers at once. The SDK is installed for the time of the run where it is
missing, without the packages that it pins. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
import requests

from celery_ezthrottle import EZThrottle
from celery_ezthrottle.service import connections

from .report import Report, median_ratio, spread

__all__ = ["main"]

_CERTIFICATE = Path(__file__).parents[1] / "tests" / "support" / "self_signed.pem"

_JOB: dict[str, Any] = {
    "url": "https://api.example.com/v1/charges",
    "method": "POST",
    "headers": {"Content-Type": "application/json", "Authorization": "Bearer sk_live_0123456789"},
    "body": '{"amount": 1000, "currency": "usd", "order": 7}',
    "metadata": {"order": "7"},
    "webhooks": [{"url": "https://app.example.com/webhook"}],
    "idempotent_key": "order-7",
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=40, help="blocks of each client (%(default)s)")
    parser.add_argument("--block", type=int, default=50, help="submissions in a block (%(default)s)")
    options = parser.parse_args(arguments)
    report = Report()
    with tempfile.TemporaryDirectory() as folder, _service() as ports:
        sdk = _sdk(folder)
        _trust(folder)
        for kind, scheme, port in zip(("http", "tls"), ("http", "https"), ports, strict=True):
            url = f"{scheme}://127.0.0.1:{port}"
            with EZThrottle("key", url) as ours:
                _compare(report, kind, url, ours, sdk.EZThrottle("key", url), options.blocks, options.block)
    report.close()


def _compare(report: Report, kind: str, url: str, ours: Any, sdk: Any, blocks: int, block: int) -> None:
    """Let both clients submit in turns, and report what they took."""
    took: dict[Any, list[float]] = {ours: [], sdk: []}
    opened = dict.fromkeys(took, 0)
    for n in range(blocks):
        for client in (ours, sdk) if n % 2 else (sdk, ours):
            before = _connections(url)
            took[client].append(_block(client.submit_job, block))
            opened[client] += _connections(url) - before
    ratio = median_ratio(took[sdk], took[ours])
    per_second = {client: block / statistics.median(taken) for client, taken in took.items()}
    report.put(
        f"{kind}: {per_second[ours]:.0f} submissions in a second, the SDK {per_second[sdk]:.0f}: {spread(took[sdk], took[ours])}",
        **{f"{kind}_ratio": ratio, f"{kind}_per_s": per_second[ours], f"{kind}_per_s_sdk": per_second[sdk]},
    )
    report.put(
        f"{kind}: {blocks * block} submissions over {opened[ours]} connections, the SDK over {opened[sdk]}",
        **{"connections" if kind == "tls" else "http_connections": opened[ours]},
        **{f"{kind}_connections_sdk": opened[sdk]},
    )


def _block(submit: Callable[..., dict[str, Any]], times: int) -> float:
    began = time.perf_counter()
    for _ in range(times):
        assert submit(**_JOB)["status"] == "queued"
    return time.perf_counter() - began


def _connections(url: str) -> int:
    """How many connections the service has accepted so far, without those that ask for this."""
    return int(requests.get(url, timeout=10).text)


def _sdk(folder: str) -> Any:
    """The published SDK."""
    try:
        return importlib.import_module("ezthrottle")
    except ModuleNotFoundError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--no-deps", "--target", folder, "ezthrottle"], check=True)
        sys.path.append(folder)
        return importlib.import_module("ezthrottle")


def _trust(folder: str) -> None:
    """Let both clients trust the certificate of the service, in a bundle that is as large as the one of certifi."""
    bundle = Path(folder) / "bundle.pem"
    bundle.write_text(Path(certifi.where()).read_text() + _CERTIFICATE.read_text())
    os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)  # the SDK obeys the environment
    connections.CA_BUNDLE = str(bundle)  # ours does not


@contextmanager
def _service() -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "benchmarks.client_service", str(_CERTIFICATE)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        http, https = process.stdout.readline().split()
        yield int(http), int(https)
    finally:
        process.terminate()
        process.communicate()


if __name__ == "__main__":
    main(sys.argv[1:])
