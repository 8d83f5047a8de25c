"""How many tasks of one handler in a row could not be given to it. Pure.

Code whose parameters differ from those that tasks were put for would bury or fail all that waits, a million in a few
seconds. So a slot that has met PARK_AFTER misfits and nothing that fits between them stops and has the handler parked.
What fits costs nothing here: positions tell that nothing was between two misfits.
"""

PARK_AFTER = 100
LONGEST_REASON = 300  # characters


class MisfitRow:
    """The misfits of one handler in a row, across packs. Positions count from 1 in each pack."""

    __slots__ = ("_last_at", "_why", "length")

    def __init__(self) -> None:
        self.length = 0
        self._last_at = 0
        self._why = ""

    @property
    def is_too_long(self) -> bool:
        """Whether the handler is to be parked, and no more of its tasks to be tried."""
        return self.length >= PARK_AFTER

    def met(self, position: int, why: str) -> None:
        """The task at this position of the pack at hand cannot be given to the handler."""
        self.length = self.length + 1 if position == self._last_at + 1 else 1
        self._last_at = position
        self._why = why

    def pack_over(self, began: int) -> None:
        """So many tasks of the pack have begun; the next one goes on from there if the last of them was a misfit."""
        if began != self._last_at and not self.is_too_long:
            self.length = 0
        self._last_at = 0

    def reason(self) -> str:
        """Why the handler is to be parked, on one line; the row begins anew."""
        why = " ".join(self._why.split())[:LONGEST_REASON]
        said = f"{self.length} tasks in a row did not fit, the last one: {why}"
        self.length = 0
        return said
