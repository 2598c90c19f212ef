"""The table: form × place × outcome × broker, each run compared with the same canvas run by stock Celery without a 429."""

from __future__ import annotations

import uuid

import pytest

from tests.support.lab import Lab

from .forms import FORMS, Form
from .observe import Observation, observe
from .probes import FRUGAL, FRUGAL_BY_BASE, STOCK, Probes

ROWS = [pytest.param(form, label, id=f"{form.name}-{label}") for form in FORMS for label in form.labels]

_stock: dict[tuple[str, str | None], Observation] = {}


def stock(lab: Lab, form: Form, failing: str | None) -> Observation:
    """What stock Celery does with the same canvas; run once."""
    key = form.name, failing
    if key not in _stock:
        _stock[key] = observe(lab, form, STOCK, f"stock-{uuid.uuid4().hex[:8]}", failing=failing, limited=None)
    return _stock[key]


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header:PendingDeprecationWarning")
@pytest.mark.parametrize(("form", "label"), ROWS)
def test_to_success(lab: Lab, path: str, form: Form, label: str) -> None:
    _compare_success(lab, path, form, label, FRUGAL)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_to_success_by_base_class(lab: Lab, path: str, form: Form) -> None:
    _compare_success(lab, path, form, form.labels[-1], FRUGAL_BY_BASE)


def _compare_success(lab: Lab, path: str, form: Form, label: str, probes: Probes) -> None:
    run = path.strip("/")
    seen = observe(lab, form, probes, run, failing=None, limited=label)

    assert seen == stock(lab, form, None)
    assert (lab.upstream.by_worker(f"/{run}/{label}"), lab.upstream.by_service(f"/{run}/{label}")) == (1, 1)


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header:PendingDeprecationWarning")
@pytest.mark.slow
@pytest.mark.parametrize(("form", "label"), ROWS)
def test_to_failure(lab: Lab, path: str, form: Form, label: str) -> None:
    run = path.strip("/")
    seen = observe(lab, form, FRUGAL, run, failing=label, limited=label)

    assert seen == stock(lab, form, label)
    assert (lab.upstream.by_worker(f"/{run}/{label}"), lab.upstream.by_service(f"/{run}/{label}")) == (1, 1)
