"""What is changed of the limits at run time, in Redis: for all processes, until it is changed back."""

from __future__ import annotations

from celery_ezthrottle.store.redis.acts import Acts, literal

from .bucket import Bucket
from .encoding import encoded

__all__ = ["Changes"]


class Changes:
    """Limits that hold in the place of those that callers bring along. See live.lua. Threads may share it."""

    def __init__(self, acts: Acts) -> None:
        self._acts = acts

    def read(self) -> dict[str, str]:
        """The limits that were set: patterns to texts.

        Raises:
            StoreError: the store is out of reach.
        """
        found = [part.decode() for part in self._acts.run("changes")]
        return dict(zip(found[::2], found[1::2], strict=True))

    def set(self, bucket: Bucket, text: str) -> str | None:
        """From now on the numbers of ``bucket`` hold for all buckets of the pattern that is its key.

        What was granted under the numbers before counts under these too.

        Args:
            text: the limit as :meth:`.Limit.from_text` reads it, for :meth:`read`.

        Returns:
            The text that was set before.

        Raises:
            StoreError: the store is out of reach.
            ValueError: a number of the bucket is too small.
        """
        return self._change(bucket.key, text, encoded((bucket,), self._acts.prefix))

    def reset(self, pattern: str) -> str | None:
        """From now on the limit that callers bring along holds for a pattern, if they have one.

        Returns:
            The text that was set before; None if none was.

        Raises:
            StoreError: the store is out of reach.
        """
        return self._change(pattern, "", "")

    def split(self, pattern: str) -> list[str]:
        """The keys of the buckets that ``per`` has split off a pattern, as far as there are calls of them in a window or on
        their way.

        Redis looks at all of its keys for that, in many round trips: it is for commands.

        Raises:
            StoreError: the store is out of reach.
        """
        head = len(f"l:w:{pattern}#")  # windows, and leases: l:c:
        digests = {key[head:].partition(":")[0] for key in self._acts.keys(f"l:[cw]:{literal(pattern)}#*")}
        return [f"{pattern}#{digest}" for digest in sorted(digests)]

    def _change(self, *args: str) -> str | None:
        before = self._acts.run("change", *args)
        return before.decode() or None
