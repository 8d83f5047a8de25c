"""Of the tasks that run beside each other, the one that stands on the scoreboard: whose deadline comes first.

That is the oldest, where none has moved its deadline. Positions count from 1, times are ns since boot.
"""

import contextlib
from collections.abc import Iterator, Sequence

from .scoreboard import RUNS, Record, boot_ns


class Deadlines:
    """Those of one pack; ``limit`` is that of one task, 0 for none."""

    def __init__(self, record: Record, ids: Sequence[bytes], limit: int) -> None:
        self._record = record
        self._ids = ids
        self._limit = limit
        self._begun: dict[int, int] = {}  # position -> when; oldest first
        self._until: dict[int, int] = {}  # position -> deadline less _still; empty if tasks have no limit
        self._moved = False
        self._shown = 0
        self._still = 0  # how long nothing could run, all in all

    def begin(self, position: int) -> None:
        """A task begins."""
        self._record.marks[position - 1] = RUNS
        self._begun[position] = now = boot_ns()
        if self._limit:
            self._until[position] = now + self._limit - self._still
        if not self._shown:
            self._show()

    def over(self, position: int) -> None:
        """A task is over."""
        del self._begun[position]
        self._until.pop(position, None)
        if position == self._shown:
            self._show()

    def move(self, position: int, deadline: int) -> None:
        """A task has another deadline from now on, if it runs and has one."""
        if position in self._until:
            self._until[position] = deadline - self._still
            self._moved = True
            self._show()

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """In this block nothing can run, perhaps for long: no deadline counts, and none comes nearer."""
        self._record.over()
        began = boot_ns()
        yield
        self._still += boot_ns() - began
        self._show()

    def stood_still(self) -> float:
        """Seconds in such blocks, all in all."""
        return self._still / 1e9

    def _show(self) -> None:
        position = next(iter(self._begun), 0)
        if self._moved and self._until:
            position = min(self._until, key=self._until.__getitem__)
        self._shown = position
        if position:
            deadline = self._until[position] + self._still if self._until else 0
            self._record.begin(position, self._begun[position], deadline, self._ids[position - 1])
        else:
            self._record.end()
