"""Who gets how many of the cluster's slots. Pure: demands, capacity and the last holding in, grants out.

It knows no servers and no bytes, only a number of slots. Nobody with a handler goes unheard while there is one slot;
what is worth less than a slot shares one. The holding (recent peaks, who owns and who shares) is handed back to the
caller as data and is taken before capacity cuts it, so that a shortage cannot make the grants swing.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from .demand import Demand

Names = tuple[str, ...]  # the queues of a slot, sorted

OWN_FROM = 1.0  # worth at which a queue gets a slot of its own
SHARE_BELOW = 0.6  # worth below which it gives it up
GROUP = 32  # most queues that share: a slot waits on all of them
_SLACK = 1.5  # run times may exceed the others' delay by this before a group is parted
_PARTS = 60  # peaks are remembered in steps of 1/60 of the stabilization window


@dataclass(frozen=True, slots=True)
class Held:
    """What must be remembered of one queue."""

    peaks: tuple[tuple[float, float], ...] = ()  # (instant, wanted), wanted falling: a sliding maximum
    own: int = 0  # whole slots; 0 while it shares

    @property
    def level(self) -> float:
        """The most that was wanted within the stabilization window."""
        return self.peaks[0][1] if self.peaks else 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """What must be remembered between two cycles."""

    queues: Mapping[str, Held] = field(default_factory=dict)
    groups: Mapping[Names, int] = field(default_factory=dict)  # queues that share -> slots wanted for them


@dataclass(frozen=True, slots=True)
class Grant:
    """Slots for one queue, or for several that share them."""

    queues: Names
    slots: int
    priority: int


@dataclass(frozen=True, slots=True)
class _Claim:
    """What a queue or a group asks for; up to ``spare`` it takes only what nobody else wants."""

    queues: Names
    least: int
    target: int
    spare: int
    priority: int


def stabilization(demand: Demand) -> float:
    """Seconds for which a peak is kept: longer for urgent queues, and as long as a task takes, up to an hour."""
    return max(60.0 + 2.0 * demand.queue.priority, min(demand.mean_time or 0.0, 3600.0))


def dead_band(priority: int) -> float:
    """The part of what is held by which demand may rise or fall without effect: 20 % at priority 0, 5 % at 100."""
    return 0.2 - 0.0015 * priority


def remembered(counts: Mapping[Names, int], now: float) -> Holding:
    """The holding of a manager that has just begun: what the map says, as if it were wanted now.

    So it takes nothing away for a full stabilization window: an empty memory is no proof of idleness.
    """
    own = {names[0]: Held(((now, float(count)),), count) for names, count in counts.items() if len(names) == 1}
    return Holding(own, {names: count for names, count in counts.items() if len(names) > 1})


def grant(
    demands: Iterable[Demand], capacity: int, before: Holding, now: float, where: Mapping[str, Hashable]
) -> tuple[tuple[Grant, ...], Holding]:
    """Grants of at most ``capacity`` slots in all, and the holding for the next cycle.

    ``where``: per queue a key of the servers that can serve it; only queues of one key share.
    """
    served = {each.queue.name: each for each in sorted(demands, key=lambda each: each.queue.name) if each.served}
    held = {name: hold(demand, before.queues.get(name, Held()), now) for name, demand in served.items()}
    sharing = {name: demand for name, demand in served.items() if not held[name].own}
    pools = share(sharing, tuple(before.groups), where)
    holding = Holding(held, {names: _group_slots(names, served, held, before.groups.get(names, 0)) for names in pools})
    owners, shared = _folded([name for name in served if held[name].own], pools, capacity, served, held)
    claims = [_own_claim(served[name], held[name].own) for name in owners]
    for names in shared:
        target = holding.groups.get(names) or _group_slots(names, served, held, 0)
        claims.append(_group_claim(names, served, target))
    slots = _dealt(claims, capacity) if capacity > 0 else [0] * len(claims)
    return tuple(Grant(each.queues, n, each.priority) for each, n in zip(claims, slots, strict=True)), holding


def hold(demand: Demand, before: Held, now: float) -> Held:
    """Up at once, down only from the highest peak of the window; whole slots with a dead band around them."""
    queue = demand.queue
    window = stabilization(demand)
    peaks = tuple((at, wanted) for at, wanted in before.peaks if at > now - window and wanted > demand.wanted)
    if not peaks or now - peaks[-1][0] >= window / _PARTS:
        peaks = (*peaks, (now, demand.wanted))
    level = peaks[0][1]
    owns = level >= (SHARE_BELOW if before.own else OWN_FROM)
    slots = max(_steady(level, before.own, queue.priority) if owns else 0, queue.min_slots)
    return Held(peaks, slots if queue.max_slots is None else min(slots, queue.max_slots))


def _steady(level: float, held: int, priority: int) -> int:
    """Whole slots for ``level``; those held, while the level stays within the dead band of them."""
    band = dead_band(priority)
    if held and held * (1 - band) <= level <= held * (1 + band):
        return held
    return max(1, math.ceil(level - 1e-9))


class _Pool:
    """Queues about to share: each runs shorter than any other may wait."""

    def __init__(self, demand: Demand, where: Mapping[str, Hashable]) -> None:
        self.key = _kin(demand, where)
        self.names = [demand.queue.name]
        self.slowest = demand.mean_time or 0.0
        self.delay = demand.queue.target_delay

    def fits(self, slowest: float, delay: float, slack: float = 1.0) -> bool:
        return slowest <= self.delay * slack and self.slowest <= delay * slack and len(self.names) < GROUP

    def add(self, names: Iterable[str], slowest: float, delay: float) -> None:
        self.names.extend(names)
        self.slowest = max(self.slowest, slowest)
        self.delay = min(self.delay, delay)


def _kin(demand: Demand, where: Mapping[str, Hashable]) -> tuple[Hashable, bool]:
    """Only equals share: queues that the same servers know, and apart those of one slot, which a second would break."""
    return where.get(demand.queue.name), demand.queue.max_slots == 1


def share(sharing: Mapping[str, Demand], before: Sequence[Names], where: Mapping[str, Hashable]) -> tuple[Names, ...]:
    """Groups of the queues that share, as near to the groups ``before`` as run times and delays allow."""
    pools: list[_Pool] = []
    seen: set[str] = set()
    for names in before:
        mine: list[_Pool] = []
        for demand in (sharing[name] for name in names if name in sharing and name not in seen):
            if _join(demand, mine, where, _SLACK) or not mine:
                seen.add(demand.queue.name)
            if not mine:
                mine.append(_Pool(demand, where))
        pools += mine
    for name, demand in sharing.items():
        if name not in seen and not _join(demand, pools, where, 1.0):
            pools.append(_Pool(demand, where))
    return tuple(sorted(tuple(sorted(pool.names)) for pool in _merged(pools)))


def _join(demand: Demand, pools: Iterable[_Pool], where: Mapping[str, Hashable], slack: float) -> bool:
    key, slowest, delay = _kin(demand, where), demand.mean_time or 0.0, demand.queue.target_delay
    for pool in pools:
        if pool.fits(slowest, delay, slack) and pool.key == key:
            pool.add([demand.queue.name], slowest, delay)
            return True
    return False


def _merged(pools: list[_Pool]) -> list[_Pool]:
    """Neighbours by run time become one where they fit; else groups that shrank would never be rejoined."""
    merged: list[_Pool] = []
    for pool in sorted(pools, key=lambda each: (each.slowest, -each.delay, each.names)):
        last = merged[-1] if merged else None
        if (
            last
            and last.key == pool.key
            and len(last.names) + len(pool.names) <= GROUP
            and last.fits(pool.slowest, pool.delay)
        ):
            last.add(pool.names, pool.slowest, pool.delay)
        else:
            merged.append(pool)
    return merged


def _folded(
    own: list[str], pools: Sequence[Names], capacity: int, served: Mapping[str, Demand], held: Mapping[str, Held]
) -> tuple[list[str], tuple[Names, ...]]:
    """Owners and groups, no more than there are slots: groups are thrown together, then the least owners join them."""
    if len(own) + len(pools) <= capacity:
        return own, tuple(pools)
    places = max(1, capacity - len(own))
    ranked = sorted(own, key=lambda name: (-served[name].queue.priority * held[name].own, name))
    kept = max(0, capacity - places)
    loose = sorted([*pools, *((name,) for name in ranked[kept:])], key=lambda names: (_pace(names, served), names))
    places = min(places, len(loose))
    cuts = [len(loose) * i // places for i in range(places + 1)]  # short with short, long with long
    groups = (loose[start:end] for start, end in pairwise(cuts))
    return sorted(ranked[:kept]), tuple(tuple(sorted(name for names in group for name in names)) for group in groups)


def _pace(names: Names, served: Mapping[str, Demand]) -> int:
    """The longest run time as a power of two: rough, so that its noise does not reshuffle the groups."""
    return math.frexp(max(served[name].mean_time or 0.0 for name in names))[1]


def _own_claim(demand: Demand, slots: int) -> _Claim:
    queue = demand.queue
    return _Claim((queue.name,), min(queue.min_slots, slots), slots, slots, queue.priority)


def _group_slots(names: Names, served: Mapping[str, Demand], held: Mapping[str, Held], before: int) -> int:
    """Slots that the members are worth together, within the least of their max."""
    priority = max(served[name].queue.priority for name in names)
    slots = _steady(sum(held[name].level for name in names), before, priority)
    return min(slots, _group_max(names, served, slots))


def _group_claim(names: Names, served: Mapping[str, Demand], target: int) -> _Claim:
    """A group is heard in two slots where there are two to spare: one long task must not silence it."""
    spare = max(target, 2) if len(names) > 1 else target
    priority = max(served[name].queue.priority for name in names)
    return _Claim(names, 1, target, min(spare, _group_max(names, served, spare)), priority)


def _group_max(names: Names, served: Mapping[str, Demand], otherwise: int) -> int:
    allowed = (served[name].queue.max_slots for name in names)
    return min((most for most in allowed if most is not None), default=otherwise)


def _dealt(claims: Sequence[_Claim], capacity: int) -> list[int]:
    """1. a listening place each, 2. minima by priority, 3. weighted max-min, 4. what is left to who can use it."""
    got = [1] * len(claims)
    left = capacity - len(claims)
    ranked = sorted(range(len(claims)), key=lambda i: (-claims[i].priority, claims[i].queues))
    for i in ranked:
        more = min(max(0, claims[i].least - got[i]), left)
        got[i], left = got[i] + more, left - more
    got = _filled(claims, got, left, ranked)
    left = capacity - sum(got)
    for i in ranked:
        more = min(max(0, claims[i].spare - got[i]), left)
        got[i], left = got[i] + more, left - more
    return got


def _filled(claims: Sequence[_Claim], got: list[int], left: int, ranked: Sequence[int]) -> list[int]:
    """Weighted max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2) above what each has got.

    The water level is found by halving; whole slots that rounding leaves go to the largest fractions.
    """
    if sum(max(0, claim.target - n) for claim, n in zip(claims, got, strict=True)) <= left:
        return [max(claim.target, n) for claim, n in zip(claims, got, strict=True)]
    low, high, total = 0.0, float(max(claim.target for claim in claims)), sum(got) + left
    for _ in range(50):
        level = (low + high) / 2
        low, high = (level, high) if sum(_shares(claims, got, level)) <= total else (low, level)
    shares = _shares(claims, got, low)
    filled = [math.floor(each + 1e-6) for each in shares]
    left = total - sum(filled)
    wanting = [i for i in ranked if filled[i] < claims[i].target]
    for i in sorted(wanting, key=lambda i: round(filled[i] - shares[i], 6))[:left]:
        filled[i] += 1
    return filled


def _shares(claims: Sequence[_Claim], got: Sequence[int], level: float) -> list[float]:
    return [max(n, min(claim.target, level * claim.priority)) for claim, n in zip(claims, got, strict=True)]
