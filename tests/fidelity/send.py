"""Send one task from a process that is instrumented: ``python -m tests.fidelity.send PATH``. Prints its id and trace."""

from __future__ import annotations

import sys

from . import telemetry
from .tasks import call


def main(path: str) -> None:
    with telemetry.trace():
        result = call.apply_async((path,))
        print(result.id, telemetry.current_trace())  # noqa: T201 -- what it is for


if __name__ == "__main__":
    main(sys.argv[1])
