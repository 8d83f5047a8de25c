"""Which slot of which server serves what. Pure: the current map and the grants in, the new rows and their changes out.

It starts from the current map and moves as little as it can: unchanged input gives the unchanged map. It never goes
beyond a server's max_slots or its budget in bytes, never hands a slot a queue that its server does not know, and
never moves a slot to another index: (server, index) is the slot's identity. What is surplus stays where it is until
somebody lacks a slot; only drain and max take at once. Ties are broken by name and index.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from .grant import Grant, Names

Rows = dict[str, tuple[Names, ...]]  # server -> the queues of slot 0, 1, 2, …
Place = tuple[str, int]  # server, index


@dataclass(frozen=True, slots=True)
class Server:
    """One living server, as placement sees it."""

    name: str
    max_slots: int
    budget: int  # bytes, those of the living slots included
    slot_size: int  # bytes to count for a queue that has no size of its own
    slot_sizes: Mapping[str, int] = field(default_factory=dict)
    draining: bool = False
    knows: frozenset[str] | None = frozenset()  # queues it can serve; None: not known just now, so leave it alone
    idle: frozenset[int] = frozenset()  # slots that run nothing

    def size(self, queues: Names) -> int:
        """Bytes of one slot that serves ``queues``: the largest of them decides."""
        return max((self.slot_sizes.get(name, self.slot_size) for name in queues), default=0)


@dataclass(frozen=True, slots=True)
class Change:
    """One slot that is to serve something else than before."""

    server: str
    index: int
    before: Names
    after: Names
    reason: str


class _Board:
    """The map while it is being changed, with the sums that every step asks for."""

    def __init__(self, servers: Iterable[Server], wants: Iterable[Grant]) -> None:
        self.servers = {server.name: server for server in sorted(servers, key=lambda each: each.name)}
        self.wants = {want.queues: want.slots for want in wants}
        self.priority = {want.queues: want.priority for want in wants}
        self.rows: dict[str, list[Names]] = {name: [] for name in self.servers}
        self.used: Counter[str] = Counter()  # bytes
        self.slots: Counter[str] = Counter()
        self.count: Counter[Names] = Counter()
        self.here: defaultdict[Names, Counter[str]] = defaultdict(Counter)
        self.listening: Counter[str] = Counter()  # queue -> slots
        self.reasons: dict[Place, str] = {}
        self._sizes: dict[tuple[str, Names], int] = {}

    def size(self, server: str, queues: Names) -> int:
        key = (server, queues)
        if key not in self._sizes:
            self._sizes[key] = self.servers[server].size(queues)
        return self._sizes[key]

    def put(self, place: Place, queues: Names, reason: str) -> None:
        server, index = place
        row = self.rows[server]
        row.extend([()] * (index + 1 - len(row)))
        self._book(server, row[index], -1)
        self._book(server, queues, 1)
        row[index] = queues
        self.reasons[place] = reason

    def _book(self, server: str, queues: Names, sign: int) -> None:
        if queues:
            self.used[server] += sign * self.size(server, queues)
            self.slots[server] += sign
            self.count[queues] += sign
            self.here[queues][server] += sign
            for name in queues:
                self.listening[name] += sign

    def filled(self, server: str) -> Iterator[Place]:
        return ((server, index) for index, queues in enumerate(self.rows[server]) if queues)

    def at(self, place: Place) -> Names:
        return self.rows[place[0]][place[1]]

    def surplus(self, queues: Names) -> int:
        return self.count[queues] - self.wants.get(queues, 0)

    def fits(self, server: str, queues: Names, instead: Names = ()) -> bool:
        after = self.used[server] - self.size(server, instead) + self.size(server, queues)
        return after <= self.servers[server].budget

    def room(self, server: str, queues: Names) -> int | None:
        """The lowest free index of a server that can carry one more such slot."""
        row = self.rows[server]
        free = self.slots[server] < self.servers[server].max_slots and self.fits(server, queues)
        if not free:
            return None
        return row.index(()) if () in row else len(row)

    def able(self, queues: Names) -> list[str]:
        """The servers that know all of ``queues`` and take new work."""
        known = ((server.name, server.knows) for server in self.servers.values() if not server.draining)
        return [name for name, knows in known if knows is not None and knows.issuperset(queues)]

    def order(self, server: str, queues: Names) -> tuple[int, float, str]:
        """Where to put the next such slot: the server that has the fewest of them, then the emptiest."""
        return self.here[queues][server], self.slots[server] / max(1, self.servers[server].max_slots), server

    def idle(self, place: Place) -> bool:
        return place[1] in self.servers[place[0]].idle

    def rank(self, place: Place) -> tuple[bool, int, bool, int, str, int]:
        """Whom to take a slot from first: surplus, unimportant, idle, many."""
        queues = self.at(place)
        extra = self.surplus(queues)
        return extra <= 0, self.priority.get(queues, 0), not self.idle(place), -extra, place[0], -place[1]


def place(
    current: Mapping[str, Sequence[Names]], wants: Sequence[Grant], servers: Sequence[Server],
    most: Mapping[str, int | None],
) -> tuple[Rows, tuple[Change, ...]]:  # fmt: skip
    """New rows for ``servers`` and what differs from ``current``. ``most``: every declared queue's max_slots."""
    board = _Board(servers, wants)
    _carry(board, current, most)
    _shed(board)
    _keep_max(board, most)
    before = {name: tuple(row) for name, row in board.rows.items()}
    _retype(board)
    ranked = sorted(wants, key=lambda want: (-want.priority, want.queues))
    spare = [slot for name in board.servers for slot in board.filled(name) if board.surplus(board.at(slot)) > 0]
    spare.sort(key=board.rank)
    for want in ranked:
        _claim(board, want.queues, min(1, want.slots), spare, "so that somebody listens")
    for want in ranked:
        _claim(board, want.queues, want.slots, spare, f"{want.slots} granted")
    _hear(board, [name for want in ranked if want.slots for name in want.queues], before)
    _spread(board, ranked)
    rows = {name: tuple(row) for name, row in board.rows.items()}
    return rows, tuple(_changes(board, current))


