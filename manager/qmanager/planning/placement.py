"""Which slot of which server serves what. Pure: the current map and the grants in, the new rows and their changes out.

It starts from the current map and moves as little as it can: unchanged input gives the unchanged map. It puts no slot
beyond a server's max_slots or its budget in bytes, never hands a slot a queue that its server does not know, and never
moves a slot to another index: (server, index) is the slot's identity. What is surplus stays where it is until somebody
lacks a slot; only drain and max take at once. Ties are broken by name and index.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, zip_longest
from operator import attrgetter

import msgspec

from .board import Board, Rows, Server
from .claim import PATIENCE, claim, fill
from .grant import Grant, Names
from .hear import hear
from .spread import spread

__all__ = ["Change", "Rows", "Server", "place"]

TOLERANCE = 0.05  # of the budget: what is there may exceed it by so much, as sizes are measured anew every few seconds


class Change(msgspec.Struct, frozen=True, gc=False):
    """One slot that is to serve something else than before."""

    server: str
    index: int
    before: Names
    after: Names
    reason: str


def place(
    current: Mapping[str, Sequence[Names]], wants: Sequence[Grant], servers: Sequence[Server],
    most: Mapping[str, int | None], *, least: Mapping[str, int] | None = None, overdue: Container[str] = (),
) -> tuple[Rows, tuple[Change, ...]]:  # fmt: skip
    """New rows for ``servers`` and what differs from ``current``.

    current  also of servers that are lost: their slots are replaced at once
    most     every declared queue's max_slots
    least    min_slots of the queues that have some: taken at once, too
    overdue  queues whose oldest task waits longer than it should: so are theirs
    """
    servers = sorted(servers, key=lambda each: each.name)
    kept = _Kept(servers, current, most)
    minima = {want.queues: _minimum(want, least or {}) for want in wants}
    wants = [replace(want, slots=max(want.slots, minima[want.queues])) for want in wants]
    board = Board(servers, kept.rows, wants, kept.reasons)
    kept.gone.update(_shed(board))
    _keep_max(board, most)
    before = {i: tuple(row) for i, row in enumerate(board.rows)}
    _retype(board)
    ranked = sorted(wants, key=lambda want: (-want.priority, want.queues))
    for want in ranked:
        slots = min(1, _within(board, want, most))
        claim(board, want.queues, slots, free=1, reason="so that somebody listens")
    _minima(board, ranked, minima, most)
    _granted(board, ranked, minima, most, gone=kept.gone, overdue=overdue)
    hear(board, list(dict.fromkeys(name for want in ranked if want.slots for name in want.queues)), before, most)
    _topped(board, ranked, most)
    spread(board, ranked)
    rows = {server.name: tuple(row) for server, row in zip(servers, board.rows, strict=True)}
    return rows, tuple(_changes(board, current, rows))


@dataclass(slots=True)
class _Kept:
    """The current map as far as it still holds: indexes below max_slots, queues declared, known and allowed there."""

    servers: Sequence[Server]
    current: Mapping[str, Sequence[Names]]
    most: Mapping[str, int | None]
    rows: list[Sequence[Names]] = field(default_factory=list)
    reasons: dict[int, dict[int, str]] = field(default_factory=dict)
    gone: Counter[Names] = field(default_factory=Counter)  # slots that somebody lost by no decision of ours

    def __post_init__(self) -> None:
        living = {server.name for server in self.servers}
        for name in self.current.keys() - living:
            self.gone.update(self.current[name])
        present = set().union(*(self.current[name] for name in self.current.keys() & living))
        foreign = {
            knows: {names for names in present if any(not self._allowed(name, knows) for name in names)}
            for knows in {server.knows for server in self.servers} - {None}
        }
        for i, server in enumerate(self.servers):
            row = tuple(self.current.get(server.name, ()))
            self.gone.update(row[server.max_slots :])
            self.rows.append(self._kept(i, row[: server.max_slots], foreign))

    def _allowed(self, name: str, knows: frozenset[str] | None) -> bool:
        return knows is None or (name in knows and self.most.get(name, 0) != 0)

    def _kept(
        self, i: int, row: tuple[Names, ...], foreign: Mapping[frozenset[str] | None, set[Names]]
    ) -> Sequence[Names]:
        knows = self.servers[i].knows
        if self.servers[i].draining:
            self.gone.update(row)
            self.reasons[i] = {index: "the server drains" for index, queues in enumerate(row) if queues}
            return ((),) * len(row)
        if knows is None or foreign[knows].isdisjoint(row):
            return row
        strange = (index for index, queues in enumerate(row) if queues in foreign[knows])
        self.reasons[i] = dict.fromkeys(strange, "no longer served here")
        return tuple(tuple(name for name in queues if self._allowed(name, knows)) for queues in row)


def _shed(board: Board) -> Counter[Names]:
    """A server whose budget fell gives up slots, those first that are missed least; returns what was lost."""
    lost: Counter[Names] = Counter()
    for i, server in enumerate(board.servers):
        if board.used[i] <= server.budget * (1 + TOLERANCE):
            continue
        reason = f"beyond the server's budget: {board.used[i]:,} bytes of {server.budget:,}"
        while board.used[i] > server.budget:
            place = min(board.filled(i), key=board.rank)
            lost[board.at(place)] += 1
            board.put(place, (), reason)
    return lost


def _keep_max(board: Board, most: Mapping[str, int | None]) -> None:
    """What is beyond a queue's max goes at once, surplus first."""
    for name, limit in most.items():
        if limit is None or board.listening[name] <= limit:
            continue
        reason = f"{name} may have {limit} at most, of {board.listening[name]}"
        mine = [place for queues in tuple(board.count) if name in queues for place in board.places(queues)]
        for place in sorted(mine, key=board.rank)[: board.listening[name] - limit]:
            queues = board.at(place)
            rest = () if board.surplus(queues) > 0 else tuple(each for each in queues if each != name)
            board.put(place, rest, reason)


