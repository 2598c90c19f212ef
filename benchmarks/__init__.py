"""Benchmarks: ``python -m benchmarks.resume`` and ``python -m benchmarks.suspended``; see docs/benchmarks.md."""
