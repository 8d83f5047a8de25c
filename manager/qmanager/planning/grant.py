"""Who gets how many of the cluster's slots. Pure: demands, capacity and the last holding in, grants out.

It knows no servers and no bytes, only a number of slots. Nobody with a handler goes unheard while there is one slot;
what is worth less than a slot shares one. What is wanted now comes before what is kept of a recent peak, and nothing
is kept that is not there: a peak that is over makes nobody grow. The holding (recent peaks, who owns and who shares)
is handed back to the caller as data and is taken before capacity cuts it, so that a shortage cannot make it swing.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

from .dealing import Claim, dealt
from .demand import USUAL, Demand
from .history import WINDOW

Names = tuple[str, ...]  # the queues of a slot, sorted

OWN_FROM = 1.0  # worth at which a queue gets a slot of its own
SHARE_BELOW = 0.6  # worth below which it gives it up
GROUP = 32  # most queues that share: a slot waits on all of them
CARE = 0.75  # s for which a need stays, for each step of priority above the usual one
_SLACK = 1.5  # run times may exceed the others' delay by this before a group is parted
_PARTS = 60  # peaks are remembered in steps of 1/60 of the stabilization window


@dataclass(frozen=True, slots=True)
class Held:
    """What must be remembered of one queue, or of several that share."""

    peaks: tuple[tuple[float, float], ...] = ()  # (instant, wanted), wanted falling: a sliding maximum
    own: int = 0  # whole slots by the highest peak; 0 while a queue shares
    need: int = 0  # whole slots by what is wanted now; 0 while a queue could share
    haste: float = 0.0  # the most that it was late, in a hurry, while what it needed then stays needed
    hasty: float = 0.0  # when that was
    found: int = 0  # slots in the map when this manager began; they count as needed until it knows better
    since: float = 0.0  # when that was

    @property
    def level(self) -> float:
        """The most that was wanted within the stabilization window."""
        return self.peaks[0][1] if self.peaks else 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """What must be remembered between two cycles."""

    queues: Mapping[str, Held] = field(default_factory=dict)
    groups: Mapping[Names, Held] = field(default_factory=dict)  # of those who share


@dataclass(frozen=True, slots=True)
class Grant:
    """Slots for one queue, or for several that share them."""

    queues: Names
    slots: int
    priority: int
    need: int = 0  # of them by what is wanted now; the others are kept, or a second place to listen
    asked: int = 0  # by what is wanted now, were there no shortage


def stabilization(demand: Demand) -> float:
    """Seconds for which a peak is kept: longer for urgent queues, and as long as a task takes, up to an hour."""
    return max(60.0 + 2.0 * demand.queue.priority, min(demand.mean_time or 0.0, 3600.0))


def care(priority: int) -> float:
    """Seconds for which a need stays needed: a slot that was lent to a long task is not there for the next burst."""
    return CARE * max(0, priority - USUAL)


def dead_band(priority: int) -> float:
    """The part of what is held by which demand may rise or fall without effect: 20 % at priority 0, 5 % at 100."""
    return 0.2 - 0.0015 * priority


def remembered(counts: Mapping[Names, int], now: float) -> Holding:
    """The holding of a manager that has just begun: what the map says, as if it were wanted now.

    An empty memory is no proof of idleness: it takes nothing away until rates are known, and without a shortage not
    for a full stabilization window.
    """
    found = {
        names: Held(((now, float(count)),), own=count, need=count, found=count, since=now)
        for names, count in counts.items()
    }
    own = {names[0]: held for names, held in found.items() if len(names) == 1}
    return Holding(own, {names: held for names, held in found.items() if len(names) > 1})


def _still_found(before: Held, now: float, mean_time: float | None) -> int:
    """What a new manager found counts for as long as arrivals are averaged over: before that they are a guess."""
    return before.found if now < before.since + max(WINDOW, min(2.0 * (mean_time or 0.0), 3600.0)) else 0


def grant(
    demands: Iterable[Demand], capacity: int, before: Holding, now: float, where: Mapping[str, Hashable],
    present: Mapping[Names, int],
) -> tuple[tuple[Grant, ...], Holding]:  # fmt: skip
    """Grants of at most ``capacity`` slots in all, and the holding for the next cycle.

    where    per queue a key of the servers that can serve it; only queues of one key share
    present  slots in the map in force, by the queues they serve: no more than that is kept of a peak
    """
    served = {each.queue.name: each for each in sorted(demands, key=lambda each: each.queue.name) if each.served}
    held = {name: hold(demand, before.queues.get(name, Held()), now) for name, demand in served.items()}
    for own in _owners(held, present):
        sharing = {name: served[name] for name in sorted(served.keys() - own)}
        guests = _guests(served, own, before.groups)
        pools = share(sharing, tuple(before.groups), where, guests)
        members = {names: tuple(name for name in names if name in sharing) for names in pools}
        groups = {
            names: _together(members[names], served, held, before.groups.get(names, Held()), now) for names in pools
        }
        alone = [_own_claim(served[name], held[name], present) for name in own]
        claims = [*alone, *(_group_claim(names, served, groups[names], present) for names in pools)]
        if sum(each.heard for each in claims) <= capacity:
            break
    if len(claims) > capacity:
        claims = _folded(alone, [*members.values()], capacity, served, held)
    slots = dealt(claims, capacity) if capacity > 0 else [0] * len(claims)
    grants = tuple(
        Grant(each.queues, n, each.priority, min(n, each.target), each.target)
        for each, n in zip(claims, slots, strict=True)
    )
    return grants, Holding(held, groups)


def _guests(served: Mapping[str, Demand], own: Iterable[str], groups: Iterable[Names]) -> dict[str, Demand]:
    """Owners that shared before: they are heard where they were, too, or each burst of one would change all slots of
    its group, and its end once more. Who has a max must not be heard beyond it.
    """
    stay = {name for names in groups for name in names}
    return {name: served[name] for name in own if name in stay and served[name].queue.max_slots is None}


def _owners(held: Mapping[str, Held], present: Mapping[Names, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who has slots of its own: while there is room, also those who keep one; in a shortage only those who need one."""
    keeping = tuple(name for name, each in held.items() if each.need or _kept((name,), each, present))
    return keeping, tuple(name for name in keeping if _needed((name,), held[name], present))


