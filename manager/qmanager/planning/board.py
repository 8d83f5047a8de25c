"""The slot map while it is being changed, with the sums that every step asks for. Pure.

Rows come in as tuples and are copied only where they change, sums are taken by the row: nothing is kept per slot, so
those that stay cost next to nothing (900,000 of them come in within a quarter of a second). Servers are counted by
their place in the list, which is sorted by name. It decides nothing and never refuses: who puts has asked ``room``.
"""

import heapq
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from operator import eq

from .grant import Grant, Names

Rows = dict[str, tuple[Names, ...]]  # server -> the queues of slot 0, 1, 2, …
Place = tuple[int, int]  # number of the server, index of the slot
FEW = 4  # a queue that so small a part of all servers knows looks for slots only there
LEAST_MOVES = 10  # a hundredth of the slots may change hands in a cycle; in small clusters these


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
        if len(queues) == 1:
            return self.slot_sizes.get(queues[0], self.slot_size)
        return max((self.slot_sizes.get(name, self.slot_size) for name in queues), default=0)

    def total(self, filled: Sequence[Names]) -> int:
        """Bytes of all these slots."""
        names = list(chain.from_iterable(filled))
        if len(names) == len(filled):  # nobody shares: what is nearly always so, without a call a slot
            return sum(map(self.slot_sizes.get, names, repeat(self.slot_size)))
        return sum(map(self.size, filled))


@dataclass(frozen=True, slots=True)
class _Able:
    """Servers that can serve the same."""

    servers: list[int]
    among: frozenset[int]
    power: int


