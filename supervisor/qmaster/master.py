"""The master's loop: wait, read, act. It never waits on network or disk and never imports the application.

Events (signals, deaths, births, answers, questions) come through one selector and change plain state; after each, the
same few checks say what follows. How far the master is, is one number that only rises.
"""

import logging
import os
import selectors
import signal
import socket
from enum import IntEnum
from typing import Any

import msgspec
from setproctitle import setproctitle

from qslots.scoreboard import Field
from qslots.settings import Settings
from qslots.units import counted, duration

from . import deaths, inheritance, linux, privileges
from .books import Books, monotonic
from .children import Phase
from .control import ControlSocket
from .couriers import Couriers
from .duties import Duties
from .identity import Identity, give_up
from .lastmap import LastMap
from .ledger import Ledger
from .letters import Connect, Leave
from .moldkeeper import MoldKeeper
from .nursery import Nursery
from .reconcile import Desired, reconcile
from .recycler import Recycler

log = logging.getLogger("qmaster")
LAST_WORDS = 5.0  # seconds that settlements may take when all slots are gone
GONE_AFTER = 10.0  # seconds without a report after which a master of our name elsewhere counts as gone
REPLACED = "another qmaster has taken the name of this server: this one ends, with its slots"
_OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)
_NOT_YET = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH)


class Stage(IntEnum):
    """How far this master is; it only rises."""

    STARTING = 1  # the application is being loaded
    RUNNING = 2
    STOPPING = 3  # slots finish their task
    FAST = 4  # slots are killed
    SETTLING = 5  # all slots are gone, their settlements are under way
    ENDED = 6


