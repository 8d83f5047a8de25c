"""What the admin command shows of periodic handlers: what is declared, joined with what queue servers remember.

Reads only. Of a queue server that does not answer a note tells; what it alone may know is null.
"""

from collections.abc import Iterable, Mapping

from qslots import ticks
from qslots.inspector import Inspector
from qslots.periodic import Place, Ticks, following, tick_id, words
from qslots.reports import Periodic
from qslots.servers import QueueServers
from qslots.whereabouts import Whereabouts

from ..published import clock, newest_plan
from ..schedules import aged, newest
from . import queueviews
from .views import Document, View

OVER = "done"  # or deleted: a tick that is in the queue no more


def periodic_view(servers: QueueServers, queue: str | None = None) -> View:
    """[{handler, queue, schedule, catch_up, overlap, last, next, state, missed, dropped}], of all queues or of one."""
    declared = {place: each for place, each in _declared(servers).items() if queue in (None, place[0])}
    now = clock(servers.control)
    remembered, silent = queueviews.asked(servers, lambda name, _: _remembered(servers, name, declared))
    rows = []
    for place in sorted(declared):
        known = {name: found[place] for name, found in remembered.items() if place in found}
        away = any(name in silent for name in servers.places(place[0]))
        rows.append(_row(servers, place, declared[place], known, now=now, away=away))
    return View(rows, queueviews.notes(silent))


def queue_view(servers: QueueServers, name: str) -> View:
    """``queueviews.queue_view``, and {periodic}: what ``periodic_view`` says of the queue."""
    seen = queueviews.queue_view(servers, name)
    return View(seen.document | {"periodic": periodic_view(servers, name).document}, seen.notes)


def _declared(servers: QueueServers) -> dict[Place, Periodic]:
    """The periodic handlers of living applications, as the manager sees them."""
    plan, _ = newest_plan(servers.control.redis)
    _, declared = queueviews.fleet(servers)
    return newest(aged(declared, plan.declared if plan else ()).values())


def _remembered(servers: QueueServers, server: str, declared: Iterable[Place]) -> dict[Place, Ticks]:
    """What one server remembers of the handlers whose queue lives there."""
    here = [place for place in declared if server in servers.places(place[0])]
    _, seen = ticks.read(servers[server], here)
    return {place: each.ticks for place, each in zip(here, seen, strict=True) if each.ticks is not None}


def _row(
    servers: QueueServers, place: Place, periodic: Periodic, known: Mapping[str, Ticks], *, now: float, away: bool
) -> Document:  # fmt: skip
    queue, handler = place
    last, server = max(((each.newest(now), name) for name, each in known.items()), default=(0, ""))
    try:
        coming = following(periodic, int(now))
    except (LookupError, ValueError, OSError):  # its time zone is not known on this machine
        coming = None
    return {
        "handler": handler,
        "queue": queue,
        "schedule": words(periodic),
        "catch_up": periodic.catch_up,
        "overlap": periodic.overlap,
        "last": last or None,
        "next": coming,
        "state": _state(servers, server, queue, tick_id(handler, last)) if last else None,
        "missed": None if away else sum(each.missed for each in known.values()),
        "dropped": None if away else sum(each.dropped for each in known.values()),
    }


def _state(servers: QueueServers, server: str, queue: str, task: str) -> str:
    now, [found] = Inspector(servers[server], queue).get([task])
    if found is None:
        return OVER
    return Whereabouts(servers, server, queue).described(now, [found])[0].state.value
