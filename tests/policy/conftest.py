"""The HTTP libraries."""

from tests.support.libraries import library

__all__ = ["library"]
