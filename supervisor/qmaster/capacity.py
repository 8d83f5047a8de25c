"""How many slots this server can carry: arithmetic on readings. Bytes, seconds, and numbers of slots.

Pure: what was measured, the settings, the state of the turn before and ``now`` come in, the capacity and the next
state go out. It must never read a clock, a file or a process. Whoever spends the budget counts every slot, young or
grown, at the size of its queue: what the young will still grow is thereby booked, and starting them leaves the budget
as it was.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from qslots.units import portion

from .bounds import Bound, Limit, Work, brake, by_memory, others

WINDOW = 10.0  # seconds that readings must stay on one side of the budget before it follows them
RISE = 0.1  # of the budget, at most, in one window
SHRINK = 0.99  # of its size before is the least that a queue's slot is counted at in the next turn, a second later
FIRST_SLOTS = 2  # where the ramp 2, 4, 8, … begins
LEAST_SIZE = 128 << 10  # kernel stack and sockets of a slot, which no reading shows


@dataclass(frozen=True, slots=True)
class SlotReading:
    """One live slot. ``size`` is private + SwapPss + page tables, None while not measured or refused."""

    queues: tuple[str, ...]
    grown: bool  # old enough, or enough tasks served, that its size says what such a slot needs
    size: int | None = None
    pss: int = 0
    idle: bool = False  # it has never had a task: its size says little of what its queue needs


@dataclass(frozen=True, slots=True)
class Readings:
    """What was measured, bytes."""

    available: int  # could be had now, by host and cgroups
    total: int  # of the host, or the limit that holds us
    mold: int  # of a whole second mold: what the mold used before its first fork
    mold_pss: int  # of the mold now, its pages shared with the slots
    work: Work
    slots: tuple[SlotReading, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings and the application say."""

    private_limit: int  # bytes at which a slot is recycled: the size of a slot of which nothing is known
    reserve: tuple[float, int] = (0.1, 0)  # as ``qslots.units.share``: a part of ``total``, or bytes
    max_slots: int | None = None  # None: as many as memory carries
    declared: Mapping[str, int] = field(default_factory=dict)  # queue -> ``memory`` of one slot, where declared
    by_hand: bool = False  # ``max_slots`` was moved by TTIN or TTOU


@dataclass(frozen=True, slots=True)
class State:
    """What the next turn must know of this one. ``State()`` is that of a server that has just started."""

    budget: int | None = None
    side: int = 0  # of the budget on which the readings of this window lie: -1 below, 1 above
    since: float = 0.0  # start of the window
    nearest: int = 0  # reading of this window that is nearest to the budget
    measured: Mapping[str, int] = field(default_factory=dict)  # queue -> bytes; kept while its slots are all young
    ramp: int = FIRST_SLOTS
    held: int | None = None  # live slots when a brake stopped growth; None while none does


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the server can carry."""

    budget: int  # bytes that slots may use in all, those alive included; damped
    present: int  # the same by this moment's readings alone
    short: bool  # half of the reserve is gone
    reserve: int  # bytes that slots leave free
    limit: Limit  # the number of slots in the present mix of queues, and what keeps it there
    most: int  # the number that everything but memory allows
    slot_size: int  # bytes to count for a slot of a queue that has no size of its own
    slot_sizes: dict[str, int]  # queue -> bytes of one grown slot
    my_world_slots: int | None

    @property
    def max_slots(self) -> int:
        """The number of slots in the present mix of queues."""
        return self.limit.slots

    @property
    def bound(self) -> Bound:
        """What keeps that number from being higher."""
        return self.limit.bound

    def charge(self, queues: Iterable[str]) -> int:
        """Bytes to count for a slot, young or grown: the size of the largest of its queues."""
        return max([self.slot_sizes.get(queue, self.slot_size) for queue in queues], default=self.slot_size)


@dataclass(frozen=True, slots=True)
class Room:
    """What may be forked now: so many slots, as long as their sizes fit into the memory (bytes)."""

    places: int = 0
    memory: int = 0
    sizes: Mapping[int, float] = field(default_factory=dict)  # index -> bytes; inf for one that is not to be forked


def room(
    capacity: Capacity, live: Mapping[int, tuple[str, ...]], wanted: Mapping[int, tuple[str, ...]],
    *, empty: Collection[int] = (),
) -> Room:  # fmt: skip
    """Room for those of ``wanted`` that are not ``live`` (index -> queues), each at the size of its own queues.
    ``empty``: indexes that are to stay so.
    """
    missing = [index for index, queues in wanted.items() if queues and index not in live]
    sizes = {index: inf if index in empty else capacity.charge(wanted[index]) for index in missing}
    if not sizes or not capacity.max_slots:
        return Room()
    memory = min(capacity.budget, capacity.present) - sum(map(capacity.charge, live.values()))
    if not live:  # one must be tried, or no size is ever known
        memory = max(memory, min(capacity.charge(wanted[index]) for index in missing))
    return Room(max(0, capacity.most - len(live)), max(0, memory), sizes)


def assess(readings: Readings, policy: Policy, state: State, now: float) -> tuple[Capacity, State]:
    """The capacity at ``now`` (monotonic seconds) and the state for the next call, about once a second."""
    reserve = portion(policy.reserve, readings.total)
    measured = _followed(state.measured, measured_sizes(slot for slot in readings.slots if not slot.idle))
    unused = measured_sizes(slot for slot in readings.slots if slot.idle)
    sizes = {queue: max(LEAST_SIZE, size) for queue, size in {**unused, **policy.declared, **measured}.items()}
    charges = _charges(readings.slots, sizes, policy.private_limit)
    in_use = sum(_used(slot, charge) for slot, charge in zip(readings.slots, charges, strict=True))
    present = max(0, readings.available + in_use - reserve - readings.mold)
    step, short = _mean(charges, policy.private_limit), readings.available < reserve / 2
    budget, state = damp(state, present, now, step=step, short=short)
    ramp, held = _ramp(state.ramp, readings.slots), _held(state.held, readings)
    state = replace(state, measured=measured, ramp=ramp, held=held)

    # On a small server private_limit may exceed the budget: one slot must be tried, or no size is ever known.
    unknown = max(LEAST_SIZE, min(policy.private_limit, budget))
    mean = _mean(_charges(readings.slots, sizes, unknown), unknown)
    most = others(setting=policy.max_slots, by_hand=policy.by_hand, ramp=ramp, held=held, work=readings.work)
    capacity = Capacity(
        budget=budget,
        present=present,
        short=short,
        reserve=reserve,
        limit=min(by_memory(budget, mean), most, key=lambda limit: limit.slots),
        most=most.slots,
        slot_size=unknown,
        slot_sizes=sizes,
        my_world_slots=my_world(readings, reserve),
    )
    return capacity, state


def measured_sizes(slots: Iterable[SlotReading]) -> dict[str, int]:
    """Queue -> p90 of the sizes of its grown slots, bytes; a queue without any is absent.

    One p90 for all queues would be wrong: 9 big slots of 100 do not show in it, 10 do. A slot of several queues
    counts for each of them.
    """
    sizes: dict[str, list[int]] = {}
    for slot in slots:
        if slot.grown and slot.size is not None:
            for queue in slot.queues:
                sizes.setdefault(queue, []).append(slot.size)
    return {queue: p90(each) for queue, each in sizes.items()}


def _followed(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Sizes rise at once and fall slowly: the largest slot of a queue may have left, and the next will grow too."""
    return {**before, **{queue: max(size, int(before.get(queue, 0) * SHRINK)) for queue, size in now.items()}}


