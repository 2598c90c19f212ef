"""Where :func:`create_app` was before it moved to :mod:`celery_ezthrottle.receiver.asgi`. Deployments name this path."""

from celery_ezthrottle.receiver.asgi import create_app

__all__ = ["create_app"]
