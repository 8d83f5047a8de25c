"""Who lacks slots gets them: from free room, from what others have to spare, from room that is made. Pure.

Free room costs nobody anything. What is spare changes hands, idle slots first, so many in a cycle as the board allows;
what is taken for a first slot, a minimum, slots that were lost, or a queue that is overdue counts as no move. Who finds
no room where it is known, or for slots so large, gets it from others that can move to servers with room. Every choice
spreads: first the server that has the fewest of the queue for its power, and nobody takes beyond its share while it can
help it.
"""

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .board import Board, Place
from .grant import Names

LOOKS = 2000  # spare slots that are looked at for one queue, and 50 more for each slot it lacks
PATIENCE = 50  # servers without room for a slot's bytes, after which all are sorted by what they have free
TRIES = 20  # servers that are looked at for making room


@dataclass(slots=True)
class Lack:
    """What one queue, or a group, still lacks."""

    queues: Names
    missing: int
    free: int  # slots that it may take without their counting as moved
    fair: float  # its slots for one of power (max_slots)
    reason: str

    def may_move(self, board: Board, moves: int = 1) -> bool:
        """Whether so many slots may move, so that it gets one more."""
        return self.missing > 0 and (self.free > 0 or board.moves >= moves)

    def moved(self, board: Board, moves: int = 1) -> None:
        """They do."""
        if self.free > 0:
            self.free -= 1
        else:
            board.moves -= moves

    def add(self, board: Board, i: int) -> bool:
        """One slot more on a server, if it has room."""
        added = board.add(i, self.queues, self.reason)
        self.missing -= added
        return added

    def take(self, board: Board, place: Place, reason: str) -> None:
        """The slot is its own from now on."""
        board.put(place, self.queues, reason)
        self.missing -= 1


def fill(board: Board, queues: Names, slots: int, servers: Iterable[int], *, left: float, reason: str) -> None:
    """Up to ``slots`` slots for ``queues``, from free room of ``servers`` of whose budgets a part stays ``left``."""
    here, able = board.here(queues), board.able(queues).among
    roomy = [i for i in servers if i in able]
    while (missing := slots - board.count[queues]) > 0:
        roomy = [i for i in roomy if board.room(i, queues, left)]
        if not roomy:
            return
        for i in heapq.nsmallest(missing, roomy, key=lambda i: (here.get(i, 0) / board.power[i], board.fullness(i), i)):
            board.add(i, queues, reason)


def claim(board: Board, queues: Names, slots: int, *, free: int, reason: str = "") -> None:
    """Up to ``slots`` slots for ``queues``; ``free`` of them may be taken from others without counting as moved."""
    there = board.count[queues]
    if slots <= there:
        return
    able = board.able(queues)
    fair = slots / max(1, able.power)
    mine = Lack(queues, slots - there, free, fair, reason or f"{slots} granted, {there} there")
    _from_room(board, mine)
    _from_spare(board, mine)
    if mine.missing:
        _from_room_made(board, mine, able.servers)


def _from_room(board: Board, mine: Lack) -> None:
    """Servers that have none of it first, the emptiest of them; then the one that has the fewest for its power."""
    if not board.tight:
        _from_emptiest(board, mine)
    if mine.missing and not board.tight:
        _from_fewest(board, mine, [i for _, i in board.open])
    if mine.missing and board.tight:
        _from_fewest(board, mine, board.roomy(mine.queues))


def _from_emptiest(board: Board, mine: Lack) -> None:
    here, able, heap = board.here(mine.queues), board.able(mine.queues).among, board.open
    if all(i in here for _, i in heap):
        return
    aside: list[int] = []
    misses = 0
    while mine.missing and heap and misses <= PATIENCE:
        was, i = heapq.heappop(heap)
        if board.slots[i] >= board.power[i]:
            continue
        if board.fullness(i) != was:  # others have been served since
            heapq.heappush(heap, (board.fullness(i), i))
            continue
        if not here.get(i) and i in able:
            misses += not mine.add(board, i)
        aside.append(i)
    for i in aside:
        heapq.heappush(heap, (board.fullness(i), i))
    board.tight = misses > PATIENCE


