"""Parametrise a test by the HTTP library of its task. Not beside the clients: a worker shall not import pytest."""

from __future__ import annotations

import pytest

from .http_clients import CLIENTS

__all__ = ["each_library"]


def each_library(*libraries: str, slow: tuple[str, ...] = ("httpx",)) -> pytest.MarkDecorator:
    """Give a test its argument ``library``: each of ``libraries``, by default of all.

    A laptop leaves out those in ``slow``. One adapter serves both ``httpx`` and ``httpx2``, so the first adds little.
    """
    rows = [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in libraries or CLIENTS]
    return pytest.mark.parametrize("library", rows)
