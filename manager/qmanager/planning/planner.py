"""One decision of the manager: declarations, statistics, reports and the current map in, the next map out. Pure.

It waits for nothing, reads no clock and writes nowhere; what it must know again in the next cycle it returns as
Memory, which the caller hands back untouched. A manager that has just begun passes Memory().
"""

import math
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from qslots.reports import Declared, QueueDeclared, QueuePlan, QueueStats, Report

from .carried import carried, too_large
from .demand import Demand, measure, unknown
from .grant import Grant, Held, Holding, Names, dead_band, grant, remembered, stabilization
from .history import Samples, observe
from .masters import Master, Running, summed
from .placement import TOLERANCE, Change, Rows, Server, place
from .saturation import CALM
from .unserved import in_words, servable, unserved

STALE = 600.0  # seconds for which a queue keeps its demand while no server answers that it lives on


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next cycle needs of this one. Plain data."""

    samples: Mapping[str, Samples] = field(default_factory=dict)
    demands: Mapping[str, Demand] = field(default_factory=dict)
    holding: Holding | None = None  # None: the first cycle, which takes the map for what is wanted


@dataclass(frozen=True, slots=True)
class PlanResult:
    """The decision. ``rows`` has every server that reported, draining ones too."""

    rows: Rows
    queues: tuple[QueuePlan, ...]  # by name
    changes: tuple[Change, ...]  # how ``rows`` differ from the current map, and why
    memory: Memory


def plan(
    *,
    declared: Mapping[str, Declared],
    stats: Mapping[str, QueueStats],
    reports: Sequence[Report | Master],
    current: Mapping[str, Sequence[Names]],
    now: float,
    memory: Memory,
    interval: float = 1.0,
    places: Mapping[str, Names] | None = None,
    silent: Container[str] = (),
) -> PlanResult:
    """The next map.

    declared  digest -> declaration, the newest last, settings applied; a server whose digest is missing here keeps its
              row as it is
    stats     queue -> newest statistics; a queue that lacks them keeps its last demand
    reports   one a server, only of servers that count as alive, as they came or summed up; without one there is no row
    current   server -> the queues of slot 0, 1, 2, … in the map in force; also of servers that are lost
    now       seconds on the queue server's clock
    memory    what the last call returned; Memory() on the first
    interval  seconds between two calls
    places    queue -> the queue servers it lives on; a slot that is shared waits on one server
    silent    the queue servers that do not answer
    """
    masters = summed(reports)
    queues = _queues(declared, masters)
    knows = {
        digest: frozenset(queue.name for queue in each.queues if queue.handlers) for digest, each in declared.items()
    }
    servers = [_server(each, knows.get(each.declared), len(current.get(each.server, ()))) for each in masters]
    away = _told_of_away(places or {}, silent)
    counted = _Counted(_fresh(stats, away, memory), _known(declared, masters))
    present = Counter(chain.from_iterable(current.get(server.name, ()) for server in servers))
    del present[()]
    samples, learnt = _demands(queues, counted, masters, memory, interval)
    demands = learnt | {name: learnt[name].beyond(size) for name, size in too_large(servers, present, learnt).items()}
    before = memory.holding or remembered(present, now)
    capacity = carried(servers, {name: _weight(before, name) for name, each in demands.items() if each.served})
    grants, holding = grant(demands.values(), capacity, before, now, _where(declared, masters, places or {}), present)
    most = {name: demand.queue.max_slots for name, demand in demands.items() if demand.served}
    least = {name: demand.queue.min_slots for name, demand in demands.items() if demand.queue.min_slots}
    overdue = frozenset(name for name, demand in demands.items() if demand.late)
    placed, changes = place(current, grants, servers, most, least=least, overdue=overdue)
    there = _after(present, changes)
    grants = tuple(replace(each, slots=max(each.slots, min(there[each.queues], each.asked))) for each in grants)
    plans = tuple(_plans(demands, grants, holding, away, there))
    # Without any declaration nothing was learnt; what is known of the queues must outlive that.
    return PlanResult(placed, plans, changes, Memory(samples, learnt, holding) if queues else memory)


def _queues(declared: Mapping[str, Declared], masters: Sequence[Master]) -> dict[str, QueueDeclared]:
    """Every queue that a living server knows; of several declarations the last one says."""
    known = {master.declared for master in masters}
    found = {queue.name: queue for digest, each in declared.items() if digest in known for queue in each.queues}
    return dict(sorted(found.items()))


def _known(declared: Mapping[str, Declared], masters: Sequence[Master]) -> dict[str, set[str]]:
    """Per queue the handlers that some living server knows, of whatever generation."""
    known: dict[str, set[str]] = {}
    for digest in {master.declared for master in masters} & declared.keys():
        for queue in declared[digest].queues:
            known.setdefault(queue.name, set()).update(handler.name for handler in queue.handlers)
    return known


def _fresh(
    stats: Mapping[str, QueueStats], away: Mapping[str, tuple[str, bool]], memory: Memory
) -> dict[str, QueueStats]:  # fmt: skip
    """Without the counts that only repeat what was last known, for a while: they look as if no work came any more."""
    fresh = {}
    for name, each in stats.items():
        history = memory.samples.get(name)
        if not (history and away.get(name, ("", False))[1] and each.now - history[-1].now < STALE):
            fresh[name] = each
    return fresh


@dataclass(frozen=True, slots=True)
class _Counted:
    """What was counted of the queues, and the handlers that somebody knows."""

    stats: Mapping[str, QueueStats]
    known: Mapping[str, set[str]]

    def servable(self, queue: str) -> QueueStats | None:
        """The counts of what may be worked on."""
        return servable(self.stats[queue], self.known.get(queue, ())) if queue in self.stats else None

    def told(self, demand: Demand) -> Demand:
        """The demand, with what waits for a handler that nobody knows in its reason."""
        words = in_words(unserved(self.stats[demand.queue.name], self.known.get(demand.queue.name, ())))
        return replace(demand, reason=f"{demand.reason}; {words}") if words else demand


def _server(master: Master, knows: frozenset[str] | None, there: int) -> Server:
    """A server for placement. ``there``: the length of its row; noise of what memory carries shall not cut it."""
    tolerated = int(master.max_slots * (1 + TOLERANCE)) if master.bound == "memory" else 0
    return Server(
        name=master.server,
        max_slots=max(master.max_slots, min(there, tolerated)),
        budget=master.budget,
        slot_size=master.slot_size,
        slot_sizes=master.slot_sizes,
        draining=master.draining,
        knows=knows,
        idle=master.idle,
    )


def _demands(
    queues: Mapping[str, QueueDeclared], counted: _Counted, masters: Sequence[Master], memory: Memory, interval: float
) -> tuple[dict[str, Samples], dict[str, Demand]]:  # fmt: skip
    """Per queue its history with the newest reading, and its demand; without a reading both stay as they were."""
    listening, running, away = _observed(queues, masters)
    samples: dict[str, Samples] = {}
    demands: dict[str, Demand] = {}
    for name, queue in queues.items():
        history, reading = memory.samples.get(name, ()), counted.servable(name)
        ages, slots = running.get(name, ()), listening[name]
        if reading is not None:
            history = observe(history, reading, running=ages, slots=slots)
            growth = memory.demands[name].growth if name in memory.demands else CALM
            demand = measure(
                queue, history, reading, running=ages, slots=slots, away=away[name], interval=interval, growth=growth
            )
            demands[name] = counted.told(demand)
        elif name in memory.demands:
            demands[name] = replace(memory.demands[name], queue=queue, away=away[name])
        else:
            demands[name] = unknown(queue)
        samples[name] = history
    return samples, demands


def _observed(
    queues: Mapping[str, QueueDeclared], masters: Sequence[Master]
) -> tuple[Counter[str], dict[str, list[float]], Counter[str]]:
    """Per queue: how many living slots listen to it, the ages of its running tasks, its slots in tasks of others."""
    listening: Counter[str] = Counter()
    for names, slots in Counter(chain.from_iterable(master.listening for master in masters)).items():
        for name in names:
            listening[name] += slots
    running: dict[str, list[float]] = defaultdict(list)
    away: Counter[str] = Counter()
    for task in chain.from_iterable(master.running for master in masters):
        queue = task.queue or _queue_of(task, queues)
        if queue is not None:
            running[queue].append(task.age)
            if queue not in task.queues and not task.leaving:
                away.update(task.queues)
    return listening, running, away


def _queue_of(task: Running, queues: Mapping[str, QueueDeclared]) -> str | None:
    """The queue of a task whose master does not tell it: the one that has the handler."""
    for name in task.queues:
        if name in queues and any(handler.name == task.handler for handler in queues[name].handlers):
            return name
    return task.queues[0] if task.queues else None


def _where(
    declared: Mapping[str, Declared], masters: Sequence[Master], places: Mapping[str, Names]
) -> dict[str, tuple[frozenset[str], Names]]:
    """Per queue the digests that know it and its queue servers: queues of the same ones can share a slot."""
    where: dict[str, frozenset[str]] = {}
    for digest in sorted(
        {master.declared for master in masters if not master.draining and master.declared in declared}
    ):
        for queue in declared[digest].queues:
            where[queue.name] = where.get(queue.name, frozenset()) | {digest}
    return {name: (digests, places.get(name, ())) for name, digests in where.items()}


def _weight(before: Holding, name: str) -> int:
    """How much the size of a queue's slots counts in the mean: as many as it holds."""
    return max(1, before.queues[name].own if name in before.queues else 1)


