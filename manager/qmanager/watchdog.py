"""Ends a manager that stands still, wherever it stands: also in C code that holds the interpreter, or keeps all signals
from Python. Nothing of ours has to run for that.

First a thread of the interpreter's own writes all stacks to stderr, then the kernel's SIGALRM, with its default action,
ends the process. Both are wound up anew in each turn. A queue server that does not answer is no reason: what is asked
of one has a time-out, and a turn ends with the first that passes. (One that answers each of very many questions just
before its time-out is over would be: with 10,000 servers that are some fifty a turn.)
"""

import faulthandler
import signal
import sys

TURN = 30.0  # seconds, with one queue server
A_SERVER = 15.0  # more for each other one: of those, several may be silent in one turn
AFTER_STACKS = 1.0


def begin() -> None:
    """SIGALRM is ours, whatever we have inherited."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})


def wind(limit: float) -> None:
    """From now on it takes ``limit`` seconds."""
    faulthandler.dump_traceback_later(limit, file=sys.__stderr__ or sys.stderr)
    signal.setitimer(signal.ITIMER_REAL, limit + AFTER_STACKS)


def end() -> None:
    """It watches no more."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
