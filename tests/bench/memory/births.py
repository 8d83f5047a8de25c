"""How long a slot takes from the order to its first question for work, and how soon a worker has a successor.

A slot's birth is read from the scoreboard, which the master writes when it orders and the slot when it takes: nothing
is asked of either. Slots are recycled, not killed: who kills one slot again and again measures how patient a master is
with crash loops. Celery and gunicorn have no such order; of a worker of theirs that is killed the next process counts.
"""

import os
import signal
import time
from collections.abc import Callable

import footprint
import systems
from figures import Result, spread
from systems import Bench, BenchError, Slots, System

from qslots.scoreboard import Field

TIMES = 20
LOOK = 0.0002
WITHIN = 30.0
WARM = 20  # tasks a worker beforehand


def measure(bench: Bench) -> list[Result]:
    """Ours in detail, the others as far as they can be seen."""
    bench.say(f"births: {TIMES} slots are recycled, one after the other")
    with systems.qmaster(bench) as ours:
        ours.work(bench.workers * WARM)
        births = [birth(ours, index % bench.workers) for index in range(TIMES)]
    whats = (
        "slot: ordered -> listens",
        "slot: ordered -> asks for work",
        "slot told to leave -> the next asks for work",
    )
    results = [timed(what, [each[place] for each in births]) for place, what in enumerate(whats)]
    for name in ("celery", "gunicorn --preload"):
        bench.say(f"births: {TIMES} workers of {name} are killed, one after the other")
        with footprint.SYSTEMS[name](bench) as system:
            system.work(bench.workers * WARM)
            results.append(timed(f"worker lost -> the next process, {name}", [replaced(system) for _ in range(TIMES)]))
    return results


def timed(what: str, seconds: list[float]) -> Result:
    """The median as the figure."""
    found = spread(seconds, 1e-3)
    return Result(what, found.pop("median"), "ms", beside=found)


def birth(system: Slots, index: int) -> tuple[float, float, float]:
    """Seconds from the order until the slot hears its master, until it asks for work; and that from the request on."""
    record = system.board().record(index)
    holder = record.text("holder")
    told = time.monotonic()
    system.recycle(index)
    ordered = seen(lambda: record.text("holder") not in (holder, ""), f"slot {index} is not ordered again")
    listens = seen(lambda: record.words[Field.BEAT] > 0, f"slot {index} does not come to life")
    asks = seen(lambda: record.words[Field.TAKES] > 0, f"slot {index} does not ask for work")
    return listens - ordered, asks - ordered, asks - told


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
