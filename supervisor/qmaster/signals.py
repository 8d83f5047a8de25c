"""The signals that a master hears, what each means, and how they come into its loop.

A handler only notes its number; the byte that Python writes to a socket wakes the loop, so nothing is done in the
middle of anything else. The bytes themselves say nothing: a storm fills the socket, and the one of a death would be
lost in it. docs/signals.md lists the same table; a test compares them.
"""

import contextlib
import selectors
import signal
import socket
from collections.abc import Callable

MEANING = {
    signal.SIGTERM: "stop: slots finish their task",
    signal.SIGINT: "the same; the second one is as QUIT",
    signal.SIGQUIT: "stop at once: slots are killed, their tasks go back",
    signal.SIGHUP: "read the settings again, load the application anew",
    signal.SIGUSR1: "reopen the log file",
    signal.SIGUSR2: "load the application anew",
    signal.SIGTTIN: "one slot more at most",
    signal.SIGTTOU: "one slot fewer at most",
    signal.SIGWINCH: "drain: slots leave after their task, the master stays",
    signal.SIGCHLD: "a process of ours has ended",
}

THE_MASTERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)


def leave_to_the_master() -> None:
    """In mold, slots and couriers: a signal for the master that was sent to all of its family ends nobody.

    By handlers that do nothing, not by ignoring: that would be inherited by programs which tasks start.
    """
    for number in THE_MASTERS:
        signal.signal(number, lambda *_: None)


def listen(selector: selectors.BaseSelector, obey: Callable[[int], None]) -> None:
    """Signals come to ``obey`` from the loop, one of a kind at a time."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    noted: dict[int, None] = {}  # in the order in which they came
    for each in MEANING:
        signal.signal(each, lambda number, _: noted.setdefault(number))

    def heard(_kept_open: socket.socket = theirs) -> None:
        with contextlib.suppress(BlockingIOError):
            ours.recv(1 << 16)
        for number in list(noted):
            del noted[number]  # before it is obeyed: what comes now is one more
            obey(number)

    selector.register(ours, selectors.EVENT_READ, heard)
