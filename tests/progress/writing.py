"""A process that writes progress, in place of a worker: ``python -m tests.progress.writing STORE NAME COUNT``."""

from __future__ import annotations

import sys

from celery_ezthrottle import Progress
from tests.progress.conftest import app_of

if __name__ == "__main__":
    _, store, name, count = sys.argv
    with Progress(name, app=app_of(store)) as progress:
        for number in range(int(count)):
            (progress.write if number % 10 == 0 else progress.write_async)({"number": number}, "number")
