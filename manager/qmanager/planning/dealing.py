"""Slots dealt to those who claim them, also where there are not enough. Pure: claims and capacity in, slots out.

Everybody is heard first, then minima are kept. In a shortage of what is needed beyond that, who has time yields to who
is late and more important; what is left is shared by priority. Only what nobody needs is kept from recent peaks.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Claim:
    """What a queue or a group asks for; beyond ``target`` it takes only what nobody else needs."""

    queues: tuple[str, ...]
    least: int  # min_slots
    target: int  # what it needs now
    heard: int  # with the second slot of a group
    spare: int  # with what is kept of a recent peak
    priority: int
    late: float = 0.0  # 0: it has time, 1: its tasks wait for longer than they should
    hurry: bool = False  # whether it can bear no delay to speak of


def dealt(claims: Sequence[Claim], capacity: int) -> list[int]:
    """Slots of each, ``capacity`` in all at most; there must be as many as claims.

    1. a listening place each, 2. minima by priority, 3. weighted max-min of what each insists on, 4. of what it needs,
    5. what is left: groups get their second slot first, then stays what is kept of recent peaks.
    """
    got = [1] * len(claims)
    ranked = sorted(range(len(claims)), key=lambda i: (-claims[i].priority, claims[i].queues))
    _topped(got, [claim.least for claim in claims], capacity - sum(got), ranked)
    priorities = [claim.priority for claim in claims]
    for targets in (_insisted(claims), [claim.target for claim in claims]):
        got = _filled(targets, priorities, got, capacity - sum(got), ranked)
    for most in ([claim.heard for claim in claims], [claim.spare for claim in claims]):
        _topped(got, most, capacity - sum(got), ranked)
    return got


def _topped(got: list[int], most: Sequence[int], left: int, ranked: Sequence[int]) -> None:
    """Up to so many each, the most important first."""
    for i in ranked:
        more = min(max(0, most[i] - got[i]), left)
        got[i], left = got[i] + more, left - more


def _insisted(claims: Sequence[Claim]) -> list[int]:
    """What each needs, less what it yields, as long as it has time, to more important ones in a hurry that are late.

    Nobody counts as having more time than those below it: what it yields would go to them.
    """
    late: dict[int, float] = {}
    hurried: dict[int, float] = {}
    for claim in claims:
        late[claim.priority] = max(claim.late, late.get(claim.priority, 0.0))
        hurried[claim.priority] = max(claim.late * claim.hurry, hurried.get(claim.priority, 0.0))
    rising, falling = sorted(late), sorted(late, reverse=True)
    pressed = dict(zip(rising, accumulate((late[each] for each in rising), max), strict=True))
    above = dict(zip(falling, accumulate((hurried[each] for each in falling), max, initial=0.0), strict=False))
    part = {each: 1 - above[each] * (1 - pressed[each]) for each in rising}
    return [math.ceil(claim.target * part[claim.priority]) for claim in claims]


def _filled(
    targets: Sequence[int], priorities: Sequence[int], got: Sequence[int], left: int, ranked: Sequence[int]
) -> list[int]:
    """Weighted max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2) above what each has got.

    The n-th slot of a claim comes at the water level n / priority, so slots come in one order whatever their number
    (the divisor method of Jefferson): one more takes none from anybody. All below a level are found by halving.
    """
    if sum(max(0, target - n) for target, n in zip(targets, got, strict=True)) <= left:
        return [max(target, n) for target, n in zip(targets, got, strict=True)]
    wanting = [i for i in ranked if got[i] < targets[i]]
    bounds = [(got[i], targets[i], priorities[i]) for i in wanting]
    most, low, high = sum(got[i] for i in wanting) + left, 0.0, max(target / priority for _, target, priority in bounds)
    below = [n for n, _, _ in bounds]
    while most - sum(below) > len(bounds) and high - low > 1e-9 * high:
        level = (low + high) / 2
        there = [max(n, min(target, int(level * priority))) for n, target, priority in bounds]
        if sum(there) <= most:
            low, below = level, there
        else:
            high = level
    filled = dict(zip(wanting, below, strict=True))
    coming = [((n + 1) / priorities[i], place, i) for place, (i, n) in enumerate(filled.items()) if n < targets[i]]
    heapq.heapify(coming)
    for _ in range(most - sum(below)):
        _, place, i = heapq.heappop(coming)
        filled[i] += 1
        if filled[i] < targets[i]:
            heapq.heappush(coming, ((filled[i] + 1) / priorities[i], place, i))
    return [filled.get(i, n) for i, n in enumerate(got)]
