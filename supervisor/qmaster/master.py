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

from qslots import logs
from qslots.scoreboard import Field
from qslots.settings import Settings
from qslots.units import counted, duration

from . import deaths, inheritance, linux, privileges
from .books import Books, monotonic
from .children import Phase
from .control import ControlSocket, Later
from .couriers import Couriers
from .duties import Duties
from .generations import Cause, Room, View
from .identity import Identity, give_up
from .lastmap import LastMap
from .ledger import Ledger
from .letters import Connect, Leave
from .molds import Molds
from .nursery import Nursery, Seen
from .reconcile import Desired, reconcile
from .revision import Source

log = logging.getLogger("qmaster")
LAST_WORDS = 5.0  # seconds that settlements may take when all slots are gone
GONE_AFTER = 10.0  # seconds without a report after which a master of our name elsewhere counts as gone
REPLACED = "another qmaster has taken the name of this server: this one ends, with its slots"
_OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR2)
_NOT_YET = (signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH)


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

    def __init__(self, settings: Settings, identity: Identity, last: LastMap, source: Source) -> None:
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
        self._molds = Molds(settings, source, identity, self._selector)
        lineage = f"{name}/{incarnation}"
        self._nursery = Nursery(
            lineage, identity.board, self._molds, self._couriers, self._selector, Ledger(identity.board_path)
        )
        self._books = Books(settings.server)
        self._duties = Duties(name, incarnation, self._books, self._nursery, self._molds, self._couriers, last)
        self._last = last
        self._control = ControlSocket(identity.control_path, self._selector, self._answer)

    def run(self) -> str:
        """Until stopped; returns why it could not start or go on, "" for an end in good order."""
        linux.adopt_orphans()
        self._listen_to_signals()
        self._couriers.start(monotonic())
        inheritance.settle(self._identity.left, self._couriers, monotonic())
        self._molds.start(monotonic())
        deadline = 0.0
        while self._stage < Stage.ENDED:
            for key, _ in self._selector.select(max(0.0, deadline - monotonic())):
                if self._selector.get_map().get(key.fd) is key:  # it may be closed by now, its number another's
                    key.data()
            deadline = self._turn(monotonic())
        self._close()
        return self._fault

    def _turn(self, now: float) -> float:
        """Acts on what has happened; returns when to look again at the latest."""
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
        self._show()
        return min(deadline, plan.deadline, self._couriers.next_check(), self._settle_until)

    def _advance(self, now: float) -> None:
        """The next stage, if what has happened calls for it."""
        why = self._post.refused or (REPLACED if self._duties.replaced else "")
        if self._stage is Stage.STARTING:
            knows = self._last.row is not None  # what to do without the queue server
            why = why or (self._post.down if not knows else "") or self._molds.fault
            if self._molds.state.can_fork and (self._post.connected or (knows and self._post.down)):
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

    def _use(self, settings: Settings) -> None:
        """The settings of the generation in force."""
        if settings is self._settings:
            return
        self._settings = settings
        self._grace = duration(settings.server.graceful_timeout)
        self._books.use(settings.server)
        self._couriers.use(settings)
        logs.heed(settings.log_level)

    def _view(self, seen: Seen | None = None) -> View:
        seen = seen or self._nursery.look()
        spare, ready = self._books.spare(), self._molds.ready
        room = Room(spare, ready.pss) if spare is not None and ready is not None else None
        return View(seen.tallies, room, duration(self._settings.server.load_timeout))

    def _desired(self, seen: Seen, now: float) -> Desired:
        row = self._duties.row
        wanted = dict(enumerate(row.slots if row is not None and self._stage < Stage.STOPPING else ()))
        children, capacity = self._nursery.children, self._books.capacity
        room = self._books.room(children, wanted, now)
        live = {index: child.generation for index, child in children.tenants.items() if child.phase is Phase.LIVE}
        way = self._molds.make_way(sorted(live.keys() - seen.busy), capacity.slot_size if capacity else 0, now)
        return Desired(
            slots=wanted,
            can_fork=self._stage is Stage.RUNNING and self._molds.state.can_fork,
            room=0 if self._molds.short else room.places,
            grace=self._grace,
            fast=self._stage >= Stage.FAST,
            stopping=self._stage >= Stage.STOPPING,
            generation=self._molds.present,
            busy=seen.busy,
            retiring=self._books.retiring(children) | way | self._molds.retiring(live),
            unready=seen.unready,
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
                case signal.SIGHUP | signal.SIGUSR2:
                    answer = self._reload(Cause.RELOAD if number == signal.SIGHUP else Cause.REFORK)
                    if isinstance(answer, dict) and answer["why"]:
                        log.info("%s is not followed at once: %s", signal.Signals(number).name, answer["why"])
                case _:
                    log.warning("%s is not served by this version", signal.Signals(number).name)

    def _reap(self) -> None:
        """Every child that has ended: mold, courier, slots, and strays that slots have left behind."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            child = self._nursery.children.by_pid(pid)
            if child is None:  # it may have been born just now: it has said so before it died
                self._nursery.hear_the_unborn()
                child = self._nursery.children.by_pid(pid)
            if child is not None:  # before its pid is free: whatever the slot has left behind goes with it
                linux.kill_strays(pid, *self._known())
            _, status = os.waitpid(pid, 0)
            if child is not None:
                self._nursery.buried(child, status)
            elif pid in self._couriers.pids:
                self._duties.forget_under_way(self._couriers.exited(pid, monotonic()))
            elif pid in self._molds.pids:
                self._molds.gone(pid, deaths.decode(status, "").text, monotonic())

    def _known(self) -> tuple[set[int], set[int]]:
        """The pids of our own children, and of molds."""
        slots = {child.pid for child in self._nursery.living() if child.pid is not None}
        return slots | self._molds.pids | self._couriers.pids, self._molds.pids

    def _reload(self, cause: Cause, *, wait: bool = False) -> dict[str, Any] | Later:
        if self._stage >= Stage.STOPPING:
            return {"ok": False, "generation": self._molds.present, "why": "this master is stopping"}
        later = Later()
        answer = self._molds.ask(cause, self._view(), (lambda told: later.say(told)) if wait else None)
        return later if wait else answer

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | Later | None:
        match request.get("command"):
            case "status":
                return self._status()
            case "stop":
                self._stop(Stage.FAST if request.get("fast") else Stage.STOPPING, "asked by its control socket")
                return None
            case "reload" | "refork" as command:
                return self._reload(Cause(command), wait=request.get("wait") is True)
        return {"error": f"an unknown command: {request.get('command')!r}; known: status, stop, reload, refork"}

    def _status(self) -> dict[str, Any]:
        view = self._view()
        return {
            "server": self._identity.name,
            "pid": os.getpid(),
            "stage": self._stage.name.lower(),
            "generation": self._molds.present,
            "generations": self._molds.status(view, self._books.pss),
            "reload": self._molds.reload_status(view),
            "app": list(self._settings.app),
            "queue_server": self._post.url,
            "queue_server_down": self._post.down,
            "queue_servers": self._couriers.status(),
            **self._duties.figures(),
            "mold": self._molds.ready.document() if self._molds.ready is not None else None,
            "slots": [msgspec.structs.asdict(slot) for slot in self._duties.slots()],
        }

    def _show(self) -> None:
        count = self._nursery.children.count(Phase.LIVE)
        title = f"qmaster: master [{self._identity.name}] gen {self._molds.present}, {counted(count, 'slot')}"
        if title != self._title:
            setproctitle(title)
            self._title = title

    def _close(self) -> None:
        """The end: mold and courier see the end of their sockets; nothing of ours stays."""
        self._control.close()
        self._couriers.close()
        for pid in self._couriers.pids | self._molds.pids:
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
