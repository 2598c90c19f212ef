"""The stores of the store's tests, for those that run tasks on them in this process."""

from tests.store.conftest import bench, server

__all__ = ["bench", "server"]
