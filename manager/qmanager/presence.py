"""Which servers count as there. Pure: when each has reported last, and what was decided before, in; the servers out.

Ages are counted against the newest report, on the queue server's clock: if that server hangs, or we do, all reports are
old and nobody is lost. Whoever is silent for longer than others by ``lost_after`` is lost, unless it is many at once:
then it may be us who do not see, so for another ``lost_after`` the map stays as it is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from qslots.control import Heard
from qslots.keys import NAME
from qslots.reports import Report

RECENT = 12  # times ``lost_after``
MANY = 0.2  # of the servers that were there: more than these, and more than one, going at once are no plain loss
Row = tuple[tuple[str, ...], ...]  # the queues of slot 0, 1, 2, …


@dataclass(frozen=True, slots=True)
class Presence:
    """What the next cycle must know of this one. Times are seconds on the queue server's clock."""

    there: frozenset[str] = frozenset()  # servers that count; those of the map, for a manager that has just begun
    at: float | None = None  # the last cycle; None: there was none
    held_until: float = 0.0  # the map stays as it is; 0 if it may change
    ahead: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of the future, once: time, known since

    @property
    def held(self) -> bool:
        """Whether the map is to stay as it is."""
        return self.held_until > 0


def present(seen: Mapping[str, float], before: Presence, now: float, *, lost_after: float) -> Presence:
    """The servers that are there. ``seen``: when the newest report of each came."""
    # The clock was set back: as if such a report had come when we first saw it, also when its time comes once more.
    known = {name: since for name, (at, since) in before.ahead.items() if seen.get(name) == at}
    ahead = {name: (at, min(now, known.get(name, now))) for name, at in seen.items() if at > now or name in known}
    heard = {**seen, **{name: since for name, (_, since) in ahead.items()}}
    fresh = reporting(heard, now, lost_after=lost_after)
    missing = before.there - fresh
    if before.at is None:  # of a map that nobody has looked after, who is long gone is no news
        missing &= reporting(heard, now, lost_after=RECENT * lost_after)
    if before.held:
        ends = not missing or not now < before.held_until <= now + lost_after  # beyond that the clock was set back
        if ends:
            return Presence(fresh, now, 0.0, ahead)
        return Presence(before.there | fresh, now, before.held_until, ahead)
    blind = before.at is None or not 0 <= now - before.at <= lost_after
    if missing and (blind or _many(missing, before.there, fresh)):
        return Presence(fresh | missing, now, now + lost_after, ahead)
    return Presence(fresh, now, 0.0, ahead)


def reporting(seen: Mapping[str, float], now: float, *, lost_after: float) -> frozenset[str]:
    """Who is not silent for longer than the newest by ``lost_after``; what came in the future came now."""
    heard = {name: min(at, now) for name, at in seen.items()}
    newest = max(heard.values(), default=now)
    return frozenset(name for name, at in heard.items() if newest - at <= lost_after)


def living(heard: Heard, lost_after: float) -> dict[str, Report]:
    """The reports of the servers that are there, for who looks once and has decided nothing before."""
    seen = {name: at for name, at in heard.seen.items() if name in heard.reports}
    there = reporting(seen, heard.now, lost_after=lost_after)
    return {name: report for name, report in heard.reports.items() if name in there}


def _many(missing: Collection[str], there: Collection[str], fresh: Collection[str]) -> bool:
    return not fresh or len(missing) > max(1, MANY * len(there))


def begun_with(rows: Mapping[str, Row], reports: Iterable[Report]) -> dict[str, Row]:
    """The map in force; where that has no row of a server, what its slots serve."""
    return {**{each.server: served(each) for each in reports if each.server not in rows}, **rows}


def served(report: Report) -> Row:
    """What a server's slots serve, as a row of the map."""
    row: list[tuple[str, ...]] = [()] * (1 + max((slot.index for slot in report.slots), default=-1))
    for slot in report.slots:
        if slot.state != "leaving":
            row[slot.index] = tuple(sorted(name for name in set(slot.queues) if NAME.fullmatch(name)))
    return tuple(row)
