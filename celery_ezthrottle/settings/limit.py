"""A limit of an API, as a user writes it: ``Limit("500/m", burst=10, concurrency=20)``. No I/O."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

from celery_ezthrottle._common.validators import COUNT, HEADER_NAME
from celery_ezthrottle.errors import ConfigurationError

__all__ = ["Limit", "Window"]

#: Seconds of each unit of time, and its names, from the longest to the shortest. The first name is the one that we write. A month
#: and a year have the lengths that the library ``limits`` gives them.
_UNITS = (
    (360 * 86_400, ("year",)),
    (30 * 86_400, ("month",)),
    (86_400, ("d", "day")),
    (3_600, ("h", "hour")),
    (60, ("m", "min", "minute")),
    (1, ("s", "sec", "second")),
)
_SECONDS = {
    plural: seconds
    for seconds, names in _UNITS
    for name in names
    for plural in ((name, f"{name}s") if len(name) > 1 else (name,))
}
#: One window. Twelve digits are enough for any limit, and few enough for int().
_WINDOW = re.compile(r"\s*([0-9]{1,12})\s*(?:/|per)\s*([0-9]{1,12})?\s*([a-z]+)\s*", re.IGNORECASE)
_SEPARATORS = re.compile(r"[,;|]")
_EXAMPLES = '"40/s", "10 per 2 hours" or "10/second;500/minute"'
_COUNT = re.compile(r"[0-9]{1,12}")
#: What a limit as text has besides windows.
_NUMBERS = ("burst", "concurrency")
_OPTIONS = (*_NUMBERS, "per", "adaptive")
#: Largest count of an adaptive limit: each call of it is remembered for a while.
MOST_ADAPTIVE = 10_000


@dataclass(frozen=True)
class Window:
    """At most ``count`` calls in any ``seconds``."""

    count: int
    seconds: float


@dataclass(frozen=True, init=False, repr=False)
class Limit:
    """What an API allows. Two limits that mean the same are equal. ``str`` gives the text that :meth:`from_text` reads.

    Args:
        rate: calls and time, in the notation of the library ``limits``: ``"10/second"``, ``"10 per 2 hours"``. Several are
            separated by ``;``, ``,`` or ``|``, and all of them hold. Units: second (s, sec), minute (m, min), hour (h), day (d),
            month (30 days), year (360 days). None: the number of calls does not matter, only ``concurrency``.
        burst: at most so many calls at once, the others evenly. It is at most the smallest count of ``rate``. None = as many as
            ``rate`` permits.
        concurrency: at most so many calls that have begun and not ended. None = any number.
        per: splits the limit: calls with another value have a limit of their own. The name of a request header (calls without it
            share one), or a callable that gets the request object of the HTTP library and returns a string. None = one for all.

    Attributes:
        windows: ``rate`` as numbers, the shortest time first; () without a rate.
        burst: as given.
        concurrency: as given.
        per: as given.
        adapts: the rate is only the one to begin with, see :meth:`adaptive`.

    Raises:
        ConfigurationError: a value is wrong, or there is neither a rate nor ``concurrency``. The text quotes it.
    """

    windows: tuple[Window, ...]
    burst: int | None
    concurrency: int | None
    per: str | Callable[[Any], str] | None
    adapts: bool

    def __init__(
        self,
        rate: str | None = None,
        *,
        burst: int | None = None,
        concurrency: int | None = None,
        per: str | Callable[[Any], str] | None = None,
    ) -> None:
        windows = () if rate is None else _windows(rate)
        if rate is None and concurrency is None:
            raise ConfigurationError(
                'A limit needs a rate or a concurrency, such as Limit("40/s") or Limit(concurrency=3).'
            )
        for name, count, example in (("burst", burst, 10), ("concurrency", concurrency, 20)):
            if count is not None:
                _check_count(name, count, example)
        if burst is not None:
            _check_burst(burst, rate, windows)
        _check_per(per)
        values = {"windows": windows, "burst": burst, "concurrency": concurrency, "per": per, "adapts": False}
        for name, value in values.items():
            object.__setattr__(self, name, value)  # it is frozen

    @classmethod
    def adaptive(
        cls,
        start: str,
        *,
        burst: int | None = None,
        concurrency: int | None = None,
        per: str | Callable[[Any], str] | None = None,
    ) -> Limit:
        """A limit that nobody knows: it is found by what the API allows, and followed when it changes.

        More calls are let through while all turns are used and none is limited, and as many as were allowed once one is. What the
        API says in its headers has precedence. All workers learn together, and forget after ten minutes without a call.

        Args:
            start: the rate to begin with: calls and one time, at most 10,000 calls. The time stays, the calls change.
            burst: see :class:`Limit`.
            concurrency: see :class:`Limit`.
            per: see :class:`Limit`.

        Raises:
            ConfigurationError: a value is wrong. The text quotes it.
        """
        limit = cls(start, burst=burst, concurrency=concurrency, per=per)
        if len(limit.windows) != 1 or limit.windows[0].count > MOST_ADAPTIVE:
            raise ConfigurationError(
                f"start={start!r} is wrong: an adaptive limit begins with one rate of at most {MOST_ADAPTIVE:,} calls, such as "
                'Limit.adaptive(start="5/s").'
            )
        object.__setattr__(limit, "adapts", True)
        return limit

    @classmethod
    def from_text(cls, text: str) -> Limit:
        """Read a limit as text, for the environment: ``"500/m;burst=10;concurrency=20"``.

        The parts are separated by ``;``: windows, ``burst=…``, ``concurrency=…``, ``per=`` and the name of a header. An adaptive
        limit has ``adaptive=`` and its first rate in the place of windows.

        Raises:
            ConfigurationError: the text is no limit. The error quotes the wrong part.
        """
        windows: list[str] = []
        options: dict[str, Any] = {}
        for part in map(str.strip, _text("a limit", text).split(";")):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            name = name.lower()
            if not equals:
                windows.append(part)
            elif name not in _OPTIONS:
                raise ConfigurationError(
                    f"{part!r} is no part of a limit: the parts are {', '.join(_OPTIONS)} and windows, such as "
                    '"500/m;burst=10;concurrency=20".'
                )
            elif name in options:
                raise ConfigurationError(f"{name} is given twice in {text!r}: leave one out.")
            elif not value:
                raise ConfigurationError(f'{part!r} has no value: write it as in "500/m;burst=10;per=X-Token".')
            else:
                options[name] = int(value) if name in _NUMBERS and _COUNT.fullmatch(value) else value
        if (start := options.pop("adaptive", None)) is not None:
            return cls.adaptive(";".join([start, *windows]), **options)
        return cls(";".join(windows) if windows else None, **options)

    def split_by(self, per: str | Callable[[Any], str] | None) -> Limit:
        """The same limit with another ``per``."""
        limit = copy(self)
        object.__setattr__(limit, "per", per)
        return limit

    def __str__(self) -> str:
        rate = "adaptive=" * self.adapts + ";".join(map(_written, self.windows))
        return ";".join([rate] * bool(rate) + [f"{name}={shown}" for name, shown in self._options()])

    def __repr__(self) -> str:
        rate = [repr(";".join(map(_written, self.windows)))] if self.windows else []
        options = [f"{name}={shown!r}" if shown is self.per else f"{name}={shown}" for name, shown in self._options()]
        return f"Limit{'.adaptive' * self.adapts}({', '.join(rate + options)})"

    def _options(self) -> list[tuple[str, Any]]:
        """The options that are set. A callable is shown by its name, because its address means nothing to a reader."""
        per = getattr(self.per, "__name__", type(self.per).__name__) if callable(self.per) else self.per
        options = (("burst", self.burst), ("concurrency", self.concurrency), ("per", per))
        return [(name, value) for name, value in options if value is not None]


def _windows(rate: Any) -> tuple[Window, ...]:
    """Read a rate. The order in which windows are written means nothing, so equal limits have them in one order."""
    found = {_window(part) for part in _SEPARATORS.split(_text("a rate", rate))}
    return tuple(sorted(found, key=lambda window: (window.seconds, window.count)))


def _window(text: str) -> Window:
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ConfigurationError(f"{text.strip()!r} is no rate: write whole calls and a time, such as {_EXAMPLES}.")
    count, multiple, unit = int(match[1]), int(match[2] or 1), match[3].lower()
    if unit not in _SECONDS:
        raise ConfigurationError(
            f"{match[3]!r} in {text.strip()!r} is no unit of time: use second (s, sec), minute (m, min), hour (h), day (d), "
            'month or year, such as "500/minute".'
        )
    if count < 1 or multiple < 1:
        raise ConfigurationError(
            f"{text.strip()!r} allows no call ever: both numbers are at least 1, as in {_EXAMPLES}."
        )
    return Window(count, float(multiple * _SECONDS[unit]))


def _written(window: Window) -> str:
    seconds, names = next(unit for unit in _UNITS if window.seconds % unit[0] == 0)
    multiple = int(window.seconds // seconds)
    return f"{window.count}/{multiple if multiple > 1 else ''}{names[0]}"


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} is text, not {value!r}: write {_EXAMPLES}.")
    return value


def _check_count(name: str, value: Any, example: int) -> None:
    try:
        COUNT.of_option(value)
    except ValueError as exc:
        raise ConfigurationError(f"{name}={value!r} is wrong: it must be {exc}, such as {name}={example}.") from None


def _check_per(per: Any) -> None:
    if per is not None and not callable(per) and not (isinstance(per, str) and HEADER_NAME.fullmatch(per)):
        raise ConfigurationError(
            f'per={per!r} is neither the name of a header nor a callable: write per="X-Token", or a function that gets the '
            "request and returns a string."
        )


def _check_burst(burst: int, rate: str | None, windows: tuple[Window, ...]) -> None:
    if not windows:
        raise ConfigurationError(
            f'burst={burst} needs a rate: how fast the others come, such as Limit("500/m", burst=10).'
        )
    most = min(window.count for window in windows)
    if burst > most:
        raise ConfigurationError(
            f"burst={burst} is above {most}: {rate!r} never allows so many calls at once. It is no allowance on top of the rate. "
            f"Lower it, or leave it out, which means burst={most}."
        )
