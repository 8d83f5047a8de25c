"""The records that masters and the manager exchange through the queue server. Plain data, msgpack on the wire.

Times are seconds, memory is bytes. Unknown fields are ignored on reading, so that versions may meet while a new one
is rolled out.
"""

import functools
import hashlib
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from .given import MOST_OF_A_QUEUE
from .keys import NAME
from .packtimes import PackTimes

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding raises of what others wrote
MOST_SLOTS = 4096  # of one server: its scoreboard is sized for them
Name = Annotated[str, Meta(pattern=rf"\A{NAME.pattern}\Z")]
Index = Annotated[int, Meta(ge=0, lt=MOST_SLOTS)]
Whole = Annotated[int, Meta(ge=0)]
Slots = Annotated[int, Meta(ge=0, le=MOST_OF_A_QUEUE)]
Seconds = Annotated[float, Meta(ge=0, le=1e10)]  # neither below zero nor NaN


class Periodic(msgspec.Struct, frozen=True):
    """When a handler is to run by itself, and how: see ``periodic``."""

    every: Annotated[int, Meta(ge=1)] | None = None  # seconds; this or cron
    cron: str | None = None
    tz: str = "UTC"
    catch_up: str = "once"  # or skip, all
    overlap: bool = True
    signature: int = 0  # of its parameters, for the records of its ticks


class HandlerDeclared(msgspec.Struct, frozen=True):
    """What the manager must know of a handler."""

    name: Name
    batch: Annotated[int, Meta(ge=1)] = 1
    time_limit: float | None = None
    periodic: Periodic | None = None


class QueueDeclared(msgspec.Struct, frozen=True):
    """What an application declares of a queue, its settings file already applied."""

    name: Name
    priority: Annotated[int, Meta(ge=1, le=100)] = 50
    min_slots: Slots = 0
    max_slots: Slots | None = None
    target_delay: Seconds = 5.0
    lock: Seconds = 60.0
    memory: Whole | None = None  # bytes of one slot, if the application says so
    rate: Annotated[float, Meta(gt=0, le=1e10)] | None = None  # tasks a second that may begin, in the whole cluster
    durability: str = "fast"  # what a put waits for: fast, fsync, replicated(n, timeout)
    dedupe_window: float = 0.0  # seconds that the id of a finished task is still known
    max_size: int = 1 << 20  # bytes of one task's arguments
    handlers: tuple[HandlerDeclared, ...] = ()


class Declared(msgspec.Struct, frozen=True):
    """All queues of one generation of an application; stored once under its digest."""

    queues: tuple[QueueDeclared, ...]

    def digest(self) -> str:
        """The name under which this declaration is stored: equal declarations share one."""
        return hashlib.blake2b(msgspec.msgpack.encode(self), digest_size=12).hexdigest()


