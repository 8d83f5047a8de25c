"""Counts of queues, asked for in such a way that one whose keys are damaged hides no other."""

from collections.abc import Mapping, Sequence

from qslots.errors import QueueServerDown, QueueServerError
from qslots.queueserver import QueueServer
from qslots.reports import QueueStats


def counts_of(server: QueueServer, queues: Sequence[str]) -> tuple[list[QueueStats], dict[str, Exception]]:
    """The counts of those that can be counted, and why the others cannot. QueueServerDown if nobody answers."""
    try:
        return server.stats(queues), {}
    except QueueServerDown:
        raise
    except QueueServerError as error:
        if len(queues) == 1:
            return [], {queues[0]: error}
    found: list[QueueStats] = []
    broken: dict[str, Exception] = {}
    for queue in queues:
        mine, why = counts_of(server, [queue])
        found += mine
        broken |= why
    return found, broken


def insist_on_one(server: str, queues: Sequence[str], broken: Mapping[str, Exception]) -> None:
    """QueueServerError if there are several queues and none can be counted: then it is not they that are damaged."""
    if 1 < len(queues) == len(broken):
        last = max(broken)
        raise QueueServerError(f"no queue can be counted on {server}, the last of them is {last}: {broken[last]}")