class Board:
    """``servers`` sorted by name, a row for each of them; ``reasons`` of what was changed in the rows before."""

    def __init__(
        self, servers: Sequence[Server], rows: Sequence[Sequence[Names]], wants: Iterable[Grant],
        reasons: dict[int, dict[int, str]],
    ) -> None:  # fmt: skip
        self.servers = servers
        self.rows: list[Sequence[Names]] = list(rows)
        self.reasons = reasons
        self.count = Counter(chain.from_iterable(rows))
        del self.count[()]
        self._same = {names: names for names in self.count}  # equal slots share a tuple: else 900,000 take 50 MB
        self.wants = {want.queues: want.slots for want in wants}
        self._kept: Mapping[Names, int] = self.wants  # slots that nobody else may have
        self.priority = {want.queues: want.priority for want in wants}
        self.listening: Counter[str] = Counter()  # queue -> slots
        for names, slots in self.count.items():
            for name in names:
                self.listening[name] += slots
        filled = [list(filter(None, row)) for row in rows]
        self.slots = [len(each) for each in filled]
        self.used = [server.total(each) for server, each in zip(servers, filled, strict=True)]  # bytes
        self.power = [max(1, server.max_slots) for server in servers]
        self._free = [0] * len(servers)  # no index below this one is free
        self._here: dict[Names, dict[int, int]] = {}
        self._homes: dict[Names, list[int]] | None = None
        self._able: dict[Names, _Able] = {}
        self._kinds = {server.knows for server in servers}
        self._teams: dict[frozenset[frozenset[str]], _Able] = {}
        self._open: list[tuple[float, int]] | None = None
        self.tight = False  # bytes are short on many servers that could carry more slots
        self._room: list[tuple[int, int]] = []  # bytes that were free on each of them, and which it is
        self._unknown = 0  # the least size of a slot of a queue without one of its own
        self._least: dict[str, int] = {}  # of each queue the size of a slot where it is smallest
        self._donors: dict[Names, tuple[deque[Place], deque[Place]] | None] | None = None
        self.moves = max(LEAST_MOVES, sum(self.slots) // 100)  # slots that may still change hands in this cycle

    def put(self, place: Place, queues: Names, reason: str) -> None:
        """The slot serves ``queues`` from now on, and what it served no longer."""
        i, index = place
        row = self._row(i)
        row.extend([()] * (index + 1 - len(row)))
        before, row[index] = row[index], ()
        if before:
            self.slots[i] -= 1
            self._free[i] = min(self._free[i], index)
            self._book(i, before, -1, self.servers[i].size(before))
        if queues:
            self._enter(i, index, queues, self.servers[i].size(queues))
        self.reasons.setdefault(i, {})[index] = reason

    def add(self, i: int, queues: Names, reason: str) -> bool:
        """One slot more on this server, if it has room."""
        server = self.servers[i]
        size = server.size(queues)
        if self.slots[i] >= server.max_slots or self.used[i] + size > server.budget:
            return False
        index, row = self._lowest(i), self._row(i)
        if index == len(row):
            row.append(())
        self._enter(i, index, queues, size)
        self.reasons.setdefault(i, {})[index] = reason
        return True

    def _row(self, i: int) -> list[Names]:
        row = self.rows[i]
        if not isinstance(row, list):
            row = self.rows[i] = list(row)
        return row

    def _enter(self, i: int, index: int, queues: Names, size: int) -> None:
        queues = self._same.setdefault(queues, queues)
        self._row(i)[index] = queues
        self.slots[i] += 1
        self._book(i, queues, 1, size)

    def _book(self, i: int, queues: Names, sign: int, size: int) -> None:
        if self._homes is not None:
            here = self.here(queues)
            here[i] = here.get(i, 0) + sign
        self.used[i] += sign * size
        self.count[queues] += sign
        for name in queues:
            self.listening[name] += sign

    def _lowest(self, i: int) -> int:
        """The lowest index that is free; it may be that behind the last one."""
        row, index = self.rows[i], self._free[i]
        while index < len(row) and row[index]:
            index += 1
        self._free[i] = index
        return index

    def here(self, queues: Names) -> dict[int, int]:
        """Server -> slots of ``queues``; kept up to date from the first question on."""
        if self._homes is None:
            homes = defaultdict(list)
            for i, row in enumerate(self.rows):
                for names in row:
                    homes[names].append(i)
            self._homes = homes
        if queues not in self._here:
            self._here[queues] = dict(Counter(self._homes.pop(queues, ())))
        return self._here[queues]

    def places(self, queues: Names, among: Iterable[int] | None = None) -> list[Place]:
        """Every slot of ``queues``, or those on some servers, by server and index."""
        here = self.here(queues)
        homes = sorted(here.items() if among is None else ((i, here[i]) for i in among if i in here))
        return [(i, index) for i, n in homes for index in _indexes(self.rows[i], queues, n)]

    def spare(self, *, idle: bool, among: frozenset[int]) -> Iterator[Place]:
        """Slots beyond what was granted: those of unimportant queues first, where these have most of them.

        ``among``: the servers that matter; if they are few no others are looked at.
        """
        few = len(among) * FEW < len(self.servers)
        if self._donors is None:
            donors = [queues for queues in self.count if self.surplus(queues) > 0]
            donors.sort(key=lambda each: (self.priority.get(each, 0), -self.surplus(each), each))
            self._donors = dict.fromkeys(donors)
        for queues in tuple(self._donors):
            if self.surplus(queues) <= 0:
                del self._donors[queues]
                continue
            spare = self._spare(queues, among) if few else self._donors[queues] or self._spare(queues)
            if not few:
                self._donors[queues] = spare
            yield from self._untaken(queues, spare[not idle])

    def _untaken(self, queues: Names, places: deque[Place]) -> Iterator[Place]:
        passed: list[Place] = []
        try:
            while places and self.surplus(queues) > 0:
                place = places.popleft()
                if self.at(place) == queues:
                    passed.append(place)
                    yield place
        finally:  # also when nobody wants more of them
            places.extendleft(each for each in reversed(passed) if self.at(each) == queues)

    def _spare(self, queues: Names, among: Iterable[int] | None = None) -> tuple[deque[Place], deque[Place]]:
        """Its idle slots and the others."""
        here = self.here(queues)
        places = sorted(self.places(queues, among), key=lambda place: (-here[place[0]], place[0], -place[1]))
        busy = deque(each for each in places if not self.idle(each))
        return deque(each for each in places if self.idle(each)), busy

    def filled(self, i: int) -> Iterator[Place]:
        """The slots of a server that serve something."""
        return ((i, index) for index, queues in enumerate(self.rows[i]) if queues)

    def at(self, place: Place) -> Names:
        """What a slot serves."""
        return self.rows[place[0]][place[1]]

    def surplus(self, queues: Names) -> int:
        """Slots beyond what was granted, or beyond what ``keep`` says; below 0: missing."""
        return self.count[queues] - self._kept.get(queues, 0)

    @contextmanager
    def keep(self, slots: Mapping[Names, int]) -> Iterator[None]:
        """In this block what is beyond these slots of each counts as surplus, whatever was granted."""
        self._kept, self._donors = slots, None
        try:
            yield
        finally:
            self._kept, self._donors = self.wants, None

    def fits(self, i: int, queues: Names, instead: Names = ()) -> bool:
        """Whether the budget allows one more such slot, or one in the place of another."""
        more = self.servers[i].size(queues) - self.servers[i].size(instead)
        return self.used[i] + more <= self.servers[i].budget or (more <= 0 and bool(instead))

    def room(self, i: int, queues: Names, left: float = 0.0) -> bool:
        """Whether a server can carry one more such slot, and this part of its budget is left then."""
        server = self.servers[i]
        return self.slots[i] < server.max_slots and self.used[i] + server.size(queues) <= server.budget * (1 - left)

    def crowded(self, queues: Names) -> bool:
        """Whether any server has two of them."""
        if queues in self._here or self._homes is None:
            return max(self.here(queues).values(), default=0) > 1
        homes = self._homes.get(queues, [])
        return any(map(eq, homes, islice(homes, 1, None)))  # in the order of the servers

    def able(self, queues: Names) -> "_Able":
        """The servers that know all of ``queues`` and take new work."""
        if queues not in self._able:
            kinds = frozenset(knows for knows in self._kinds if knows and knows.issuperset(queues))
            if kinds not in self._teams:
                members = [i for i, server in enumerate(self.servers) if not server.draining and server.knows in kinds]
                self._teams[kinds] = _Able(members, frozenset(members), sum(self.power[i] for i in members))
            self._able[queues] = self._teams[kinds]
        return self._able[queues]

    def fullness(self, i: int) -> float:
        """1.0: no slot more."""
        return self.slots[i] / self.power[i]

    @property
    def open(self) -> list[tuple[float, int]]:
        """A heap of the servers that may have room, the emptiest on top; its figures may be older than the board."""
        if self._open is None:
            self._open = [(self.fullness(i), i) for i in range(len(self.servers)) if self.opens(i)]
            heapq.heapify(self._open)
        return self._open

    def opens(self, i: int) -> bool:
        """Whether a server takes new work and could carry a slot of the smallest size that it knows."""
        server = self.servers[i]
        if server.draining or not server.knows or self.slots[i] >= server.max_slots:
            return False
        least = min(server.slot_sizes.values(), default=server.slot_size)
        return self.used[i] + min(least, server.slot_size) <= server.budget

    def roomy(self, queues: Names) -> list[int]:
        """The open servers that have room for one of these."""
        if not self._room:
            self._room = sorted((self.servers[i].budget - self.used[i], i) for _, i in self.open)
            self._unknown = min(server.slot_size for server in self.servers)
            for server in self.servers:
                for name, size in server.slot_sizes.items():
                    if size < self._least.get(name, self._unknown):
                        self._least[name] = size
        least = max(self._least.get(name, self._unknown) for name in queues)
        enough = [i for _, i in self._room[bisect_left(self._room, (least, -1)) :]]  # at its smallest; they had it once
        if len(queues) > 1:
            return [i for i in enough if self.room(i, queues)]
        (name,), used, slots = queues, self.used, self.slots
        sized = ((i, self.servers[i]) for i in enough if slots[i] < self.power[i])
        return [i for i, at in sized if used[i] + at.slot_sizes.get(name, at.slot_size) <= at.budget]

    def idle(self, place: Place) -> bool:
        """Whether a slot runs nothing just now."""
        return place[1] in self.servers[place[0]].idle

    def rank(self, place: Place) -> tuple[bool, int, bool, int, int, Place]:
        """Whom to take a slot from first: surplus, and of that what is idle; then what is unimportant."""
        queues = self.at(place)
        extra, priority = self.surplus(queues), self.priority.get(queues, 0)
        needed = extra <= 0
        return needed, priority if needed else 0, not self.idle(place), priority, -extra, (place[0], -place[1])


def _indexes(row: Sequence[Names], queues: Names, count: int) -> Iterator[int]:
    """Where they are in the row, ``count`` times."""
    index = -1
    for _ in range(count):
        index = row.index(queues, index + 1)
        yield index
