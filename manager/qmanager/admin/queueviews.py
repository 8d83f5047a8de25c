"""What the admin command shows of queues: the newest plan joined with what their queue servers count. Reads only.

The first queue server must answer. Of another one that does not a note tells, and what the others have is shown; a
count that nobody can give is null, never 0.
"""

import typing
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass

from qslots import given
from qslots.control import Control
from qslots.errors import Error, QueueServerError
from qslots.queueserver import QueueServer
from qslots.reports import Declared, QueuePlan, QueueStats, Report, merged
from qslots.servers import QueueServers

from ..counting import counts_of, insist_on_one
from ..planning.unserved import unserved
from ..presence import living
from ..published import clock, newest_plan
from ..readings import CUMULATIVE
from ..strays import Parts, parted
from .views import Document, View, silence

NO_PLAN = "not in the plan: no manager has looked at this queue yet"
NO_HANDLER = "no application that is loaded has a handler for it"
PART = ("active", "inactive", "locked", "buried", "parked", "takeable", "paused", "expired")
_T = typing.TypeVar("_T")


def queues_view(servers: QueueServers) -> View:
    """[{name, priority, min, wanted, granted, max, load, active, inactive, locked, buried, oldest, rate, mean_time,
    reason, parked, takeable, paused, gates, reasons, unserved, plan_age}], by name: those of the plan and those that
    ever had a task.
    """
    planned, why, age, plan_notes = _planned(servers)
    counts = _counted(servers)
    parts, strays = parted(counts.parts, servers)
    known = _known(servers)
    document = [
        queue_document(
            name, planned.get(name), _sum(parts.get(name, {})), known.get(name, ()),
            silent=counts.lacks(servers, name), unplanned=why, plan_age=age,
        )
        for name in sorted(planned.keys() | parts.keys() | counts.broken.keys())
    ]  # fmt: skip
    return View(document, (*plan_notes, *counts.notes(), *strays))


def queue_view(servers: QueueServers, name: str) -> View:
    """All that is known of one queue: its row of ``queues_view``, and {arrivals, expired, counters, handlers, servers}.

    Error, with the nearest name, if no plan has it and it never had a task.
    """
    planned, why, age, plan_notes = _planned(servers)
    counts = _counted(servers, _existing(servers, name, planned))
    parts, strays = parted(counts.parts, servers)
    plan, mine, away = planned.get(name), parts.get(name, {}), counts.lacks(servers, name)
    stats = _sum(mine)
    handlers = {handler for server in mine for handler in servers[server].handlers(name)}
    known = _known(servers).get(name, ())
    document = queue_document(name, plan, stats, known, silent=away, unplanned=why, plan_age=age) | {
        "arrivals": plan.arrivals if plan else None,
        "expired": _value(stats, "expired", silent=away),
        "counters": {counter: _value(stats, counter, silent=away) for counter in CUMULATIVE},
        "handlers": sorted(handlers),
        "servers": [
            {"name": server, "answers": server not in counts.silent}
            | {field: _value(mine.get(server), field, silent=counts.lack(server, name)) for field in PART}
            for server in servers.places(name)
        ],
    }
    return View(document, (*plan_notes, *counts.notes(), *strays))


def existing(servers: QueueServers, name: str) -> str:
    """The name itself if a plan has it or it ever had a task; Error with the nearest one otherwise."""
    return _existing(servers, name, _planned(servers)[0])


def queue_names(servers: QueueServers) -> View:
    """The names of all queues that ever had a task, and who could not be asked."""
    names, silent = asked(servers, lambda _, server: server.queue_names())
    return View(sorted({name for mine in names.values() for name in mine}), notes(silent))


def every_queue(servers: QueueServers) -> list[str]:
    """The names of all queues that ever had a task or are in the plan."""
    return sorted({*queue_names(servers).document, *_planned(servers)[0]})


def queue_counts(servers: QueueServers, name: str) -> View:
    """The counts of one queue on all its servers that answer, None if it never had a task; and who does not answer."""
    counts = _counted(servers, name)
    away = notes(_away(servers, name, counts.silent))
    return View(_sum(parted(counts.parts, servers)[0].get(name, {})), (*away, *counts.damage()))


def closed(servers: QueueServers, name: str, kind: str) -> list[str]:
    """The collections or handlers (``kind``) of a queue that are paused."""
    stats: QueueStats | None = queue_counts(servers, name).document
    parts = [gate.partition(":") for gate in stats.gates] if stats else []
    return [part for which, _, part in parts if which == kind]


def handlers_of(servers: QueueServers, name: str) -> View:
    """The handlers that a queue ever had a task of and those that living applications declare; who does not answer."""
    found, silent = asked(
        servers, lambda server, client: client.handlers(name) if server in servers.places(name) else []
    )
    known = _known(servers).get(name, set())
    return View(sorted(known.union(*found.values())), notes(_away(servers, name, silent)))


