"""A task whose answer is too large for the receiver goes on at once."""

from __future__ import annotations

import pytest

from celery_ezthrottle import OutcomeUnknown
from tests.support.answered_tasks import measures
from tests.support.lab import PATIENCE, Lab
from tests.support.upstream import Answer

#: Over the bound of a response, and over that of a webhook.
too_large = pytest.mark.parametrize("size", [1024 * 1024 + 1, 9 * 1024 * 1024])


@too_large
def test_a_safe_call_is_made_again_by_the_task(lab: Lab, path: str, size: int) -> None:
    answer = Answer(200, b"x" * size, {"Content-Type": "text/plain"})
    lab.upstream.plan(path, 429, answer, answer)

    assert measures.delay(path).get(timeout=PATIENCE) == size
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (2, 1)


@too_large
def test_an_unsafe_call_is_not(lab: Lab, path: str, size: int) -> None:
    lab.upstream.plan(path, 429, Answer(200, b"x" * size, {"Content-Type": "text/plain"}))

    with pytest.raises(
        OutcomeUnknown, match=r"larger than ezthrottle_max_response = 1048576 bytes.* look it up upstream"
    ):
        measures.delay(path, "POST").get(timeout=PATIENCE)
    assert (lab.upstream.by_worker(path), lab.upstream.by_service(path)) == (1, 1)
