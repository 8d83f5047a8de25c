"""Ids sort by time and are unique, over threads and over a fork."""

import os
import re
import sys
import threading

from qslots import ids
from qslots.ids import new_ids


def test_ids_ascend_within_and_across_calls() -> None:
    made = [each for count in (1, 1000, 1, 3) for each in new_ids(count)]
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"[0-9a-f]{23}", each) for each in made)
    assert new_ids(0) == []


def test_ids_of_a_time_that_goes_back_still_ascend() -> None:
    before = new_ids(1)[0]
    time_ns, ids.time.time_ns = ids.time.time_ns, lambda: 1_000  # type: ignore[assignment]
    try:
        assert new_ids(1)[0] > before
    finally:
        ids.time.time_ns = time_ns


def test_threads_never_get_the_same_id() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    made: list[str] = []
    try:
        threads = [threading.Thread(target=lambda: made.extend([new_ids(1)[0] for _ in range(3000)])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert len(set(made)) == len(made) == 12000


def test_forked_process_makes_ids_of_its_own() -> None:
    new_ids(1)
    last = ids._last
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, new_ids(1)[0].encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    childs = os.read(reading, 100).decode()
    os.close(reading)
    os.close(writing)
    assert len(childs) == 23
    assert childs[13:] != new_ids(1)[0][13:]
    assert ids._last > last


def test_fork_while_another_thread_makes_ids_does_not_lock_the_child() -> None:
    with ids._lock:
        pid = os.fork()
        if pid == 0:
            new_ids(1)
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
