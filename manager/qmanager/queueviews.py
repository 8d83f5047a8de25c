"""What the admin command shows of queues: the newest plan joined with what their queue servers count. Reads only.

The first queue server must answer. Of another one that does not a note tells, and what the others have is shown; a
count that nobody can give is null, never 0.
"""

import difflib
import typing
from collections.abc import Callable, Iterable, Mapping

from qslots.errors import Error, QueueServerError
from qslots.queueserver import QueueServer
from qslots.reports import QueuePlan, QueueStats, merged
from qslots.servers import QueueServers

from .readings import CUMULATIVE
from .views import Document, View, newest_plan

NO_PLAN = "not in the plan: no manager has looked at this queue yet"
PART = ("active", "inactive", "locked", "buried", "parked", "takeable", "paused", "expired")
_T = typing.TypeVar("_T")


def queues_view(servers: QueueServers) -> View:
    """[{name, priority, min, wanted, granted, max, load, active, inactive, locked, buried, oldest, rate, mean_time,
    reason, parked, takeable, paused, gates}], by name: the queues of the plan and those that ever had a task."""
    planned, plan_notes = _planned(servers)
    parts, silent = _counted(servers)
    document = [
        queue_document(name, planned.get(name), _sum(parts.get(name, {})), silent=_is_away(servers, name, silent))
        for name in sorted(planned.keys() | parts.keys())
    ]
    return View(document, (*plan_notes, *_notes(silent)))


def queue_view(servers: QueueServers, name: str) -> View:
    """All that is known of one queue: its row of ``queues_view``, and {arrivals, expired, counters, handlers, servers}.

    Error, with the nearest name, if no plan has it and it never had a task.
    """
    planned, plan_notes = _planned(servers)
    parts, silent = _counted(servers, _existing(servers, name, planned))
    plan, mine, away = planned.get(name), parts.get(name, {}), _is_away(servers, name, silent)
    stats = _sum(mine)
    handlers = {handler for server in mine for handler in servers[server].handlers(name)}
    document = queue_document(name, plan, stats, silent=away) | {
        "arrivals": plan.arrivals if plan else None,
        "expired": _value(stats, "expired", silent=away),
        "counters": {counter: _value(stats, counter, silent=away) for counter in CUMULATIVE},
        "handlers": sorted(handlers),
        "servers": [
            {"name": server, "answers": server not in silent}
            | {field: _value(mine.get(server), field, silent=server in silent) for field in PART}
            for server in servers.places(name)
        ],
    }
    return View(document, (*plan_notes, *_notes(silent)))


def existing(servers: QueueServers, name: str) -> str:
    """The name itself if a plan has it or it ever had a task; Error with the nearest one otherwise."""
    return _existing(servers, name, _planned(servers)[0])


def queue_names(servers: QueueServers) -> View:
    """The names of all queues that ever had a task, and who could not be asked."""
    names, silent = _asked(servers, lambda _, server: server.queue_names())
    return View(sorted({name for mine in names.values() for name in mine}), _notes(silent))


def queue_document(name: str, plan: QueuePlan | None, stats: QueueStats | None, *, silent: bool = False) -> Document:
    """One queue from what is known of it; ``silent``: a server that may have more of it did not answer. Pure."""

    def count(field: str) -> typing.Any:
        return _value(stats, field, silent=silent)

    return {
        "name": name,
        "priority": plan.priority if plan else None,
        "min": plan.min if plan else None,
        "wanted": plan.wanted if plan else None,
        "granted": plan.granted if plan else None,
        "max": plan.max if plan else None,
        "load": plan.load if plan else None,
        "active": count("active"),
        "inactive": count("inactive"),
        "locked": count("locked"),
        "buried": count("buried"),
        "oldest": count("oldest"),
        "rate": plan.rate if plan else None,
        "mean_time": plan.mean_time if plan else None,
        "reason": plan.reason if plan else NO_PLAN,
        "parked": count("parked"),
        "takeable": count("takeable"),
        "paused": count("paused"),
        "gates": [gate.rstrip(":") for gate in stats.gates] if stats else [],
    }


def unknown(name: str, names: Iterable[str]) -> str:
    """What to say of a queue that is not there. Pure."""
    near = difflib.get_close_matches(name, sorted(names), 1, 0.5)
    return f"there is no queue {name}: " + (f"did you mean {near[0]}?" if near else "`qslots queues` lists all")


def _value(stats: QueueStats | None, field: str, *, silent: bool) -> typing.Any:
    """A count; without statistics 0 if everybody has answered, else not known."""
    if stats is None:
        return None if silent else getattr(QueueStats("", 0.0), field)
    return getattr(stats, field)


def _planned(servers: QueueServers) -> tuple[dict[str, QueuePlan], tuple[str, ...]]:
    plan, notes = newest_plan(servers.control.redis)
    return ({queue.name: queue for queue in plan.queues} if plan else {}), notes


def _existing(servers: QueueServers, name: str, planned: Iterable[str]) -> str:
    names, silent = _asked(servers, lambda _, server: server.queue_names())
    found = {*planned, *(each for mine in names.values() for each in mine)}
    if name not in found and not _is_away(servers, name, silent):
        raise Error(unknown(name, found))
    return name


def _counted(
    servers: QueueServers, only: str | None = None
) -> tuple[dict[str, dict[str, QueueStats]], Mapping[str, str]]:
    """queue -> server -> counts, of all queues that ever had a task or of one; and the servers that did not answer."""

    def counts(name: str, server: QueueServer) -> list[QueueStats]:
        here = [queue for queue in server.queue_names() if name in servers.places(queue) and only in (None, queue)]
        return server.stats(here) if here else []

    answers, silent = _asked(servers, counts)
    parts: dict[str, dict[str, QueueStats]] = {}
    for server, found in answers.items():
        for stats in found:
            parts.setdefault(stats.name, {})[server] = stats
    return parts, silent


def _asked(
    servers: QueueServers, question: Callable[[str, QueueServer], _T]
) -> tuple[dict[str, _T], Mapping[str, str]]:  # fmt: skip
    """server -> answer, and server -> why there is none. QueueServerError if it is the first one."""
    answers, silent = {}, {}
    for name in servers.names:
        try:
            answers[name] = question(name, servers[name])
        except QueueServerError as error:
            if servers[name] is servers.control:
                raise
            silent[name] = str(error)
    return answers, silent


def _sum(parts: Mapping[str, QueueStats]) -> QueueStats | None:
    return merged(list(parts.values())) if parts else None


def _is_away(servers: QueueServers, queue: str, silent: Mapping[str, str]) -> bool:
    """Whether one of the servers that this queue lives on did not answer."""
    return any(server in silent for server in servers.places(queue))


def _notes(silent: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"what is on {server} is not shown: {why}" for server, why in silent.items())
