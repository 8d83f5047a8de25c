"""A courier of the master: all that may wait on one queue server or on disk is done here, one thing after the other.

A process of its own, spawned by the master, blocking throughout. It holds nothing that matters: the master keeps every
request until it is answered and gives it to the next courier if this one is late or gone. It ends with its master.
"""

import logging
import os
import pathlib
import select
import signal
import socket
import sys
import time

from setproctitle import setproctitle

from qslots import debts, gates, logs
from qslots.control import Control
from qslots.errors import Error, QueueServerDown, QueueServerError
from qslots.inspector import Inspector
from qslots.queueserver import QueueServer
from qslots.scoreboard import boot_ns
from qslots.servers import parted

from . import memory, signals, state
from .letters import (
    Answer,
    Beat,
    Charged,
    Connect,
    Done,
    Extend,
    Extended,
    Failed,
    Find,
    Found,
    Heard,
    Join,
    Leave,
    Letter,
    Measure,
    Measured,
    Park,
    Parked,
    Pay,
    Relieve,
    Reopen,
    Reply,
    Request,
    SaveState,
    SendReport,
    SettleDead,
    Sized,
    encode,
    read_request,
)  # fmt: skip
from .linux import die_with_parent
from .processors import Processors
from .wire import Wire

log = logging.getLogger("qmaster")
CHANNEL = 3  # the descriptor that the master gives us
TIMEOUT = 2.0  # seconds for one answer of the queue server
_CODES = ("TAKEN", "REPLACED")
_URGENCY = (
    Reopen, Connect, Join, Pay, SettleDead, Park, Relieve, Extend, Beat, SendReport, SaveState, Find, Measure, Leave,
)  # fmt: skip


