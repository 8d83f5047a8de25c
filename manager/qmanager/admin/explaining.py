"""``qslots explain``: every number behind the slots that a queue wants and is granted. Reads only.

What is counted and who is there is read now; what is planned is that of the newest plan, with its age.
"""

from collections.abc import Mapping

import msgspec
from rich.console import RenderableType

from qslots.control import Control
from qslots.reports import Declared, Plan, Report
from qslots.servers import QueueServers
from qslots.units import counted

from ..figures import NOTHING, number, seconds
from ..planning.demand import staffed, utilised
from ..planning.grant import care
from ..published import clock, newest_plan, origin
from . import queueviews
from .tables import facts, slots
from .views import Document, View

BEHIND = (
    "target_delay", "p95", "slots", "shares", "need", "kept", "peak", "window", "dead_band", "waits", "away", "haste",
)  # fmt: skip


def explain_view(servers: QueueServers, name: str) -> View:
    """One queue as in ``queue_view``, and {target_delay, p95, slots, shares, need, kept, peak, window, dead_band,
    waits, away, haste, pinned, placed, fleet, plan}. Error, with the nearest name, if it is not known.
    """
    seen = queueviews.queue_view(servers, name)
    control = Control(servers.control)
    plan, _ = newest_plan(servers.control.redis)
    reports, _ = queueviews.fleet(servers)
    rows = {name: row.slots for name, row in control.rows().items()}
    document = seen.document | behind(name, plan, rows, reports)
    document["pinned"] = control.pins().get(name)
    document["plan"] = origin(plan, clock(servers.control))
    return View(document, seen.notes)


def behind(
    name: str, plan: Plan | None, rows: Mapping[str, tuple[tuple[str, ...], ...]], reports: Mapping[str, Report]
) -> Document:
    """The numbers between demand and map. Pure."""
    mine = next((each for each in plan.queues if each.name == name), None) if plan else None
    values = msgspec.structs.asdict(mine) if mine else {}
    placed = {server: sum(name in queues for queues in row) for server, row in sorted(rows.items())}
    # Without a declaration: it is there, but its capacity is not believed.
    working = [each for each in reports.values() if each.declared and not each.draining]
    return {field: values.get(field) for field in BEHIND} | {
        "placed": {server: count for server, count in placed.items() if count},
        "fleet": {
            "servers": len(working),
            "max_slots": sum(each.max_slots for each in working),
            "used": sum(bool(queues) for row in rows.values() for queues in row),
        },
    }


def explain_table(queue: Document) -> RenderableType:
    """The same for people, from what comes in to where it is served."""
    return facts(_rows(queue))


def _rows(queue: Document) -> list[tuple[str, str]]:
    priority, least, most = (number(queue[field]) for field in ("priority", "min", "max"))
    takeable, due, locked = (number(queue[field]) for field in ("takeable", "active", "locked"))
    oldest, fleet = seconds(queue["oldest"]), queue["fleet"]
    carried = f"{counted(fleet['servers'], 'server')}, at most {counted(fleet['max_slots'], 'slot')}"
    return [
        ("queue", queue["name"] + " (paused)" * bool(queue["paused"])),
        ("asked for", f"priority {priority}, min {least}, max {most}, target delay {seconds(queue['target_delay'])}"),
        ("pinned", NOTHING if queue["pinned"] is None else f"to {counted(queue['pinned'], 'slot')}"),
        ("arrivals", _arrivals(queue)),
        ("run time", _run_time(queue)),
        ("backlog", f"{takeable} takeable of {due} due, the oldest has waited {oldest}; {locked} in work"),
        ("load", NOTHING if queue["load"] is None else f"{queue['load']:.0%} of its slots' time, backlog included"),
        ("wanted", f"{slots(queue['wanted'])}: {queue['reason']}"),
        ("kept", _kept(queue)),
        ("granted", _granted(queue)),
        ("placed", ", ".join(f"{server}: {count}" for server, count in queue["placed"].items()) or NOTHING),
        ("fleet", f"{carried}, {number(fleet['used'])} in use"),
        ("plan", _plan(queue["plan"])),
    ]


def _arrivals(queue: Document) -> str:
    arrivals, mean, rate = queue["arrivals"], queue["mean_time"], queue["rate"]
    if arrivals is None:
        return NOTHING
    if not arrivals or mean is None:
        return f"{number(arrivals)}/s; {number(rate)}/s done"
    busy, priority = arrivals * mean, queue["priority"]
    worth = f"{slots(staffed(busy, priority))} slots at {utilised(busy, priority):.0%} busy"
    return f"{number(arrivals)}/s of {seconds(mean)} = {worth}; {number(rate)}/s done"


def _run_time(queue: Document) -> str:
    if queue["mean_time"] is None:
        return NOTHING
    most = "" if queue["p95"] is None else f", {seconds(queue['p95'])} or less a pack in 19 of 20 times"
    return f"{seconds(queue['mean_time'])} a task{most}"


def _kept(queue: Document) -> str:
    if queue["need"] is None:
        return NOTHING
    stays = care(queue["priority"])
    lately = f" or was within {seconds(stays)}" if stays else ""
    return (
        f"{counted(queue['need'], 'slot')} by what is wanted now{lately}, {number(queue['kept'])} by the peak of "
        f"{slots(queue['peak'])} within {seconds(queue['window'])}; changes below {queue['dead_band']:.0%} are let be"
    )


def _granted(queue: Document) -> str:
    if not queue["slots"]:
        return slots(queue["granted"])
    if not queue["shares"]:
        return f"{counted(queue['slots'], 'slot')} of its own"
    return f"{counted(queue['slots'], 'slot')} shared with {', '.join(queue['shares'])}"


def _plan(plan: Document | None) -> str:
    if plan is None:
        return queueviews.NO_PLAN
    return f"{plan['epoch']}.{plan['seq']} by {plan['manager']}, {seconds(plan['age'])} ago"


def ceiling(name: str, reports: Mapping[str, Report], declared: Mapping[str, Declared]) -> int:
    """How many slots of this queue the servers that know it can carry, if they carry nothing else. Pure."""
    knowing = {digest for digest, each in declared.items() if any(queue.name == name for queue in each.queues)}
    able = (each for each in reports.values() if each.declared in knowing and not each.draining)
    return sum(min(each.max_slots, each.budget // each.slot_sizes.get(name, each.slot_size)) for each in able)
