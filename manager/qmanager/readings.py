"""Counts of one queue from several queue servers as one reading. Pure.

A queue that is spread has its tasks and its counters in parts; demand looks at their sum, on one clock.
"""

from collections.abc import Sequence

import msgspec

from qslots.reports import QueueStats

_CUMULATIVE = ("put", "taken", "returned", "done", "failed", "crashed", "busy", "packs", "empty")
_SUMMED = frozenset(QueueStats.__struct_fields__) - {"name", "now", "oldest", "paused", "gates"}


def merged(parts: Sequence[QueueStats], now: float) -> QueueStats:
    """One reading of a queue that lives on several servers, at ``now`` of the first one's clock.

    It is paused when it is so on all of them: one that is away must not starve the others with what it knew last.
    """
    sums = {name: sum(getattr(each, name) for each in parts) for name in _SUMMED}
    return QueueStats(
        parts[0].name, now, oldest=max(each.oldest for each in parts), paused=all(each.paused for each in parts),
        gates=tuple(dict.fromkeys(gate for each in parts for gate in each.gates)), **sums,
    )  # fmt: skip


def counted_from(base: QueueStats | None, reading: QueueStats) -> QueueStats:
    """The reading with its cumulative counters counted from those of ``base``, unless the server was emptied since."""
    if base is None or _finished(reading) < _finished(base):
        return reading
    return msgspec.structs.replace(
        reading, **{name: getattr(reading, name) - getattr(base, name) for name in _CUMULATIVE}
    )


def _finished(reading: QueueStats) -> int:
    return reading.done + reading.failed + reading.crashed