def _minimum(want: Grant, least: Mapping[str, int]) -> int:
    return least.get(want.queues[0], 0) if len(want.queues) == 1 else 0


def _minima(
    board: Board, ranked: Sequence[Grant], minima: Mapping[Names, int], most: Mapping[str, int | None]
) -> None:  # fmt: skip
    """Who has less than its minimum gets it: from what nobody needs, else from what others have beyond theirs, or less
    important ones beyond one to be heard.

    Grants count slots; where sizes differ the bytes may be taken all the same.
    """

    def lacking() -> list[Grant]:
        return [want for want in ranked if board.count[want.queues] < minima[want.queues]]

    def raised(want: Grant) -> None:
        slots = min(minima[want.queues], _within(board, want, most))
        claim(board, want.queues, slots, free=slots, reason=f"its minimum is {minima[want.queues]}")

    for want in lacking():
        raised(want)
    for priority, wants in groupby(lacking(), key=attrgetter("priority")):
        with board.keep({each.queues: max(1, minima[each.queues] * (each.priority >= priority)) for each in ranked}):
            for want in wants:
                raised(want)


def _granted(
    board: Board, ranked: Sequence[Grant], minima: Mapping[Names, int], most: Mapping[str, int | None], *,
    gone: Mapping[Names, int], overdue: Container[str],
) -> None:  # fmt: skip
    """All that was granted; and then, for the same reason, what is needed from what others only keep."""
    free = {
        want.queues: want.slots if any(name in overdue for name in want.queues) else gone[want.queues]
        for want in ranked
    }
    for want in ranked:
        claim(board, want.queues, _within(board, want, most), free=free[want.queues])
    lacking = [want for want in ranked if board.count[want.queues] < want.need]
    if lacking:
        with board.keep({want.queues: max(want.need, minima[want.queues]) for want in ranked}):
            for want in lacking:
                slots = min(want.need, _within(board, want, most))
                claim(board, want.queues, slots, free=free[want.queues], reason=f"{want.need} needed, others keep some")


def _topped(board: Board, ranked: Sequence[Grant], most: Mapping[str, int | None]) -> None:
    """Room that is left all the same goes to those who were granted less than they asked for, or found no place.

    Some of it stays, as budgets waver. What somebody has got so counts as granted from now on.
    """
    asked = {want.queues: max(want.asked, want.slots) for want in ranked}
    lacking = [want for want in ranked if board.count[want.queues] < asked[want.queues]]
    roomy = [i for i in range(len(board.servers)) if board.opens(i)] if lacking else []
    misses = 0
    for want in lacking if roomy else ():
        there, slots = board.count[want.queues], _within(board, want, most, asked[want.queues])
        fill(board, want.queues, slots, roomy, left=TOLERANCE, reason="there is room left")
        misses = misses + 1 if board.count[want.queues] == there else 0
        if misses > PATIENCE:
            break
    for want in ranked:
        board.wants[want.queues] = max(want.slots, min(want.asked, board.count[want.queues]))


def _within(board: Board, want: Grant, most: Mapping[str, int | None], slots: int | None = None) -> int:
    """The slots of a grant that no queue's max forbids: some serve it in a row that is left alone, with others."""
    elsewhere = ((name, board.listening[name] - board.count[want.queues]) for name in want.queues)
    limits = [limit - there for name, there in elsewhere if (limit := most.get(name)) is not None]
    return min([want.slots if slots is None else slots, *limits])


def _retype(board: Board) -> None:
    """Slots of a group that is no more go to the one that took over most of it; else nobody needs them.

    They are not kept as surplus: queues are parted because one would make the others wait.
    """
    heirs: dict[str, list[Names]] = defaultdict(list)
    for queues in board.wants:
        for name in queues:
            heirs[name].append(queues)
    stale = [names for names, slots in board.count.items() if slots and len(names) > 1 and names not in board.wants]
    for place in sorted(place for names in stale for place in board.places(names)):
        knows, old = board.servers[place[0]].knows, board.at(place)
        if knows is None:
            continue
        near = Counter(heir for name in old for heir in heirs[name] if board.surplus(heir) < 0)
        able = [heir for heir in near if knows.issuperset(heir) and board.fits(place[0], heir, old)]
        heir = min(able, key=lambda each: (-near[each], -board.priority[each], each), default=())
        parted = f"its {len(old)} queues no longer share a slot"
        board.put(place, heir, f"{len(heir)} queues share this slot now, {len(old)} did" if len(heir) > 1 else parted)


def _changes(board: Board, current: Mapping[str, Sequence[Names]], rows: Rows) -> Iterator[Change]:
    for i, (server, row) in enumerate(rows.items()):
        was = current.get(server, ())
        if row is was:
            continue
        reasons = board.reasons.get(i, {})
        for index, (before, after) in enumerate(zip_longest(was, row, fillvalue=())):
            if before != after:
                yield Change(server, index, before, after, reasons.get(index, "beyond max_slots"))
