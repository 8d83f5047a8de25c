"""The manager's loop: collect, plan, publish, once an interval. All between the first and the last is pure.

It holds nothing that its successor needs: the map in force and the masters' reports are on the queue server. A manager
that lost its epoch ends; one that cannot reach the queue server, or is refused there, goes on trying, and the fleet
keeps the last map.
"""

import gc
import logging
import os
import socket
import time
from collections.abc import Collection, Iterable, Sequence

from setproctitle import setproctitle

from qslots import given
from qslots.connection import without_password
from qslots.control import Control
from qslots.daemon.faults import Broken
from qslots.errors import Error, QueueServerDown, QueueServerError
from qslots.reports import QueueStats, Report
from qslots.servers import QueueServers
from qslots.settings import Settings
from qslots.units import duration

from . import pins, watchdog
from .collect import Collector
from .desk import Desk, Vitals
from .place import Place, seconds
from .planning.planner import Memory, PlanResult, plan
from .presence import begun_with
from .publishing import Reign, Reigning
from .roster import Fleet, Roster
from .schedules import newest
from .strays import StrayWatch
from .ticker import Ticker

log = logging.getLogger("qmanager")
MOST_FAULTS = 5  # cycles in a row that may fail by a fault of ours
REIGN = 3  # intervals: a foreign map younger than this is respected
COLLECTED = 100_000, 50, 100  # for gc.set_threshold: what masters report is read and forgotten, and has no cycles
STANDBY = 9  # by who stands by: a queue server that stalls for a moment is no reason to change hands