def p90(sizes: list[int]) -> int:
    """The least of the sizes that at least 90 % of them do not exceed (nearest rank); ``sizes`` is not empty."""
    return sorted(sizes)[(9 * len(sizes) + 9) // 10 - 1]


def damp(state: State, reading: int, now: float, *, step: int, short: bool) -> tuple[int, State]:
    """The budget after one more reading of it, both bytes, and the next state.

    Falls after a window of lower readings, to the highest of them, and at once when memory is ``short``. Rises after
    a window of higher readings, to the lowest of them, by at most 10 % or one slot (``step``), whichever is more.
    """
    budget = state.budget
    if budget is None or (short and reading < budget):
        return reading, replace(state, budget=reading, side=0, since=now, nearest=reading)
    side = _sign(reading - budget)
    if side != state.side:
        return budget, replace(state, side=side, since=now, nearest=reading)
    nearest = min(state.nearest, reading) if side > 0 else max(state.nearest, reading)
    if side == 0 or now - state.since < WINDOW:
        return budget, replace(state, nearest=nearest)
    budget = min(nearest, budget + max(int(budget * RISE), step))
    return budget, replace(state, budget=budget, side=_sign(reading - budget), since=now, nearest=reading)


def my_world(readings: Readings, reserve: int) -> int | None:
    """My World's number of slots, published beside ours; None before a slot is measured.

    PSS of mold and slots / slots = average; (that PSS + available - reserve) / average. It charges the whole mold to
    the slots there are, so it allows too few while they are few and comes near to ours as they grow many.
    """
    measured = [slot.pss for slot in readings.slots if slot.size is not None]
    pss = readings.mold_pss + sum(measured)
    if not measured or not pss:
        return None
    return max(0, (pss + readings.available - reserve) * len(measured) // pss)


def _charges(slots: Iterable[SlotReading], sizes: Mapping[str, int], unknown: int) -> list[int]:
    """Bytes to count for each live slot: the size of the largest of its queues."""
    return [max([sizes.get(queue, unknown) for queue in slot.queues], default=unknown) for slot in slots]


def _mean(charges: list[int], unknown: int) -> int:
    """Bytes of a slot in the present mix of queues."""
    return max(LEAST_SIZE, sum(charges) // len(charges) if charges else unknown)


def _used(slot: SlotReading, charge: int) -> int:
    """Bytes of the budget that the slot holds now.

    Never more than its charge: what one slot uses beyond that is nothing that another could have. A grown slot that
    may not be measured is taken at its charge; a young one has hardly begun to grow.
    """
    if slot.size is None:
        return charge if slot.grown else 0
    return min(slot.size, charge)


def _ramp(ramp: int, slots: Iterable[SlotReading]) -> int:
    """Doubled for as long as that many slots have grown, so that sizes are known before many slots are forked."""
    grown = sum(slot.grown for slot in slots)
    while grown >= ramp:
        ramp *= 2
    return ramp


def _held(held: int | None, readings: Readings) -> int | None:
    """The number of slots at which a brake found us: one that is recycled meanwhile may come back."""
    if brake(readings.work) is None:
        return None
    return len(readings.slots) if held is None else held


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
