"""Which orders the demo places."""

from __future__ import annotations

__all__ = ["LEAST_FORWARDED", "ORDERS", "QUOTED", "RETURNED"]

ORDERS = range(1, 61)
QUOTED = frozenset(ORDERS[::3])  # their price is asked for first: two calls
RETURNED = frozenset(ORDERS[::5])  # they are paid back after the receipt

#: With fewer orders than this meeting the limit, a run would show nothing.
LEAST_FORWARDED = 20
