"""Whoever is left without a slot (bytes or knowledge allowed none of its grants) gets a place of any kind. Pure.

These are makeshifts: a slot that others have already, or others thrown together. Made anew each cycle from the last
ones they would never rest, so a server that hears a queue keeps its row rather than lose it.
"""

from collections.abc import Iterable, Mapping, Sequence

from .board import Board
from .grant import Names

Before = dict[int, tuple[Names, ...]]  # server -> its row before this cycle's claims


def hear(board: Board, names: Sequence[str], before: Before, most: Mapping[str, int | None]) -> None:
    """A slot for each of ``names`` that has none, if any server can carry it; nobody gets more than its ``most``."""
    while unheard := [name for name in names if not board.listening[name]]:
        homes = _homes(frozenset(unheard), before)
        name = next(filter(homes.__contains__, unheard), None)
        if name is None:
            break
        home = homes[name]
        _restore(board, home, before[home], name, most)
        # Others may have lost theirs by it: once more, without this server.
        before = {i: row for i, row in before.items() if i != home}
    for name in unheard:
        able = board.able((name,)).servers
        _alone(board, name, able) or _beside(board, name, able) or _together(board, name, able)


def _homes(names: frozenset[str], before: Before) -> dict[str, int]:
    """Where each of them had a slot, if anywhere: the first such server."""
    homes: dict[str, int] = {}
    for i, row in before.items():
        for queues in set(row):
            for name in names.intersection(queues):
                homes.setdefault(name, i)
    return homes


def _restore(board: Board, i: int, row: Sequence[Names], name: str, most: Mapping[str, int | None]) -> None:
    changed = [index for index, now in enumerate(board.rows[i]) if now != (row[index] if index < len(row) else ())]
    reason = f"so that somebody listens to {name}"
    for index in changed:
        board.put((i, index), (), reason)
    for index in (index for index in changed if index < len(row)):
        limits = ((each, most.get(each)) for each in row[index])
        within = tuple(each for each, limit in limits if limit is None or board.listening[each] < limit)
        board.put((i, index), within, reason)


def _alone(board: Board, name: str, able: Iterable[int]) -> bool:
    return any(board.add(i, (name,), f"so that somebody listens to {name}") for i in able)


def _beside(board: Board, name: str, able: Iterable[int]) -> bool:
    """It joins a slot that others share already, else one that is missed least."""
    slots = (slot for i in able for slot in board.filled(i))
    joined = ((slot, tuple(sorted((*board.at(slot), name)))) for slot in slots)
    fitting = [slot for slot, queues in joined if board.fits(slot[0], queues, board.at(slot))]
    if not fitting:
        return False
    slot = min(fitting, key=lambda each: (len(board.at(each)) == 1, board.rank(each)))
    board.put(slot, tuple(sorted((*board.at(slot), name))), f"so that somebody listens to {name}")
    return True


def _together(board: Board, name: str, able: Iterable[int]) -> bool:
    """Its slot is so large that others must make room: they share it."""
    for i in able:
        if board.servers[i].size((name,)) > board.servers[i].budget:
            continue
        joined = {name}
        for slot in sorted(board.filled(i), key=board.rank):
            joined.update(board.at(slot))
            board.put(slot, (), f"{name} needs its memory")
            queues = tuple(sorted(joined))
            if board.fits(i, queues):
                board.put(slot, queues, f"so that somebody listens to {name}")
                return True
    return False
