"""What a manager hears of its fleet each cycle: who is there, what they report and declare, what people have pinned.

What cannot be believed is told of once, and harms nobody but its server. Who has been gone for a day is struck off the
books, a few a cycle. Everything here can be read anew by a successor.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qslots import believed
from qslots.control import Control, Heard
from qslots.handlers import overridden
from qslots.reports import Declared, QueueDeclared, Report
from qslots.settings import QueueSettings
from qslots.units import counted

from .changes import listed
from .pins import pinned
from .presence import Presence, present
from .schedules import aged

log = logging.getLogger("qmanager")
FORGOTTEN = 86400.0  # s of silence after which nothing is kept of a server
EVERY = 60.0  # s between two looks for what is to be forgotten
AT_ONCE = 20  # servers, and declarations, that are forgotten in one cycle
MOST_TOLD = 20  # servers a cycle whose reports are told of


@dataclass(frozen=True, slots=True)
class Fleet:
    """The fleet in one cycle."""

    now: float  # the queue server's clock, seconds
    reports: tuple[Report, ...]  # of the servers that are there, by name
    declared: Mapping[str, Declared]  # by digest, the newest last; settings and pins applied
    queues: Mapping[str, QueueDeclared]  # by name
    pins: Mapping[str, int]
    held: bool  # many servers are gone at once: the map stays as it is


class Roster:
    """The servers, and what was decided and told of them in cycles before."""

    def __init__(self, control: Control, overrides: Mapping[str, QueueSettings], lost_after: float) -> None:
        self._control = control
        self._overrides = overrides
        self._lost_after = lost_after
        self._presence = Presence()
        self._declared: dict[str, Declared] = {}  # as settings have it, without pins
        self._order: tuple[str, ...] = ()  # in which the manager before has seen the declarations
        self._told: set[str] = set()  # servers and digests
        self._due = 0.0
        self._named: set[str] = set()  # digests that some report names, be its server lost
        self._unnamed: set[str] = set()  # those that none had named when that was looked at last

    def begin(self, servers: Iterable[str], order: Sequence[str]) -> None:
        """``servers``: those of the map in force; ``order``: of the declarations, as the manager before had them."""
        self._presence = Presence(frozenset(servers))
        self._order = tuple(order)

    def look(self) -> Fleet:
        """QueueServerError if it cannot be asked."""
        heard = self._control.heard()
        self._tell_of_faults(heard)
        known = heard.reports.keys() | {name for name, why in heard.faults.items() if believed.NO_NAME not in why}
        self._named = {report.declared for report in heard.reports.values()}
        seen = {name: at for name, at in heard.seen.items() if name in known}
        before, self._presence = self._presence, present(seen, self._presence, heard.now, lost_after=self._lost_after)
        self._tell_of_presence(before)
        there = sorted(self._presence.there & known)
        reports = tuple(heard.reports.get(name) or believed.blank(name) for name in there)
        self._learn({report.declared for report in reports} - {""})
        pins = self._control.pins()
        declared = pinned(self._declared, pins)
        queues = {queue.name: queue for each in declared.values() for queue in each.queues}
        return Fleet(heard.now, reports, declared, dict(sorted(queues.items())), pins, self._presence.held)

    def _learn(self, digests: set[str]) -> None:
        """Declarations of generations not seen before; those that nobody reports any more are forgotten."""
        found, faults = self._control.declarations(digests - self._declared.keys())
        for digest, why in faults.items():
            if digest not in self._told:
                self._told.add(digest)
                log.warning(
                    "declaration %s is not believed, its servers stay as they are: %s", ascii(digest)[1:-1][:60], why
                )
        settled = {
            digest: Declared(tuple(overridden(queue, self._overrides.get(queue.name)) for queue in each.queues))
            for digest, each in found.items()
        }
        kept = {digest: each for digest, each in self._declared.items() if digest in digests}
        self._declared = kept | aged(settled, self._order)

    def _tell_of_faults(self, heard: Heard) -> None:
        """Once a server, until it reports no longer."""
        self._told &= heard.seen.keys() | heard.faults.keys() | self._named
        new = sorted(heard.faults.keys() - self._told)
        for name in new[:MOST_TOLD]:
            log.warning(
                "server %s: of its report is not believed: %s", ascii(name)[1:-1][:80], listed(heard.faults[name])
            )
        if len(new) > MOST_TOLD:
            log.warning("nor is that of %s", counted(len(new) - MOST_TOLD, "more server"))
        self._told.update(new)

    def _tell_of_presence(self, before: Presence) -> None:
        there = self._presence.there
        if self._presence.held and not before.held:
            log.warning("many servers are silent at once, or we were: the map stays for %g s", self._lost_after)
        elif before.held and not self._presence.held and not before.there - there:
            log.info("all servers report again")
        if lost := sorted(before.there - there):
            log.warning("gone, or lost for want of a report within %g s: %s", self._lost_after, listed(lost))
        if new := sorted(there - before.there):
            log.info("reporting: %s", listed(new))

    def forget(self, now: float) -> None:
        """Strikes off the books who is gone for long; now and then, and a few at a time. ``now`` is monotonic."""
        if now < self._due:
            return
        unnamed = self._control.digests() - self._named
        gone = self._control.forget(FORGOTTEN, sorted(unnamed & self._unnamed)[:AT_ONCE], most=AT_ONCE)
        self._unnamed = unnamed
        self._due = now if len(gone) == AT_ONCE else now + EVERY
        if gone:
            log.info("forgotten, silent for a day: %s", listed(gone))
