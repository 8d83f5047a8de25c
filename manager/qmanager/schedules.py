"""Which ticks of periodic handlers are to be stored next. Pure; times are those of the queue server, in seconds.

Ticks are stored up to a minute ahead, so that a change of managers is not felt. What was missed nevertheless, because
no manager reached the queue server, is made up for as the handler says: nothing, the newest or all, never more than
1,000 at once.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from qslots.periodic import Place, Step, Ticks, first, latest, words
from qslots.reports import Declared, Periodic

AHEAD = 60  # s that a tick is stored before its time
PUNCTUAL = 5  # s that a tick may be late without counting as missed
MOST = 1000  # ticks of a handler that are stored, or counted as missed, at once
GONE_BACK = 3600  # s; a queue server whose clock has gone back further begins anew


def newest(declared: Iterable[Declared]) -> dict[Place, Periodic]:
    """The periodic handlers of all generations, the newest given last: it counts where several know a handler."""
    found = {
        (queue.name, handler.name): handler.periodic
        for each in declared
        for queue in each.queues
        for handler in queue.handlers
    }
    return {place: periodic for place, periodic in found.items() if periodic is not None}


def aged(declared: Mapping[str, Declared], order: Sequence[str]) -> dict[str, Declared]:
    """Declarations by their digests in this order, those that it does not have last."""
    ranks = {digest: rank for rank, digest in enumerate(order)}
    return dict(sorted(declared.items(), key=lambda each: ranks.get(each[0], len(order))))


def step(
    periodic: Periodic, ticks: Ticks | None, now: float, *, others: Iterable[int] = (),
    here: Callable[[int], bool] = lambda _: True,
) -> Step | None:  # fmt: skip
    """What is to be done on one queue server; None if nothing.

    ticks   what it remembers; None at first sight, which is no reason to make up for anything
    others  up to which instants all has been said on the other servers of the queue
    here    whether the tick of an instant belongs to this server
    """
    second = math.floor(now)
    anew = ticks is None or ticks.schedule != words(periodic) or ticks.cursor > second + AHEAD + GONE_BACK
    begin = max([second, *others]) if ticks is None else second if anew else ticks.cursor
    due = first(periodic, begin, second, MOST)
    kept, passed = _made_up(periodic, due, second)
    upto = max([begin, *due[-1:], *kept])
    if len(due) < MOST or periodic.catch_up != "all":
        ahead = first(periodic, max(upto, second), second + AHEAD, MOST if periodic.overlap else 1)
        kept, upto = kept + ahead, max([upto, *ahead])
    if ticks is not None and not anew and upto == begin and not _is_crowded(periodic, ticks, second):
        return None
    mine = tuple(instant for instant in kept if here(instant))
    return Step(begin, upto, mine, sum(map(here, passed)), withdraw=ticks is not None and anew)


def _made_up(periodic: Periodic, due: list[int], second: int) -> tuple[list[int], list[int]]:
    """Of the first instants whose time has come, and those behind them: which run yet, and which are missed."""
    if periodic.catch_up == "all" or not due:
        return due, []
    final = (latest(periodic, due[-1], second) if len(due) == MOST else None) or due[-1]
    if periodic.catch_up == "once" or final >= second - PUNCTUAL:
        return [final], due[:-1] if final == due[-1] else due
    return [], due


def _is_crowded(periodic: Periodic, ticks: Ticks, second: int) -> bool:
    """Whether several ticks wait though one is enough."""
    return periodic.catch_up != "all" and len(ticks.due(second)) > 1


def withdrawal(ticks: Ticks | None, now: float) -> Step | None:
    """What is to be done for a handler that is periodic no more: whatever waits for its time goes.

    It may come back, as after an outage: then it is made up for what came since.
    """
    if ticks is None or not ticks.waiting:
        return None
    until = min(ticks.cursor, math.floor(now))
    return Step(until, until, withdraw=True)
