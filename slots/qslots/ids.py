"""Ids of tasks, made by the client: they sort by time, and no two processes make the same.

13 hex digits of µs, then 10 that are this process's own. A process never gives out the same µs twice, so a batch runs
a little ahead of the clock.
"""

import os
import secrets
import threading
import time

_own = secrets.token_hex(5)
_last = 0
_lock = threading.Lock()


def _after_fork() -> None:
    global _own, _lock
    _lock = threading.Lock()  # another thread may have held it at the fork
    _own = secrets.token_hex(5)


os.register_at_fork(after_in_child=_after_fork)


def new_ids(count: int) -> list[str]:
    """``count`` new ids in ascending order."""
    global _last
    with _lock:
        first = max(time.time_ns() // 1000, _last + 1)
        _last = first + count - 1
    if count == 1:
        return [f"{first:013x}{_own}"]
    return [f"{micros:013x}{_own}" for micros in range(first, first + count)]
