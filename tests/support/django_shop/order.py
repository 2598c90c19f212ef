"""Send a task when a transaction is committed: ``python -m tests.support.django_shop.order TASK PATH``. Prints its id."""

from __future__ import annotations

import sys

import django
from celery.signals import before_task_publish
from django.db import transaction

from .celeryapp import TASKS


def main(name: str, path: str) -> None:
    django.setup()
    sent: list[str] = []

    @before_task_publish.connect(weak=False)
    def note(headers: dict[str, str], **_: object) -> None:
        sent.append(headers["id"])

    with transaction.atomic():
        TASKS[name].delay_on_commit(path)
        assert sent == []
    with transaction.atomic():
        TASKS[name].apply_async_on_commit((path,), countdown=3600)
        transaction.set_rollback(True)
    print(*sent)  # noqa: T201 -- what it is for


if __name__ == "__main__":
    main(*sys.argv[1:])