class Manager:
    """One reign."""

    def __init__(self, settings: Settings, place: Place, *, take_over: bool = False, standby: bool = False) -> None:
        self._interval = duration(settings.manager.interval)
        self._overrides = settings.queues
        self._take_over, self._standby = take_over, standby
        self._id = f"{socket.gethostname()}/{os.getpid()}"
        self._servers = QueueServers.listed(settings, name="qmanager")
        self._vitals = Vitals(self._id, without_password(self._servers.control.url))
        self._desk = Desk(place, self._vitals)
        self._longest_turn = self._interval + watchdog.TURN + watchdog.A_SERVER * (len(self._servers.names) - 1)
        self._control = Control(self._servers.control)
        self._reign = Reign(self._control, self._id)
        self._roster = Roster(self._control, settings.queues, duration(settings.manager.lost_after))
        self._collector = Collector(self._servers)
        self._ticker = Ticker(self._servers)
        self._strays = StrayWatch(self._servers)
        self._compared = False  # whether the settings were compared with what applications declare
        self._memory = Memory()
        self._noted: tuple[type[Error], str] | None = None  # the kind of outage that was told of

    def run(self) -> None:
        """Until told to stop. Error: another manager reigns, or the queue server is none that can be used."""
        watchdog.begin()
        gc.set_threshold(*COLLECTED)
        due = time.monotonic()
        try:
            while not self._desk.stopping:
                watchdog.wind(self._longest_turn)
                faults = self._vitals.faults = 0 if self._turn() else self._vitals.faults + 1
                if faults >= MOST_FAULTS:
                    raise Broken(
                        f"{faults} cycles in a row have failed, see the log: ending, another one may do better"
                    )
                due = following(due, self._interval, time.monotonic())
                self._desk.serve(due)
            self._resign()
        finally:
            watchdog.end()
            self._desk.close()

    def _turn(self) -> bool:
        """One cycle; False if it failed by a fault of ours."""
        began = time.monotonic()
        try:
            if not self._reign.epoch:
                self._begin()
            self._cycle()
        except QueueServerError as error:
            if not self._reign.epoch and not isinstance(error, QueueServerDown):
                raise
            self._servers.control.close()
            self._noticed(error)
        except Reigning as error:
            if not self._standby:
                raise Reigning(f"{error}: stop it, follow it with --standby, or use --take-over") from None
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
        self._servers.control.check()
        for name in self._servers.names[1:]:  # what is amiss there costs only what is there
            try:
                self._servers[name].check()
            except QueueServerError as error:
                log.warning("%s; what was last counted on %s stays", error, name)
        self._ascend()
        setproctitle(f"qmanager: epoch {self._reign.epoch}")
        log.info("%s reigns with epoch %d", self._id, self._reign.epoch)

    def _resign(self) -> None:
        """The end, in good order."""
        if not self._vitals.down:
            try:
                self._reign.resign()
            except QueueServerError as error:
                log.debug("the next manager may have to wait: %s", error)

    def _stand_by(self, error: Reigning) -> None:
        self._reign.epoch = 0  # also where another one has begun while we were to rise
        self._noticed(None)
        if self._vitals.stage != "standby":
            self._vitals.stage = "standby"
            self._vitals.epoch = self._vitals.seq = self._vitals.published = None
            self._memory = Memory()  # the next reign begins with what the map says
            setproctitle("qmanager: standby")
            log.info("%s stands by: %s", self._id, error)

    def _noticed(self, error: QueueServerError | None) -> None:
        """Tells of an outage once, and once more if it becomes one of another kind."""
        kind = (type(error), error.code) if error is not None else None
        if error is not None and kind != self._noted:
            log.warning(
                "%s; %s", error, "the last map stays in force" if self._reign.epoch else "asking on until it does"
            )
        elif error is None and self._noted is not None:
            log.info("the queue server answers again")
        self._noted, self._vitals.down = kind, "" if error is None else str(error)

    def _ascend(self) -> None:
        """Takes the next epoch: above every one that was ever published or is still obeyed."""
        reports, _, _ = self._control.reports()
        highest = max((report.epoch for report in reports.values()), default=0)
        respect = self._interval * (STANDBY if self._standby else REIGN)
        former = self._reign.begin(highest, respect=respect, take_over=self._take_over)
        self._vitals.stage, self._vitals.epoch = "reigning", self._reign.epoch
        self._roster.begin(self._reign.rows, former.declared if former else ())

    def _cycle(self) -> None:
        """One turn: collect, plan, publish."""
        fleet = self._roster.look()
        stats = self._collector.collect(fleet.queues, time.monotonic()) if fleet.queues else {}
        if fleet.held:
            self._reign.hold(now=fleet.now, declared=fleet.declared)
        else:
            result = self._planned(fleet, stats)
            self._memory = result.memory
            queues = pins.told(result.queues, fleet.pins)
            self._reign.publish(result.rows, queues, result.changes, now=fleet.now, declared=fleet.declared)
        self._vitals.seq, self._vitals.published = self._reign.seq, seconds()
        self._vitals.servers, self._vitals.queues = len(self._reign.rows), len(fleet.queues)
        self._rise_above(fleet.reports)
        if fleet.declared:  # else nobody says what is periodic, and what was is not over
            self._ticker.turn(newest(fleet.declared.values()), self._collector.away)
        self._tell_of_oversights(fleet)
        self._roster.forget(time.monotonic())

    def _rise_above(self, reports: Sequence[Report]) -> None:
        """The map has just been published, so we reign; a master that obeys a newer epoch knows of maps that the queue
        server has lost, and refuses ours until our epoch is above them.
        """
        highest = max((report.epoch for report in reports), default=0)
        if highest > self._reign.epoch:
            epoch = self._vitals.epoch = self._reign.rise(highest)
            setproctitle(f"qmanager: epoch {epoch}")
            log.warning("masters obey a map that the queue server has lost: reigning on with epoch %d", epoch)

    def _tell_of_oversights(self, fleet: Fleet) -> None:
        """Once each: settings for queues that nobody declares, and tasks where no slot looks for them."""
        reports = fleet.reports
        if not self._compared and reports and all(report.declared in fleet.declared for report in reports):
            self._compared = True
            for line in undeclared(self._overrides, fleet.queues.keys()):
                log.warning("%s", line)
        self._strays.look(self._collector.away, time.monotonic())

    def _planned(self, fleet: Fleet, stats: dict[str, QueueStats]) -> PlanResult:
        return plan(
            declared=fleet.declared, stats=stats, reports=fleet.reports,
            current=begun_with(self._reign.rows, fleet.reports), now=fleet.now, memory=self._memory,
            interval=self._interval,
            places={name: self._servers.places(name) for name in fleet.queues}, silent=self._collector.away,
        )  # fmt: skip


def following(due: float, interval: float, now: float) -> float:
    """When the next cycle begins: nothing is made up for, and there is a pause however long cycles take."""
    return min(max(due + interval, now + interval / 4), now + interval)


def undeclared(named: Iterable[str], declared: Collection[str]) -> list[str]:
    """A line for each queue that settings name and no application declares."""
    names = sorted(declared)
    return [
        f"the settings name queue {name}, which no application that is loaded declares: "
        + given.meant(name, names, far="`qslots queues` lists all")
        for name in sorted(set(named) - set(declared))
    ]
