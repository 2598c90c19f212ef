"""Run ``t/integration`` of the installed Celery's source distribution twice: with stock tasks, and with ours.

The last line is JSON. The exit code is 1 if a test fails with our tasks that passes with stock ones, also when it is run again
alone.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from tests.support.servers import free_port, valkey_server

ROOT = Path(__file__).parents[2]
#: Seconds for one run of the suite.
PATIENCE = 3600.0
#: It imports what only Azure's packages have.
LEFT_OUT = ("--ignore=t/integration/test_backend.py",)
PLUGIN = Path(__file__).with_name("plugin.py")
#: How bad an outcome is; a test with subtests has several.
OUTCOMES = ("passed", "skipped", "failed")


def main() -> int:
    options = _arguments()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="celery-suite-")))
        unpack(options.sdist or download(folder), folder)
        # Not imported from here: the package under test is the installed one, not that of this checkout.
        shutil.copy(PLUGIN, folder / "ezthrottle_plugin.py")
        with_ours = ("-p", "ezthrottle_plugin")
        runs: dict[str, tuple[str, ...]] = {"stock": (), "ours": with_ours}

        def run(name: str) -> dict[str, str]:
            return run_suite(folder, name, (*runs[name], *options.pytest))

        with ThreadPoolExecutor(1 if options.in_turn else 2) as pool:
            stock, ours = pool.map(run, runs)
        bad = failed(ours) - failed(stock)
        again = run_suite(folder, "again", (*with_ours, *sorted(bad))) if bad else {}
    only_ours = bad - {name for name, outcome in again.items() if outcome == "passed"}
    report = {
        "celery": version("celery"),
        "stock": collections.Counter(stock.values()),
        "ours": collections.Counter(ours.values()),
        "failed_in_both": sorted(failed(stock) & failed(ours)),
        "failed_in_stock_only": sorted(failed(stock) - failed(ours)),
        "passed_when_run_again": sorted(bad - only_ours),
        "failed_in_ours_only": sorted(only_ours),
    }
    print(json.dumps(report))  # noqa: T201
    return 1 if only_ours or "passed" not in ours.values() else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.celery_suite", description=__doc__)
    parser.add_argument("--sdist", type=Path, help="Celery's source distribution; by default pip downloads it")
    parser.add_argument("--in-turn", action="store_true", help="one run after the other, not both at once")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args()


def download(folder: Path) -> Path:
    """The source distribution of the Celery that is installed."""
    command = ["pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", *command, f"celery=={version('celery')}"], check=True)
    return next(folder.glob("celery-*.tar.gz"))


def unpack(sdist: Path, folder: Path) -> None:
    """Only the tests and their configuration: the Celery under test is the installed one."""
    with tarfile.open(sdist) as archive:
        for member in archive.getmembers():
            _, _, member.name = member.name.partition("/")
            if member.name.startswith("t/") or member.name == "pyproject.toml":
                archive.extract(member, folder, filter="data")


def run_suite(folder: Path, name: str, arguments: Sequence[str]) -> dict[str, str]:
    """The outcome of each test, by its node id."""
    result = folder / f"{name}.xml"
    where = () if any(argument.startswith("t/") for argument in arguments) else ("t/integration", *LEFT_OUT)
    command = [sys.executable, "-m", "pytest", "-p", "celery.contrib.pytest", "-q", "--tb=short", "--timeout=300"]
    command += [f"--junit-xml={result}", *arguments, *where]
    log = ROOT / ".tox" / f"celery-suite-{name}.log"
    log.parent.mkdir(exist_ok=True)
    with valkey_server() as url, log.open("wb") as output:
        environment = {**os.environ, **_environment(folder, url)}
        subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
            check=False,
        )
    print(f"{name}: see {log}", file=sys.stderr)  # noqa: T201
    return outcomes(result)


def _environment(folder: Path, url: str) -> Mapping[str, str]:
    return {
        "TEST_BROKER": f"{url}/0",
        "TEST_BACKEND": f"{url}/0",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": url.rpartition(":")[2],
        "PYTHONPATH": str(folder),
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),  # some tests run ``celery``
        "WORKER_LOGLEVEL": "INFO",  # some look for what a worker logs
        # The tasks make no HTTP calls: nothing is sent to these.
        "EZTHROTTLE_API_KEY": "key-of-the-suite",
        "EZTHROTTLE_URL": f"http://127.0.0.1:{free_port()}",
        "EZTHROTTLE_WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/ezthrottle/webhook",
        "EZTHROTTLE_WEBHOOK_SECRET": "secret-of-the-suite-0123456789",
        "EZTHROTTLE_STORE": f"{url}/0",  # some apps of the suite have another broker and no result backend
    }


def outcomes(result: Path) -> dict[str, str]:
    """Read a JUnit file. The node ids are those that pytest takes as arguments."""
    found: dict[str, str] = {}
    for case in ElementTree.parse(result).iter("testcase"):
        module, _, classes = case.get("classname", "").partition(".test_")
        name = f"{module.replace('.', '/')}/test_{classes.replace('.', '.py::', 1)}"
        name = "::".join((name if ".py" in name else f"{name}.py", case.get("name", "")))
        # A test that Celery expects to fail, because of a fault of its own, and that passes, is no fault of ours.
        kinds = {child.tag for child in case if not child.get("message", "").startswith("[XPASS")}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        found[name] = max(found.get(name, "passed"), outcome, key=OUTCOMES.index)
    return found


def failed(run: Mapping[str, str]) -> set[str]:
    return {name for name, outcome in run.items() if outcome == "failed"}


if __name__ == "__main__":
    sys.exit(main())
