"""Celery's own integration tests, with ``EZThrottleTask`` as task class, beside a run on stock Celery.

Run before each release (``tox -e celery-suite``, about 20 minutes for each of the two runs), and not in CI. Nothing here is
collected by pytest.
"""