def _told_of_away(places: Mapping[str, Names], silent: Container[str]) -> dict[str, tuple[str, bool]]:
    """Per queue the queue servers of it that do not answer, and whether these are all that it lives on."""
    away = {name: [server for server in lives if server in silent] for name, lives in places.items()}
    return {name: (", ".join(found), len(found) == len(places[name])) for name, found in away.items() if found}


def _after(present: Counter[Names], changes: Iterable[Change]) -> Counter[Names]:
    """Slots in the new map, by the queues they serve."""
    placed = Counter(present)
    for change in changes:
        placed[change.before] -= 1
        placed[change.after] += 1
    return placed


def _plans(
    demands: Mapping[str, Demand], grants: Iterable[Grant], holding: Holding, away: Mapping[str, tuple[str, bool]],
    placed: Mapping[Names, int],
) -> Iterator[QueuePlan]:  # fmt: skip
    owners_last = sorted(grants, key=lambda each: len(each.queues) == 1)  # some are heard in their old group, too
    granted = {name: each for each in owners_last for name in each.queues}
    for name, demand in demands.items():
        held = holding.queues.get(name)
        slots, note = _granted(demand, granted.get(name), held or Held(), placed)
        servers, all_of_them = away.get(name, ("", False))
        if all_of_them:  # what was counted before must not read as if it were so now
            reason = f"no answer from {servers}, where it lives"
        else:
            reason = f"no answer from {servers}, whose last counts stay; {demand.reason}" if servers else demand.reason
        yield QueuePlan(
            name=name,
            priority=demand.queue.priority,
            min=demand.queue.min_slots,
            max=demand.queue.max_slots,
            wanted=demand.wanted,
            granted=slots,
            load=demand.load,
            rate=demand.rate,
            arrivals=demand.arrivals,
            mean_time=demand.mean_time,
            reason=reason + note,
            **_behind(demand, granted.get(name), held or Held()),
        )


