"""Waiting for an event with a deadline: the only place in the tests that pauses.

Never a bare sleep: a test names what it waits for, and what it has seen instead is part of the failure.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.05


def wait_for(condition: Callable[[], T], why: str | Callable[[], str], within: float = 10.0) -> T:
    """The first truthy value of `condition`; fails with `why` when there was none `within` seconds."""
    deadline = time.monotonic() + within
    pause = FIRST_PAUSE
    while not (seen := condition()):
        left = deadline - time.monotonic()
        if left <= 0:
            reason = why if isinstance(why, str) else why()
            raise AssertionError(f"waited {within:g} s in vain: {reason} (last seen: {seen!r})")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE)
    return seen
