"""How many slots servers can carry, and of which queues not a single one. Pure.

Grants count slots and know no bytes; this is what stands between. Which slots fit beside each other only placement
finds out.
"""

from collections.abc import Container, Mapping, Sequence
from itertools import repeat
from operator import mul

from .board import Server
from .grant import Names


def carried(servers: Sequence[Server], weights: Mapping[str, int]) -> int:
    """Slots that the servers can carry if all are as large as the mean of those they would hold.

    ``weights``: slots of each queue, as far as is known.
    """
    known = {
        knows: {name: weights[name] for name in knows if name in weights}
        for knows in {server.knows for server in servers}
        if knows
    }
    sums = {knows: max(1, sum(mine.values())) for knows, mine in known.items()}
    total = 0.0
    for server in servers:
        if server.draining or not server.knows:
            continue
        sizes, mine = server.slot_sizes, known[server.knows]
        weighed = list(map(mine.get, sizes, repeat(0)))
        more = sum(map(mul, weighed, sizes.values())) - server.slot_size * sum(weighed)
        slots = server.budget / max(1.0, server.slot_size + more / sums[server.knows])
        if not more:  # all of one size; else what is left on one of the others may be room for a small one
            slots = float(int(slots))
        if slots < 1:  # one of the smallest may fit all the same
            slots = float(min([server.slot_size, *sizes.values()]) <= server.budget)
        total += min(server.max_slots, slots)
    return int(total + 1e-9)


def too_large(servers: Sequence[Server], present: Mapping[Names, int], names: Container[str]) -> dict[str, int]:
    """Of ``names`` those of which no server can carry a slot, with the bytes of one where it is smallest.

    What is there, by ``present``, is carried: budgets fall for a moment.
    """
    able = [server for server in servers if server.knows and not server.draining]
    suspects = {
        name
        for server in able
        if server.slot_sizes and max(server.slot_sizes.values()) > server.budget
        for name, size in server.slot_sizes.items()
        if size > server.budget and name in names and not present.get((name,))
    }
    found = {}
    for name in sorted(suspects):
        there = [server for server in able if server.knows and name in server.knows]
        if there and all(server.size((name,)) > server.budget for server in there):
            found[name] = min(server.size((name,)) for server in there)
    return found
