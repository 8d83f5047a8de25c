"""What keeps a server from carrying more slots, with its reason in words. Pure.

Memory and the settings are bounds. Processors, load and pressure are brakes: they stop growth and never take a slot
away, for a slot that waits for a processor costs little, and forking it anew costs more.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

SATURATED = 0.95  # busy part of the processors from which on no slot is added
LOAD = 4.0  # processes that run or wait, for each processor of the host
CPU_PRESSURE = 0.8  # part of the time in which some process waited for a processor (PSI some avg10)
MEMORY_PRESSURE = 0.1  # the same for memory: it is being reclaimed under somebody's feet


class Bound(StrEnum):
    """What keeps ``max_slots`` from being higher."""

    MEMORY = "memory"
    SETTING = "setting"
    RAMP = "ramp"
    CPU = "cpu"
    PRESSURE = "pressure"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many slots, and why."""

    slots: int
    bound: Bound
    why: str

    def __str__(self) -> str:
        return f"bound by {self.bound}: {self.why}"


@dataclass(frozen=True, slots=True)
class Work:
    """How hard the machine works: parts are 0 to 1."""

    cpus: float  # processors that we may use, quota included
    busy: float = 0.0  # part of them in use, smoothed
    load: float = 0.0  # of the host, for each of its processors
    cpu_pressure: float = 0.0
    memory_pressure: float = 0.0


def brake(work: Work) -> tuple[Bound, str] | None:
    """What stops growth now, if something does."""
    if work.memory_pressure > MEMORY_PRESSURE:
        return Bound.PRESSURE, f"processes wait for memory {work.memory_pressure:.0%} of the time"
    if work.busy >= SATURATED:
        return Bound.CPU, f"{work.busy:.0%} of {work.cpus:g} processors busy"
    if work.load >= LOAD:
        return Bound.CPU, f"a load of {work.load:.1f} for each processor"
    if work.cpu_pressure >= CPU_PRESSURE:
        return Bound.CPU, f"processes wait for a processor {work.cpu_pressure:.0%} of the time"
    return None


def by_memory(budget: int, each: int) -> Limit:
    """``each``: bytes of a slot in the present mix of queues."""
    return Limit(budget // each, Bound.MEMORY, f"{megabytes(budget)} / {megabytes(each)} a slot")


def others(*, setting: int | None, ramp: int, held: int | None, work: Work, by_hand: bool = False) -> Limit:
    """The lowest of all bounds but memory. ``held``: live slots when growth was stopped, None while it is not;
    ``by_hand``: the setting was moved by TTIN or TTOU.
    """
    limits = [Limit(ramp, Bound.RAMP, "twice as many as soon as these have been measured")]
    if setting is not None:
        limits.append(
            Limit(setting, Bound.SETTING, "moved by TTIN or TTOU" if by_hand else f"server.max_slots is {setting}")
        )
    stopped = brake(work)
    if held is not None and stopped is not None:
        limits.append(Limit(max(held, math.ceil(2 * work.cpus)), *stopped))
    return min(limits, key=lambda limit: limit.slots)


def megabytes(amount: int) -> str:
    """``1,204 MB``."""
    return f"{amount / (1 << 20):,.0f} MB"