class Courier:
    """Does what the letters say."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._inbox: list[Request] = []
        self._server: QueueServer | None = None
        self._self: Connect | Join | None = None
        self._processors = Processors()

    def run(self) -> None:
        """Until the master closes the wire."""
        while True:
            try:
                self._collect(wait=not self._inbox)
            except EOFError:
                return
            if self._inbox:
                request = self._inbox.pop(0)
                self._wire.send(encode(Answer(request.number, self._answer(request.letter))))

    def _collect(self, *, wait: bool) -> None:
        """Reads what has come; the most urgent goes first."""
        while select.select([self._wire], [], [], None if wait else 0)[0]:
            self._inbox += [read_request(message) for message in self._wire.receive()]
            wait = False
        self._inbox.sort(key=lambda request: _URGENCY.index(type(request.letter)))

    def _answer(self, letter: Letter) -> Reply:
        try:
            return self._do(letter)
        except QueueServerDown as error:
            if self._server is not None:
                self._server.close()
            return Failed("down", str(error), error.serves_nobody)
        except QueueServerError as error:
            return Failed(error.code if error.code in _CODES else "refused", str(error))
        except Error as error:
            return Failed("refused", str(error))
        except Exception as error:  # of this letter alone: who ended for it would be given it again and again
            log.exception("a letter could not be answered: %s", type(letter).__name__)
            return Failed("refused", f"the courier has failed: {type(error).__name__}: {error}")

    def _do(self, letter: Letter) -> Reply:
        if isinstance(letter, Measure):
            return measure(letter, self._processors)
        if isinstance(letter, Reopen):
            logs.reopen(letter.path)
            return Done()
        if isinstance(letter, SaveState):
            return save(letter)
        if isinstance(letter, Connect | Join):
            self._self = letter
            self._server = QueueServer(letter.url, name=f"courier-{letter.server}", timeout=TIMEOUT)
            self._begin(letter, Control(self._server))
            return Done()
        if self._server is None or self._self is None:
            raise Error("the first letter must be Connect or Join")
        return self._do_there(letter, self._server, self._self)

    @staticmethod
    def _begin(letter: Connect | Join, control: Control) -> None:
        match letter:
            case Connect():
                try:
                    control.take_over(letter.server, letter.place, letter.incarnation, gone_after=letter.gone_after)
                except QueueServerError as error:
                    if error.code == "TAKEN":
                        raise QueueServerError(control.where(letter.server) or str(error), "TAKEN") from None
                    raise
            case Join():
                control.beat()

    @staticmethod
    def _do_there(letter: Letter, server: QueueServer, me: Connect | Join) -> Reply:
        match letter:
            case Beat():
                Control(server).beat()
                return Done()
            case SendReport():
                return Heard(*Control(server).report(letter.report, letter.declared))
            case SettleDead():
                server.settle_dead(
                    parted(letter.source)[0], letter.holder, held=letter.held, asked=letter.asked,
                    outcomes=letter.outcomes, marks=letter.marks, rest=letter.rest, why=letter.why, busy=letter.busy,
                )  # fmt: skip
                return charged(server, parted(letter.source)[0], letter.charged)
            case Pay():
                debts.pay(server, letter.holder, letter.owed)
                return Done()
            case Relieve():
                queue, _ = parted(letter.source)
                server.settle(
                    queue, letter.holder, letter.seq, letter.back, marks=letter.marks, window=letter.window
                )  # fmt: skip
                return Done()
            case Extend():
                asked = boot_ns()
                return Extended(asked, server.extend(parted(letter.source)[0], letter.ttl, letter.locks))
            case Find() | Park():
                return looked_after(server, letter)
            case Leave() if isinstance(me, Connect):
                Control(server).leave(me.server, me.incarnation)
                return Done()
        raise Error(f"an unknown letter: {letter!r}")


def looked_after(server: QueueServer, letter: Find | Park) -> Reply:
    """What slots cannot do themselves that do not look for tasks, or die of them."""
    if isinstance(letter, Park):
        return Parked(gates.park(server, letter.queue, letter.handler, letter.why))
    due = sorted(server.due(letter.handlers))
    return Found({stats.name: stats.takeable for stats in server.stats(due) if stats.takeable})


def charged(server: QueueServer, queue: str, task: str) -> Charged | Done:
    """What has become of the task that was charged with a crash, "" for none; Done if that cannot be said."""
    if not task:
        return Done()
    try:
        _, [found] = Inspector(server, queue).get([task])
    except QueueServerDown:
        raise
    except QueueServerError:  # it is settled all the same
        return Done()
    return Done() if found is None else Charged(found.fate.crashes, found.place == "buried")


def save(letter: SaveState) -> Done | Failed:
    """The state file, on disk when this is answered."""
    try:
        state.write(pathlib.Path(letter.path), letter.state)
    except OSError as error:
        return Failed("refused", f"state file {letter.path} cannot be written: {error.strerror}")
    return Done()


def measure(letter: Measure, processors: Processors) -> Measured:
    """The machine, and as many processes as the time allowed permits: each costs 1 to 10 ms and holds its mmap lock.

    Processor time, for what a busy machine makes us wait is no cost. The last one may take it beyond what is allowed.
    """
    sizes: dict[int, Sized | None] = {}
    gone = []
    began = time.process_time()
    (available, total), strain = memory.machine(), processors.read()
    for pid in letter.pids:
        if time.process_time() - began >= letter.allowed:
            break
        match memory.rollup(pid):
            case memory.Rollup() as found:
                sizes[pid] = Sized(found.pss, found.size, found.grown, found.swap_pss)
            case None:
                gone.append(pid)
            case _:
                sizes[pid] = None
    return Measured(available, total, sizes, strain, time.process_time() - began, gone)


def main() -> None:
    """The process that the master spawns."""
    die_with_parent()
    signals.leave_to_the_master()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a ^C is the master's to hear: settlements are still to be done
    setproctitle("qmaster: courier")
    logs.to_stderr("courier")
    try:
        Courier(Wire(socket.socket(fileno=CHANNEL))).run()
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    if os.getppid() == 1:
        sys.exit(0)
    main()
