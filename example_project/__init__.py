"""A small shop whose payments API has a rate limit. ``python -m example_project.demo`` runs all of it on this machine."""