def _kept(names: Names, held: Held, present: Mapping[Names, int]) -> int:
    """What is left of a recent peak: no more than is there."""
    return min(held.own, present.get(names, 0))


def _needed(names: Names, held: Held, present: Mapping[Names, int]) -> int:
    return max(held.need, min(held.found, _kept(names, held, present)))


def hold(demand: Demand, before: Held, now: float) -> Held:
    """Up at once, down only from the highest peak of the window; whole slots with a dead band around them."""
    queue = demand.queue
    window = stabilization(demand)
    peaks = _recent(_by_now(before.peaks, now), now - window, demand.wanted)
    if not peaks or now - peaks[-1][0] >= window / _PARTS:
        peaks = (*peaks, (now, demand.wanted))
    level = peaks[0][1]
    owns = level >= (SHARE_BELOW if before.own else OWN_FROM)
    own = max(_steady(level, before.own, queue.priority) if owns else 0, queue.min_slots)
    wanted = _lately(demand, peaks, now)
    needs = wanted >= (SHARE_BELOW if before.need else OWN_FROM)
    need = max(_steady(wanted, before.need, queue.priority) if needs else 0, queue.min_slots)
    most = own if queue.max_slots is None else min(own, queue.max_slots)
    haste, hasty = _haste(demand, before, now)
    found = _still_found(before, now, demand.mean_time)
    return Held(peaks, most, min(need, most), haste, hasty, found, since=min(before.since, now))


def _haste(demand: Demand, before: Held, now: float) -> tuple[float, float]:
    """The highest haste of late and when it was: who fell back to its share at once would soon be late anew."""
    if demand.haste < before.haste and before.hasty <= now < before.hasty + care(demand.queue.priority):
        return before.haste, before.hasty
    return demand.haste, now


def _by_now(peaks: tuple[tuple[float, float], ...], now: float) -> tuple[tuple[float, float], ...]:
    """Where the clock was set back: what lies in the future is of now."""
    if not peaks or peaks[-1][0] <= now:
        return peaks
    return tuple((min(instant, now), wanted) for instant, wanted in peaks)


def _recent(peaks: tuple[tuple[float, float], ...], instant: float, wanted: float) -> tuple[tuple[float, float], ...]:
    """Those after ``instant`` that are above what is wanted now: as they fall with time, it is a part of them."""
    first, last = 0, len(peaks)
    while last and peaks[last - 1][1] <= wanted:
        last -= 1
    while first < last and peaks[first][0] <= instant:
        first += 1
    return peaks[first:last]


def _lately(demand: Demand, peaks: Iterable[tuple[float, float]], now: float) -> float:
    """The most that was wanted within the time of ``care``."""
    since = now - care(demand.queue.priority)
    return max([demand.wanted, *(wanted for instant, wanted in peaks if instant > since)])


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
        self.slowest = demand.run_time
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


