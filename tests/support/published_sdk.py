"""The published EZThrottle SDK. It pins packages that nobody else could use then, so it is installed without them."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

__all__ = ["published_sdk"]


def published_sdk() -> Any:
    """The module ``ezthrottle``. Where it is missing, the test is skipped; in CI it fails."""
    try:
        return importlib.import_module("ezthrottle")
    except ModuleNotFoundError:
        why = "the SDK is not installed: pip install --no-deps ezthrottle"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
