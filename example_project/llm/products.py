"""Which products the model is to write about."""

from __future__ import annotations

from itertools import product

__all__ = ["LEAST_FORWARDED", "PRODUCTS", "TRANSLATED", "calls_for"]

_MATERIALS = ("oak", "linen", "glass", "wool", "steel", "clay", "cork", "paper")
_GOODS = ("lamp", "box", "tray", "vase", "coaster")

#: Their names, by number.
PRODUCTS = {number: f"{material} {good}" for number, (material, good) in enumerate(product(_MATERIALS, _GOODS), 1)}
TRANSLATED = frozenset(list(PRODUCTS)[::3])  # their text is translated too: two calls

#: With fewer products than this meeting the limit, a run would show nothing.
LEAST_FORWARDED = 15


def calls_for(number: int) -> int:
    """How many calls a product needs."""
    return 2 if number in TRANSLATED else 1
