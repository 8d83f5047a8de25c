"""The manager's loop: collect, plan, publish, once an interval. All between the first and the last is pure.

It holds nothing that its successor needs: the map in force and the masters' reports are on the queue server. A manager
that lost its epoch ends; one that cannot reach the queue server goes on trying, and the fleet keeps the last map.
"""

import difflib
import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence

from setproctitle import setproctitle

from qslots.connection import translated, without_password
from qslots.control import Control
from qslots.daemon.faults import Broken
from qslots.errors import Error, QueueServerDown, QueueServerError
from qslots.handlers import overridden
from qslots.reports import Declared, MapRow, Plan, QueueStats, Report
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import duration

from . import watchdog
from .collect import Collector
from .desk import Desk, Vitals
from .grant import Names
from .place import Place, seconds
from .placement import Change
from .planner import Memory, PlanResult, plan
from .schedules import aged, newest
from .strays import StrayWatch
from .ticker import Ticker
from .views import newest_plan

log = logging.getLogger("qmanager")
MOST_FAULTS = 5  # cycles in a row that may fail by a fault of ours
REIGN = 3  # intervals: a foreign map younger than this is respected
STANDBY = 9  # by who stands by: a queue server that stalls for a moment is no reason to change hands


class Reigning(Error):
    """Another manager has published a moment ago."""


