"""What the demo asks of ``qslots slots --json`` and ``qslots queues --json``, and which slot it kills.

Pure but for ``kill``, which must hit nothing but a slot of our own fleet.
"""

import contextlib
import os
import signal
import typing

import msgspec
import psutil

PREFERRED = "index"  # its packs of a hundred files make the best proof that nothing is lost


class Slot(msgspec.Struct, frozen=True):
    """One row of ``qslots slots --json``; ages in seconds, memory in bytes."""

    server: str
    index: int
    pid: int | None = None
    generation: int | None = None
    state: str = ""
    queues: tuple[str, ...] = ()
    task: typing.Any = None
    task_age: float | None = None
    done: int | None = None
    pss: int | None = None
    private: int | None = None

    @property
    def name(self) -> str:
        """server/index."""
        return f"{self.server}/{self.index}"

    @property
    def busy(self) -> bool:
        """Whether it ran a task when it was last reported."""
        return bool(self.pid) and self.task is not None


class Queue(msgspec.Struct, frozen=True):
    """One row of ``qslots queues --json``: how many tasks are in which state."""

    name: str
    active: int = 0
    inactive: int = 0
    locked: int = 0
    buried: int = 0

    @property
    def alive(self) -> int:
        """Tasks that still run or will."""
        return self.active + self.inactive + self.locked


def pick_slot(slots: typing.Sequence[Slot]) -> Slot | None:
    """The busy slot to kill, one that has a pack of the index if there is one; None while all are idle."""
    busy = [slot for slot in slots if slot.busy]
    return min(busy, key=lambda slot: (PREFERRED not in slot.queues, slot.server, slot.index), default=None)


def kill(slot: Slot, up: int) -> str | None:
    """SIGKILL the slot if it is a descendant of process ``up``; what was killed, in words, or None if it was gone."""
    if slot.pid is None:
        return None
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
        if any(parent.pid == up for parent in psutil.Process(slot.pid).parents()):
            os.kill(slot.pid, signal.SIGKILL)
            return f"{slot.name} (pid {slot.pid}) serving {', '.join(slot.queues)}"
    return None
