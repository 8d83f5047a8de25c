"""What the master sees on the scoreboard once a second: locks to extend, tasks over their limit, locks that nobody
vouches for. Pure.

A record is read while its slot writes it, so what would kill is read twice and must be the same: deadlines 50 ms
apart, locks that nobody vouches for with the next look a second later.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qslots.holding import TRUSTED
from qslots.queueserver import lock_name
from qslots.scoreboard import Field, Record

_T = TypeVar("_T")
AGREE = 0.05  # seconds between the two readings
EXTEND_AFTER = 1 / 6  # of the ttl; younger locks are left alone


@dataclass(frozen=True, slots=True)
class Overdue:
    """A task over its deadline (or another limit of its own), as read once."""

    task: int
    start: int
    deadline: int
    why: str = ""  # what it has done instead, if it is not its time that is over

    @property
    def did(self) -> str:
        """In words."""
        return self.why or f"ran longer than its time limit of {round((self.deadline - self.start) / 1e9, 1):,g} s"


def overdue(records: Iterable[Record], now: int, slept: Sequence[tuple[int, int]] = ()) -> dict[int, Overdue]:
    """Slots whose running task is over its deadline. ``now`` in ns since boot; ``slept``: when this machine woke up
    and how long it had slept, ns: no task runs then.
    """
    found = {}
    for record in records:
        words = record.words
        deadline, start = words[Field.DEADLINE], words[Field.START]
        if deadline and deadline + sum(length for woke, length in slept if start < woke) < now:
            found[record.index] = Overdue(words[Field.TASK], words[Field.START], deadline)
    return found


@dataclass(frozen=True, slots=True)
class Untrusted:
    """A task that runs though nobody vouches for its lock any more, as read once."""

    seq: int
    task: int
    start: int


def untrusted(records: Iterable[Record], now: int) -> dict[int, Untrusted]:
    """Slots that run what another may run, too, from a certain moment on. ``now`` in ns since boot."""
    found = {}
    for record in records:
        words = record.words
        seq, task, start = words[Field.HELD], words[Field.TASK], words[Field.START]
        if seq and task and record.trusted_until() < now:
            found[record.index] = Untrusted(seq, task, start)
    return found


def confirmed(first: Mapping[int, _T], second: Mapping[int, _T]) -> list[int]:
    """The slots of which both readings say the same."""
    return [index for index, reading in first.items() if second.get(index) == reading]


def to_extend(records: Iterable[Record], now: int) -> dict[tuple[str, float], dict[str, Record]]:
    """Locks that have not been extended for a sixth of their ttl, by (source, ttl in seconds): lock -> its record."""
    found: dict[tuple[str, float], dict[str, Record]] = {}
    for record in records:
        words = record.words
        held, ttl = words[Field.HELD], words[Field.TTL]
        if held and record.trusted_until() - now < ttl * (TRUSTED - EXTEND_AFTER):
            group = found.setdefault((record.text("held_source"), ttl / 1e9), {})
            group[lock_name(record.text("holder"), held)] = record
    return found


@dataclass(frozen=True, slots=True)
class Slow:
    """A task that runs longer than its handler's alert allows; seconds."""

    task: str
    handler: str
    start: int
    age: float
    usual: float  # 0 if not known


def slow(records: Iterable[Record], now: int, told: Mapping[int, int]) -> dict[int, Slow]:
    """By index the tasks worth an alert that were not told of; ``told``: index -> start of the last one."""
    found = {}
    for record in records:
        words = record.words
        task, start, after = words[Field.TASK], words[Field.START], words[Field.ALERT_AFTER]
        if task and after and now - start > after and told.get(record.index) != start:
            name, handler = record.text("task"), record.text("handler")
            found[record.index] = Slow(name, handler, start, (now - start) / 1e9, words[Field.USUAL] / 1e9)
    return found


def holds_still(record: Record, lock: str) -> bool:
    """Whether the slot still works on the pack of this lock."""
    return lock_name(record.text("holder"), record.words[Field.HELD]) == lock