def _carry(board: _Board, current: Mapping[str, Sequence[Names]], most: Mapping[str, int | None]) -> None:
    """The current map as far as it still holds: indexes below max_slots, queues declared, known and allowed there."""
    for server in board.servers.values():
        for index, queues in enumerate(current.get(server.name, ())[: server.max_slots]):
            kept, reason = queues, ""
            if server.draining:
                kept, reason = (), "the server drains"
            elif server.knows is not None:
                kept = tuple(name for name in queues if name in server.knows and most.get(name, 0) != 0)
                reason = "no longer served here"
            board.put((server.name, index), kept, reason)


def _shed(board: _Board) -> None:
    """A server whose budget fell gives up slots, those first that are missed least."""
    for server in board.servers.values():
        while board.used[server.name] > server.budget:
            board.put(min(board.filled(server.name), key=board.rank), (), "beyond the server's budget")


def _retype(board: _Board) -> None:
    """Slots of a group that is no more go to the one that took over most of it; else nobody needs them.

    They are not kept as surplus: queues are parted because one would make the others wait.
    """
    heirs: dict[str, list[Names]] = defaultdict(list)
    for queues in board.wants:
        for name in queues:
            heirs[name].append(queues)
    for server, data in board.servers.items():
        knows = data.knows
        if knows is None:
            continue
        stale = (slot for slot in board.filled(server) if len(board.at(slot)) > 1 and board.at(slot) not in board.wants)
        for slot in tuple(stale):
            old = board.at(slot)
            near = Counter(heir for name in old for heir in heirs[name] if board.surplus(heir) < 0)
            able = [heir for heir in near if knows.issuperset(heir) and board.fits(server, heir, old)]
            heir = min(able, key=lambda each: (-near[each], -board.priority[each], each), default=())
            shared = "other queues share this slot now" if len(heir) > 1 else "its queues no longer share a slot"
            board.put(slot, heir, shared)


def _keep_max(board: _Board, most: Mapping[str, int | None]) -> None:
    """What is beyond a queue's max goes at once, surplus first."""
    for name, limit in most.items():
        if limit is None or board.listening[name] <= limit:
            continue
        mine = [each for server in board.servers for each in board.filled(server) if name in board.at(each)]
        for slot in sorted(mine, key=board.rank)[: board.listening[name] - limit]:
            queues = board.at(slot)
            rest = () if board.surplus(queues) > 0 else tuple(each for each in queues if each != name)
            board.put(slot, rest, f"{name} may have {limit} at most")


