"""Benchmarks: ``python -m benchmarks.resume`` and ``python -m benchmarks.suspended``. See docs/benchmarks.md."""
