"""Every key of the queue server, each made by one function. Pure.

All scripts of a queue get the same vector of keys in the same order (``QueueKeys.vector``), those of slots a longer one
(``QueueKeys.slots_vector``), then the schedules and parking places that they may touch; so no script builds a key.
"""

import re

from .errors import SettingsError

PREFIX = "qs:"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,63}")

PULSE = (
    PREFIX + "pulse"
)  # HASH last, resumed, planned (µs): when the server last served, since when without a gap, when a manager published
QUEUES = PREFIX + "queues"  # SET of the names of all queues that ever had a task
DECLARED = PREFIX + "declared"  # HASH digest -> what a generation of an application declares (queues and handlers)
MASTERS = PREFIX + "masters"  # HASH server -> incarnation of its qmaster
REPORTS = PREFIX + "reports"  # HASH server -> its newest report
SEEN = PREFIX + "seen"  # ZSET server -> when its newest report came (µs)
EPOCH = PREFIX + "epoch"  # HASH epoch, seq, manager, published and begun (µs), resigned
MAP = PREFIX + "map"  # HASH server -> its row of the slot map
ORDERS = PREFIX + "orders"  # HASH server -> what people want of it, JSON
PINS = PREFIX + "pins"  # HASH queue -> slots that people have pinned it to
PLAN = PREFIX + "plan"  # STRING: the newest plan, for people and for the admin command


def check_name(name: object, what: str) -> str:
    """The name itself if it may stand in a key: letters, digits, ``_ . -``, 64 at most; else SettingsError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SettingsError(f"{what} {name!r}: use 1 to 64 letters, digits and _ . - , not beginning with . or -")
    return name


class QueueKeys:
    """The keys of one queue."""

    __slots__ = ("base", "slots_vector", "vector")

    PARTS = (
        "tasks",  # HASH id -> record
        "buried",  # ZSET id -> when (µs)
        "fate",  # HASH id -> [retries, failures, crashes, losses, last error]
        "again",  # HASH id -> what was said of a task while it was locked: [rearm | replace, time, record],
        # [gone, the counter of its end]
        "gates",  # HASH queue: | handler:X | collection:X -> paused[: reason] | resuming; drop:X -> instant (µs);
        # version of these; rate, tokens, filled (µs): the token bucket
        "counters",  # HASH: cumulative counts and busy time (µs); put:HANDLER counts what was put; see PackTimes
        "waiters",  # ZSET slot incarnation -> when it wakes by itself (µs)
        "wake",  # LIST of tokens
        "handlers",  # SET of the names of handlers that ever had a task here
        "finished",  # ZSET id -> until when (µs) a finished task is still known, where the queue asks for it
    )
    SLOTS_PARTS = (
        "packs",  # HASH lock -> [handler, [id, …], activation time (µs) of all, or [of each, …]]; the id of a task that
        # has ended is false
        "locks",  # ZSET lock -> expiry (µs)
        "holders",  # HASH slot incarnation -> last seq, or "dead"
    )

    def __init__(self, queue: str) -> None:
        self.base = f"{PREFIX}{{{queue}}}:"
        self.vector = [self.base + part for part in self.PARTS]
        self.slots_vector = [*self.vector, *(self.base + part for part in self.SLOTS_PARTS), PULSE]

    def part(self, name: str) -> str:
        """One of ``PARTS`` or ``SLOTS_PARTS``."""
        return self.base + name

    def schedule(self, handler: str) -> str:
        """ZSET id -> activation time (µs) of one handler: inactive (> now) and active (<= now) in one."""
        return f"{self.base}schedule:{handler}"

    def parked(self, collection: str) -> str:
        """ZSET id -> activation time (µs): tasks of a paused collection that have come to the head of a schedule."""
        return f"{self.base}parked:{collection}"

    @property
    def ticks(self) -> str:
        """HASH periodic handler -> up to when its ticks are stored, and what became of them: see ``ticks``."""
        return self.base + "ticks"

    def result(self, task: str) -> str:
        """STRING with a time to live: what a finished task has returned, where its handler keeps results."""
        return f"{self.base}result:{task}"

    def producer(self, producer: str) -> str:
        """STRING with a time to live: the number and the answer of this producer's last request."""
        return f"{self.base}producer:{producer}"

    @property
    def wake(self) -> str:
        """The list that idle slots block on."""
        return self.base + "wake"

    @property
    def handlers(self) -> str:
        """The set of handler names."""
        return self.base + "handlers"
