"""Slots dealt to those who claim them, also where there are not enough. Pure: claims and capacity in, slots out.

Everybody is heard first, then minima are kept, and the rest is shared by priority. Of their shares those who have time
yield what more important queues lack that are in a hurry and late. Only what nobody needs is kept of recent peaks.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
    haste: float = 0.0  # the same of one that can bear no delay to speak of
    away: int = 0  # of its slots still end tasks of others: while it is late they are made up for


def dealt(claims: Sequence[Claim], capacity: int) -> list[int]:
    """Slots of each, ``capacity`` in all at most; there must be as many as claims.

    1. a listening place each, 2. minima by priority, 3. weighted max-min of what each needs, 4. what who is in haste
    lacks, from what is left and from those who have time, 5. a second slot for groups, 6. what is kept of peaks.
    """
    ranked = sorted(range(len(claims)), key=lambda i: (-claims[i].priority, claims[i].queues))
    sure = [1] * len(claims)
    _topped(sure, [claim.least for claim in claims], capacity - len(claims), ranked)
    got = _filled(claims, sure, capacity - sum(sure), ranked)
    _topped(got, [_pressing(claim) for claim in claims], capacity - sum(got), ranked)
    _yielded(claims, got, sure, ranked)
    for most in ([claim.heard for claim in claims], [claim.spare for claim in claims]):
        _topped(got, most, capacity - sum(got), ranked)
    return got


def _topped(got: list[int], most: Sequence[int], left: int, ranked: Sequence[int]) -> None:
    """Up to so many each, the most important first."""
    for i in ranked:
        more = min(max(0, most[i] - got[i]), left)
        got[i], left = got[i] + more, left - more


def _pressing(claim: Claim) -> int:
    """What is to be there at once of a claim in haste; of another nothing."""
    return claim.target + claim.away if claim.haste else 0


def _yielded(claims: Sequence[Claim], got: list[int], sure: Sequence[int], ranked: Sequence[int]) -> None:
    """Who is in haste gets what it lacks from the less important that have time, of each the same part.

    Nobody yields its minimum, nor more than the part of its slots by which the other is late and it is not. Nobody
    counts as having more time than those below it.
    """
    pressed, late = {}, 0.0
    for i in reversed(ranked):
        late = max(late, claims[i].late)
        pressed[claims[i].priority] = late
    for i in ranked:
        lacking = _pressing(claims[i]) - got[i]
        if lacking <= 0:
            continue
        has_time = {
            j: math.floor((got[j] - sure[j]) * claims[i].haste * (1 - pressed[claims[j].priority]))
            for j in ranked
            if claims[j].priority < claims[i].priority
        }
        for j, slots in _parts(has_time, lacking).items():
            got[j] -= slots
            got[i] += slots


def _parts(there: Mapping[int, int], wanted: int) -> dict[int, int]:
    """Up to so many in all, the same part of each; what rounding leaves from the last ones."""
    whole = sum(there.values())
    if whole <= wanted:
        return dict(there)
    parts = {each: n * wanted // whole for each, n in there.items()}
    left = wanted - sum(parts.values())
    for each in reversed(there):
        more = min(left, there[each] - parts[each], 1)
        parts[each], left = parts[each] + more, left - more
    return parts


def _filled(claims: Sequence[Claim], got: Sequence[int], left: int, ranked: Sequence[int]) -> list[int]:
    """Weighted max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2) above what each has got.

    The n-th slot of a claim comes at the water level n / priority, so slots come in one order whatever their number
    (the divisor method of Jefferson): one more takes none from anybody. All below a level are found by halving.
    """
    if sum(max(0, claim.target - n) for claim, n in zip(claims, got, strict=True)) <= left:
        return [max(claim.target, n) for claim, n in zip(claims, got, strict=True)]
    wanting = [i for i in ranked if got[i] < claims[i].target]
    bounds = [(got[i], claims[i].target, claims[i].priority) for i in wanting]
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
    coming = [
        ((n + 1) / claims[i].priority, place, i) for place, (i, n) in enumerate(filled.items()) if n < claims[i].target
    ]
    heapq.heapify(coming)
    for _ in range(most - sum(below)):
        _, place, i = heapq.heappop(coming)
        filled[i] += 1
        if filled[i] < claims[i].target:
            heapq.heappush(coming, ((filled[i] + 1) / claims[i].priority, place, i))
    return [filled.get(i, n) for i, n in enumerate(got)]
