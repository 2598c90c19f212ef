"""Celery's own integration tests, with ``EZThrottleTask`` as task class, beside a run on stock Celery.

Run before each release (``tox -e celery-suite``, 20 to 40 minutes, two runs at once), and not in CI. Nothing here is
collected by pytest.
"""
