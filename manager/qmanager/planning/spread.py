"""Evens out what lies unevenly: a queue's slots on servers of equal power with room differ by one at most. Pure.

A slot moves only where the server that gives it keeps at least as many for its power as the other then has: so nothing
ever moves back, and the small differences of power that memory makes move nothing. At most a hundredth of all slots a
cycle, important queues first. What is surplus stays where it is.
"""

import heapq
from collections.abc import Iterable

from .board import Board
from .grant import Grant, Names


def spread(board: Board, wants: Iterable[Grant]) -> None:
    """Moves slots of ``wants``, in their order."""
    moves = min(board.moves, max(1, sum(board.slots) // 100))
    for want in wants:
        if moves <= 0 or not board.open:
            return
        if want.slots > 1 and board.surplus(want.queues) <= 0:
            moves -= _evened(board, want.queues, moves)


def _evened(board: Board, queues: Names, most: int) -> int:
    """How many slots have moved."""
    if not board.crowded(queues):
        return 0
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
    mine = [each for each in board.filled(giver) if board.at(each) == queues]
    board.put(min(mine, key=board.rank), (), f"spread to {board.servers[taker].name}: {figures}")
    board.add(taker, queues, f"spread from {board.servers[giver].name}: {figures}")
