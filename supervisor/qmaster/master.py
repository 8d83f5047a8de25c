"""The master's loop: wait, read, act. It never waits on network or disk and never imports the application.

Events (signals, deaths, births, answers, questions) come through one selector and change plain state; after each, the
same few checks say what follows. How far the master is, is one number that only rises.
"""

import logging
import os
import pathlib
import selectors
import signal
from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any

from setproctitle import setproctitle

from qslots import __version__, logs
from qslots.daemon.controlsocket import ControlSocket, Reply
from qslots.daemon.notices import ServiceManager, State
from qslots.scoreboard import Field, boot_ns
from qslots.settings import Settings, used
from qslots.units import counted, duration

from . import faults, inheritance, lateness, linux, privileges, requests, signals
from .books import Books, monotonic
from .byhand import ByHand
from .children import Phase
from .couriers import Couriers
from .desk import Desk
from .duties import Duties
from .generations import Cause, Room, View
from .identity import Identity, give_up
from .lastmap import LastMap
from .ledger import Ledger
from .letters import Connect, Leave, Reopen
from .molds import Molds
from .nursery import Nursery, Seen
from .reaper import Reaper
from .reconcile import Desired, reconcile
from .recycler import Recycler
from .revision import Source
from .status import Status

log = logging.getLogger("qmaster")
LAST_WORDS = 5.0  # seconds that settlements may take when all slots are gone
GONE_AFTER = 10.0  # seconds without a report after which a master of our name elsewhere counts as gone
BROKEN = "it has failed too often within a minute, the log has the tracebacks: all slots end, please report it"
REPLACED = "another qmaster has taken the name of this server: this one ends, with its slots"


class Stage(IntEnum):
    """How far this master is; it only rises."""

    STARTING = 1  # the application is being loaded
    RUNNING = 2
    STOPPING = 3  # slots finish their task
    FAST = 4  # slots are killed
    SETTLING = 5  # all slots are gone, their settlements are under way
    ENDED = 6


def clocks() -> lateness.Clocks:
    """Now, by both."""
    return lateness.Clocks(monotonic(), boot_ns() / 1e9)


