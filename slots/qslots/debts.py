"""What is owed to a queue server that went away before a pack could be settled there.

The slot gives the debt to its master and goes on with other servers; the master keeps it until the server has it. Every
part of it may be repeated. If the master dies too, its successor finds it written down beside the scoreboard.
"""

from collections.abc import Sequence

import msgspec

from .cascades import Children
from .outcomes import Outcome
from .queueserver import Kept, QueueServer
from .servers import parted


class Owed(msgspec.Struct, tag="owed"):
    """Slot to master: how pack ``seq`` from ``source`` ended. What is neither told nor marked goes back untouched."""

    source: str
    seq: int
    outcomes: dict[int, Outcome] = {}  # by position, from 1; they go before the marks
    results: dict[int, Kept] = {}  # by position: what is to be kept of tasks that are done
    marks: bytes = b""  # one byte a position, 1 is done
    busy: float = 0.0  # seconds that its handlers ran
    window: float = 0.0  # seconds that the ids of finished tasks stay known
    cascade: dict[
        int, Sequence[Children]
    ] = {}  # by position: what tasks that are done have enqueued with their settlement


def pay(server: QueueServer, holder: str, owed: Owed) -> bool:
    """Settles what ``holder`` owed; False if the pack was gone (taken away, or paid before)."""
    queue, _ = parted(owed.source)
    if owed.outcomes:
        server.settle(
            queue, holder, owed.seq, owed.outcomes, window=owed.window, results=owed.results, cascade=owed.cascade
        )
    return server.release(
        queue, holder, held=owed.seq, marks=owed.marks, busy=owed.busy, leave=False, window=owed.window
    )  # fmt: skip
