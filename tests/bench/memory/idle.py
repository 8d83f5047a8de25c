"""What it costs to wait: processor time of a hundred idle slots, their mold, master and courier; and of measuring them.

Read from the kernel's own account of each process at both ends of a minute, to the nanosecond.
"""

import os
import time
from dataclasses import dataclass

import processes
import systems
from figures import MB, Result, at_most
from systems import Bench, Slots

SLOTS = 100
HELD = 300  # megabytes that the slots of the second measurement share
SETTLE = float(
    os.environ.get("MEMORY_BENCH_SETTLE", "15")
)  # seconds: the first sizes are known, nothing starts any more


@dataclass(frozen=True, slots=True)
class Cost:
    """Parts of a core, in percent."""

    slots: float
    courier: float
    master: float
    mold: float
    queue_server: float

    @property
    def ours(self) -> float:
        """All but the queue server."""
        return self.slots + self.courier + self.master + self.mold


def cost(bench: Bench, system: Slots, seconds: float) -> Cost:
    """Over so many seconds from now."""
    assert bench.queue_server.process is not None
    redis = bench.queue_server.process.pid
    kinds: dict[int, str] = {pid: kind(pid) for pid in system.pids()} | {redis: "queue_server"}
    before = {pid: processes.processor(pid) for pid in kinds}
    began = time.monotonic()
    time.sleep(seconds)
    spent = {pid: processes.processor(pid) - before[pid] for pid in kinds}
    took = (time.monotonic() - began) * 1e9
    parts = ("slots", "courier", "master", "mold", "queue_server")
    return Cost(*(100 * sum(spent[pid] for pid in kinds if kinds[pid] == part) / took for part in parts))


def kind(pid: int) -> str:
    """Which part of a fleet a process is, by its title."""
    words = processes.title(pid).split()
    named = words[1] if words[:1] == ["qmaster:"] else "master"
    return "slots" if named == "slot" else named


def of_idling(bench: Bench, slots: int, seconds: float) -> list[Result]:
    """So many slots that wait for work."""
    bench.say(f"idle: {slots} slots, {seconds:.0f} s")
    with systems.qmaster(bench, "weightless", slots) as system:
        time.sleep(SETTLE)
        found = cost(bench, system, seconds)
    beside = {"slots": found.slots, "master": found.master, "courier": found.courier, "mold": found.mold}
    return [at_most(f"{slots} idle slots", found.ours, "% of a core", 2.0, **beside, redis=found.queue_server)]


def of_measuring(bench: Bench, slots: int, seconds: float) -> list[Result]:
    """The courier's time, with slots that hold much: while they idle, and while all have tasks, so that each may have
    grown and is read in turn, as often as the share of a processor that measuring has allows.
    """
    bench.say(f"measuring: {slots} slots of {HELD} MB, twice {seconds:.0f} s")
    with systems.qmaster(bench, "weightless", slots, MEMORY_BENCH_HELD=str(HELD)) as system:
        time.sleep(SETTLE)
        idle = cost(bench, system, seconds)
        with systems.in_work(system, slots):
            busy = cost(bench, system, seconds)
        began = time.thread_time()
        sizes = [processes.memory(pid) for pid in system.workers()]
        reading = (time.thread_time() - began) / len(sizes)
    tables = sum(each.page_tables for each in sizes if each) / len(sizes) / MB
    one = {"one reading, ms": reading * 1e3, "page tables a slot, MB": tables}
    at_work = {"slots": busy.slots, "master": busy.master}
    return [
        at_most(f"courier, {slots} idle slots of {HELD} MB", idle.courier, "% of a core", 1.0, **one, all=idle.ours),
        Result(
            f"courier, {slots} such slots at work; measuring may take 1", busy.courier, "% of a core", beside=at_work
        ),
    ]
