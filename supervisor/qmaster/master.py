"""The master's loop: wait, read, act. It never waits on network or disk, never imports the application.

Events change plain data (children, row of the map, readings); ``reconcile`` says what follows; each action is one small
method. All signals, deaths, births and answers come through one selector.
"""

import logging
import os
import random
import selectors
import signal
import socket
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
from setproctitle import setproctitle

from qslots import orders
from qslots.connection import without_password
from qslots.errors import Error
from qslots.reports import Declared, MapRow, Report
from qslots.scoreboard import Field, Record, Scoreboard, boot_ns
from qslots.settings import Settings
from qslots.slot import TRUSTED
from qslots.units import duration

from . import deaths, linux, molding, watch
from .books import Books, MoldSize, monotonic
from .children import Child, Children, Phase
from .control import ControlSocket
from .identity import Identity, give_up
from .letters import Connect, Extend, Extended, Failed, Heard, Leave, Measure, Measured, Reply, SendReport, SettleDead
from .post import Post
from .reconcile import Ask, Desired, Fork, Kill, Serve, reconcile
from .spawn import spawn

log = logging.getLogger("qmaster")
TICK = 1.0
MEASURE_SHARE = 0.01  # of a second, each second
MOLD_AGAIN = 5.0  # seconds before a mold that died or refused is started again
LAST_WORDS = 5.0  # seconds that settlements may take when all slots are gone
GONE_AFTER = 10.0  # seconds without a report after which a master of our name elsewhere counts as gone
_OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD)
_NOT_YET = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH)


class Stage(IntEnum):
    """How far this master is; it only rises."""

    STARTING = 1
    RUNNING = 2
    STOPPING = 3  # slots finish their task
    FAST = 4  # slots are killed
    SETTLING = 5  # all slots are gone, their settlements are under way
    ENDED = 6


@dataclass(slots=True)
class Mold:
    """The present mold."""

    pid: int
    commands: socket.socket
    generation: int
    ready: molding.Ready | None = None


