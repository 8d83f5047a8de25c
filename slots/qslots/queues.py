"""A queue by its name, for those who look at it from outside."""

from .client import current
from .keys import check_name
from .reports import QueueStats


class Queue:
    """A named channel of tasks. It exists as soon as a task is put into it."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = check_name(name, "queue")

    def stats(self) -> QueueStats:
        """Counts per state, age of the oldest active task (seconds) and cumulative counters."""
        return current().stats([self.name])[0]

    def __repr__(self) -> str:
        return f"Queue({self.name!r})"
