"""Which limits there are, and where each one comes from. No I/O but a warning in the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from celery_ezthrottle._common.log import logger
from celery_ezthrottle.errors import ConfigurationError
from celery_ezthrottle.settings.limit import Limit

from .bucket import Bucket
from .live import set_limit
from .matching import bucket_of

__all__ = ["KnownLimit", "known_limits"]


@dataclass(frozen=True)
class KnownLimit:
    """The limit of a pattern.

    Attributes:
        pattern: as in the setting ``limits``.
        limit: what holds now.
        of_settings: what the settings say; None if they do not know the pattern.
        is_set: whether ``limit`` was set at run time.
    """

    pattern: str
    limit: Limit
    of_settings: Limit | None
    is_set: bool

    def bucket(self, margin: float, key: str | None = None) -> Bucket:
        """A bucket of this limit, as the limiter is asked about it.

        Args:
            margin: see :class:`.Matching`.
            key: of a bucket that ``per`` has split off; None for the pattern's own.
        """
        bucket = bucket_of(self.pattern, self.limit, margin)
        if self.is_set:
            bucket = replace(bucket, of_settings=bucket_of(self.pattern, self.of_settings, margin))
        return replace(bucket, key=key or self.pattern)


def known_limits(settings: Mapping[str, Limit], changes: Mapping[str, str]) -> dict[str, KnownLimit]:
    """The limits of all patterns. In the place of a text that is not understood stands what the settings say, as in a worker.

    Args:
        settings: the setting ``limits``.
        changes: what was set at run time: patterns to texts.
    """
    found = {pattern: KnownLimit(pattern, limit, limit, is_set=False) for pattern, limit in settings.items()}
    for pattern, text in changes.items():
        of_settings = settings.get(pattern)
        try:
            limit = set_limit(text, of_settings)
        except ConfigurationError as exc:
            logger.warning(
                "The limit that was set at run time for %r is not understood: set it again. %s", pattern, exc
            )
            continue
        found[pattern] = KnownLimit(pattern, limit, of_settings, is_set=True)
    return found
