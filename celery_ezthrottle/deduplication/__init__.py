"""Identical calls that are on their way at once: one is made, and its answer is that of all."""