def share(
    sharing: Mapping[str, Demand], before: Sequence[Names], where: Mapping[str, Hashable],
    guests: Mapping[str, Demand] = MappingProxyType({}),
) -> tuple[Names, ...]:  # fmt: skip
    """Groups of the queues that share, as near to the groups ``before`` as run times and delays allow.

    ``guests`` stay in the group that they were in, but make none and join no other.
    """
    pools: list[_Pool] = []
    seen: set[str] = set()
    present = {**sharing, **guests}
    for names in before:
        mine: list[_Pool] = []
        if sharing.keys().isdisjoint(names):
            continue
        ranked = sorted((name for name in names if name in present and name not in seen), key=guests.__contains__)
        for demand in (present[name] for name in ranked):
            if demand.queue.name in guests and not mine:
                break
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
    key, slowest, delay = _kin(demand, where), demand.run_time, demand.queue.target_delay
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
    own: Sequence[Claim], pools: Sequence[Names], capacity: int, served: Mapping[str, Demand],
    held: Mapping[str, Held],
) -> list[Claim]:  # fmt: skip
    """No more claims than there are slots: groups are thrown together, then the least owners join them."""

    def weight(claim: Claim) -> tuple[int, Names]:
        # By the peak, so that it rests; one beyond all there is says no more than one of all there is.
        return -claim.priority * min(held[claim.queues[0]].own, capacity), claim.queues

    ranked = sorted(own, key=weight)
    kept, joining = ranked[: max(0, capacity - 1)], ranked[max(0, capacity - 1) :]
    loose = sorted([*pools, *(each.queues for each in joining)], key=lambda names: (_pace(names, served), names))
    places = min(max(1, capacity - len(kept)), len(loose))
    cuts = [len(loose) * i // places for i in range(places + 1)]  # short with short, long with long
    parts = (loose[start:end] for start, end in pairwise(cuts))
    groups = [tuple(sorted(name for names in part for name in names)) for part in parts]
    shared = [_group_claim(names, served, _together(names, served, held, Held(), 0.0), {}) for names in groups]
    return [*sorted(kept, key=lambda each: each.queues), *shared]


def _pace(names: Names, served: Mapping[str, Demand]) -> int:
    """The longest run time as a power of two: rough, so that its noise does not reshuffle the groups."""
    return math.frexp(max(served[name].run_time for name in names))[1]


def _own_claim(demand: Demand, held: Held, present: Mapping[Names, int]) -> Claim:
    queue, names = demand.queue, (demand.queue.name,)
    target = max(1, _needed(names, held, present))
    spare = max(target, _kept(names, held, present))
    away = demand.away if queue.max_slots is None else min(demand.away, max(0, queue.max_slots - target))
    late = max(demand.late, held.haste)
    return Claim(names, min(queue.min_slots, target), target, target, spare, queue.priority, late, held.haste, away)


def _together(
    names: Names, served: Mapping[str, Demand], held: Mapping[str, Held], before: Held, now: float
) -> Held:  # fmt: skip
    """Slots that the members are worth together, within the least of their max."""
    priority = max(served[name].queue.priority for name in names)
    window = max(stabilization(served[name]) for name in names) if before.peaks else 0.0
    peaks = tuple(peak for peak in before.peaks if now - window < peak[0] <= now)  # the members have their own
    level = max(sum(held[name].level for name in names), peaks[0][1] if peaks else 0.0)
    own = _steady(level, before.own, priority)
    need = _steady(sum(_lately(served[name], held[name].peaks, now) for name in names), before.need, priority)
    most = _group_max(names, served, own)
    haste = max(held[name].haste for name in names)
    found = _still_found(before, now, max(served[name].mean_time or 0.0 for name in names))
    return Held(peaks, min(own, most), min(need, own, most), haste, now, found, since=min(before.since, now))


def _group_claim(names: Names, served: Mapping[str, Demand], held: Held, present: Mapping[Names, int]) -> Claim:
    """A group is heard in two slots where there are two to spare: one long task must not silence it."""
    target = _needed(names, held, present)
    heard = max(target, min(2, _group_max(names, served, 2))) if len(names) > 1 else target
    priority = max(served[name].queue.priority for name in names)
    late = max(held.haste, *(served[name].late for name in names))
    return Claim(names, 1, target, heard, max(heard, _kept(names, held, present)), priority, late, held.haste)


def _group_max(names: Names, served: Mapping[str, Demand], otherwise: int) -> int:
    allowed = (served[name].queue.max_slots for name in names)
    return min((most for most in allowed if most is not None), default=otherwise)
