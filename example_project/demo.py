"""``make demo``: the shop on this machine, with everything it needs, against a payments API with a rate limit.

``make demo ARGS=--llm``: instead of selling, the shop lets a language model write about its products.

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
from .stage import Ran, Show, perform

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    show = _show(arguments)
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # SIGINT too: a background job of a shell inherits that it is ignored
        signal.signal(signum, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="ezthrottle-demo-"))
    try:
        try:
            ran = perform(show, folder)
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
        print(f"The logs and the gateway's database are in {folder}")
    print(judgement.json())
    return 0 if judgement.ok else 1


def _show(arguments: list[str]) -> Show:
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description="Run a demo on this machine.")
    parser.add_argument("--llm", action="store_true", help="enrich products with a language model, instead of selling")
    if parser.parse_args(arguments).llm:
        from .llm.enrichment import Enrichment

        return Enrichment()
    return Sale()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
