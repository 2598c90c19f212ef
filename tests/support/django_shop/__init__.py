"""A Django project with tasks: the app's own class, ``@frugal`` and ``EZThrottleTask`` in its two places."""
