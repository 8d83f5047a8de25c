"""Whether a turn of the master comes far too late: it was stopped, or the machine was suspended. Pure.

Who comes late has seen nothing meanwhile: what looks overdue to it may be alive and well. So such a turn observes and
ends nobody, and all that was measured before it is measured on from here. CLOCK_MONOTONIC stands still while a machine
sleeps and CLOCK_BOOTTIME does not; their difference is what the slots have missed too.
"""

from dataclasses import dataclass

LATE = 5.0  # seconds


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks, read together; seconds."""

    monotonic: float
    boot: float


@dataclass(frozen=True, slots=True)
class Late:
    """How late; seconds."""

    stalled: float  # by CLOCK_MONOTONIC: slots may have gone on meanwhile
    asleep: float  # the whole machine


def late(before: Clocks, planned: float, now: Clocks) -> Late | None:
    """What was lost since ``before``, if this turn, planned for then (monotonic), comes far too late."""
    stalled = max(0.0, now.monotonic - max(planned, before.monotonic))
    asleep = max(0.0, (now.boot - before.boot) - (now.monotonic - before.monotonic))
    return Late(stalled, asleep) if stalled + asleep >= LATE else None
