"""What slots' memory grows by, handler by handler. Pure.

Between two measurements of a slot its growth is booked to the handler that it served meanwhile: the one that stands on
its scoreboard record at both ends (or is the first since its birth), if it has finished tasks. What was freed counts
too, so a handler that only allocates and frees comes to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from .recycling import mb


@dataclass(frozen=True, slots=True)
class Mark:
    """A slot at one measurement."""

    handler: str
    done: int  # tasks since birth
    grown: int  # bytes that are private by its own writing


@dataclass(frozen=True, slots=True)
class Growth:
    """Of one handler, all slots together."""

    bytes: int = 0
    tasks: int = 0
    slots: frozenset[int] = frozenset()

    @property
    def a_task(self) -> float:
        """Bytes a task, the mean; below 0 if more was freed."""
        return self.bytes / self.tasks if self.tasks else 0.0


def booked(known: Mapping[str, Growth], index: int, before: Mark, after: Mark) -> dict[str, Growth]:
    """The books after another measurement of slot ``index``."""
    books = dict(known)
    tasks = after.done - before.done
    if tasks > 0 and after.handler and before.handler in ("", after.handler):
        old = books.get(after.handler, Growth())
        grown = old.bytes + after.grown - before.grown
        books[after.handler] = Growth(grown, old.tasks + tasks, old.slots | {index})
    return books


def told(handler: str, growth: Growth) -> str:
    """A handler's growth in words."""
    sign = "" if growth.a_task < 0 else "+"
    return f"{handler}: {sign}{mb(growth.a_task)} a task"
