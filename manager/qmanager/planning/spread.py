"""Evens out what lies unevenly: a queue's slots on servers of equal power with room differ by one at most. Pure.

A slot moves only where the server that gives it keeps at least as many for its power as the other then has: so nothing
ever moves back, and the small differences of power that memory makes move nothing. Where there is no room a spare slot
gives way, or one of a less important queue changes places: else what is important could lie on a few servers of a full
cluster for ever. At most a hundredth of all slots a cycle, important queues first. What is surplus stays where it is.
"""

import heapq
from collections.abc import Iterable, Sequence

from .board import Board, Place
from .grant import Grant, Names

LOOKS = 2000  # servers a queue on which a slot may give way


def spread(board: Board, wants: Iterable[Grant]) -> None:
    """Moves slots of ``wants``, in their order."""
    moves = min(board.moves, max(1, sum(board.slots) // 100))
    others = sorted(board.count, key=lambda each: (board.surplus(each) <= 0, board.priority.get(each, 0), each))
    for want in wants:
        if moves <= 0:
            return
        if want.slots > 1 and board.surplus(want.queues) <= 0 and board.crowded(want.queues):
            moves -= _evened(board, want.queues, moves) if board.open else 0
            moves -= _exchanged(board, want.queues, others, moves)


def _evened(board: Board, queues: Names, most: int) -> int:
    """How many slots have moved."""
    here, power, able = board.here(queues), board.power, board.able(queues).among
    givers = [((1 - n) / power[i], i) for i, n in here.items() if n > 1 and i in able]
    takers = [((here.get(i, 0) + 1) / power[i], i) for _, i in board.open if i in able]
    if not givers or not takers or -min(givers)[0] < min(takers)[0]:
        return 0
    heap = [(level, board.fullness(i), i) for level, i in takers]
    heapq.heapify(givers)
    heapq.heapify(heap)
    moved = 0
    while moved < most and givers and heap and -givers[0][0] >= heap[0][0]:
        giver, taker = givers[0][1], heap[0][2]
        if not board.room(taker, queues):
            heapq.heappop(heap)
            continue
        _move(board, queues, giver, taker)
        heapq.heapreplace(givers, ((1 - here[giver]) / power[giver], giver))
        heapq.heapreplace(heap, ((here[taker] + 1) / power[taker], board.fullness(taker), taker))
        moved += 1
    return moved


def _move(board: Board, queues: Names, giver: int, taker: int) -> None:
    here = board.here(queues)
    figures = f"{here[giver]} there, {here.get(taker, 0)} here"
    mine = _least_missed(board, queues, giver)
    board.put(mine, (), f"spread to {board.servers[taker].name}: {figures}")
    board.add(taker, queues, f"spread from {board.servers[giver].name}: {figures}")


def _exchanged(board: Board, queues: Names, others: Sequence[Names], most: int) -> int:
    """How many slots have changed hands, where there is no room."""
    here, power, able = board.here(queues), board.power, board.able(queues)
    givers = [((1 - n) / power[i], i) for i, n in here.items() if n > 1 and i in able.among]
    if not givers:
        return 0
    fewest = min((here.get(i, 0) + 1) / power[i] for i in able.servers) if len(here) >= len(able.servers) else 0.0
    if -min(givers)[0] < fewest:
        return 0
    heapq.heapify(givers)
    changed, looks = 0, LOOKS
    for old in (each for each in others if each != queues and _gives_way(board, each, queues)):
        for taker in [i for i, n in board.here(old).items() if n]:
            if changed >= most or not looks:
                return changed
            looks -= 1
            top, giver = givers[0]
            if (here.get(taker, 0) + 1) / power[taker] <= -top and taker in able.among:
                changed += _exchange(board, queues, old, giver, taker)
                heapq.heapreplace(givers, ((1 - here[giver]) / power[giver], giver))
    return changed


def _gives_way(board: Board, old: Names, queues: Names) -> bool:
    """Whether a slot can be had for ``queues``: it is spare, or it is less important and may have another place."""
    if board.surplus(old) > 0:
        return all(board.listening[name] > 1 for name in old)  # else it is there so that somebody listens
    return old in board.wants and board.priority[old] < board.priority[queues]


def _exchange(board: Board, queues: Names, old: Names, giver: int, taker: int) -> int:
    """How many slots change for it; 0 if budgets do not allow it."""
    if not _gives_way(board, old, queues) or not board.fits(taker, queues, old):
        return 0
    spare = board.surplus(old) > 0
    if not spare and (giver not in board.able(old).among or not board.fits(giver, old, queues)):
        return 0
    here = board.here(queues)
    figures = f"{here[giver]} there, {here.get(taker, 0)} here"
    theirs = _least_missed(board, old, taker)
    board.put(
        _least_missed(board, queues, giver), () if spare else old, f"spread to {board.servers[taker].name}: {figures}"
    )
    board.put(theirs, queues, f"spread from {board.servers[giver].name}: {figures}")
    return 1 if spare else 2


def _least_missed(board: Board, queues: Names, i: int) -> Place:
    """Of the slots of a queue on a server that has some the one to take."""
    return min((each for each in board.filled(i) if board.at(each) == queues), key=board.rank)