class Manager:
    """One reign."""

    def __init__(self, settings: Settings, place: Place, *, take_over: bool = False, standby: bool = False) -> None:
        self._interval = duration(settings.manager.interval)
        self._lost_after = duration(settings.manager.lost_after)
        self._overrides = settings.queues
        self._take_over, self._standby = take_over, standby
        self._id = f"{socket.gethostname()}/{os.getpid()}"
        self._servers = QueueServers.listed(settings, name="qmanager")
        self._vitals = Vitals(self._id, without_password(self._servers.control.url))
        self._desk = Desk(place, self._vitals)
        self._longest_turn = self._interval + watchdog.TURN + watchdog.A_SERVER * (len(self._servers.names) - 1)
        self._control = Control(self._servers.control)
        self._collector = Collector(self._servers)
        self._ticker = Ticker(self._servers)
        self._strays = StrayWatch(self._servers)
        self._compared = False  # whether the settings were compared with what applications declare
        self._memory = Memory()
        self._declared: dict[str, Declared] = {}  # by digest, the newest last
        self._rows: dict[str, MapRow] = {}
        self._order: tuple[str, ...] = ()  # in which the manager before has seen the declarations
        self._epoch = 0
        self._seq = 0

    def run(self) -> None:
        """Until told to stop. Error: another manager reigns, or the queue server is none that can be used."""
        watchdog.begin()
        due = time.monotonic()
        try:
            while not self._desk.stopping:
                watchdog.wind(self._longest_turn)
                faults = self._vitals.faults = 0 if self._turn() else self._vitals.faults + 1
                if faults >= MOST_FAULTS:
                    raise Broken(
                        f"{faults} cycles in a row have failed, see the log: ending, another one may do better"
                    )
                due = max(due + self._interval, time.monotonic())
                self._desk.serve(due)
        finally:
            watchdog.end()
            self._desk.close()

    def _turn(self) -> bool:
        """One cycle; False if it failed by a fault of ours."""
        began = time.monotonic()
        try:
            if not self._epoch:
                self._begin()
            self._cycle()
        except QueueServerDown as error:
            self._servers.control.close()
            self._noticed(error)
        except Reigning as error:
            if not self._standby:
                raise
            self._stand_by(error)
        except Error:
            raise
        except Exception:
            log.exception("this cycle has failed; the last map stays in force")
            return False
        else:
            self._noticed(None)
            self._vitals.cycle = round(time.monotonic() - began, 6)
        return True

    def _begin(self) -> None:
        """The first contact, whenever the queue server answers."""
        self._servers.check()
        self._ascend()
        setproctitle(f"qmanager: epoch {self._epoch}")
        log.info("%s reigns with epoch %d", self._id, self._epoch)

    def _stand_by(self, error: Reigning) -> None:
        self._noticed(None)
        if self._vitals.stage != "standby":
            self._vitals.stage = "standby"
            log.info("%s stands by: %s", self._id, error)

    def _noticed(self, error: Exception | None) -> None:
        if error is not None and not self._vitals.down:
            log.warning("%s; %s", error, "the last map stays in force" if self._epoch else "asking on until it does")
        elif error is None and self._vitals.down:
            log.info("the queue server answers again")
        self._vitals.down = "" if error is None else str(error)

    def _ascend(self) -> None:
        """Takes the next epoch: above every one that was ever published or is still obeyed."""
        reports, _, _ = self._control.reports()
        highest = max((report.epoch for report in reports.values()), default=0)
        respect = self._interval * (STANDBY if self._standby else REIGN)
        try:
            self._epoch = self._control.take_epoch(self._id, highest, respect=respect, take_over=self._take_over)
        except QueueServerError as error:
            if error.code != "REIGNING":
                raise
            other = str(error).rpartition(" ")[2]
            raise Reigning(f"manager {other} published a moment ago: stop it, or use --take-over") from None
        self._vitals.stage, self._vitals.epoch = "reigning", self._epoch
        self._rows = self._control.rows()
        with translated(self._servers.control.url):
            former, _ = newest_plan(self._servers.control.redis)
        self._order = former.declared if former else ()

    def _cycle(self) -> None:
        """One turn: collect, plan, publish."""
        reports, ages, _ = self._control.reports()
        alive = [reports[name] for name in sorted(reports) if ages[name] <= self._lost_after]
        self._learn(alive)
        queues = {queue.name: queue for declared in self._declared.values() for queue in declared.queues}
        stats = self._collector.collect(dict(sorted(queues.items())), time.monotonic()) if queues else {}
        result = self._planned(alive, queues, stats)
        self._memory = result.memory
        self._publish(result, self._now(stats))
        self._rise_above(alive)
        if self._declared:  # else nobody says what is periodic, and what was is not over
            self._ticker.turn(newest(self._declared.values()), self._collector.away)
        self._tell_of_oversights(alive, queues)

    def _rise_above(self, alive: Sequence[Report]) -> None:
        """The map has just been published, so we reign; a master that obeys a newer epoch knows of maps that the queue
        server has lost, and refuses ours until our epoch is above them.
        """
        if any(report.epoch > self._epoch for report in alive):
            self._ascend()
            log.warning("masters obey a map that the queue server has lost: reigning on with epoch %d", self._epoch)

    def _tell_of_oversights(self, alive: Sequence[Report], queues: Iterable[str]) -> None:
        """Once each: settings for queues that nobody declares, and tasks where no slot looks for them."""
        if not self._compared and alive and all(report.declared in self._declared for report in alive):
            self._compared = True
            for line in undeclared(self._overrides, set(queues)):
                log.warning("%s", line)
        self._strays.look(self._collector.away, time.monotonic())

    @staticmethod
    def _now(stats: Mapping[str, QueueStats]) -> float:
        return max((each.now for each in stats.values()), default=0.0) or time.time()

    def _learn(self, alive: list[Report]) -> None:
        """Declarations of generations not seen before; those that nobody reports any more are forgotten."""
        digests = {report.declared for report in alive} - {""}
        found = self._control.declared(digests - self._declared.keys())
        settled = {
            digest: Declared(tuple(overridden(queue, self._overrides.get(queue.name)) for queue in each.queues))
            for digest, each in found.items()
        }
        kept = {digest: each for digest, each in self._declared.items() if digest in digests}
        self._declared = kept | aged(settled, self._order)

    def _planned(self, alive: list[Report], queues: Iterable[str], stats: dict[str, QueueStats]) -> PlanResult:
        current = {name: row.slots for name, row in self._rows.items()}
        return plan(
            declared=self._declared, stats=stats, reports=alive, current=current, now=self._now(stats),
            memory=self._memory, interval=self._interval,
            places={name: self._servers.places(name) for name in queues}, silent=self._collector.away,
        )  # fmt: skip

    def _publish(self, result: PlanResult, now: float) -> None:
        """Only rows that changed are sent; a lost server's row goes, so that it starts with an empty one."""
        self._seq += 1
        changed = {
            name: MapRow(self._epoch, self._seq, self._id, slots)
            for name, slots in result.rows.items()
            if name not in self._rows or self._rows[name].slots != slots or self._rows[name].epoch != self._epoch
        }
        gone = [name for name in self._rows if name not in result.rows]
        for line in told(result.changes):
            log.info("%s", line)
        document = Plan(self._epoch, self._seq, self._id, now, result.queues, tuple(self._declared))
        try:
            self._control.publish(document, changed, gone)
        except QueueServerError as error:
            if error.code == "DEPOSED":
                raise Error(f"{self._id} ends: {str(error).partition('DEPOSED ')[2]}") from None
            raise
        self._rows = {name: row for name, row in self._rows.items() if name not in gone} | changed
        self._vitals.seq, self._vitals.published = self._seq, seconds()
        self._vitals.servers, self._vitals.queues = len(self._rows), len(result.queues)


def undeclared(named: Iterable[str], declared: Collection[str]) -> list[str]:
    """A line for each queue that settings name and no application declares."""
    lines = []
    for name in sorted(set(named) - set(declared)):
        near = difflib.get_close_matches(name, sorted(declared), 1, 0.5)
        hint = f": did you mean {near[0]}?" if near else ""
        lines.append(f"the settings name queue {name}, which no application that is loaded declares{hint}")
    return lines


def told(changes: Sequence[Change]) -> list[str]:
    """The changes in words, one line for all slots of a server that change alike."""
    alike: dict[tuple[str, Names, Names, str], list[int]] = {}
    for change in changes:
        alike.setdefault((change.server, change.before, change.after, change.reason), []).append(change.index)
    lines = []
    for (server, before, after, reason), indexes in alike.items():
        which = f"slot {indexes[0]}" if len(indexes) == 1 else f"slots {spans(indexes)}"
        lines.append(f"{server} {which}: {','.join(before) or 'none'} -> {','.join(after) or 'none'} ({reason})")
    return lines


def spans(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as "0-2, 5"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