class Master:
    """One server's master."""

    def __init__(self, settings: Settings, identity: Identity, last: LastMap, source: Source) -> None:
        self._settings = settings
        self._identity = identity
        self._grace = duration(settings.server.graceful_timeout)
        self._stage = Stage.STARTING
        self._fault = ""
        self._faults = faults.Faults()
        self._settle_until = float("inf")
        self._stopping_since: float | None = None  # None also if there is no time to be graceful
        self._service = ServiceManager(os.environ)  # before anything is started: nobody else may speak to it
        self._title = ""
        self._selector = selectors.DefaultSelector()
        name, incarnation = identity.name, identity.incarnation
        connect = Connect(settings.url, name, incarnation, identity.place, gone_after=GONE_AFTER)
        self._couriers = Couriers(settings, connect, self._selector)
        self._post = self._couriers.first
        self._source = source
        self._molds = Molds(settings, source, identity, self._selector)
        lineage = f"{name}/{incarnation}"
        self._nursery = Nursery(
            lineage, identity.board, self._molds, self._couriers, self._selector, Ledger(identity.board_path)
        )
        self._reaper = Reaper(self._nursery, self._couriers, self._molds)
        self._books = Books(settings.server)
        self._recycler = Recycler(settings.server, self._books, self._nursery, self._molds)
        self._duties = Duties(
            name, incarnation, self._books, self._nursery, self._molds, self._couriers, last, self._recycler
        )  # fmt: skip
        self._last = last
        self._hand = ByHand()
        self._status = Status(
            identity, self._couriers, self._molds, self._nursery, self._books, self._duties, self._recycler, self._hand
        )
        self._desk = Desk(self._document, self._asked_to_stop, self._asked_to_reload, self._hand, self._nursery)
        self._control = ControlSocket(
            identity.control_path, self._selector, who="qmaster", read=requests.read, answer=self._desk.answer
        )

    def run(self) -> str:
        """Until stopped; returns why it could not start or go on, "" for an end in good order."""
        linux.adopt_orphans()
        signals.listen(self._selector, self._signalled)
        self._couriers.start(monotonic())
        inheritance.settle(self._identity.left, self._couriers, monotonic())
        self._molds.begin(monotonic())
        deadline, before = monotonic(), clocks()
        while self._stage < Stage.ENDED and monotonic() < self._faults.end_by:
            events = self._selector.select(max(0.0, min(deadline, self._faults.end_by) - monotonic()))
            late, before = lateness.late(before, deadline, now := clocks()), now
            if late is not None:
                self._attempt(partial(self._come_late, late))
            for key, _ in events:
                if self._selector.get_map().get(key.fd) is key:  # it may be closed by now, its number another's
                    self._attempt(key.data)
            deadline = self._attempt(self._turn) if late is None else monotonic()
        self._close()
        return self._fault

    @property
    def is_broken(self) -> bool:
        """Whether it has ended for its own faults."""
        return self._faults.are_too_many

    def _attempt(self, step: Callable[[], float | None]) -> float:
        """One step of a turn; returns when to look again. What fails holds up none of the others."""
        try:
            again = step()
        except Exception:
            now = monotonic()
            if self._faults.counts(now):
                log.exception("a fault of qmaster itself, please report it; it goes on")
            if self._faults.are_too_many and self._stage < Stage.FAST:
                self._fault, self._stage = BROKEN, Stage.FAST
            return now + faults.EVERY
        return again if again is not None else float("inf")

    def _come_late(self, late: lateness.Late) -> None:
        """We were stopped, or the machine slept: this turn observes, and ends nobody."""
        log.warning(
            "this turn comes %.0f s late: locks are extended, nobody is ended for it", late.stalled + late.asleep
        )
        self._couriers.postpone(late.stalled)
        self._nursery.children.postpone(late.stalled)
        self._settle_until += late.stalled
        if self._stopping_since is not None:
            self._stopping_since += late.stalled
        self._duties.come_late(late, monotonic())

    def _turn(self) -> float:
        """Acts on what has happened; returns when to look again at the latest."""
        self._reaper.reap()
        now = monotonic()
        asked = self._control.check(now)
        self._desk.follow(self._duties.orders)
        self._couriers.check(now)
        self._advance(now)
        seen = self._nursery.look()
        if self._stage < Stage.STOPPING:
            self._molds.check(self._view(seen), now)
            self._use(self._molds.settings)
        if self._stage is Stage.RUNNING:
            self._nursery.free_held_up()
        deadline = self._duties.check(now)
        plan = reconcile(self._desired(seen, now), self._nursery.children, now)
        for action in plan.actions:
            self._nursery.perform(action, now)
        self._desk.check()
        deadline = min(deadline, asked, self._show(now))
        return min(deadline, plan.deadline, self._couriers.next_check(), self._settle_until)

    def _advance(self, now: float) -> None:
        """The next stage, if what has happened calls for it."""
        why = self._post.refused or (REPLACED if self._duties.replaced else "")
        if self._stage is Stage.STARTING:
            knows = self._last.row is not None  # what to do without the queue server
            why = why or (self._post.down if not knows else "") or self._molds.fault
            if self._molds.state.can_fork and (self._post.connected or (knows and self._post.down)):
                self._stage = Stage.RUNNING
                log.info(
                    "%s is at work: qslots %s, pid %d, settings %s", self._identity.name, __version__, os.getpid(),
                    used(self._source.file, os.environ) or "of the environment and command line",
                )  # fmt: skip
                privileges.warn_of_root(self._settings.server.user)
        if why and self._stage < Stage.FAST:
            self._fault = why
            self._stage = Stage.FAST
        stopping = self._stage in (Stage.STOPPING, Stage.FAST)
        self._duties.draining = stopping or self._hand.drains
        if stopping and all(child.phase is Phase.DEAD for child in self._nursery.children.tenants.values()):
            self._stage = Stage.SETTLING
            self._settle_until = now + LAST_WORDS
            if self._stopping_since is not None and self._couriers.owed:  # who knows when a successor comes
                self._settle_until = max(self._settle_until, self._stopping_since + self._grace)
            if self._post.connected:
                self._post.send(Leave(), lambda _: None, now)
        if self._stage is Stage.SETTLING and (not self._couriers.undone or now >= self._settle_until):
            self._stage = Stage.ENDED

    def _use(self, settings: Settings) -> None:
        """The settings of the generation in force."""
        if settings is self._settings:
            return
        self._settings = settings
        self._grace = duration(settings.server.graceful_timeout)
        self._books.use(settings.server)
        self._recycler.settings = settings.server
        self._couriers.use(settings)
        logs.heed(settings.log_level)

    def _view(self, seen: Seen | None = None) -> View:
        seen = seen or self._nursery.look()
        spare, ready = self._books.spare(), self._molds.ready
        room = Room(spare, ready.pss) if spare is not None and ready is not None else None
        return View(seen.tallies, room, duration(self._settings.server.load_timeout))

    def _desired(self, seen: Seen, now: float) -> Desired:
        row = self._duties.row
        keeps = row is not None and self._stage < Stage.STOPPING and not self._hand.drains
        wanted = dict(enumerate(row.slots if row is not None and keeps else ()))
        room = self._books.room(self._nursery.children, wanted, now)
        return Desired(
            slots=wanted,
            can_fork=self._stage is Stage.RUNNING and self._molds.state.can_fork,
            room=0 if self._molds.short else room.places,
            grace=self._grace,
            fast=self._stage >= Stage.FAST,
            stopping=self._stage >= Stage.STOPPING,
            generation=self._molds.present,
            busy=seen.busy,
            unready=seen.unready,
            retiring=self._retiring(wanted, seen.busy, now),
            memory=room.memory,
            sizes=room.sizes,
            stopping_since=self._stopping_since or 0.0,
        )

    def _retiring(self, wanted: dict[int, tuple[str, ...]], busy: frozenset[int], now: float) -> dict[int, str]:
        """The slots that are to leave after their task, and why. Of two reasons the later one is told."""
        children, capacity = self._nursery.children, self._books.capacity
        live = {index: child.generation for index, child in children.tenants.items() if child.phase is Phase.LIVE}
        way = self._molds.make_way(sorted(live.keys() - busy), capacity.slot_size if capacity else 0, now)
        return (
            self._books.retiring(children) | way | self._duties.watchdogs.retiring() | self._recycler.retiring()
            | self._molds.retiring(live) | self._hand.retiring(children, wanted)
        )  # fmt: skip

    def _stop(self, stage: Stage, why: str) -> None:
        if self._stage < stage:
            living = self._nursery.living()
            busy = sum(self._nursery.record(child.index).words[Field.TASK] != 0 for child in living)
            how = "stopping at once" if stage is Stage.FAST else "stopping"
            log.info("%s (%s): %s, %d in the middle of a task", how, why, counted(len(living), "slot"), busy)
            self._stage = stage
            self._stopping_since = monotonic() if stage is Stage.STOPPING else None
        elif self._stage is Stage.SETTLING and stage is Stage.FAST:
            self._settle_until = min(self._settle_until, monotonic() + LAST_WORDS)

    def _signalled(self, number: int) -> None:
        match number:
            case signal.SIGCHLD:
                pass  # each turn looks for the dead
            case signal.SIGTERM:
                self._stop(Stage.STOPPING, "TERM")
            case signal.SIGINT:
                again = self._stage >= Stage.STOPPING
                self._stop(Stage.FAST if again else Stage.STOPPING, "INT again" if again else "INT")
            case signal.SIGQUIT:
                self._stop(Stage.FAST, "QUIT")
            case _:
                self._told(number)

    def _told(self, number: int) -> None:
        """Signals that end nothing."""
        match number:
            case signal.SIGUSR1:
                self._reopen_logs()
            case signal.SIGTTIN:
                self._move_most(more=True)
            case signal.SIGTTOU:
                self._move_most(more=False)
            case signal.SIGWINCH if linux.has_terminal():
                log.info("WINCH is not obeyed at a terminal, which sends it when resized: use `qmaster drain`")
            case signal.SIGWINCH:
                self._desk.drain("WINCH")
            case signal.SIGHUP:
                self._reload(Cause.RELOAD, self._told_of_reload)
            case signal.SIGUSR2:
                self._reload(Cause.REFORK, self._told_of_reload)

    @staticmethod
    def _told_of_reload(answer: dict[str, Any]) -> None:
        if answer["why"]:
            log.info("the reload is not begun at once: %s", answer["why"])

    def _move_most(self, *, more: bool) -> None:
        capacity = self._books.capacity
        now, bound = (capacity.max_slots, capacity.limit.bound) if capacity is not None else (None, "")
        log.info("%s", self._hand.one_more(now, bound) if more else self._hand.one_fewer(now, bound))
        self._books.most = self._hand.most

    def _reopen_logs(self) -> None:
        if self._settings.server.log_file is None:
            log.info("USR1: server.log_file is not set, log lines go to stderr: nothing to reopen")
            return
        path = str(pathlib.Path(self._settings.server.log_file).absolute())  # slots may stand in another folder
        if logs.reopen(path):
            self._couriers.tell(Reopen(path), monotonic())
            self._molds.reopen_logs(path)
            self._nursery.reopen_logs(path)
            log.info("USR1: the log file %s is opened anew", path)

    def _document(self) -> dict[str, Any]:
        return self._status.document(self._settings, self._view(), self._stage.name.lower())

    def _asked_to_stop(self, fast: bool) -> None:
        self._stop(Stage.FAST if fast else Stage.STOPPING, "asked by its control socket")

    def _asked_to_reload(self, request: requests.Reload | requests.Refork, reply: Reply) -> None:
        cause = Cause.RELOAD if isinstance(request, requests.Reload) else Cause.REFORK
        self._reload(cause, reply, wait=request.wait)

    def _reload(self, cause: Cause, reply: Reply, *, wait: bool = False) -> None:
        if self._stage >= Stage.STOPPING:
            reply({"ok": False, "generation": self._molds.present, "why": "this master is stopping"})
            return
        answer = self._molds.ask(cause, self._view(), reply if wait else None)
        if not wait:
            reply(answer)

    def _show(self, now: float) -> float:
        """To people and to the service manager; returns when the latter is to hear of us again."""
        line = self._status.line(self._stage.name.lower())
        title = f"qmaster: master [{self._identity.name}] {line}"
        if title != self._title:
            setproctitle(title)
            self._title = title
        return self._service.check(self._state(), line, now)

    def _state(self) -> State:
        """As the service manager sees it."""
        if self._stage >= Stage.STOPPING:
            return State.STOPPING
        if self._stage is Stage.STARTING:
            return State.STARTING
        return State.RELOADING if self._molds.state.is_reloading else State.RUNNING

    def _close(self) -> None:
        """The end: mold and courier see the end of their sockets; nothing of ours stays."""
        self._desk.ended(self._fault)
        self._control.close()
        self._couriers.close()
        molds = self._molds.pids
        for pid in self._couriers.pids | molds:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # it cannot take long, and whoever comes after finds no zombie of ours
        for pid in molds:  # what the application has started while it was imported
            linux.kill(linux.strays(pid, set(), set()))
        if self._couriers.undone:
            log.warning(
                "a queue server does not answer: %d settlements are left to the next qmaster",
                self._couriers.undone,
            )
        elif not self._nursery.living():  # else the next one settles for those, too
            give_up(self._identity)
        if not self._fault:
            log.info("ended")
