"""How a producer repeats itself: its requests are numbered, and one in doubt is asked for again under its number.

The queue server answers a repeated number as it did the first time; so a put either succeeded or raised, and within
its time-out.
"""

import os
import random
import secrets
import threading
import time
from collections.abc import Callable

from . import sentinel
from .errors import QueueServerDown

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts
_IN_VAIN = ("OOM", "MISCONF", "NOREPLICAS")  # refusals that a moment does not change


class Producer(threading.local):
    """Each thread counts its own requests, so that the last one of a producer is the only one in doubt."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another producer, whose requests count from 1."""
        self.pid = os.getpid()
        self.name = secrets.token_hex(8)
        self.request = 0

    def next_request(self) -> int:
        """The number of a new request. A forked process is another producer than its parent."""
        if self.pid != os.getpid():
            self.begin()
        self.request += 1
        return self.request


def insist(attempt: Callable[[float], int], first: QueueServerDown, until: float) -> int:
    """Repeats ``attempt(seconds left)`` until it succeeds or the monotonic time is over; then raises the last error.

    What is raised says ``sent`` if any attempt can have reached the server.
    """
    pause, error = _FIRST_PAUSE, first
    while True:
        left = until - time.monotonic() - pause
        if left <= 0:
            error.sent = error.sent or first.sent
            raise error
        time.sleep(pause * random.uniform(0.5, 1.0))
        try:
            return attempt(left)
        except QueueServerDown as again:
            error, pause = again, min(2 * pause, _LONGEST_PAUSE)


def is_worth_another(error: QueueServerDown, url: str) -> bool:
    """Whether a put is tried again: its first attempt may have got there, or Sentinel is about to name a primary."""
    return error.code not in _IN_VAIN and (error.sent or url.startswith(sentinel.SCHEMES))
