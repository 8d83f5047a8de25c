"""What the demo asks of the fleet (the documents of ``qslots slots`` and ``qslots queues``), and which slot it kills.

``kill`` must hit nothing but a slot of our own fleet.
"""

import asyncio
import contextlib
import os
import pathlib
import signal
import sys
import typing
from collections.abc import Callable, Sequence

import msgspec
import psutil

from qmanager.admin import queueviews, views
from qslots.client import current
from qslots.connection import translated
from qslots.errors import Error
from qslots.servers import QueueServers

PREFERRED = "index"  # its packs of a hundred files make the best proof that nothing is lost
_T = typing.TypeVar("_T")


class Slot(msgspec.Struct, frozen=True):
    """One row of ``qslots slots --json``; memory in bytes."""

    server: str
    index: int
    pid: int | None = None
    state: str = ""
    queues: tuple[str, ...] = ()
    task: str | None = None
    done: int = 0
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


def qslots_command() -> str:
    """The qslots command of this interpreter's environment, whatever PATH says."""
    return str(pathlib.Path(sys.executable).with_name("qslots"))


async def ask_slots() -> tuple[Slot, ...]:
    """The slots as last reported, at most a second ago; empty while nobody answers."""
    return await _ask(views.slots_view, tuple[Slot, ...]) or ()


async def ask_queues() -> tuple[Queue, ...]:
    """What the queues hold; empty while nobody answers."""
    return await _ask(queueviews.queues_view, tuple[Queue, ...]) or ()


async def _ask(view: Callable[[QueueServers], views.View], kind: type[_T]) -> _T | None:
    def look() -> views.View:
        servers = current()
        with translated(servers.control.url):
            return view(servers)

    try:
        return msgspec.convert((await asyncio.to_thread(look)).document, kind)
    except Error:  # a queue server that is being started again answers soon
        return None


def are_empty(queues: Sequence[Queue], names: Sequence[str]) -> bool:
    """Whether all the named queues are known and hold nothing that still has to run."""
    alive = {queue.name: queue.alive for queue in queues}
    return all(alive.get(name) == 0 for name in names)


def pick_slot(slots: Sequence[Slot]) -> Slot | None:
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