def _behind(demand: Demand, mine: Grant | None, held: Held) -> dict[str, Any]:
    """The numbers between what is wanted and what is granted, for ``qslots explain``."""
    name = demand.queue.name
    return {
        "target_delay": demand.queue.target_delay,
        "waits": demand.waits,
        "away": demand.away,
        "haste": held.haste,
        "found": held.found,
        "p95": demand.p95,
        "slots": mine.slots if mine else 0,
        "shares": tuple(other for other in mine.queues if other != name) if mine else (),
        "need": held.need,
        "kept": held.own,
        "peak": held.level,
        "window": stabilization(demand),
        "dead_band": dead_band(demand.queue.priority),
    }


def _granted(demand: Demand, mine: Grant | None, held: Held, placed: Mapping[Names, int]) -> tuple[float, str]:
    """Slots, as a fair part of those shared, and what to add to the demand's reason. ``held``: before any shortage."""
    if mine is None or not mine.slots:
        return 0.0, "; no slot is left" if demand.served else ""
    there = placed[mine.queues]
    lacking = f"; {there} of {mine.slots} have a place" if there < mine.slots else ""
    if len(mine.queues) > 1:
        return mine.slots / len(mine.queues), ("; short of slots:" if held.need else ";") + _shares(mine) + lacking
    return float(mine.slots), _alone(demand, mine.slots, held) + lacking


def _shares(mine: Grant) -> str:
    slots, others = mine.slots, len(mine.queues) - 1
    return f" shares {'a slot' if slots == 1 else f'{slots} slots'} with {others} other{'s' if others > 1 else ''}"


def _alone(demand: Demand, slots: int, held: Held) -> str:
    """What to say of slots that a queue has for itself."""
    if slots < held.need:
        return f"; short of slots: {slots} of {held.need}"
    if not held.own:
        return "; one slot so that somebody listens"
    if slots > max(held.need, math.ceil(demand.wanted)):
        if held.haste and slots <= max(1, held.need) + demand.away:
            return f"; {slots} as long as {demand.away} of them still end tasks of others"
        return f"; {slots} kept from a recent peak"
    return f"; {slots} stay, the difference is small" if slots != math.ceil(demand.wanted) else ""
