"""Find names that look like a setting and are none: typing errors, and names that are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["misplaced", "nearest", "unknown"]

#: How alike two names must be, from 0 to 1, that one is taken for the other with a typing error.
_ALIKE = 0.8


def unknown(app: Celery, environ: Mapping[str, str], known: Iterable[str]) -> Iterator[str]:
    """Yield a text for each name in the configuration or the environment that is no setting, with the one that was meant.

    A name that is certainly ours needs no likeness: ``ezthrottle_...`` in the configuration. Others may belong to the
    project, or to Kubernetes, which sets ``EZTHROTTLE_PORT`` for a service named ezthrottle. They must resemble a setting.

    Args:
        known: names of the settings, without prefix.
    """
    known = frozenset(known)
    for key, prefix, name in _of_configuration(app):
        if name not in known:
            meant = nearest(name, known)
            # The configuration may be the whole settings module of a project, as with Django. It may have names of its own
            # that begin with EZTHROTTLE_.
            if meant or prefix or key.islower():
                yield f"{key} is no setting{_question(key, name, meant)}"
    for variable in environ:
        name = variable.removeprefix("EZTHROTTLE_").lower()
        if variable.startswith("EZTHROTTLE_") and name not in known and (meant := nearest(name, known)):
            yield f"The environment variable {variable} is no setting{_question(variable, name, meant)}"


def misplaced(app: Celery, known: Iterable[str]) -> Iterator[str]:
    """Yield a text for each setting in the configuration that Celery does not read, because of its case or namespace."""
    known, namespace = frozenset(known), getattr(app, "namespace", None)
    for key, _, name in _of_configuration(app):
        if name in known and app.conf[key] is not None and getattr(app.conf, f"ezthrottle_{name}", None) is None:
            remedy = f"{namespace}_EZTHROTTLE_{name.upper()}" if namespace else f"ezthrottle_{name}"
            yield f"{key} in the app's configuration is not read: name it {remedy}."


def _of_configuration(app: Celery) -> Iterator[tuple[str, str, str]]:
    """Yield each name in the configuration that has our prefix: as it is written, its namespace, and its rest in lower case."""
    namespace = getattr(app, "namespace", None)
    pattern = re.compile(rf"({re.escape(namespace)}_)?ezthrottle_(\w+)" if namespace else r"()ezthrottle_(\w+)", re.I)
    for key in map(str, app.conf):
        if found := pattern.fullmatch(key):
            yield key, found[1] or "", found[2].lower()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of ``known`` that ``name`` is with a typing error; "" if it resembles none."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=_ALIKE)), "")


def _question(written: str, name: str, meant: str) -> str:
    """Return the question whether ``meant`` was meant, in the form of ``written``; a full stop if nothing is known."""
    if not meant:
        return "."
    before = written[: len(written) - len(name)]
    return f": did you mean {before}{meant.upper() if before.isupper() else meant}?"
