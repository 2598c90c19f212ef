"""``make demo``: the shop on this machine, with everything it needs, against a payments API with a rate limit.

``make demo ARGS=--route=workers``: without a service. The limited tasks wait in Valkey, and make their calls again themselves.
``make demo ARGS=--llm``: instead of selling, the shop lets a language model write about its products. Both go together.

Exits with 0 if all was as it should be by the record of the API: nothing was lost, nothing was done twice. The last line of the
output is one JSON object.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from .processes import ProcessFailed
from .sale import Sale
from .stage import ROUTES, Ran, Show, perform

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    show = _show(llm=options.llm)
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: a background job of a shell inherits that it is ignored
        signal.signal(signum, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="ezthrottle-demo-"))
    try:
        try:
            ran = perform(show, folder, options.route)
        except ProcessFailed as exc:
            ran = Ran(failure=str(exc))
        except Exception as exc:  # noqa: BLE001 -- whatever it was, it is told with the place of the logs
            ran = Ran(failure=f"{type(exc).__name__}: {exc}")
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        print("\nInterrupted; all processes have ended.")
        return 130
    judgement = show.judge(ran)
    print(f"\n{judgement.table()}\n")
    for problem in judgement.problems:
        print(f"PROBLEM: {problem}")
    if judgement.ok:
        print(judgement.praise)
        shutil.rmtree(folder)
    else:
        print(f"The logs and all other files are in {folder}")
    print(judgement.json())
    return 0 if judgement.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description="Run a demo on this machine.")
    parser.add_argument("--llm", action="store_true", help="enrich products with a language model, instead of selling")
    parser.add_argument("--route", choices=list(ROUTES), default="service", help="who makes a limited call again")
    return parser


def _show(*, llm: bool) -> Show:
    if llm:
        from .llm.enrichment import Enrichment

        return Enrichment()
    return Sale()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
