"""The task that runs here, the ids of what it enqueues, and what of that waits for its success.

The ids are derived from its own, so that a second run of the same task puts the same tasks again and doubles none.
"""

import hashlib
from collections.abc import Sequence

from .cascades import MOST_BYTES, MOST_KEPT, Children
from .errors import UsageError
from .records import trace


class Running:
    """The task that this slot runs; a slot has one thread. None while no handler runs."""

    parent: str | None = None
    enqueued = 0
    source = ""  # where its pack came from, queue@server
    url = ""  # of that server

    def __init__(self) -> None:
        self.children: list[Children] = []  # enqueued with its settlement
        self._record: bytes | Sequence[bytes] = b""
        self._count = self._size = 0

    def begin(self, task_id: str | None, record: bytes | Sequence[bytes] = b"") -> None:
        """A task (or a pack, with all its records) begins, or with None the last one is over."""
        self.parent = task_id
        self.enqueued = 0
        self._record = record
        if self.children:
            self.children = []
            self._count = self._size = 0

    def trace(self) -> bytes:
        """The trace that it belongs to; b"" if there is none, or its pack is of several."""
        if not isinstance(self._record, bytes):
            found = {trace(each): each for each in self._record}
            self._record = next(iter(found.values())) if len(found) == 1 else b""
        return trace(self._record)

    def keep(self, children: Children, where: str) -> None:
        """Keeps what was enqueued until the task has succeeded. UsageError: it is too much."""
        count, size = self._count + len(children.ids), self._size + children.size()
        if count > MOST_KEPT or size > MOST_BYTES:
            raise UsageError(
                f"{where}: one task keeps at most {MOST_KEPT:,} tasks of {MOST_BYTES >> 20} MB for its settlement: enqueue "
                "them without with_settlement, or let each of several tasks enqueue a part"
            )
        self._count, self._size = count, size
        self.children.append(children)

    def child_ids(self, parent: str, contents: list[bytes]) -> list[str]:
        """Ids that a second run of the same task makes again, so that it does not double what it enqueues.

        The content counts too: a run that goes another way than the one before it must not lose its own children to
        those that still wait from then.
        """
        first = self.enqueued + 1
        self.enqueued += len(contents)
        return [_child_id(parent, n, content) for n, content in enumerate(contents, first)]


RUNNING = Running()


def _child_id(parent: str, n: int, content: bytes) -> str:
    """As long as a generated id, and sorting beside its parent's."""
    digest = hashlib.blake2b(f"{parent}/{n}/".encode() + content, digest_size=12).hexdigest()
    return parent[:13] + digest[:10] if len(parent) == 23 else digest[:23]
