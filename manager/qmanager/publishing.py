"""The reign of one manager: its epoch, and the map and plan that it publishes under it.

Only rows that differ from those on the queue server are sent. A manager that is deposed learns it here, and must end.
"""

import logging
from collections.abc import Iterable

from qslots.connection import translated
from qslots.control import Control
from qslots.errors import Error, QueueServerError
from qslots.reports import MapRow, Plan, QueuePlan

from .changes import summary, told
from .planning.placement import Change, Rows
from .published import newest_plan

log = logging.getLogger("qmanager")
AGES = 1e12  # s: another manager is respected whenever it published


class Reigning(Error):
    """Another manager reigns, or has a moment ago."""


class Reign:
    """What is in force, and by which right."""

    def __init__(self, control: Control, manager: str) -> None:
        self._control = control
        self._manager = manager
        self.epoch = 0
        self.rows: Rows = {}  # as decided last
        self.seq = 0
        self._there: dict[str, MapRow] = {}  # on the queue server, as far as we know
        self._excess = 0  # rows there that are none, or not ours to read
        self._queues: tuple[QueuePlan, ...] = ()

    def begin(self, highest: int, *, respect: float, take_over: bool) -> Plan | None:
        """Takes the next epoch, above ``highest``; returns the plan in force. Reigning: another manager does."""
        self.epoch = 0  # it counts when the map in force is known, too: a plan without that would begin from nothing
        epoch = self._take(highest, respect=respect, take_over=take_over)
        self._there = self._control.rows()
        self.rows = {name: row.slots for name, row in self._there.items()}
        with translated(self._control.server.url):
            former, _ = newest_plan(self._control.server.redis)
        self._queues = former.queues if former else ()
        self.epoch = epoch
        return former

    def rise(self, highest: int) -> int:
        """The next epoch, above ``highest``; the map stays ours. Reigning: another manager has begun to."""
        self.epoch = self._take(highest, respect=AGES, take_over=False)
        return self.epoch

    def resign(self) -> None:
        """The map stays in force; whoever comes next need not wait until we have been silent for a while."""
        if self.epoch:
            self._control.resign(self._manager, self.epoch)

    def _take(self, highest: int, *, respect: float, take_over: bool) -> int:
        try:
            return self._control.take_epoch(self._manager, highest, respect=respect, take_over=take_over)
        except QueueServerError as error:
            if error.code != "REIGNING":
                raise
            other = str(error).rpartition(" ")[2]
            raise Reigning(f"manager {other} reigned a moment ago") from None

    def publish(
        self, rows: Rows, queues: tuple[QueuePlan, ...], changes: Iterable[Change], *, now: float,
        declared: Iterable[str],
    ) -> None:  # fmt: skip
        """A decision. A lost server's row goes, so that it starts with an empty one."""
        self.rows, self._queues = rows, queues
        changes = tuple(changes)
        if changes:
            log.info("map %d.%d: %s", self.epoch, self.seq + 1, summary(changes))
            if log.isEnabledFor(logging.DEBUG):
                for line in told(changes):
                    log.debug("%s", line)
        self.hold(now=now, declared=declared)

    def hold(self, *, now: float, declared: Iterable[str]) -> None:
        """The last decision again: it is in force, and we are there."""
        self.seq += 1
        changed = {
            name: MapRow(self.epoch, self.seq, self._manager, slots)
            for name, slots in self.rows.items()
            if name not in self._there or self._there[name].slots != slots or self._there[name].epoch != self.epoch
        }
        gone = [name for name in self._there if name not in self.rows]
        plan = Plan(self.epoch, self.seq, self._manager, now, self._queues, tuple(declared))
        try:
            found = self._control.publish(plan, changed, gone)
        except QueueServerError as error:
            if error.code == "DEPOSED":
                raise Error(f"{self._manager} ends: {str(error).partition('DEPOSED ')[2]}") from None
            self._there = {}  # it may have been written all the same: all is sent once more
            raise
        self._there = {name: row for name, row in self._there.items() if name in self.rows} | changed
        self._look_again(found)

    def _look_again(self, found: int) -> None:
        """Rows that the queue server has lost are sent with the next decision."""
        if found - len(self._there) != self._excess:
            self._there = self._control.rows()
            self._excess = found - len(self._there)
