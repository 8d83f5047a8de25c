"""Where the tasks of one queue are on one server, down to the slot that has them: shell around ``queries``.

Which lock holds a task is not indexed (that would cost every take); it is looked for among the packs held just now, of
which there are as many as slots at work.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from . import keys
from .connection import translated
from .errors import QueueServerError
from .inspector import Found, Inspector
from .queries import Owner, TaskInfo, described, owner_of
from .reports import UNDECODABLE, Report
from .servers import QueueServers
from .states import TaskState

_WAITING = (TaskState.NEW, TaskState.ENQUEUED, TaskState.RETRIABLE_FAILURE)
_LOCKED = (TaskState.CLAIMED, TaskState.PROCESSING)
Locks = dict[str, tuple[str, int]]  # id -> (lock, tasks of its pack)
_report = msgspec.msgpack.Decoder(Report).decode


class Whereabouts:
    """One look: reports of masters that it has read once are not read again."""

    def __init__(self, servers: QueueServers, place: str, queue: str) -> None:
        self._control = servers.control
        self._inspector = Inspector(servers[place], queue)
        self._place = place
        self._queue = queue
        self._reports: dict[str, Report | None] = {}

    def of_state(self, state: TaskState | None) -> Iterator[TaskInfo]:
        """The living tasks of a state (see ``given.state``), or all; read page by page."""
        for ids, locks in self._pages(state):
            now, found = self._inspector.get(ids)
            for info in self.described(now, [each for each in found if each is not None], locks):
                if state is None or info.state is state:
                    yield info

    def _pages(self, state: TaskState | None) -> Iterator[tuple[Sequence[str], Locks | None]]:
        """Pages of ids, with the locks that have them where these are what is gone through."""
        if state in _LOCKED:
            return ((list(page), page) for page in self._inspector.locked())
        return ((page, None) for page in self._unlocked(state))

    def _unlocked(self, state: TaskState | None) -> Iterator[list[str]]:
        if state is None:
            return self._inspector.every_id()
        if state in _WAITING:
            return self._inspector.scheduled()
        return self._inspector.buried()

    def described(self, now: float, found: Sequence[Found], locks: Locks | None = None) -> list[TaskInfo]:
        """These tasks, the locked ones with who has them."""
        if locks is None:
            locks = self._locks({each.id for each in found if each.place == "locked"})
        infos = []
        for each in found:
            lock, size = locks.get(each.id, ("", 0))
            holder = lock.rpartition(":")[0]
            running = bool(holder) and (size == 1 or self._runs(owner_of(holder), each.id))
            infos.append(described(each, self._queue, self._place, now, holder, running=running))
        return infos

    def _locks(self, ids: set[str]) -> Locks:
        """Of nobody where this user may not look at packs."""
        found: Locks = {}
        try:
            for page in self._inspector.locked() if ids else ():
                found |= {task: page[task] for task in ids & page.keys()}
                if len(found) == len(ids):
                    break
        except QueueServerError as error:
            if error.code != "NOPERM":
                raise
        return found

    def _runs(self, owner: Owner, task: str) -> bool:
        """Whether the owner's master says that this very task runs. Its word is up to a second old."""
        report = self._report(owner.server)
        if report is None:
            return False
        return any(slot.index == owner.slot and slot.task == task for slot in report.slots)

    def _report(self, server: str) -> Report | None:
        if server not in self._reports:
            with translated(self._control.url):
                raw: Any = self._control.redis.hget(keys.REPORTS, server)
            try:
                self._reports[server] = _report(raw) if raw else None
            except UNDECODABLE:
                self._reports[server] = None
        return self._reports[server]
