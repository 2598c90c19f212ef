"""Run a canvas and see everything that a user could: its result, states, relations and callbacks, without any ids."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from celery.result import AsyncResult, GroupResult

from tests.support.lab import PATIENCE, Lab, wait_until
from tests.support.project import app
from tests.support.upstream import Answer

from .forms import Build, Form
from .probes import Probes, meet

__all__ = ["Observation", "observe"]


@dataclass(frozen=True)
class Observation:
    """What became of one run of a canvas; ids are replaced by the labels of their tasks.

    Attributes:
        result: of the canvas, or the type and text of its error.
        ended: label → state, kind of result, parent, root, group index and children of each task whose body ended.
        fired: callbacks and errbacks, sorted: they run at the same time.
    """

    result: Any
    ended: dict[str, Any]
    fired: list[Any]


def observe(lab: Lab, form: Form, probes: Probes, run: str, *, failing: str | None, limited: str | None) -> Observation:
    """Run ``form`` once.

    Args:
        failing: label of the call that fails with 503, for good.
        limited: label of the call that is answered with 429 first, and is then forwarded.
    """
    if limited is not None:
        lab.upstream.plan(f"/{run}/{limited}", 429)
    if failing is not None:
        lab.upstream.plan(f"/{run}/{failing}", *[Answer(503, "{}")] * 5)
    result = form.build(Build(probes, run)).apply_async()
    outcome = _outcome(result)
    if failing is None:
        # What is only linked ends after the result is there.
        wait_until(lambda: {trace["label"] for trace in _traces(lab, run)} >= set(form.labels), "every label")
    traces = _settled(lab, run)
    labels = {trace["id"]: trace["label"] for trace in traces if trace["what"] == "end"}
    # Which member of a header is the last one, and so the parent of the body, is a matter of time in stock Celery too.
    relatives = labels | {
        trace["id"]: "member" for trace in traces if trace["what"] == "end" and trace["group_index"] is not None
    }
    ended = {trace["label"]: _end_of(trace, labels, relatives) for trace in traces if trace["what"] == "end"}
    fired = sorted(
        [trace["what"], trace["label"], trace.get("count"), labels.get(trace.get("parent", ""))]
        for trace in traces
        if trace["what"] != "end"
    )  # fmt: skip
    return Observation(outcome, ended, fired)


def _outcome(result: Any) -> Any:
    try:
        return result.get(timeout=PATIENCE)
    except Exception as exc:  # noqa: BLE001 -- the error is what is observed
        return [type(exc).__name__, _without_ids(str(exc))]


def _without_ids(text: str) -> str:
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)
    return (
        re.sub(r"http://\S+|url: \S+", "URL", text)
        .replace("Service Unavailable", "")
        .replace("SERVICE UNAVAILABLE", "")
    )


def _settled(lab: Lab, run: str) -> list[Any]:
    """The traces of a run, once nothing more comes."""
    seen: list[int] = []
    while len(seen) < 3 or len(set(seen[-3:])) > 1:
        # Both slots at once: what ran has ended, and what it has published is in the queue before the next round.
        key = f"meeting:{run}:{len(seen)}"
        for fence in [meet.delay(key) for _ in range(2)]:
            fence.get(timeout=PATIENCE)
        seen.append(len(_traces(lab, run)))
    return _traces(lab, run)


def _traces(lab: Lab, run: str) -> list[Any]:
    found: Any = lab.client.lrange(f"witness:{run}", 0, -1)
    return [json.loads(each) for each in found]


def _end_of(trace: dict[str, Any], labels: dict[str, str], relatives: dict[str, str]) -> dict[str, Any]:
    found: Any = AsyncResult(trace["id"], app=app)
    children = found.children or []
    return {
        "state": found.state,
        "parent": relatives.get(trace["parent"]),
        "root": "of its parent" if relatives.get(trace["parent"]) == "member" else relatives.get(trace["root"]),
        "group_index": trace["group_index"],
        "retries": trace["retries"],
        "stamps": trace["stamps"],
        "children": sorted(str(_label(child, labels)) for child in children),
    }


def _label(child: Any, labels: dict[str, str]) -> Any:
    if isinstance(child, GroupResult):
        return sorted(str(_label(each, labels)) for each in child.results or [])
    return labels.get(child.id, "?")
