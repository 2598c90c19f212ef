"""The dialects in which jobs can be submitted, and what the settings of each one must hold.

``celery_ezthrottle/service/dialects/`` speaks them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIALECTS", "Needs"]


@dataclass(frozen=True)
class Needs:
    """What a dialect needs of the settings.

    Attributes:
        default_url: base URL of EZThrottle when ``ezthrottle_url`` is not set; "" = it must be set.
        api_key: whether ``ezthrottle_api_key`` must be set.
        proxy: whether ``ezthrottle_tracktags_url`` is used.
    """

    default_url: str
    api_key: bool = True
    proxy: bool = False


DIALECTS: dict[str, Needs] = {
    "proxy": Needs("https://ezthrottle.fly.dev", proxy=True),
    "direct": Needs("https://api.trackttags.com"),
}