def fleet(servers: QueueServers) -> tuple[dict[str, Report], dict[str, Declared]]:
    """What the servers that are there report, and by digest what their applications declare."""
    control = Control(servers.control)
    reports = living(control.heard(), servers.lost_after)
    return reports, control.declared({report.declared for report in reports.values()})


def _known(servers: QueueServers) -> dict[str, set[str]]:
    """Per queue the handlers that the applications of the servers that are there declare."""
    found: dict[str, set[str]] = {}
    for queue in (queue for each in fleet(servers)[1].values() for queue in each.queues):
        found.setdefault(queue.name, set()).update(handler.name for handler in queue.handlers)
    return found


def queue_document(
    name: str, plan: QueuePlan | None, stats: QueueStats | None, known: Container[str] = (), *, silent: bool = False,
    unplanned: str = NO_PLAN, plan_age: float | None = None,
) -> Document:  # fmt: skip
    """One queue from what is known of it. Pure.

    known      the handlers of it that some server knows
    silent     a server that may have more of it did not answer
    unplanned  why there is no plan for it, if there is none
    plan_age   seconds since a manager has published
    """

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
        "reason": plan.reason if plan else unplanned,
        "parked": count("parked"),
        "takeable": count("takeable"),
        "paused": count("paused"),
        "gates": [gate.rstrip(":") for gate in stats.gates] if stats else [],
        "reasons": dict(stats.reasons) if stats else {},
        "unserved": unserved(stats, known) if stats else {},
        "plan_age": plan_age,
    }


def unknown(name: str, names: Iterable[str]) -> str:
    """What to say of a queue that is not there. Pure."""
    return f"there is no queue {name}: " + given.meant(name, sorted(names), far="`qslots queues` lists all")


def _value(stats: QueueStats | None, field: str, *, silent: bool) -> typing.Any:
    """A count; without statistics 0 if everybody has answered, else not known."""
    if stats is None:
        return None if silent else getattr(QueueStats("", 0.0), field)
    return getattr(stats, field)


def _planned(servers: QueueServers) -> tuple[dict[str, QueuePlan], str, float | None, tuple[str, ...]]:
    """The queues of the newest plan, why another one is not among them, how old it is, and notes."""
    plan, notes = newest_plan(servers.control.redis)
    if plan is None:
        return {}, NO_PLAN, None, notes
    age = max(0.0, clock(servers.control) - plan.published)
    return {queue.name: queue for queue in plan.queues}, NO_HANDLER, age, (*notes, *silence("the plan", age))


def _existing(servers: QueueServers, name: str, planned: Iterable[str]) -> str:
    names, silent = asked(servers, lambda _, server: server.queue_names())
    found = {*planned, *(each for mine in names.values() for each in mine)}
    if name not in found and not _away(servers, name, silent):
        raise Error(unknown(name, found))
    return name


@dataclass(frozen=True, slots=True)
class _Counts:
    """What could be counted, and what could not."""

    parts: Parts
    silent: Mapping[str, str]  # servers that did not answer, and why
    broken: dict[str, dict[str, Exception]]  # queue -> server on which it cannot be counted, and why

    def lack(self, server: str, queue: str) -> bool:
        """Whether there may be more of a queue on a server than was counted."""
        return server in self.silent or server in self.broken.get(queue, ())

    def lacks(self, servers: QueueServers, queue: str) -> bool:
        """Whether there may be more of it anywhere it lives."""
        return any(self.lack(server, queue) for server in servers.places(queue))

    def damage(self) -> tuple[str, ...]:
        """A note about each queue that cannot be counted somewhere."""
        return tuple(
            f"queue {queue} cannot be counted on {server}: {why}"
            for queue, places in sorted(self.broken.items())
            for server, why in places.items()
        )

    def notes(self) -> tuple[str, ...]:
        """All that people should be told of."""
        return (*notes(self.silent), *self.damage())


def _counted(servers: QueueServers, only: str | None = None) -> _Counts:
    """Of all queues that ever had a task, or of one; also where they do not live by the settings."""
    parts: Parts = {}
    broken: dict[str, dict[str, Exception]] = {}

    def counted(name: str, server: QueueServer) -> tuple[list[QueueStats], dict[str, Exception]]:
        queues = [queue for queue in server.queue_names() if only in (None, queue)]
        found, damaged = counts_of(server, queues)
        insist_on_one(name, queues, damaged)
        return found, damaged

    answers, silent = asked(servers, counted)
    for server, (found, damaged) in answers.items():
        for stats in found:
            parts.setdefault(stats.name, {})[server] = stats
        for queue, why in damaged.items():
            broken.setdefault(queue, {})[server] = why
    return _Counts(parts, silent, broken)


def asked(
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


def _away(servers: QueueServers, queue: str, silent: Mapping[str, str]) -> Mapping[str, str]:
    """Those of the servers that this queue lives on that did not answer, and why."""
    return {server: silent[server] for server in servers.places(queue) if server in silent}


def notes(silent: Mapping[str, str]) -> tuple[str, ...]:
    """A note about each server that did not answer."""
    return tuple(f"what is on {server} is not shown: {why}" for server, why in silent.items())