def _claim(board: _Board, queues: Names, slots: int, spare: list[Place], reason: str) -> None:
    """Up to ``slots`` slots for ``queues``: free room first, on the server that has the fewest; then ``spare`` ones."""
    missing = slots - board.count[queues]
    if missing <= 0:
        return
    able = board.able(queues)
    heap = [board.order(server, queues) for server in able]
    heapq.heapify(heap)
    while missing and heap:
        server = heap[0][2]
        index = board.room(server, queues)
        if index is None:
            heapq.heappop(heap)
            continue
        board.put((server, index), queues, reason)
        heapq.heapreplace(heap, board.order(server, queues))
        missing -= 1
    if missing and spare:
        _take_spare(board, queues, missing, {*able}, spare, reason)


def _take_spare(
    board: _Board, queues: Names, missing: int, able: set[str], spare: list[Place], reason: str
) -> None:  # fmt: skip
    """Surplus slots change hands; ``spare`` comes with those first that are missed least, and loses what is taken."""
    here = board.here[queues]
    for slot in sorted((each for each in spare if each[0] in able), key=lambda each: here[each[0]]):
        old = board.at(slot)
        if board.surplus(old) > 0 and board.fits(slot[0], queues, old):
            board.put(slot, queues, f"{reason}; surplus of {', '.join(old)}")
            missing -= 1
            if not missing:
                break
    spare[:] = [slot for slot in spare if board.surplus(board.at(slot)) > 0]


def _hear(board: _Board, names: Iterable[str], before: Rows) -> None:
    """Whoever is unheard (bytes or knowledge allowed none of its grants) gets a place of any kind.

    A server that heard it before keeps its old row: makeshifts made anew each time from the last would never rest.
    """
    for name in names:
        if board.listening[name]:
            continue
        home = next((server for server, row in before.items() if any(name in queues for queues in row)), None)
        if home is not None:
            row = before[home]
            for index in range(len(board.rows[home])):
                board.put((home, index), row[index] if index < len(row) else (), f"so that somebody listens to {name}")
            # Others may have lost theirs by it: once more, without this server.
            _hear(board, names, {server: row for server, row in before.items() if server != home})
            return
        able = board.able((name,))
        _alone(board, name, able) or _beside(board, name, able) or _together(board, name, able)


def _alone(board: _Board, name: str, able: Iterable[str]) -> bool:
    for server in able:
        index = board.room(server, (name,))
        if index is not None:
            board.put((server, index), (name,), f"so that somebody listens to {name}")
            return True
    return False


def _beside(board: _Board, name: str, able: Iterable[str]) -> bool:
    """It joins a slot that others share already, else one that is missed least."""
    slots = [slot for server in able for slot in board.filled(server)]
    for slot in sorted(slots, key=lambda each: (len(board.at(each)) == 1, board.rank(each))):
        joined = tuple(sorted((*board.at(slot), name)))
        if board.fits(slot[0], joined, board.at(slot)):
            board.put(slot, joined, f"so that somebody listens to {name}")
            return True
    return False


def _together(board: _Board, name: str, able: Iterable[str]) -> bool:
    """Its slot is so large that others must make room: they share it."""
    for server in able:
        if board.size(server, (name,)) > board.servers[server].budget:
            continue
        joined = {name}
        for slot in sorted(board.filled(server), key=board.rank):
            joined.update(board.at(slot))
            board.put(slot, (), f"{name} needs its memory")
            queues = tuple(sorted(joined))
            if board.fits(server, queues):
                board.put(slot, queues, f"so that somebody listens to {name}")
                return True
    return False


def _spread(board: _Board, wants: Iterable[Grant]) -> None:
    """Evens out what differs by two or more between servers with room; a hundredth of the slots a cycle."""
    moves = max(1, board.slots.total() // 100)
    for want in wants:
        while moves and want.slots > 1 and board.surplus(want.queues) <= 0 and _move(board, want.queues):
            moves -= 1


def _move(board: _Board, queues: Names) -> bool:
    here, able = board.here[queues], board.able(queues)
    crowded = max(able, key=lambda server: here[server], default="")
    for count, _, server in sorted(board.order(server, queues) for server in able):
        if here[crowded] - count < 2:
            return False
        index = board.room(server, queues)
        if index is not None:
            mine = [slot for slot in board.filled(crowded) if board.at(slot) == queues]
            board.put(min(mine, key=board.rank), (), f"spread to {server}")
            board.put((server, index), queues, f"spread from {crowded}")
            return True
    return False


def _changes(board: _Board, current: Mapping[str, Sequence[Names]]) -> Iterator[Change]:
    for server, row in board.rows.items():
        for index, (before, after) in enumerate(zip_longest(current.get(server, ()), row, fillvalue=())):
            if before != after:
                yield Change(server, index, before, after, board.reasons.get((server, index), "beyond max_slots"))
