"""Counts of a queue server that answers late, as demand may look at them. Pure."""

import msgspec

from qslots.reports import QueueStats

CUMULATIVE = (
    "put", "taken", "returned", "done", "failed", "crashed", "busy", "packs", "empty", "lost", "burials", "deleted",
    "dropped", "renewed", "unkept",
)  # fmt: skip


def counted_from(base: QueueStats | None, reading: QueueStats) -> QueueStats:
    """The reading with its counters counted from those of ``base``, unless the server was emptied since."""
    if base is None or _finished(reading) < _finished(base):
        return reading
    since = {name: getattr(reading, name) - getattr(base, name) for name in CUMULATIVE}
    return msgspec.structs.replace(reading, packing=reading.packing.since(base.packing), **since)


def _finished(reading: QueueStats) -> int:
    return reading.done + reading.failed + reading.crashed
