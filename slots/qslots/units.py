"""Durations, moments, spans and sizes as people write them: "90s", "5s..15m", "256M". Pure; seconds and bytes come out.

Each of them raises UsageError, which is a ValueError too and names what was given and the form that is wanted.

The bounds keep every sum of µs exact in the queue server's floats and every ns within the scoreboard's 64 bits.
"""

import datetime
import re

from .errors import UsageError

LONGEST = 36500 * 86400.0  # seconds
LAST = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC).timestamp()

_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MOST_BYTES = 1 << 62
_NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"


def counted(count: int, noun: str) -> str:
    """So many of what: ``1 slot``, ``2,000 slots``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def figure(value: float) -> str:
    """A number with three digits and without an exponent, for sentences: ``0.0515``, ``12.5``, ``100,000``."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.0001 or value == 0 else "almost 0"


def duration(value: str | float, what: str = "duration") -> float:
    """Seconds: a number as it is, or "250ms", "90s", "5m", "2h", "1d". UsageError names ``what`` and the form."""
    if isinstance(value, bool):
        raise UsageError(f"{what} is {value!r}: write a number of seconds or a text such as '90s', '5m', '2h'")
    if isinstance(value, (int, float)) and value >= 0:
        return _bounded(value, value, what)
    match = re.fullmatch(_NUMBER + r"([a-z]*)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in _SECONDS:
        raise UsageError(f"{what} is {value!r}: write a number of seconds or a text such as '90s', '5m', '2h'")
    return _bounded(float(match[1]) * _SECONDS[match[2]], value, what)


def _bounded(seconds: float, value: object, what: str) -> float:
    if seconds > LONGEST:
        raise UsageError(f"{what} is {value!r}: at most 36500d")
    return float(seconds)


def moment(value: float | datetime.datetime, what: str = "at", delay: str = "") -> float:
    """Unix time in seconds, of a number or of a datetime with a time zone; until the year 2200.

    ``delay``: how whoever gives a text is to write a time from now instead.
    """
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise UsageError(f"{what} is {value!r}: a datetime without a time zone; add tzinfo")
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LAST:
        hint = f"; for a time from now write {delay}" if delay and isinstance(value, str) else ""
        raise UsageError(
            f"{what} is {value!r}: write a point in time, "
            f"Unix time in seconds (1970 to 2200) or a datetime with a time zone{hint}"
        )
    return float(value)


def span(value: str, what: str = "span") -> tuple[float, float]:
    """Two durations, "5s..15m", the first not above the second, as (5.0, 900.0)."""
    low, dots, high = value.partition("..") if isinstance(value, str) else ("", "", "")
    if not dots:
        raise UsageError(f"{what} is {value!r}: write two durations, such as '5s..15m'")
    least, most = duration(low, what), duration(high, what)
    if least > most:
        raise UsageError(f"{what} is {value!r}: the first duration is above the second")
    return least, most


def size(value: str | int, what: str = "size") -> int:
    """Bytes: a whole number as it is, or "512K", "256M", "2G" (powers of 1024; "512k" too)."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_BYTES:
        return value
    match = re.fullmatch(_NUMBER + r"([BKMGTkmgt]?)(?:i?B)?\s*", value) if isinstance(value, str) else None
    found = float(match[1]) * _BYTES[match[2].upper()] if match else -1.0
    if not 0 <= found <= _MOST_BYTES:
        raise UsageError(f"{what} is {value!r}: write a number of bytes or a text such as '512K', '256M', '2G'")
    return int(found)


def rate(value: str | float, what: str = "rate") -> float:
    """Tasks a second: a number above 0, or "10/s", "600/m", "2/h"."""
    amount, slash, unit = value.partition("/") if isinstance(value, str) else (value, "", "s")
    try:
        each = duration("1" + unit.strip(), what) if slash else 1.0
        found = float(amount) / each if not isinstance(amount, bool) else 0.0
    except (ValueError, TypeError, OverflowError):
        found = 0.0
    if not 0 < found < 1e9:
        raise UsageError(f"{what} is {value!r}: write tasks a second, or a text such as '10/s', '600/m'")
    return found


def share(value: str | int, what: str = "share") -> tuple[float, int]:
    """A part of a whole or an amount: "10%" is (0.1, 0), "2G" is (0.0, 2147483648)."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        match = re.fullmatch(_NUMBER + "%", value.rstrip())
        if match is None or float(match[1]) > 100:
            raise UsageError(f"{what} is {value!r}: write '10%' or a size such as '2G'")
        return float(match[1]) / 100, 0
    return 0.0, size(value, what)


def portion(of: tuple[float, int], total: int) -> int:
    """What a ``share`` of so much comes to."""
    part, amount = of
    return int(part * total) + amount
