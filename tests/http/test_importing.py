"""The adapters in whatever order the libraries and the package are imported: neither library is imported by the package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.upstream import Upstream

_REPORT = """
import json, sys

def counted(module, url):
    "How many calls of both kinds of client a recorder sees, and how often we have wrapped each."
    import asyncio
    from celery_ezthrottle.http.recorder import Recorder, recording
    recorder = Recorder(max_response=1000, max_journal=1000)

    async def main():
        async with module.AsyncClient() as client:
            await client.get(url)

    with recording(recorder):
        module.get(url)
        asyncio.run(main())

    def wrappers(function):
        found = 0
        while function is not None:
            found += function.__code__.co_filename.endswith("httpx_install.py")
            function = getattr(function, "__wrapped__", None)
        return found

    return len(recorder.calls), wrappers(module.Client.send), wrappers(module.AsyncClient.send)
"""


def run(program: str, *arguments: str) -> object:
    ran = subprocess.run(
        [sys.executable, "-c", _REPORT + program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_the_package_imports_neither_library() -> None:
    program = """
from celery import Celery
import celery_ezthrottle.tasks.decorator, celery_ezthrottle.tasks.run, celery_ezthrottle.http.install
app = Celery("worker", task_cls="celery_ezthrottle:EZThrottleTask")
@app.task
@celery_ezthrottle.frugal
def charge(): ...
print(json.dumps([name for name in ("httpx", "httpx2", "httpcore", "httpcore2") if name in sys.modules]))
"""
    assert run(program) == []


@pytest.mark.parametrize(
    "order", ["celery_ezthrottle, httpx2", "httpx2, celery_ezthrottle", "celery_ezthrottle, httpx2._client"]
)
def test_a_library_is_seen_in_whatever_order_it_is_imported(upstream: Upstream, order: str) -> None:
    program = f"""
import {order}
import httpx2
from celery_ezthrottle.http.install import install
install()
install()
print(json.dumps([counted(httpx2, sys.argv[1]), "httpx" in sys.modules]))
"""
    assert run(program, upstream.url) == [[2, 1, 1], False]
    assert len(upstream.received("/")) == 2


def test_both_libraries_are_seen_in_one_process(upstream: Upstream) -> None:
    program = """
import httpx, celery_ezthrottle, httpx2
print(json.dumps([counted(httpx, sys.argv[1]), counted(httpx2, sys.argv[1])]))
"""
    assert run(program, upstream.url) == [[2, 1, 1], [2, 1, 1]]


@pytest.mark.parametrize("order", ["before", "after"])
def test_httpx2_under_the_name_of_httpx(upstream: Upstream, order: str) -> None:
    """``httpx2.alias_httpx()``: they are one library, and it is wrapped once."""
    lines = {
        "before": ["import httpx2", "httpx2.alias_httpx()", "import celery_ezthrottle", "import httpx"],
        "after": ["import celery_ezthrottle", "import httpx2", "httpx2.alias_httpx()", "import httpx"],
    }[order]
    program = "\n".join(
        [
            *lines,
            "from celery_ezthrottle.http.install import install",
            "install()",
            "import httpx._models",
            "print(json.dumps([httpx is httpx2, counted(httpx, sys.argv[1])]))",
        ]
    )
    assert run(program, upstream.url) == [True, [2, 1, 1]]


def test_a_version_that_the_adapter_does_not_know_is_imported_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "httpx.py").write_text(
        "__version__ = '9.0'\n"
        "class Client:\n"
        "    def send(self, request): ...\n"
        "class AsyncClient(Client): ...\n"
        "PoolTimeout = ProxyError = UnsupportedProtocol = LocalProtocolError = OSError\n"
    )
    program = """
import logging
from celery_ezthrottle.http.install import install
install()
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("celery_ezthrottle").addHandler(handler)
sys.path.insert(0, sys.argv[1])
import httpx
print(json.dumps([httpx.Client.send.__module__, *said]))
"""
    found = run(program, str(tmp_path))
    assert isinstance(found, list)
    module, said = found
    assert module == "httpx"
    assert said.startswith("Calls with httpx 9.0 are not seen, so they are not forwarded: ")
