"""Import the client packages when the worker begins: its children then have them, and no task pays for an import."""

from __future__ import annotations

import contextlib
from importlib import import_module

from .table import SDKS

__all__: list[str] = []

for _package in (*SDKS, "mistralai.client", "twilio.rest"):
    with contextlib.suppress(ImportError):
        import_module(_package)