class Master:
    """One server's master."""

    def __init__(self, settings: Settings, identity: Identity) -> None:
        self._settings = settings
        self._identity = identity
        self._grace = duration(settings.server.graceful_timeout)
        self._selector = selectors.DefaultSelector()
        self._children = Children()
        self._channels: dict[str, socket.socket] = {}  # holder -> our end
        self._books = Books(settings.server)
        self._mold: Mold | None = None
        self._mold_at: float | None = None  # when to start the next one
        self._generation = 0
        self._row: MapRow | None = None
        self._declaration_wanted = True
        self._stage = Stage.STARTING
        self._fault = ""  # why the start failed
        self._next_tick = 0.0
        self._settle_until = float("inf")
        self._overdue: dict[int, watch.Overdue] = {}
        self._overdue_at: float | None = None
        self._asking: set[str] = set()  # kinds of letters of which one is under way
        self._births = 0
        connect = Connect(
            settings.url, identity.name, identity.incarnation, identity.predecessor, gone_after=GONE_AFTER
        )
        self._post = Post(connect, self._selector, self._connected)
        self._control = ControlSocket(identity.control_path, self._selector, self._answer)

    # --- the loop

    def run(self) -> str:
        """Until stopped; returns why it could not start or go on, "" for an end in good order."""
        linux.adopt_orphans()
        self._listen_to_signals()
        self._post.start(monotonic())
        self._settle_predecessors()
        self._start_mold()
        deadline = 0.0
        while self._stage < Stage.ENDED:
            for key, _ in self._selector.select(max(0.0, deadline - monotonic())):
                if key.fileobj in self._selector.get_map():  # an earlier event of this turn may have closed it
                    key.data()
            deadline = self._turn(monotonic())
        self._close()
        return self._fault

    def _turn(self, now: float) -> float:
        """Acts on what has happened; returns when to look again at the latest."""
        if now >= self._next_tick:
            self._next_tick = now + TICK
            self._tick(now)
        self._post.check(now)
        if self._overdue_at is not None and now >= self._overdue_at:
            self._act_on_overdue()
        if self._mold is None and self._mold_at is not None and now >= self._mold_at and self._stage is Stage.RUNNING:
            self._start_mold()
        plan = reconcile(self._desired(), self._children, now)
        for action in plan.actions:
            self._perform(action, now)
        self._advance_stage(now)
        moments = (
            plan.deadline,
            self._next_tick,
            self._post.next_check(),
            self._settle_until,
            self._overdue_at or plan.deadline,
        )
        return min(moments)

    def _desired(self) -> Desired:
        wanted = self._row.slots if self._row is not None and self._stage < Stage.STOPPING else ()
        return Desired(
            slots=dict(enumerate(wanted)),
            can_fork=self._stage is Stage.RUNNING and self._mold is not None and self._mold.ready is not None,
            room=self._books.room(len(self._children.tenants)),
            grace=self._grace,
            fast=self._stage >= Stage.FAST,
        )

    def _advance_stage(self, now: float) -> None:
        stopping = self._stage in (Stage.STOPPING, Stage.FAST)
        if stopping and all(child.phase is Phase.DEAD for child in self._children.tenants.values()):
            self._stage = Stage.SETTLING
            self._settle_until = now + LAST_WORDS
            if self._declared().queues:
                self._post.send(Leave(), lambda _: None, now)
        if self._stage is Stage.SETTLING and (not self._post.undone or now >= self._settle_until):
            self._stage = Stage.ENDED

    def _stop(self, stage: Stage, why: str) -> None:
        if self._stage < stage:
            log.info("stopping: %s", why)
            self._stage = stage

    def _fail(self, why: str) -> None:
        """What keeps this master from working at all: no slot may go on."""
        self._fault = self._fault or why
        self._stop(Stage.FAST, why)

    # --- signals and deaths

    def _listen_to_signals(self) -> None:
        ours, theirs = socket.socketpair()
        for each in (ours, theirs):
            each.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._signals = (ours, theirs)
        for number in (*_OBEYED, *_NOT_YET):
            signal.signal(number, lambda *_: None)
        self._selector.register(ours, selectors.EVENT_READ, self._signalled)

    def _signalled(self) -> None:
        for number in dict.fromkeys(self._signals[0].recv(4096)):
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
        for child in [child for child in self._children.tenants.values() if child.phase is Phase.ORDERED]:
            self._heard(child)  # a birth message may still lie in the channel of one that is dead already
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            child = self._children.by_pid(pid)
            if child is not None:  # before the pid is free: whatever the slot has left behind goes with it
                for stray in linux.session_members(pid):
                    _kill(stray)
            _, status = os.waitpid(pid, 0)
            self._exited(pid, status, child)

    def _exited(self, pid: int, status: int, child: Child | None) -> None:
        if child is not None:
            self._buried(child, status)
        elif pid == self._post.pid:
            self._post.exited(monotonic())
        elif self._mold is not None and pid == self._mold.pid:
            self._mold_gone(deaths.decode(status, "").text)

    def _buried(self, child: Child, status: int) -> None:
        """A slot is dead: settle exactly what its record says, then its index is free."""
        now = monotonic()
        record = self._record(child.index)
        cause = deaths.decode(status, child.why)
        clean = child.phase is Phase.LEAVING and status == 0
        task = record.text("task") if record.words[Field.TASK] else "no task"
        log.log(
            logging.INFO if clean else logging.WARNING,
            "slot %d (pid %d) %s while it ran %s, %d tasks done",
            child.index, child.pid, cause.text, task, record.words[Field.DONE],
        )  # fmt: skip
        self._children.advance(child, Phase.DEAD, now)
        self._hang_up(child.holder)
        letters = deaths.left_behind(record, cause, random.uniform(0.85, 1.15))
        child.unsettled = len(letters)
        for letter in letters:
            self._post.send(letter, lambda reply: self._settled(child, reply), now)
        if not letters:
            self._free(child)

    def _settled(self, child: Child, reply: Reply) -> None:
        if isinstance(reply, Failed):
            log.error(
                "slot %d could not be settled: %s; its tasks come back when their lock expires", child.index, reply.why
            )
        child.unsettled -= 1
        if child.unsettled == 0:
            self._free(child)

    def _free(self, child: Child) -> None:
        self._record(child.index).clear()
        self._children.gone(child, monotonic())

    # --- the mold and its births

    def _start_mold(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._generation += 1
        self._mold_at = None
        pid = spawn("qmaster.mold", [theirs.fileno(), self._identity.board.descriptor, self._identity.lock])
        theirs.close()
        self._mold = Mold(pid, ours, self._generation)
        begin = molding.Begin(
            self._settings.app, self._generation, self._settings.url, self._settings.queues, os.getpid()
        )
        molding.send(ours, begin)
        ours.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, self._mold_said)

    def _mold_said(self) -> None:
        mold = self._mold
        if mold is None:
            return
        try:
            message, _ = molding.receive(mold.commands)
        except BlockingIOError:
            return
        match message:
            case molding.Ready():
                mold.ready = message
                self._declaration_wanted = True
                log.info(
                    "mold gen %d is ready after %.1f s: %d handlers in %d queues, %d modules, %d MB",
                    mold.generation, message.seconds, sum(len(q.handlers) for q in message.declared.queues),
                    len(message.declared.queues), message.modules, message.pss >> 20,
                )  # fmt: skip
                if self._stage is Stage.STARTING:
                    self._stage = Stage.RUNNING
            case molding.Refused():
                if self._stage is Stage.STARTING:
                    self._fail(message.why)
                else:
                    log.error("the mold could not be made again: %s", message.why)
            case _:
                self._selector.unregister(mold.commands)

    def _mold_gone(self, how: str) -> None:
        mold = self._mold
        if mold is None:
            return
        if mold.commands.fileno() in self._selector.get_map():
            self._mold_said()  # its last words
        if mold.commands.fileno() in self._selector.get_map():
            self._selector.unregister(mold.commands)
        mold.commands.close()
        self._mold = None
        if self._stage is Stage.STARTING:
            self._fail(f"the mold {how} while it loaded the application")
        elif self._stage is Stage.RUNNING:
            log.error("the mold %s; another one is made in %.0f s, slots work on", how, MOLD_AGAIN)
            self._mold_at = monotonic() + MOLD_AGAIN

    def _fork(self, index: int, now: float) -> None:
        assert self._mold is not None
        self._births += 1
        holder = f"{self._identity.name}/{index}/{self._identity.incarnation}.{self._births}"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        child = self._children.order(index, holder, self._mold.generation, now)
        self._record(index).clear(holder=holder, generation=self._mold.generation)
        self._channels[holder] = ours
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._heard(child))
        try:
            molding.send(self._mold.commands, molding.Fork(index, holder), theirs.fileno())
        except OSError as error:
            log.warning("slot %d could not be ordered: %s", index, error)
            self._never_born(child)
        finally:
            theirs.close()

    def _heard(self, child: Child) -> None:
        channel = self._channels.get(child.holder)
        if channel is None:
            return
        try:
            message = orders.receive(channel)
        except BlockingIOError:
            return
        except (ConnectionError, msgspec.MsgspecError):
            message = None
        match message:
            case orders.Born(pid):
                child.pid = pid
                if self._children.advance(child, Phase.LIVE, monotonic()):
                    self._tell(child, child.queues)
            case orders.Stillborn(why):
                log.error("slot %d could not begin: %s", child.index, why)
            case _:
                self._hang_up(child.holder)
                if child.pid is None:
                    self._never_born(child)

    def _never_born(self, child: Child) -> None:
        """The channel ended before a birth message: nothing lives there, and nothing was taken."""
        self._hang_up(child.holder)
        if self._children.tenants.get(child.index) is child:
            self._free(child)

    def _hang_up(self, holder: str) -> None:
        channel = self._channels.pop(holder, None)
        if channel is not None:
            self._selector.unregister(channel)
            channel.close()

    # --- actions

    def _perform(self, action: Fork | Serve | Ask | Kill, now: float) -> None:
        if isinstance(action, Fork):
            self._fork(action.index, now)
            return
        child = self._children.tenants.get(action.index)
        if child is None:
            return
        match action:
            case Serve():
                self._tell(child, action.queues)
            case Ask():
                if self._children.advance(child, Phase.LEAVING, now, action.why) and child.pid:
                    os.kill(child.pid, signal.SIGTERM)
            case Kill():
                self._kill(child, action.why)

    def _tell(self, child: Child, queues: tuple[str, ...]) -> None:
        """A slot that does not read its orders is stuck between tasks; the next turn tries again."""
        channel = self._channels.get(child.holder)
        if queues and channel is not None and orders.send(channel, orders.Serve(queues)):
            child.queues = queues

    def _kill(self, child: Child, why: str) -> None:
        if not self._children.advance(child, Phase.KILLED, monotonic(), why):
            return
        log.warning("slot %d (pid %s) is killed: %s", child.index, child.pid, why)
        if child.pid is None:
            self._never_born(child)
        else:
            _kill(child.pid)

    # --- once a second

    def _tick(self, now: float) -> None:
        live = self._live_records()
        self._extend(live, now)
        self._watch(live)
        self._measure(now)
        if self._mold is not None and self._mold.ready is not None:
            size = MoldSize(self._mold.pid, self._mold.ready.pss)
            self._books.assess(self._children, live, size, self._mold.ready.declared, now)
            self._report(live, size, now)
        setproctitle(
            f"qmaster: master [{self._identity.name}] gen {self._generation}, {self._children.count(Phase.LIVE)} slots"
        )

    def _once(self, letter: Extend | Measure | SendReport, key: str, on_reply: Any, now: float) -> None:
        """Sends a letter unless the one before it is still under way: what is late is not made later."""
        if key in self._asking:
            return
        self._asking.add(key)

        def answered(reply: Reply) -> None:
            self._asking.discard(key)
            on_reply(reply)

        self._post.send(letter, answered, now)

    def _extend(self, live: list[Record], now: float) -> None:
        for (queue, ttl), locks in watch.to_extend(live, boot_ns()).items():

            def extended(reply: Reply, locks: dict[str, Record] = locks, ttl: float = ttl) -> None:
                self._extended(reply, locks, ttl)

            self._once(Extend(queue, ttl, list(locks)), f"extend {queue}", extended, now)

    def _extended(self, reply: Reply, locks: dict[str, Record], ttl: float) -> None:
        if not isinstance(reply, Extended):
            return
        for lock, record in locks.items():
            if not watch.holds_still(record, lock):
                continue
            if lock not in reply.gone:
                record.words[Field.EXTENDED_UNTIL] = reply.asked + int(ttl * TRUSTED * 1e9)
                continue
            child = self._children.by_holder(record.text("holder"))
            if child is not None and child.phase in (Phase.LIVE, Phase.LEAVING):
                self._kill(child, "its pack was taken away: another may run it")

    def _watch(self, live: list[Record]) -> None:
        if self._overdue_at is None:
            self._overdue = watch.overdue(live, boot_ns())
            self._overdue_at = monotonic() + watch.AGREE if self._overdue else None

    def _act_on_overdue(self) -> None:
        self._overdue_at = None
        for index in watch.confirmed(self._overdue, watch.overdue(self._live_records(), boot_ns())):
            child = self._children.tenants.get(index)
            if child is not None and child.pid is not None:
                self._kill(child, deaths.HARD_LIMIT)

    def _measure(self, now: float) -> None:
        pids = [child.pid for child in self._children.tenants.values() if child.pid and child.phase < Phase.DEAD]
        if self._mold is not None:
            pids.append(self._mold.pid)
        self._once(Measure(self._books.to_measure(pids), MEASURE_SHARE), "measure", self._measured, now)

    def _measured(self, reply: Reply) -> None:
        if isinstance(reply, Measured):
            first = self._books.capacity is None
            self._books.measured(reply, monotonic())
            if first:
                self._next_tick = 0.0

    def _report(self, live: list[Record], mold: MoldSize, now: float) -> None:
        declared = self._declared()
        base = Report(
            self._identity.name, self._identity.incarnation, socket.gethostname(), os.getpid(), self._generation,
            declared.digest(), 0, 0, 0, 0, 0, {}, 0, 0, draining=self._stage >= Stage.STOPPING,
        )  # fmt: skip
        report = self._books.report(base, self._children, live, self._row, mold)
        if report is not None:
            wanted = declared if self._declaration_wanted else None
            self._once(SendReport(report, wanted), "report", self._reported, now)

    def _reported(self, reply: Reply) -> None:
        match reply:
            case Heard(row, wanted):
                self._declaration_wanted = wanted
                if row is not None and (self._row is None or (row.epoch, row.seq) >= (self._row.epoch, self._row.seq)):
                    self._row = row
            case Failed("REPLACED"):
                self._fail(f"another qmaster has taken the name {self._identity.name}; this one ends with its slots")

    # --- the queue server, predecessors, the control socket

    def _connected(self, reply: Reply) -> None:
        if not isinstance(reply, Failed):
            return
        if reply.code == "TAKEN":
            other = reply.why.rpartition(" ")[2]
            self._fail(
                f"a qmaster of the name {self._identity.name} is alive elsewhere ({other}): "
                "stop it, or give this one another --server name"
            )
        elif reply.code != "down" or self._stage is Stage.STARTING:
            self._fail(reply.why)

    def _settle_predecessors(self) -> None:
        """What masters of this name have left on this machine: all their slots are dead, our lock proves it."""
        cause = deaths.Cause("was lost with its master", own=False)
        for path in self._identity.left:
            try:
                tenants = Scoreboard.open(str(path)).tenants()
            except (Error, OSError) as error:
                log.warning("scoreboard %s is left aside: %s", path, error)
                continue
            letters = [letter for record in tenants for letter in deaths.left_behind(record, cause, 1.0)]
            waiting = {id(letter) for letter in letters}
            log.info("settling %d slots of an earlier master", len(tenants))
            if not letters:
                path.unlink(missing_ok=True)
            for letter in letters:
                self._post.send(letter, self._predecessor_settled(letter, waiting, path), monotonic())

    @staticmethod
    def _predecessor_settled(letter: SettleDead, waiting: set[int], path: Any) -> Any:
        def settled(reply: Reply) -> None:
            waiting.discard(id(letter))
            if not waiting and not isinstance(reply, Failed):
                path.unlink(missing_ok=True)

        return settled

    def _answer(self, request: dict[str, Any]) -> dict[str, Any] | None:
        match request.get("command"):
            case "status":
                return self._status()
            case "stop":
                self._stop(Stage.FAST if request.get("fast") else Stage.STOPPING, "asked by its control socket")
                return None
        return {"error": f"an unknown command: {request.get('command')!r}; known: status, stop"}

    def _status(self) -> dict[str, Any]:
        records = {record.index: record for record in self._live_records()}
        slots = [
            msgspec.structs.asdict(self._books.slot_report(child, records[child.index]))
            for child in sorted(self._children.tenants.values(), key=lambda child: child.index)
            if child.index in records
        ]
        capacity = self._books.capacity
        return {
            "server": self._identity.name,
            "pid": os.getpid(),
            "stage": self._stage.name.lower(),
            "generation": self._generation,
            "queue_server": without_password(self._settings.url),
            "queue_server_down": self._post.down,
            "app": list(self._settings.app),
            "budget": capacity.budget if capacity else None,
            "max_slots": capacity.max_slots if capacity else None,
            "bound": capacity.bound if capacity else None,
            "my_world_slots": capacity.my_world_slots if capacity else None,
            "slots": slots,
        }

    # --- small things

    def _record(self, index: int) -> Record:
        return self._identity.board.record(index)

    def _live_records(self) -> list[Record]:
        return [self._record(c.index) for c in self._children.tenants.values() if c.pid and c.phase < Phase.DEAD]

    def _declared(self) -> Declared:
        ready = self._mold.ready if self._mold is not None else None
        return ready.declared if ready is not None else Declared(())

    def _close(self) -> None:
        """The end: mold and courier see the end of their sockets; nothing of ours stays."""
        self._control.close()
        self._post.close()
        if self._mold is not None:
            self._mold.commands.close()
            _kill(self._mold.pid)
        if self._post.undone:
            log.warning(
                "the queue server did not answer: %d settlements are left to the next qmaster", self._post.undone
            )
        else:
            give_up(self._identity)
        log.info("ended")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