def _from_fewest(board: Board, mine: Lack, servers: Iterable[int]) -> None:
    here, able = board.here(mine.queues), board.able(mine.queues).among

    def order(i: int) -> tuple[float, float, int]:
        return here.get(i, 0) / board.power[i], board.fullness(i), i

    heap = [order(i) for i in servers if i in able]
    heapq.heapify(heap)
    misses = 0
    while mine.missing and heap and (board.tight or misses <= PATIENCE):
        i = heap[0][2]
        if mine.add(board, i):
            heapq.heapreplace(heap, order(i))
        else:
            heapq.heappop(heap)
            misses += board.slots[i] < board.power[i]
    board.tight = board.tight or misses > PATIENCE


def _from_spare(board: Board, mine: Lack) -> None:
    """Idle slots where it has no more than its share, then busy ones there, then any."""
    looks = LOOKS + 50 * mine.missing
    for idle, fair in ((True, True), (False, True), (True, False), (False, False)):
        if not mine.may_move(board):
            return
        for place in board.spare(idle=idle, among=board.able(mine.queues).among):
            looks -= 1
            if _suits(board, mine, place, fair=fair):
                mine.moved(board)
                mine.take(board, place, f"{mine.reason}; surplus of {', '.join(board.at(place))}")
            if looks <= 0 or not mine.may_move(board):
                return


def _suits(board: Board, mine: Lack, place: Place, *, fair: bool) -> bool:
    i = place[0]
    share = max(1, math.ceil(mine.fair * board.power[i] - 1e-9)) if fair else math.inf
    known = i in board.able(mine.queues).among and board.here(mine.queues).get(i, 0) < share
    return known and board.fits(i, mine.queues, board.at(place))


def _from_room_made(board: Board, mine: Lack, able: Iterable[int]) -> None:
    """Where most bytes are free, others make room."""
    while mine.may_move(board):
        near = heapq.nsmallest(TRIES, able, key=lambda i: (board.used[i] - board.servers[i].budget, i))
        made = [_make_room(board, mine, i) for i in near if mine.may_move(board)]  # on each, not on the first alone
        if not any(made):
            return


def _make_room(board: Board, mine: Lack, i: int) -> bool:
    """One slot on this server, if others can go; else nothing is changed."""
    server = board.servers[i]
    size = server.size(mine.queues)
    if size > server.budget or not server.max_slots:
        return False
    need = board.used[i] + size - server.budget
    going = _going(board, mine.queues, i, need)
    if not going or not mine.may_move(board, len(going)):
        return False
    mine.moved(board, len(going))
    name = ", ".join(mine.queues)
    for place, target in going:
        old = board.at(place)
        board.put(place, (), f"room for {name}, which " + (f"needs {size:,} bytes" if need > 0 else "is known here"))
        if target is not None:
            board.add(target, old, f"moved from {server.name}, which makes room for {name}")
    return mine.add(board, i)


def _going(board: Board, queues: Names, i: int, need: int) -> list[tuple[Place, int | None]]:
    """Slots of others that free as many bytes, one at least, each with the server it moves to if it is not spare.

    None, if they cannot. As a server with room would have been taken, they move only where ``queues`` cannot be: so
    nothing moves back.
    """
    going: list[tuple[Place, int | None]] = []
    spared: list[Names] = []
    others = [each for _, each in heapq.nsmallest(TRIES, board.open) if each != i]
    for place in sorted(board.filled(i), key=board.rank):
        if need <= 0 and going:
            break
        old, target = board.at(place), None
        if old == queues:
            continue
        if board.surplus(old) > spared.count(old):
            spared.append(old)
        else:
            target = _elsewhere(board, old, others)
            if target is None:
                continue
            others.remove(target)  # one each, so that the room is there
        going.append((place, target))
        need -= board.servers[i].size(old)
    return going if need <= 0 else []


def _elsewhere(board: Board, queues: Names, servers: Sequence[int]) -> int | None:
    able = board.able(queues).among
    roomy = (i for i in servers if i in able and board.room(i, queues))
    return next(roomy, None)
