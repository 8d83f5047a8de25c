"""What the master asks of its courier, and what the courier answers. Plain data; msgpack over a ``Wire``.

A request carries a number; its answer carries the same. Requests may be sent again to a new courier: every one of them
may be repeated.
"""

import msgspec

from qslots.debts import Owed
from qslots.outcomes import Outcome
from qslots.reports import Declared, MapRow, Orders, Report

from .state import State


class Connect(msgspec.Struct, tag="connect"):
    """The first letter for the queue server that keeps map and reports: which one it is, and who we are. Other
    incarnations that begin with ``place`` are dead.
    """

    url: str
    server: str
    incarnation: str
    place: str
    gone_after: float


class Join(msgspec.Struct, tag="join"):
    """The first letter for any other queue server: nothing is registered there."""

    url: str
    server: str


class Beat(msgspec.Struct, tag="beat"):
    """Say to a queue server that gets no reports that it is served."""


class SendReport(msgspec.Struct, tag="report"):
    """Publish this."""

    report: Report
    declared: Declared | None


class SettleDead(msgspec.Struct, tag="settle"):
    """End what a dead slot left in one source (a queue on its server), exactly as its scoreboard record says."""

    source: str
    holder: str
    held: int | None
    asked: int
    outcomes: dict[int, Outcome]
    marks: bytes
    rest: str
    why: str
    charged: str = ""  # the id of the task that is charged with a crash, if one is
    busy: float = 0.0  # seconds that it worked on the pack and that the queue server was not told of


class Pay(msgspec.Struct, tag="pay"):
    """Settle a pack that a slot could not settle itself, its server being away."""

    holder: str
    owed: Owed


class Relieve(msgspec.Struct, tag="relieve"):
    """Settle what is marked of a living slot's pack, and give back what it cannot get to."""

    source: str
    holder: str
    seq: int
    back: dict[int, Outcome]
    marks: bytes
    window: float


class Extend(msgspec.Struct, tag="extend"):
    """Give the locks of living slots a full ttl (seconds) again."""

    source: str
    ttl: float
    locks: list[str]


class Measure(msgspec.Struct, tag="measure"):
    """Measure these processes, in this order, as far as the processor time allowed (seconds) goes."""

    pids: list[int]
    allowed: float


class Find(msgspec.Struct, tag="find"):
    """Find out whether these queues (with the handlers that are known here) have tasks that may be taken now."""

    handlers: dict[str, list[str]]


class Park(msgspec.Struct, tag="park"):
    """Close the gate of a handler: its tasks end their slots, one after the other."""

    queue: str
    handler: str
    why: str


class Reopen(msgspec.Struct, tag="reopen"):
    """Open the log file anew: it was moved away."""

    path: str


class SaveState(msgspec.Struct, tag="state"):
    """Write this to disk, whatever becomes of it in the queue server."""

    path: str
    state: State


class Leave(msgspec.Struct, tag="leave"):
    """Take this master off the books."""


Letter = (
    Connect
    | Join
    | Beat
    | SendReport
    | SettleDead
    | Pay
    | Relieve
    | Extend
    | Measure
    | SaveState
    | Find
    | Park
    | Leave
    | Reopen
)
KEPT = (Connect, Join, SettleDead, Pay, Park, Leave)  # sent again until they are answered


class Request(msgspec.Struct, array_like=True):
    """A letter and its number."""

    number: int
    letter: Letter


class Heard(msgspec.Struct, tag="heard"):
    """Answer to a report: this server's row of the map, whether the declaration is wanted, people's orders, and the
    seconds since a manager has published."""

    row: MapRow | None
    wanted: bool
    orders: Orders = Orders()
    planned: float | None = None


class Extended(msgspec.Struct, tag="extended"):
    """Answer to Extend: when the request was sent (ns since boot), and which locks are gone."""

    asked: int
    gone: list[str]


class Sized(msgspec.Struct, array_like=True):
    """One process, bytes."""

    pss: int
    size: int  # private + SwapPss + page tables: what comes free with its end
    grown: int  # Private_Dirty + SwapPss: what its own writing has made private
    swap: int = 0  # SwapPss


class Strain(msgspec.Struct, array_like=True):
    """How hard the machine works; parts are 0 to 1."""

    cpus: float  # processors that we may use: the least of affinity and quotas
    busy: float  # part of them that was in use since the reading before
    load: float  # processes that ran or waited in the last minute, for each processor of the host
    cpu_pressure: float = 0.0  # part of the last ten seconds in which some process waited for a processor
    memory_pressure: float = 0.0


class Measured(msgspec.Struct, tag="measured"):
    """Answer to Measure: what could be had on this machine, and each process by its pid, None if refused."""

    available: int
    total: int
    sizes: dict[int, Sized | None]
    strain: Strain
    spent: float = 0.0  # seconds of processor time that all of this took
    gone: list[int] = []


class Found(msgspec.Struct, tag="found"):
    """Answer to Find: how many tasks may be taken, by queue; those with none are left out."""

    waiting: dict[str, int]


class Parked(msgspec.Struct, tag="parked"):
    """Answer to Park: whether it was open until now."""

    by_this: bool


class Charged(msgspec.Struct, tag="charged"):
    """Answer to SettleDead that has charged a task: its crashes by now, and whether it is buried."""

    crashes: int
    is_buried: bool


class Done(msgspec.Struct, tag="done"):
    """It is done."""


class Failed(msgspec.Struct, tag="failed"):
    """It could not be done: ``code`` is down (try again), TAKEN or REPLACED (end), or refused (a fault of ours)."""

    code: str
    why: str
    serves_nobody: bool = False  # it is not there, or loads its data: nobody else gets our tasks meanwhile


Reply = Heard | Extended | Measured | Charged | Done | Failed | Found | Parked


class Answer(msgspec.Struct, array_like=True):
    """A reply and the number of its request."""

    number: int
    reply: Reply


encode = msgspec.msgpack.encode
read_request = msgspec.msgpack.Decoder(Request).decode
read_answer = msgspec.msgpack.Decoder(Answer).decode
