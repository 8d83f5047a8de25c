"""Packs that stand still behind one task that runs long: what the master settles of them. Pure.

The slot is in its handler, perhaps in C code, and cannot do it itself. What is marked is settled, so that it is not run
again if this server is lost; what has not begun goes back at once and without a charge, for other slots to take and for
the manager to count among what waits. That is done whether or not anybody waits just now: it costs one request.

Nothing that goes back may begin here any more: see STOP_AFTER in ``qslots.work_each``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from qslots.outcomes import Outcome
from qslots.scoreboard import LOOK_UP, MARKS, Field, Record
from qslots.servers import parted

from .letters import Relieve


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a slot stands, as read once: in this pack, at this task, since then."""

    seq: int
    position: int
    start: int


def read(record: Record) -> Standing:
    """The position first, as the slot writes it last: no task is taken for older than it is."""
    words = record.words
    position = words[Field.TASK]
    return Standing(words[Field.HELD], position, words[Field.START])


def standing(records: Iterable[Record], now: int, relieved: Mapping[int, Standing]) -> dict[int, Standing]:
    """The slots that stand at a task of several for longer than they look up, and are not relieved yet."""
    found = {}
    for record in records:
        at = read(record)
        size = record.words[Field.SIZE]  # or whatever a task may have written there
        one_of_several = at.seq and size > 1 and 0 < at.position <= size <= MARKS
        # Where several run at once their marks say so. What stands behind this one may run too; that slot is awake.
        alone = one_of_several and not record.marks[at.position - 1]
        if alone and now - at.start > LOOK_UP and relieved.get(record.index) != at:
            found[record.index] = at
    return found


def settlement(record: Record, at: Standing, windows: Mapping[str, float]) -> Relieve | None:
    """What is to be settled, if the slot still stands there; ``windows``: queue -> how long finished ids stay known.

    To be asked for well after STOP_AFTER was written.
    """
    source, holder, size = record.text("held_source"), record.text("holder"), min(MARKS, record.words[Field.SIZE])
    back = {position: Outcome("back") for position in range(at.position + 1, size + 1)}
    marks = bytes(record.marks[: at.position - 1])
    if read(record) != at:
        return None
    return Relieve(source, holder, at.seq, back, marks, windows.get(parted(source)[0], 0.0))
