"""The signals that a master hears, what each means, and how they come into its loop: as bytes in a socket.

A handler does nothing: the byte that Python writes for it is the event, so nothing is done in the middle of anything
else. docs/signals.md lists the same table; a test compares them.
"""

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
    for number in MEANING:
        signal.signal(number, lambda *_: None)

    def heard(_kept_open: socket.socket = theirs) -> None:
        for number in dict.fromkeys(ours.recv(4096)):
            obey(number)

    selector.register(ours, selectors.EVENT_READ, heard)
