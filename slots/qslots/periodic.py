"""When the ticks of a periodic handler are: instants of its schedule, in whole seconds since the epoch. Pure.

What an application says is checked here at import; the manager computes from the same functions. Whoever asks, and
from wherever, gets the same instants: those of ``every`` are the multiples of the interval since the epoch, those of
``cron`` what Debian's cron would do in that time zone. There a fixed time that the clocks skip comes when they have,
one that they show twice comes the first time; where minute or hour begin with * the time that passes counts.
"""

import datetime
import difflib
import functools
import typing
import zoneinfo
from collections.abc import Iterator

import cronsim
import msgspec

from . import given
from .reports import Periodic
from .units import duration

CATCH_UP = ("once", "skip", "all")
Place = tuple[str, str]  # queue, handler
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SHORT = {  # what Debian's cron takes for whole expressions
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_TO_SAY = "say when, by every='10m' or cron='0 3 * * *'"


class Ticks(msgspec.Struct, frozen=True, array_like=True):
    """What one queue server remembers of a periodic handler. Instants are seconds since the epoch."""

    cursor: int  # up to this instant all has been said
    last: int  # the newest tick whose time has come; 0 for none
    missed: int  # ticks that were never stored, or made room for the next one before anybody took them
    dropped: int  # ticks whose predecessor was alive
    schedule: str  # in words
    waiting: tuple[int, ...]  # ticks that are stored, and wait for their time or, the newest of them, for somebody

    def due(self, now: float) -> list[int]:
        """Those of the waiting whose time has come."""
        return [instant for instant in self.waiting if instant <= now]

    def newest(self, now: float) -> int:
        """The newest tick whose time has come; 0 for none."""
        return max(self.last, *self.due(now), 0)


class Step(msgspec.Struct, frozen=True):
    """What is to be done for a handler on one queue server."""

    begin: int  # nothing is to be stored up to here
    upto: int  # all is said up to here
    instants: tuple[int, ...] = ()
    missed: int = 0
    withdraw: bool = False  # whether those that wait for their time are to go


def interval(value: typing.Any, what: str) -> int | None:
    """Seconds between two ticks."""
    if value is None:
        return None
    seconds = duration(value, what)
    if seconds < 1 or seconds % 1:
        raise ValueError(f"{what} is {value!r}: write whole seconds, 1s or more, such as '90s', '10m', '1d'")
    return int(seconds)


def expression(value: object, what: str) -> str | None:
    """An expression of cron, its words one blank apart; of ``@daily`` and the like what they stand for."""
    if value is None:
        return None
    found = " ".join(value.split()) if isinstance(value, str) else ""
    found = _SHORT.get(found, found)
    try:
        first = next(_ticks(found, "UTC", 0), None)
    except ValueError as error:
        why = str(error)[:1].lower() + str(error)[1:]
        raise ValueError(
            f"{what} is {value!r}: {why}: write minute, hour, day, month and weekday, such as '0 3 * * *'"
        ) from None
    if first is None:
        raise ValueError(f"{what} is {value!r}: there is no such day")
    return found


def zone(value: object, what: str) -> str:
    """The name of a time zone that is known here."""
    try:
        if isinstance(value, str) and value:
            _zone(value)
            return value
    except (KeyError, ValueError, OSError):  # unknown, no name of a zone, a folder of zones
        near = difflib.get_close_matches(str(value), sorted(zoneinfo.available_timezones()), 1)
        hint = f"did you mean {near[0]}?" if near else "is the package tzdata installed?"
        raise ValueError(f"{what} is {value!r}: no such time zone is known here: {hint}") from None
    raise ValueError(f"{what} is {value!r}: write the name of a time zone, such as 'Europe/Moscow'")


def policy(value: object, what: str) -> str:
    """What becomes of ticks that were missed."""
    if value not in CATCH_UP:
        raise ValueError(f"{what} is {value!r}: write one of {', '.join(CATCH_UP)}")
    return str(value)


CHECKS: dict[str, typing.Callable[[typing.Any, str], object]] = {
    "every": interval, "cron": expression, "tz": zone, "catch_up": policy, "overlap": given.switch,
}  # fmt: skip


def declared(periodic: Periodic, required: typing.Sequence[str]) -> Periodic | None:
    """What is left of a handler's options: None if it is not periodic. ValueError if they contradict each other.

    ``required``: its parameters without a default.
    """
    given = [name for name in ("tz", "catch_up", "overlap") if getattr(periodic, name) != getattr(Periodic(), name)]
    if periodic.every is None and periodic.cron is None:
        if given:
            raise ValueError(f"{given[0]} is for periodic handlers: {_TO_SAY}, or leave {given[0]} out")
        return None
    if periodic.every is not None and periodic.cron is not None:
        raise ValueError("every and cron are both given: leave one out")
    if periodic.every is not None and "tz" in given:
        raise ValueError(f"every counts from the epoch in UTC, whatever tz is ({periodic.tz}): use cron for local time")
    if not periodic.overlap and periodic.catch_up == "all":
        raise ValueError("catch_up='all' wants every tick and overlap=False drops some: leave one out")
    if required:
        raise ValueError(f"a periodic handler is called without arguments: give {required[0]} a default")
    return periodic


def words(periodic: Periodic) -> str:
    """The schedule in short, the same for equal schedules only: ``every 10m``, ``0 3 * * * Europe/Moscow``."""
    if periodic.every is None:
        return f"{periodic.cron} {periodic.tz}"
    unit = next(unit for unit, seconds in _UNITS.items() if periodic.every % seconds == 0)
    return f"every {periodic.every // _UNITS[unit]}{unit}"


def tick_id(handler: str, instant: int) -> str:
    """The id of the task of a tick: ``report@2026-11-22T03:00:00Z``."""
    return f"{handler}@{datetime.datetime.fromtimestamp(instant, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


@functools.lru_cache(4096)
def following(periodic: Periodic, after: int) -> int | None:
    """The first instant after this one; None if there is none within 50 years."""
    return next(_instants(periodic, after), None)


def first(periodic: Periodic, after: int, until: int, most: int) -> list[int]:
    """The first ``most`` of the instants after the one and not after the other."""
    begin, found = following(periodic, after), list[int]()  # most often there is none, and this is remembered
    if begin is None or begin > until:
        return found
    for instant in _instants(periodic, begin - 1):
        if instant > until or len(found) == most:
            break
        found.append(instant)
    return found


def latest(periodic: Periodic, after: int, until: int) -> int | None:
    """The last of the instants after the one and not after the other. Halves what is between, so it never counts up."""
    found, low, high = None, after, until
    while low < high:
        middle = (low + high) // 2
        instant = following(periodic, middle)
        if instant is not None and instant <= until:
            found = low = instant
        elif middle == low:
            break
        else:
            high = middle
    return found


def _instants(periodic: Periodic, after: int) -> Iterator[int]:
    """All instants after this one, ascending."""
    if periodic.cron is not None:
        return _ticks(periodic.cron, periodic.tz, after)
    if periodic.every is not None:
        return _multiples(periodic.every, after)
    raise ValueError("neither every nor cron is said")


def _multiples(every: int, after: int) -> Iterator[int]:
    instant = after // every * every
    while True:
        instant += every
        yield instant


def _ticks(cron: str, tz: str, after: int) -> Iterator[int]:
    """What the hour that the clocks show twice makes of an expression may lie behind us, or come twice."""
    newest = after
    try:
        instants = cronsim.CronSim(cron, datetime.datetime.fromtimestamp(after, _zone(tz)))
    except cronsim.CronSimError as error:
        raise ValueError(str(error)) from None
    for found in instants:
        instant = int(found.timestamp())
        if instant > newest:
            newest = instant
            yield instant


def _zone(name: str) -> datetime.tzinfo:
    return datetime.UTC if name == "UTC" else zoneinfo.ZoneInfo(name)
