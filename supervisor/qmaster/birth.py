"""The first steps of a slot, in the one order that closes every race with its mold's and its master's death.

It runs in the grandchild of the mold, never returns, and ends by ``os._exit``: a normal exit of the interpreter would
copy the whole shared heap.
"""

import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import NoReturn

from setproctitle import setproctitle

from qslots import forks, hooks, logcontext, logs
from qslots.errors import Error
from qslots.handlers import REGISTRY
from qslots.late_imports import LateImports
from qslots.orders import Born, Stillborn, send
from qslots.scoreboard import Scoreboard, boot_ns
from qslots.servers import QueueServers
from qslots.slot import Slot, end

from . import linux, rehearsal, signals, upkeep
from .molding import Begin, Fork

log = logging.getLogger("qslots.slot")
_ADOPTED_WITHIN = 5.0  # seconds
# SIGPIPE stays ignored, as Python has it: a queue server that dies must not take its slots with it.
_RESET = (signal.SIGTERM, signal.SIGCHLD)


def live(order: Fork, descriptor: int, begin: Begin, board: Scoreboard) -> NoReturn:
    """A slot's whole life."""
    code = 1
    channel = socket.socket(fileno=descriptor)
    try:
        adopted_by(begin.master)
        if not send(channel, Born(os.getpid())):  # before it leaves the mold's session: see linux.strays
            end(1)  # too late: its index may have another tenant by now
        become_oneself(order)
        code = work(order, channel, begin, board)
    except Error as error:
        send(channel, Stillborn(str(error)))
        log.error("slot %d: %s", order.index, error)  # noqa: TRY400 - the message says all
    except BaseException:
        log.exception("slot %d ended by a fault of qslots itself", order.index)
        code = 70
    finally:
        end(code)
    raise AssertionError


def work(order: Fork, channel: socket.socket, begin: Begin, board: Scoreboard) -> int:
    """The life of a slot between the hooks of its application."""
    me = hooks.Slot(order.holder.partition("/")[0], order.index, begin.generation)
    imports = LateImports(channel)
    imports.begin(boot_ns())
    try:
        hooks.HOOKS.born(me)
    finally:
        logs.stand_in()
    imports.end()
    slot = make(order, channel, begin, board)
    send(channel, upkeep.fresh())
    try:
        slot.run()
    finally:
        hooks.told(hooks.HOOKS.before_exit, me)
    return 0


def adopted_by(master: int) -> None:
    """Waits until the middle process is gone and the master is the parent; ends if the master is gone instead.

    Only then PDEATHSIG may be set: set before, it would fire at the end of the middle process. And the parent is
    looked at once more: it may have died just before the setting.
    """
    deadline = time.monotonic() + _ADOPTED_WITHIN
    while os.getppid() != master:
        if time.monotonic() > deadline:
            end(1)
        time.sleep(0.0002)  # the kernel tells nobody that it has re-parented a process
    linux.die_with_parent()
    if os.getppid() != master:
        end(1)


def become_oneself(order: Fork) -> None:
    """Own session, own signals, own chance: nothing of the mold's but its memory."""
    os.setsid()
    linux.prefer_to_be_killed()
    for number in _RESET:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signals.leave_to_the_master()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        # As much chance as its state holds; seed() would make 0.3 MB more private. Python's own reseeds itself.
        numpy.random.set_state(("MT19937", numpy.frombuffer(os.urandom(2496), numpy.uint32), 624))
    gc.enable()
    forks.watch()
    setproctitle(f"qmaster: slot {order.index}")
    server = order.holder.partition("/")[0]
    logcontext.carry(server, order.index)
    logs.stand_back(f"slot {order.index} of {server}")


def make(order: Fork, channel: socket.socket, begin: Begin, board: Scoreboard) -> Slot:
    """The slot's loop. Signals are unblocked last, when their handlers are in place."""
    patience = rehearsal.patience(begin.settings)
    servers = QueueServers.listed(begin.settings, name=f"slot-{order.index}", timeout=patience, single=True)
    declared = {queue.name: queue for queue in REGISTRY.declared(begin.settings.queues).queues}
    slot = Slot(servers, board.record(order.index), order.holder, REGISTRY, declared, channel, upkeep.tidy)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    return slot
