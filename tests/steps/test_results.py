"""What a step returns, and the error of one that has failed."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from celery_ezthrottle.errors import StepFailed
from celery_ezthrottle.steps.results import is_step_result, step_result
from celery_ezthrottle.steps.spec import StepSpec

STEP = StepSpec(
    "https://user:s3cr3t@api.example.com/v1?token=s3cr3t",
    method="POST",
    headers={"Authorization": "s3cr3t"},
    body="s3cr3t",
)
FAILED = step_result(
    STEP, succeeded=False, executed_locally=False, status_code=503, response="down", job_id="j", error="HTTP 503"
)


def test_the_keys_are_always_the_same() -> None:
    assert step_result(STEP, succeeded=True, executed_locally=True) == {
        "status": "success",
        "executed_locally": True,
        "status_code": None,
        "response": None,
        "job_id": None,
        "error": None,
        "step": "POST https://api.example.com/v1",
        "path": "",
    }


def test_what_was_described_is_named() -> None:
    described = StepSpec("https://api.example.com/v1", description="Charge", response_description="The charge")
    found = step_result(described, succeeded=True, executed_locally=True, path="fallback[0]")
    assert (found["step"], found["response_meaning"], found["path"]) == ("Charge", "The charge", "fallback[0]")
    assert is_step_result(json.loads(json.dumps(found)))


@pytest.mark.parametrize(
    "value", [None, {}, [], "success", {"status": "success"}, {**FAILED, "status": "queued"}, [FAILED]]
)
def test_what_is_no_result_of_a_step(value: Any) -> None:
    assert not is_step_result(value)
    assert is_step_result(FAILED)


def test_the_error_of_a_step_can_be_rebuilt_and_shows_no_response() -> None:
    error = StepFailed(FAILED)
    assert str(error) == "POST https://api.example.com/v1 failed: HTTP 503"
    assert repr(error) == "StepFailed('POST https://api.example.com/v1 failed: HTTP 503')"
    for rebuilt in (StepFailed(*json.loads(json.dumps(error.args))), pickle.loads(pickle.dumps(error))):
        assert rebuilt.result == FAILED
        assert str(rebuilt) == str(error)
