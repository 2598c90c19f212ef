"""celery-ezthrottle."""
