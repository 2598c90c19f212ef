"""The dialects in which jobs can be submitted, and what the settings of each one must hold.

``celery_ezthrottle/service/dialects/`` speaks them.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DIALECTS", "Needs"]


@dataclass(frozen=True)
class Needs:
    """What a dialect needs of the settings, and what of its service decides about them.

    Attributes:
        default_url: base URL of EZThrottle when ``ezthrottle_url`` is not set; "" = it must be set.
        api_key: whether ``ezthrottle_api_key`` must be set.
        proxy: whether ``ezthrottle_tracktags_url`` is used.
        signs: whether the service signs its webhooks with ``ezthrottle_webhook_secret``. Without that, the secret only makes
            the tokens in the URLs of the webhooks.
        tries_again: whether the service tries a call again that is still limited. If not, the worker forwards it again.
        merges: whether the service takes equal jobs without a key for one job.
    """

    default_url: str
    api_key: bool = True
    proxy: bool = False
    signs: bool = True
    tries_again: bool = True
    merges: bool = True


DIALECTS: dict[str, Needs] = {
    "proxy": Needs("https://ezthrottle.fly.dev", proxy=True),
    "direct": Needs("https://api.trackttags.com"),
    "local": Needs("", api_key=False, signs=False, tries_again=False, merges=False),
}
