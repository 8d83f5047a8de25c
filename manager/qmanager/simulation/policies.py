"""The ways to allot slots that are compared: the manager's planner, a static division, an autoscaler by backlog."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from qslots.reports import Declared, QueueDeclared, QueueStats, Report

from ..planning.planner import Memory, plan
from .fleet import DIGEST
from .server import Row, Size

Names = tuple[str, ...]


class Planned:
    """What the manager would do: its own planner, fed with what masters and the queue server would tell."""

    detailed = True

    def __init__(self, queues: Iterable[QueueDeclared], size: Size) -> None:
        self._declared = {DIGEST: Declared(tuple(queues))}
        self._interval = size.interval
        self._memory = Memory()
        self._rows: Mapping[str, Row] = {}

    def rows(self, now: float, reports: Sequence[Report], stats: Mapping[str, QueueStats]) -> Mapping[str, Row]:
        """The planner's next map."""
        result = plan(
            declared=self._declared, stats=stats, reports=reports, current=self._rows, now=now, memory=self._memory,
            interval=self._interval,
        )  # fmt: skip
        self._memory, self._rows = result.memory, result.rows
        return self._rows


class Static:
    """So many slots for each queue, whatever comes; a server that is lost takes its slots with it."""

    detailed = False

    def __init__(self, slots: Mapping[str, int]) -> None:
        self._slots = slots
        self._rows: Mapping[str, Row] = {}

    def rows(self, now: float, reports: Sequence[Report], stats: Mapping[str, QueueStats]) -> Mapping[str, Row]:  # noqa: ARG002
        """The same rows from the first time on that servers report."""
        if not self._rows and reports:
            self._rows = allotted({}, self._slots, reports)
        return self._rows


class ByBacklog:
    """Slots = tasks that wait or run / ``constant``, at least one, every cycle anew, clamped to what there is."""

    detailed = False

    def __init__(self, queues: Iterable[QueueDeclared], constant: float) -> None:
        self._queues = {queue.name: queue for queue in queues}
        self._constant = constant
        self._rows: Mapping[str, Row] = {}

    def rows(self, now: float, reports: Sequence[Report], stats: Mapping[str, QueueStats]) -> Mapping[str, Row]:  # noqa: ARG002
        """Rows that differ from those before as little as the new numbers allow."""
        wanted = {name: self._wanted(queue, stats[name]) for name, queue in self._queues.items()}
        capacity = sum(report.max_slots for report in reports)
        self._rows = allotted(self._rows, divided(wanted, min(capacity, sum(wanted.values()))), reports)
        return self._rows

    def _wanted(self, queue: QueueDeclared, stats: QueueStats) -> int:
        wanted = math.ceil((stats.takeable + stats.locked) / self._constant)
        return within(queue, max(1, wanted))


def within(queue: QueueDeclared, slots: int) -> int:
    """As many slots as a queue may have."""
    least = max(slots, queue.min_slots)
    return least if queue.max_slots is None else min(least, queue.max_slots)


def divided(weights: Mapping[str, float], slots: int) -> dict[str, int]:
    """So many slots in proportion to the weights, one at least for each; what rounding leaves to the largest parts."""
    whole, left = sum(weights.values()) or 1.0, max(0, slots - len(weights))
    shares = {name: left * weight / whole for name, weight in weights.items()}
    got = {name: 1 + int(share) for name, share in shares.items()}
    ranked = sorted(shares, key=lambda name: (got[name] - 1 - shares[name], name))
    for name in ranked[: max(0, slots - sum(got.values()))]:
        got[name] += 1
    return got


def allotted(current: Mapping[str, Row], slots: Mapping[str, int], servers: Sequence[Report]) -> dict[str, Row]:
    """Rows with so many slots of each queue, spread over the servers as far as their bytes go.

    What is there and still wanted stays; the rest goes at once.
    """
    places = {server.server: server.max_slots for server in servers}
    rows = {name: [*current.get(name, ())[:most], *[()] * most][:most] for name, most in places.items()}
    left = Counter(slots)
    for index in range(max(places.values(), default=0)):
        for row in (row for row in rows.values() if index < len(row) and row[index]):
            if left[row[index][0]] > 0:
                left[row[index][0]] -= 1
            else:
                row[index] = ()
    if missing := sorted((+left).items()):
        _add(rows, missing, servers)
    return {name: tuple(row) for name, row in rows.items()}


def _add(rows: Mapping[str, list[Names]], missing: Iterable[tuple[str, int]], servers: Iterable[Report]) -> None:
    """New slots, each on the server that has most bytes left."""
    free = {
        each.server: each.budget - sum(_bytes(each, names[0]) for names in rows[each.server] if names)
        for each in servers
    }
    for name, count in missing:
        heap = [(-free[each.server], each.server, _bytes(each, name)) for each in servers]
        heapq.heapify(heap)
        while count and heap:
            _, server, size = heap[0]
            row = rows[server]
            if free[server] < size or () not in row:
                heapq.heappop(heap)
                continue
            row[row.index(())] = (name,)
            count, free[server] = count - 1, free[server] - size
            heapq.heapreplace(heap, (-free[server], server, size))


def _bytes(server: Report, queue: str) -> int:
    return server.slot_sizes.get(queue, server.slot_size)
