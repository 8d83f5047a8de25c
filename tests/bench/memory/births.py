"""How long a slot takes from the order to its first question for work, and how long a lost worker is missed.

A slot's birth is read from the scoreboard, which the master writes when it orders and the slot when it takes: nothing
is asked of either. What a lost worker takes is seen from outside alone, the same way for every system.
"""

import os
import signal
import time
from collections.abc import Callable

import footprint
import systems
from figures import Result, spread
from systems import Bench, BenchError, Slots, System

from qslots.scoreboard import Field, Record
from qslots.states import SlotState

TIMES = 20
LOOK = 0.0002
WITHIN = 30.0
WARM = 20  # tasks a worker beforehand: a slot that never worked is not replaced at once
_BORN = (SlotState.TAKING, SlotState.IDLE, SlotState.BUSY)


def measure(bench: Bench) -> list[Result]:
    """Ours in detail, the others as far as they can be seen."""
    bench.say(f"births: {TIMES} slots are killed, one after the other")
    with systems.qmaster(bench) as ours:
        ours.work(bench.workers * WARM)
        births = [birth(ours, index % bench.workers) for index in range(TIMES)]
    ready, missed = spread([each[0] * 1e3 for each in births]), spread([each[1] * 1e3 for each in births])
    results = [
        Result("slot: ordered -> asks for work", ready.pop("median"), "ms", beside=ready),
        Result("worker lost -> the next asks for work, qmaster", missed.pop("median"), "ms", beside=missed),
    ]
    for name in ("celery", "gunicorn --preload"):
        bench.say(f"births: {TIMES} workers of {name}")
        with footprint.SYSTEMS[name](bench) as system:
            system.work(bench.workers * WARM)
            lost = spread([replaced(system) * 1e3 for _ in range(TIMES)])
        results.append(Result(f"worker lost -> the next process, {name}", lost.pop("median"), "ms", beside=lost))
    return results


def birth(system: Slots, index: int) -> tuple[float, float]:
    """Seconds from the order to the first question for work, and from the kill to it."""
    record = system.board().record(index)
    pid = tenant(system, record)
    holder = record.text("holder")
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    ordered = seen(lambda: record.text("holder") not in (holder, ""), f"slot {index} is not ordered again")
    born = seen(lambda: record.words[Field.STATE] in _BORN, f"slot {index} does not come to life")
    return born - ordered, born - killed


def tenant(system: Slots, record: Record) -> int:
    """The pid of a slot: the one whose title has its number."""
    titles = {systems.processes.title(pid): pid for pid in system.workers()}
    try:
        return titles[f"qmaster: slot {record.index}"]
    except KeyError:
        raise BenchError(f"slot {record.index} is not there, but {sorted(titles)}") from None


def replaced(system: System) -> float:
    """Seconds from the kill of a worker until there are as many as before."""
    workers = system.workers()
    killed = time.monotonic()
    os.kill(workers[0], signal.SIGKILL)
    at = seen(lambda: len(set(system.workers()) - {workers[0]}) >= len(workers), "no worker takes the place")
    return at - killed


def seen(condition: Callable[[], bool], why: str) -> float:
    """When it is so."""
    until = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > until:
            raise BenchError(why)
        time.sleep(LOOK)
    return time.monotonic()