class SlotReport(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One slot as its master sees it. A manager reads 900,000 of them a second: short, and nothing to collect."""

    index: Index
    pid: int
    generation: int
    state: str  # starting, idle, taking, busy, leaving
    queues: tuple[str, ...]
    task: str | None = None
    handler: str | None = None
    task_age: Seconds | None = None
    done: int = 0
    pss: int | None = None
    private: int | None = None
    queue: str | None = None  # that of the running task; the slot may have left it since


class Report(msgspec.Struct, frozen=True):
    """What a master publishes about itself once a second."""

    server: str
    incarnation: str
    host: str
    pid: int
    generation: int
    declared: str  # digest of what its application declares; "" while no mold is ready
    budget: int  # bytes that slots may use in all, those alive included
    max_slots: int
    pss: int  # of mold and slots together
    free_memory: int
    slot_size: int  # bytes to count for a slot of a queue that has no size of its own
    slot_sizes: dict[str, int]  # queue -> bytes of one grown slot
    epoch: int  # of the map row in force
    seq: int
    draining: bool = False
    slots: tuple[SlotReport, ...] = ()
    my_world_slots: int | None = None  # by My World's formula: (PSS of all + free memory - reserve) / average PSS
    bound: str = ""  # what keeps max_slots from being higher: memory, setting, ramp, cpu, pressure
    reason: str = ""  # the same in words, with the figures
    reserve: int = 0  # bytes that slots leave free
    total_memory: int = 0  # of the host, or the tightest limit that holds this server
    swap: int = 0  # part of mold and slots that is swapped out
    deaths: dict[str, int] = {}  # ends of slots since the master's start, by reason
    parked: dict[str, str] = {}  # queue -> why this server tries only one slot for it every half minute


class MapRow(msgspec.Struct, frozen=True):
    """What one server is to do: the queues of slot 0, 1, 2, …; an empty tuple is a slot that need not exist."""

    epoch: int
    seq: int
    manager: str
    slots: tuple[tuple[str, ...], ...]


class Orders(msgspec.Struct, frozen=True):
    """What people want of one server, wherever they are."""

    draining: bool = False  # until they take it back
    recycle: dict[int, tuple[int, int]] = {}  # slot -> the pid of its tenant that is to leave, when it was said


class HandlerStats(msgspec.Struct, frozen=True):
    """What waits for one handler of a queue."""

    name: str
    active: int = 0
    inactive: int = 0
    oldest: float = 0.0  # age of the oldest active task
    open: bool = True  # neither it nor its queue is paused


class QueueStats(msgspec.Struct, frozen=True):
    """One queue as the ``stats`` script sees it; counters are cumulative since the queue's first task."""

    name: str
    now: float  # the queue server's clock
    active: int = 0
    inactive: int = 0
    locked: int = 0
    buried: int = 0
    oldest: float = 0.0  # age of the oldest active task
    put: int = 0
    taken: int = 0
    returned: int = 0  # of those taken, handed back untouched
    done: int = 0
    failed: int = 0
    crashed: int = 0
    busy: float = 0.0  # seconds that handlers ran, all in all
    packs: int = 0
    empty: int = 0  # takes that found nothing
    lost: int = 0  # of those taken, given back because their slot or server was lost
    burials: int = 0
    deleted: int = 0
    dropped: int = 0
    unkept: int = 0  # of those done, whose results could not be stored
    renewed: int = 0  # of those taken, put back because they were replaced or rearmed while they ran
    parked: int = 0  # tasks of paused collections that have come to the head of the queue; not among the active
    takeable: int = 0  # of the active, those that a slot may take now: not paused, not beyond the rate
    expired: int = 0  # locks whose time is over
    paused: bool = False
    gates: tuple[str, ...] = ()  # what is paused or being dropped: queue:, handler:NAME, collection:NAME, drop:NAME
    reasons: dict[str, str] = {}  # gate -> why, of those that have closed by themselves
    packing: PackTimes = PackTimes()
    handlers: tuple[HandlerStats, ...] = ()  # those that ever had a task here

    @property
    def tasks(self) -> int:
        """All living tasks."""
        return self.active + self.inactive + self.locked + self.parked + self.buried


def merged(parts: Sequence[QueueStats]) -> QueueStats:
    """The counts of a queue that lives on several servers: sums, the oldest of all, closed gates of any."""
    if len(parts) == 1:
        return parts[0]
    apart = {"name", "now", "oldest", "paused", "gates", "reasons", "packing", "handlers"}
    counted = set(QueueStats.__struct_fields__) - apart
    chosen = {name: sum(getattr(part, name) for part in parts) for name in counted}
    gates = tuple(sorted({gate for part in parts for gate in part.gates}))
    reasons = {gate: why for part in parts for gate, why in part.reasons.items()}
    oldest, paused = max(part.oldest for part in parts), any(part.paused for part in parts)
    return QueueStats(
        parts[0].name, parts[0].now, oldest=oldest, paused=paused, gates=gates, reasons=reasons,
        packing=functools.reduce(PackTimes.plus, (part.packing for part in parts)), handlers=_handlers(parts), **chosen,
    )  # fmt: skip


def _handlers(parts: Sequence[QueueStats]) -> tuple[HandlerStats, ...]:
    found: dict[str, HandlerStats] = {}
    for each in (each for part in parts for each in part.handlers):
        before = found.get(each.name, HandlerStats(each.name, open=False))
        found[each.name] = HandlerStats(
            each.name, before.active + each.active, before.inactive + each.inactive, max(before.oldest, each.oldest),
            before.open or each.open,
        )  # fmt: skip
    return tuple(found[name] for name in sorted(found))


class QueuePlan(msgspec.Struct, frozen=True):
    """The numbers behind one queue's slots in the published plan."""

    name: str
    priority: int
    min: int
    max: int | None
    wanted: float
    granted: float
    load: float | None  # (busy + backlog) / slot time; above 1 when a backlog waits; None without a slot
    rate: float  # tasks finished a second
    arrivals: float  # tasks put a second
    mean_time: float | None  # seconds a task
    reason: str  # one sentence: why this many
    pinned: int | None = None  # slots that people have pinned it to
    target_delay: float | None = None
    p95: float | None = None  # seconds for which a slot is away in 19 of 20 times; None while nothing has run
    slots: int = 0  # whole slots: its own, or those that it shares
    shares: tuple[str, ...] = ()  # the queues that it shares them with
    need: int = 0  # whole slots by what is wanted now, before any shortage; 0 if it could share
    kept: int = 0  # whole slots by the peak
    peak: float = 0.0  # the most that was wanted within the window
    window: float = 0.0  # s for which a peak is kept
    dead_band: float = 0.0  # part of what it holds by which demand may change without effect
    waits: float = 0.0  # seconds that its tasks wait, as far as it can be foreseen
    away: int = 0  # slots told to serve it that still end a task of another queue
    found: int = 0  # slots that a new manager found and does not judge yet
    haste: float = 0.0  # 0 to 1: how late it was, in a hurry, within the time for which a need stays


class Plan(msgspec.Struct, frozen=True):
    """The newest decision of the manager, for people."""

    epoch: int
    seq: int
    manager: str
    published: float
    queues: tuple[QueuePlan, ...]
    declared: tuple[str, ...] = ()  # digests of the declarations it was made from, the newest last


def pack(record: msgspec.Struct) -> bytes:
    """A record as msgpack."""
    return msgspec.msgpack.encode(record)
