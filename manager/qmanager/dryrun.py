"""What the next plans would be, worked out beside a running manager. Pure: nothing of it is published.

A dry run has no history of its own. It goes on from the published plan: the demand of each queue is what that says, and
so is what it keeps of a recent peak. So where nothing has changed nothing changes here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from qslots.reports import Declared, Plan, QueueDeclared, QueuePlan, Report
from qslots.units import counted

from .changes import listed, spans
from .figures import is_short, number, seconds
from .planning.demand import Demand
from .planning.grant import Held, Holding, Names, care
from .planning.placement import Change, Rows
from .planning.planner import Memory, plan
from .published import origin

MOST_CYCLES = 60  # that are worked out: a part of the slots moves in each
MOST_LINES = 100  # about servers


@dataclass(frozen=True, slots=True)
class Given:
    """What a dry run begins with."""

    plan: Plan | None  # the published one
    rows: Rows  # the map in force, and what slots serve where that has no row
    reports: Sequence[Report]  # of the servers that shall count
    declared: Mapping[str, Declared]  # by digest; settings and pins applied
    queues: Mapping[str, QueueDeclared]
    places: Mapping[str, Names]
    now: float
    interval: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where it comes to rest."""

    rows: Rows
    queues: tuple[QueuePlan, ...]
    changes: tuple[Change, ...]  # from the map in force, with the reason of the last one of each slot
    cycles: int  # until nothing changes


def continued(given: Given) -> Memory:
    """The memory of a manager that has published this plan and this map."""
    counts = Counter(names for row in given.rows.values() for names in row if names)
    planned = given.plan.queues if given.plan else ()
    demands = {each.name: _demand(given.queues[each.name], each) for each in planned if each.name in given.queues}
    own = {each.name: _held(each, given.now) for each in planned if each.name in demands}
    groups = {names: Held(own=count, need=count, since=given.now) for names, count in counts.items() if len(names) > 1}
    return Memory(demands=demands, holding=Holding(own, groups) if planned else None)


def _demand(queue: QueueDeclared, planned: QueuePlan) -> Demand:
    return Demand(
        queue, planned.wanted, "", arrivals=planned.arrivals, rate=planned.rate, mean_time=planned.mean_time,
        load=planned.load, p95=planned.p95, waits=planned.waits,
    )  # fmt: skip


def _held(planned: QueuePlan, now: float) -> Held:
    """Its recent peak as old as a need that stays for a while may be: when it was, the plan does not say."""
    then = now - care(planned.priority)
    peaks = ((then, max(planned.peak, planned.wanted)), (now, float(planned.need)))
    return Held(
        peaks[: 1 + (planned.need > planned.wanted)], own=planned.kept, need=planned.need, haste=planned.haste,
        hasty=now, found=planned.found, since=now,
    )  # fmt: skip


def outcome(given: Given) -> Outcome:
    """Plan after plan, each as if the one before were carried out, until nothing changes."""
    rows, memory, cycles = dict(given.rows), continued(given), 0
    reasons: dict[tuple[str, int], str] = {}
    while True:
        result = plan(
            declared=given.declared, stats={}, reports=given.reports, current=rows,
            now=given.now + cycles * given.interval, memory=memory, interval=given.interval, places=given.places,
        )  # fmt: skip
        reasons |= {(change.server, change.index): change.reason for change in result.changes}
        if not result.changes or cycles == MOST_CYCLES:
            return Outcome(
                result.rows,
                _with_unheard(given.plan, result.queues),
                _between(given.rows, result.rows, reasons),
                cycles,
            )
        rows, memory, cycles = result.rows, result.memory, cycles + 1


def _with_unheard(before: Plan | None, queues: tuple[QueuePlan, ...]) -> tuple[QueuePlan, ...]:
    """Also the queues that no server knows which is left."""
    known = {each.name for each in queues}
    lost = [each for each in (before.queues if before else ()) if each.name not in known]
    unheard = [
        msgspec.structs.replace(each, granted=0.0, slots=0, reason="no server that is left knows it") for each in lost
    ]
    return tuple(sorted((*queues, *unheard), key=lambda each: each.name))


def _between(before: Rows, after: Rows, reasons: Mapping[tuple[str, int], str]) -> tuple[Change, ...]:
    found = []
    for server in sorted(before.keys() | after.keys()):
        old, new = before.get(server, ()), after.get(server, ())
        for index in range(max(len(old), len(new))):
            was, becomes = (row[index] if index < len(row) else () for row in (old, new))
            if was != becomes:
                reason = reasons.get((server, index), "") if server in after else "the server is not there"
                found.append(Change(server, index, was, becomes, reason))
    return tuple(found)


