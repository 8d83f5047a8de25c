"""The mold: a fresh interpreter that loads the application once and from which slots are forked. It never works itself.

Spawned, not forked: no heap, socket or lifeline of the master is in it. The garbage collector is off before the first
import of the application and the heap is frozen without a collection before: collecting leaves holes in shared pages,
which slots would fill (58 MB private against 4.3 MB, measured). QSLOTS_FREEZE=0 leaves the freezing out, to measure
what it is worth.
"""

import gc

gc.disable()

import contextlib  # noqa: E402 - nothing may be imported before the collector is off
import importlib  # noqa: E402
import logging  # noqa: E402
import os  # noqa: E402
import pathlib  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from types import TracebackType  # noqa: E402

import msgspec  # noqa: E402
from setproctitle import setproctitle  # noqa: E402

from qslots import client, durability, hooks, logcontext, logs, units  # noqa: E402
from qslots.errors import Error, QueueServerDown  # noqa: E402
from qslots.handlers import REGISTRY  # noqa: E402
from qslots.reports import Declared  # noqa: E402
from qslots.scoreboard import Scoreboard  # noqa: E402
from qslots.servers import QueueServers  # noqa: E402

from . import audit, birth, findings, freshslot, linux, memory, rehearsal, revision, signals  # noqa: E402
from .molding import Begin, Fork, Message, Ready, Refused, Reopen, receive, send  # noqa: E402
from .recycling import too_low  # noqa: E402

COMMANDS = 3  # descriptors that the master gives us
SCOREBOARD = 4
LOCK = 5  # held open, so that whoever gets it knows that mold and slots are gone
REHEARSAL = 1.0  # seconds that a queue server may take for an answer
_HELD_BACK = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}


