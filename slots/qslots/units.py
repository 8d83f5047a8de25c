"""Durations, moments, spans and sizes as people write them: "90s", "5s..15m", "256M". Pure; seconds and bytes come out.

The bounds keep every sum of µs exact in the queue server's floats and every ns within the scoreboard's 64 bits.
"""

import datetime
import re

LONGEST = 36500 * 86400.0  # seconds
LAST = datetime.datetime(2200, 1, 1, tzinfo=datetime.UTC).timestamp()

_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = r"\s*([0-9]+(?:\.[0-9]+)?)\s*"


def duration(value: str | float, what: str = "duration") -> float:
    """Seconds: a number as it is, or "250ms", "90s", "5m", "2h", "1d". ValueError names ``what`` and the form."""
    if isinstance(value, bool):
        raise ValueError(f"{what} is {value!r}: write a number of seconds or a text such as '90s', '5m', '2h'")
    if isinstance(value, (int, float)) and value >= 0:
        return _bounded(value, value, what)
    match = re.fullmatch(_NUMBER + r"([a-z]*)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in _SECONDS:
        raise ValueError(f"{what} is {value!r}: write a number of seconds or a text such as '90s', '5m', '2h'")
    return _bounded(float(match[1]) * _SECONDS[match[2]], value, what)


def _bounded(seconds: float, value: object, what: str) -> float:
    if seconds > LONGEST:
        raise ValueError(f"{what} is {value!r}: at most 36500d")
    return float(seconds)


def moment(value: float | datetime.datetime, what: str = "at") -> float:
    """Unix time in seconds, of a number or of a datetime with a time zone; until the year 2200."""
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            raise ValueError(f"{what} is {value!r}: a datetime without a time zone; add tzinfo")
        value = value.timestamp()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= LAST:
        raise ValueError(
            f"{what} is {value!r}: write Unix time in seconds (1970 to 2200) or a datetime with a time zone"
        )
    return float(value)


def span(value: str, what: str = "span") -> tuple[float, float]:
    """Two durations, "5s..15m", the first not above the second, as (5.0, 900.0)."""
    low, dots, high = value.partition("..") if isinstance(value, str) else ("", "", "")
    if not dots:
        raise ValueError(f"{what} is {value!r}: write two durations, such as '5s..15m'")
    least, most = duration(low, what), duration(high, what)
    if least > most:
        raise ValueError(f"{what} is {value!r}: the first duration is above the second")
    return least, most


def size(value: str | int, what: str = "size") -> int:
    """Bytes: a whole number as it is, or "512K", "256M", "2G" (powers of 1024)."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = re.fullmatch(_NUMBER + r"([BKMGT]?)(?:i?B)?\s*", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{what} is {value!r}: write a number of bytes or a text such as '256M', '2G'")
    return int(float(match[1]) * _BYTES[match[2]])


def rate(value: str | float, what: str = "rate") -> float:
    """Tasks a second: a number above 0, or "10/s", "600/m", "2/h"."""
    amount, slash, unit = value.partition("/") if isinstance(value, str) else (value, "", "s")
    try:
        each = duration("1" + unit.strip(), what) if slash else 1.0
        found = float(amount) / each if not isinstance(amount, bool) else 0.0
    except ValueError:
        found = 0.0
    if not 0 < found < 1e9:
        raise ValueError(f"{what} is {value!r}: write tasks a second, or a text such as '10/s', '600/m'")
    return found


def share(value: str | int, what: str = "share") -> tuple[float, int]:
    """A part of a whole or an amount: "10%" is (0.1, 0), "2G" is (0.0, 2147483648)."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        match = re.fullmatch(_NUMBER + "%", value.rstrip())
        if match is None or float(match[1]) > 100:
            raise ValueError(f"{what} is {value!r}: write '10%' or a size such as '2G'")
        return float(match[1]) / 100, 0
    return 0.0, size(value, what)
