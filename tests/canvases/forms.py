"""The canvases of the table. A new form is one row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import chain, chord, group
from celery.canvas import Signature, StampingVisitor  # type: ignore[attr-defined]

from tests.support.project import app

from .probes import Probes, callback, errback, old_errback

__all__ = ["FORMS", "Build", "Form"]


class Build:
    """Makes the signatures of one run of a canvas: ``s("a")`` is the task with label a, which makes one call."""

    def __init__(self, probes: Probes, run: str) -> None:
        self._probes = probes
        self._run = run

    def s(self, label: str) -> Any:
        return self._probes.calls.s(run=self._run, label=label)

    def si(self, label: str) -> Any:
        return self._probes.calls.si(run=self._run, label=label)

    def replaced(self, label: str) -> Any:
        """Calls as ``label``, then replaces itself by the task ``label+``."""
        return self._probes.replaces.s(run=self._run, label=label)

    def callback(self, label: str) -> Any:
        return callback.s(run=self._run, label=label)

    def errback(self, label: str) -> Any:
        return errback.s(run=self._run, label=label)

    def old_errback(self, label: str) -> Any:
        return old_errback.s(run=self._run, label=label)


@dataclass(frozen=True)
class Form:
    """A canvas.

    Attributes:
        name: what it is.
        labels: of the tasks that make a call, one letter each; "a+" is what replaces a.
        build: makes it.
    """

    name: str
    labels: tuple[str, ...]
    build: Callable[[Build], Any]


class Stamps(StampingVisitor):  # type: ignore[misc]
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        return {"customer": "c-17", "stamped_headers": ["customer"]}


def stamped(canvas: Any) -> Any:
    canvas.stamp(visitor=Stamps())
    return canvas


def linked(signature: Any, *, link: Any = None, link_error: Any = None) -> Any:
    if link is not None:
        signature.link(link)
    if link_error is not None:
        signature.link_error(link_error)
    return signature


def linked_to_header(canvas: Any, errback: Any) -> Any:
    """As with task_allow_error_cb_on_chord_header, which Celery asks for when an errback is linked."""
    app.conf.update(task_allow_error_cb_on_chord_header=True)
    try:
        canvas.link_error(errback)
    finally:
        app.conf.update(task_allow_error_cb_on_chord_header=False)
    return canvas


FORMS = [
    Form("task", ("a",), lambda b: b.s("a")),
    Form("chain", ("a", "b", "c"), lambda b: chain(b.s("a"), b.s("b"), b.s("c"))),
    Form("chain of immutables", ("a", "b"), lambda b: chain(b.si("a"), b.si("b"))),
    Form("group", ("a", "b", "c"), lambda b: group(b.s("a"), b.s("b"), b.s("c"))),
    Form("chord of one", ("a", "z"), lambda b: chord([b.s("a")], b.s("z"))),
    Form("chord", ("a", "b", "c", "z"), lambda b: chord([b.s("a"), b.s("b"), b.s("c")], b.s("z"))),
    Form(
        "chord in a chain",
        ("a", "b", "c", "y", "z"),
        lambda b: chain(b.s("a"), chord([b.s("b"), b.s("c")], b.s("y")), b.s("z")),
    ),
    Form(
        "chain in a header",
        ("a", "b", "c", "z"),
        lambda b: chord([chain(b.s("a"), b.s("b")), b.s("c")], b.s("z")),
    ),
    Form(
        "chord of chords",
        ("a", "b", "y", "c", "z"),
        lambda b: chord([chord([b.s("a"), b.s("b")], b.s("y")), b.s("c")], b.s("z")),
    ),
    Form("group of groups", ("a", "b", "c"), lambda b: group(group(b.s("a"), b.s("b")), b.s("c"))),
    Form(
        "chain of groups",
        ("a", "b", "c", "d"),
        lambda b: chain(group(b.s("a"), b.s("b")), group(b.s("c"), b.s("d"))),
    ),
    Form("group in a chain", ("a", "b", "c", "z"), lambda b: chain(b.s("a"), group(b.s("b"), b.s("c")), b.s("z"))),
    Form("link", ("a",), lambda b: linked(b.s("a"), link=b.callback("l"))),
    Form("link to a call", ("a", "b"), lambda b: linked(b.s("a"), link=b.s("b"))),
    Form("link_error", ("a",), lambda b: linked(b.s("a"), link_error=b.errback("e"))),
    Form("old link_error", ("a",), lambda b: linked(b.s("a"), link_error=b.old_errback("e"))),
    Form(
        "link and link_error in a chain",
        ("a", "b"),
        lambda b: chain(
            linked(b.s("a"), link=b.callback("l"), link_error=b.errback("e")),
            linked(b.s("b"), link=b.callback("m"), link_error=b.errback("f")),
        ),
    ),
    Form(
        "link_error of a body",
        ("a", "b", "z"),
        lambda b: chord([b.s("a"), b.s("b")], linked(b.s("z"), link_error=b.errback("e"))),
    ),
    Form(
        "link_error on a header",
        ("a", "b", "z"),
        lambda b: linked_to_header(chord([b.s("a"), b.s("b")], b.s("z")), b.errback("e")),
    ),
    Form("replace", ("a", "a+"), lambda b: b.replaced("a")),
    Form("replace in a chain", ("a", "b", "b+", "c"), lambda b: chain(b.s("a"), b.replaced("b"), b.s("c"))),
    Form("replace in a header", ("a", "a+", "b", "z"), lambda b: chord([b.replaced("a"), b.s("b")], b.s("z"))),
    Form("stamped chain", ("a", "b"), lambda b: stamped(chain(b.s("a"), b.s("b")))),
    Form("stamped chord", ("a", "b", "z"), lambda b: stamped(chord([b.s("a"), b.s("b")], b.s("z")))),
]