def document(given: Given, found: Outcome, *, without: Sequence[str] = ()) -> dict[str, Any]:
    """Before and after, for ``--json``."""
    before = {each.name: each for each in given.plan.queues} if given.plan else {}
    old, new = _serving(given.rows), _serving(found.rows)
    slots = Counter(chain.from_iterable(found.rows.values()))
    changed = Counter(change.server for change in found.changes)
    return {
        "rests_on": origin(given.plan, given.now),
        "without": list(without),
        "cycles": found.cycles,
        "servers": [
            {"name": name, "before": _filled(given.rows, name), "after": _filled(found.rows, name),
             "there": name in found.rows, "changed": changed[name]}
            for name in sorted(given.rows.keys() | found.rows.keys())
        ],
        "queues": [
            _queue(each, before.get(each.name), old[each.name], new[each.name], _placed(each, slots))
            for each in found.queues
        ],
        "changes": [
            {"server": each.server, "index": each.index, "before": list(each.before), "after": list(each.after),
             "reason": each.reason}
            for each in found.changes
        ],
    }  # fmt: skip


def _placed(now: QueuePlan, slots: Mapping[Names, int]) -> float:
    """Of what is granted that which has a place; ``slots``: in the map, by the queues that they serve."""
    names = tuple(sorted((now.name, *now.shares)))
    return now.granted * min(1.0, slots[names] / now.slots) if now.slots else now.granted


def _queue(now: QueuePlan, before: QueuePlan | None, old: int, new: int, placed: float) -> dict[str, Any]:
    return {
        "name": now.name,
        "priority": now.priority,
        "before": old,
        "after": new,
        "wanted": now.wanted,
        "granted": now.granted,
        "short": now.wanted - placed if is_short(now.wanted, placed) else 0.0,
        "short_before": max(0.0, before.wanted - before.granted) if before else None,
        "reason": now.reason.removeprefix("; "),
    }


def _serving(rows: Rows) -> Counter[str]:
    """queue -> slots that serve it."""
    return Counter(name for row in rows.values() for names in row for name in names)


def _filled(rows: Rows, server: str) -> int:
    return sum(bool(names) for names in rows.get(server, ()))


def lines(document: Mapping[str, Any]) -> list[str]:
    """The same for people: what it comes to, queues that change or fall short, servers, and what it rests on."""
    changes, queues = document["changes"], document["queues"]
    short = [each for each in queues if each["short"]]
    changed = [each for each in queues if each["before"] != each["after"] or each["short"]]
    told = [_summary(document, changes, short)]
    for each in sorted(changed, key=lambda each: (-each["short"], -each["priority"], each["name"])):
        less = f", {number(each['short'])} short of {number(each['wanted'])}" if each["short"] else ""
        why = f" ({each['reason']})" if each["reason"] else ""
        told.append(f"queue {each['name']}: {each['before']} -> {counted(each['after'], 'slot')}{less}{why}")
    by_server: dict[str, list[Any]] = {}
    for change in changes:
        by_server.setdefault(change["server"], []).append(change)
    servers = (server for server in document["servers"] if server["name"] in by_server)
    about = [line for server in servers for line in _of_server(server, by_server[server["name"]])]
    more = [f"and {counted(len(about) - MOST_LINES, 'more line')}: --json has all"] if len(about) > MOST_LINES else []
    return [*told, *about[:MOST_LINES], *more, _rests_on(document["rests_on"])]


def _summary(document: Mapping[str, Any], changes: Sequence[Any], short: Sequence[Any]) -> str:
    given = f"without {listed(document['without'])}: " if document["without"] else ""
    if not changes:
        what = "nothing changes"
    else:
        servers = len({change["server"] for change in changes})
        when = f" within {counted(document['cycles'], 'cycle')}" if document["cycles"] else ""
        what = f"{counted(len(changes), 'slot')} of {counted(servers, 'server')} change{when}"
    left = [each for each in document["queues"] if each["before"] and not each["after"]]
    kinds = (("short", short), ("left without a slot", [each for each in left if not each["short"]]))
    lacking = [
        f"{counted(len(some), 'queue')} {of}: {listed([each['name'] for each in some])}" for of, some in kinds if some
    ]
    return "; ".join([f"{given}{what}", *(lacking or ["every queue has what it wants"])])


def _of_server(server: Mapping[str, Any], changes: Sequence[Any]) -> list[str]:
    mine: dict[tuple[Names, Names, str], list[int]] = {}
    for change in changes:
        key = tuple(change["before"]), tuple(change["after"]), change["reason"]
        mine.setdefault(key, []).append(change["index"])
    head = f"server {server['name']}: {server['before']} -> {counted(server['after'], 'slot')}"
    if not server["there"]:
        return [head]
    return [head] + [
        f"  {'slot' if len(indexes) == 1 else 'slots'} {spans(indexes)}: {','.join(before) or 'none'} -> "
        f"{','.join(after) or 'none'} ({reason})"
        for (before, after, reason), indexes in mine.items()
    ]


def _rests_on(origin: Mapping[str, Any] | None) -> str:
    if origin is None:
        return "no manager has published yet: nothing is known of any demand, only minima and places to listen count"
    plan = f"{origin['epoch']}.{origin['seq']} of {origin['manager']}, {seconds(origin['age'])} old"
    return f"worked out from plan {plan} (its demands are taken as they stand), and what servers report now"