class Master:
    """One server's master."""

    def __init__(self, settings: Settings, identity: Identity, last: LastMap) -> None:
        self._settings = settings
        self._identity = identity
        self._grace = duration(settings.server.graceful_timeout)
        self._stage = Stage.STARTING
        self._fault = ""
        self._settle_until = float("inf")
        self._stopping_since: float | None = None  # None also if there is no time to be graceful
        self._title = ""
        self._selector = selectors.DefaultSelector()
        name, incarnation = identity.name, identity.incarnation
        connect = Connect(settings.url, name, incarnation, identity.place, gone_after=GONE_AFTER)
        self._couriers = Couriers(settings, connect, self._selector)
        self._post = self._couriers.first
        self._keeper = MoldKeeper(settings, identity, self._selector)
        lineage = f"{name}/{incarnation}"
        self._nursery = Nursery(
            lineage, identity.board, self._keeper, self._couriers, self._selector, Ledger(identity.board_path)
        )
        self._books = Books(settings.server)
        self._recycler = Recycler(settings.server, self._books, self._nursery, self._keeper)
        self._duties = Duties(
            name, incarnation, self._books, self._nursery, self._keeper, self._couriers, last, self._recycler
        )  # fmt: skip
        self._last = last
        self._control = ControlSocket(identity.control_path, self._selector, self._answer)

    def run(self) -> str:
        """Until stopped; returns why it could not start or go on, "" for an end in good order."""
        linux.adopt_orphans()
        self._listen_to_signals()
        self._couriers.start(monotonic())
        inheritance.settle(self._identity.left, self._couriers, monotonic())
        self._keeper.start()
        deadline = 0.0
        while self._stage < Stage.ENDED:
            for key, _ in self._selector.select(max(0.0, deadline - monotonic())):
                if key.fd in self._selector.get_map():  # an earlier event of this turn may have closed it
                    key.data()
            deadline = self._turn(monotonic())
        self._close()
        return self._fault

    def _turn(self, now: float) -> float:
        """Acts on what has happened; returns when to look again at the latest."""
        self._couriers.check(now)
        self._advance(now)
        if self._stage is Stage.RUNNING:
            self._keeper.check(now)
            self._nursery.free_held_up()
        deadline = self._duties.check(now)
        plan = reconcile(self._desired(), self._nursery.children, now)
        for action in plan.actions:
            self._nursery.perform(action, now)
        self._show()
        return min(deadline, plan.deadline, self._couriers.next_check(), self._settle_until)

    def _advance(self, now: float) -> None:
        """The next stage, if what has happened calls for it."""
        why = self._post.refused or (REPLACED if self._duties.replaced else "")
        if self._stage is Stage.STARTING:
            knows = self._last.row is not None  # what to do without the queue server
            why = why or (self._post.down if not knows else "") or self._keeper.fault
            if self._keeper.can_fork and (self._post.connected or (knows and self._post.down)):
                self._stage = Stage.RUNNING
                privileges.warn_of_root(self._settings.server.user)
        if why and self._stage < Stage.FAST:
            self._fault = why
            self._stage = Stage.FAST
        stopping = self._stage in (Stage.STOPPING, Stage.FAST)
        self._duties.draining = stopping
        if stopping and all(child.phase is Phase.DEAD for child in self._nursery.children.tenants.values()):
            self._stage = Stage.SETTLING
            self._settle_until = now + LAST_WORDS
            if self._stopping_since is not None and self._couriers.owed:  # who knows when a successor comes
                self._settle_until = max(self._settle_until, self._stopping_since + self._grace)
            if self._post.connected:
                self._post.send(Leave(), lambda _: None, now)
        if self._stage is Stage.SETTLING and (not self._couriers.undone or now >= self._settle_until):
            self._stage = Stage.ENDED

    def _desired(self) -> Desired:
        row = self._duties.row
        wanted = dict(enumerate(row.slots if row is not None and self._stage < Stage.STOPPING else ()))
        room = self._books.room(self._nursery.children, wanted, monotonic())
        return Desired(
            slots=wanted,
            can_fork=self._stage is Stage.RUNNING and self._keeper.can_fork,
            room=room.places,
            grace=self._grace,
            fast=self._stage >= Stage.FAST,
            stopping=self._stage >= Stage.STOPPING,
            retiring=self._books.retiring(self._nursery.children) | self._recycler.retiring(),
            memory=room.memory,
            sizes=room.sizes,
            stopping_since=self._stopping_since or 0.0,
        )

    def _stop(self, stage: Stage, why: str) -> None:
        if self._stage < stage:
            living = self._nursery.living()
            busy = sum(self._nursery.record(child.index).words[Field.TASK] != 0 for child in living)
            log.info("stopping (%s): %s, %d in the middle of a task", why, counted(len(living), "slot"), busy)
            self._stage = stage
            self._stopping_since = monotonic() if stage is Stage.STOPPING else None
        elif self._stage is Stage.SETTLING and stage is Stage.FAST:
            self._settle_until = min(self._settle_until, monotonic() + LAST_WORDS)

    def _listen_to_signals(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in (*_OBEYED, *_NOT_YET):
            signal.signal(number, lambda *_: None)  # the byte in the socket is the event
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._signalled(ours, theirs))

    def _signalled(self, ours: socket.socket, _kept_open: socket.socket) -> None:
        for number in dict.fromkeys(ours.recv(4096)):
            match number:
                case signal.SIGCHLD:
                    self._reap()
                case signal.SIGTERM:
                    self._stop(Stage.STOPPING, "TERM")
                case signal.SIGINT:
                    again = self._stage >= Stage.STOPPING
                    self._stop(Stage.FAST if again else Stage.STOPPING, "INT again" if again else "INT")
                case signal.SIGQUIT:
                    self._stop(Stage.FAST, "QUIT")
                case _:
                    log.warning("%s is not served by this version", signal.Signals(number).name)

    def _reap(self) -> None:
        """Every child that has ended: mold, courier, slots, and strays that slots have left behind."""
        self._nursery.hear_the_unborn()
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            child = self._nursery.children.by_pid(pid)
            if child is not None:  # before its pid is free: whatever the slot has left behind goes with it
                linux.kill_strays(pid, *self._known())
            _, status = os.waitpid(pid, 0)
            if child is not None:
                self._nursery.buried(child, status)
            elif pid in self._couriers.pids:
                self._duties.forget_under_way(self._couriers.exited(pid, monotonic()))
            elif self._keeper.mold is not None and pid == self._keeper.mold.pid:
                self._keeper.gone(deaths.decode(status, "").text, monotonic())

    def _known(self) -> tuple[set[int], set[int]]:
        """The pids of our own children, and of molds."""
        mold = {self._keeper.mold.pid} if self._keeper.mold is not None else set()
        slots = {child.pid for child in self._nursery.living() if child.pid is not None}
        return slots | mold | self._couriers.pids, mold

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        match request.get("command"):
            case "status":
                return self._status()
            case "stop":
                self._stop(Stage.FAST if request.get("fast") else Stage.STOPPING, "asked by its control socket")
                return None
        return {"error": f"an unknown command: {request.get('command')!r}; known: status, stop"}

    def _status(self) -> dict[str, Any]:
        return {
            "server": self._identity.name,
            "pid": os.getpid(),
            "stage": self._stage.name.lower(),
            "generation": self._keeper.generation,
            "app": list(self._settings.app),
            "queue_server": self._post.url,
            "queue_server_down": self._post.down,
            "queue_servers": self._couriers.status(),
            **self._duties.figures(),
            "mold": self._keeper.ready.document() if self._keeper.ready is not None else None,
            "slots": [msgspec.structs.asdict(slot) for slot in self._duties.slots()],
            **self._recycler.status(),
        }

    def _show(self) -> None:
        count = self._nursery.children.count(Phase.LIVE)
        title = f"qmaster: master [{self._identity.name}] gen {self._keeper.generation}, {counted(count, 'slot')}"
        if title != self._title:
            setproctitle(title)
            self._title = title

    def _close(self) -> None:
        """The end: mold and courier see the end of their sockets; nothing of ours stays."""
        self._control.close()
        self._couriers.close()
        mold = {self._keeper.mold.pid} if self._keeper.mold is not None else set()
        for pid in self._couriers.pids | mold:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # it cannot take long, and whoever comes after finds no zombie of ours
        if self._couriers.undone:
            log.warning(
                "a queue server does not answer: %d settlements are left to the next qmaster",
                self._couriers.undone,
            )
        else:
            give_up(self._identity)
        if not self._fault:
            log.info("ended")