def load(app: tuple[str, ...]) -> None:
    """Imports the application's modules. Error, in one line: which one, where and why."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    for name in app:
        try:
            importlib.import_module(name)
        except Error as error:
            raise Error(f"app {name} is refused: {error}") from None
        except BaseException as error:
            where = searched(name, error) or f"{innermost(error.__traceback__)}; mend it"
            raise Error(
                f"app {name} does not import: {type(error).__name__}: {' '.join(str(error).split())}{where}, or name "
                "another module with --app"
            ) from None
    if not REGISTRY.handlers:
        named = ", ".join(app) or "nothing"
        raise Error(f"app {named} declares no handler: decorate a function with @qslots.task, or name it with --app")


def searched(app: str, error: BaseException) -> str:
    """Where a module was looked for, and what to do, if it is the application's own that is not found."""
    if not isinstance(error, ModuleNotFoundError) or not error.name or not f"{app}.".startswith(f"{error.name}."):
        return ""
    folders = [str(pathlib.Path.cwd()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return f" in {', '.join(folders)}, nor among the installed: start it in the folder of {error.name}"


def innermost(trace: TracebackType | None) -> str:
    """Where in the application an import went wrong, as " (file:line)", if it is known."""
    frames = [f for f in traceback.extract_tb(trace) if "importlib" not in f.filename and f.filename != __file__]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def warm_up() -> None:
    """What the application wants to be done once, for all slots. Error, in one line, if it fails."""
    for hook in hooks.HOOKS.warm_up:
        try:
            hook()
        except BaseException as error:
            what = f"{type(error).__name__}: {' '.join(str(error).split())}{innermost(error.__traceback__)}"
            raise Error(f"hook warm_up: {hooks.name_of(hook)} raised {what}; mend it") from None


def freeze() -> None:
    """Makes the heap fit to be shared."""
    if os.environ.get("QSLOTS_FREEZE") != "0" and audit.may_freeze():
        gc.freeze()
        # Finds nothing any more, and empties the interpreter's free lists. Their entries lie all over the heap: the
        # first full collection of each slot would write to all these pages (0.8 MB, measured).
        gc.collect()
    linux.malloc_trim()


def check_promises(declared: Declared) -> None:
    """QueueServerError if a queue asks for a durability that its server cannot keep; who is away is believed."""
    asked = {queue.name: durability.parse(queue.durability) for queue in declared.queues}
    promises = {name: each for name, each in asked.items() if each is not durability.FAST}
    if promises:
        servers = client.current()
        with contextlib.suppress(QueueServerDown):
            servers.check(promises)
        servers.close()  # nothing of a connection may be shared with the slots


def rehearse(order: Begin, declared: Declared) -> None:
    """What all slots do first."""
    handlers = {queue.name: [each.name for each in queue.handlers] for queue in declared.queues}
    servers = QueueServers.listed(order.settings, name="mold", timeout=REHEARSAL, single=True)
    rehearsal.rehearse(servers, handlers)
    rehearsal.prepare(order.settings)


def prepared(order: Begin, *, promises: bool = True) -> Ready:
    """The application, loaded and frozen. Error if it cannot be served; its ``promises`` need the queue servers."""
    began = time.monotonic()
    later: list[str] = []
    if order.source is not None:
        order.settings, later = revision.reread(order.source, order.settings)
        logs.stand_back("mold", order.settings.log_level)
    if order.settings.queue_servers:
        client.connect_listed(order.settings)  # for the application, here and in all slots that are forked from here
    since = audit.before()
    load(order.settings.app)
    warm_up()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # whatever the application has made of it: we wait for our own forks
    declared = REGISTRY.declared(order.settings.queues)
    if promises:
        check_promises(declared)
        rehearse(order, declared)
    found = audit.inspect(since)
    why = findings.refusal(found)
    if why:
        raise Error(why)
    freeze()
    own = memory.rollup(os.getpid())
    size = own.pss if isinstance(own, memory.Rollup) else 0
    settings = order.settings if order.source is not None else None
    return Ready(declared, len(sys.modules), time.monotonic() - began, size, found, settings=settings, later=later)


def load_and_report(order: Begin) -> Message:
    """The application, loaded and frozen; or why it cannot be served."""
    try:
        ready = prepared(order)
    except Error as error:
        return Refused(str(error))
    return weighed(ready, units.size(order.settings.server.private_limit))


def weighed(ready: Ready, private_limit: int) -> Message:
    """With what a fresh slot needs; refused if the limit leaves it no room. A memory that may not be read says nothing.

    It is asked here, before any slot is forked: so a limit that no slot can keep ends a start, and refuses a reload.
    """
    try:
        slot = freshslot.fork()
    except Error:
        return ready
    why = too_low(private_limit, slot.size)
    return Refused(why) if why else msgspec.structs.replace(ready, slot=slot.size, fork_seconds=slot.seconds)


def bear(order: Fork, channel: int, begin: Begin, commands: socket.socket, board: Scoreboard) -> None:
    """Double fork: the middle process ends at once, so that the slot becomes the master's child."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    with contextlib.suppress(OSError):  # no memory, no pids: the end of the channel says that nobody was born
        middle = os.fork()
        if middle == 0:
            try:
                if os.fork() == 0:
                    commands.close()
                    birth.live(order, channel, begin, board)
            finally:
                os._exit(0)
        os.waitpid(middle, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    os.close(channel)


def main() -> None:
    """The process that the master spawns: load, report, then fork on order until the master is gone."""
    linux.die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a ^C is the master's to hear
    for descriptor in (COMMANDS, SCOREBOARD, LOCK):
        os.set_inheritable(descriptor, False)  # for slots, which are forked, not for what their tasks start
    commands = socket.socket(fileno=COMMANDS)
    begin, _ = receive(commands)
    if not isinstance(begin, Begin) or os.getppid() != begin.master:
        return
    signals.leave_to_the_master()
    setproctitle(f"qmaster: mold gen {begin.generation}, loading")
    logcontext.carry()
    logs.stand_back("mold", begin.settings.log_level)
    logs.print_by_lines()
    board, me = Scoreboard(SCOREBOARD), os.getpid()
    report = load_and_report(begin)
    if os.getpid() != me:
        return  # the application has forked while it was imported: two must not hear the same orders
    logs.stand_in()
    try:
        send(commands, report)
    except OSError:
        logging.getLogger("qmaster").error(  # noqa: TRY400 - the message says all
            "the application has closed or used descriptor %d, by which its master and its mold speak", COMMANDS
        )
        os._exit(os.EX_OSFILE)
    if isinstance(report, Refused):
        return
    setproctitle(f"qmaster: mold gen {begin.generation}")
    while True:
        order, channel = receive(commands)
        if isinstance(order, Reopen):
            logs.reopen(order.path)
            continue
        if not isinstance(order, Fork) or channel is None:
            return
        bear(order, channel, begin, commands, board)


if __name__ == "__main__":
    main()
    os._exit(0)
