"""A slot as the queue server sees it, without a process: it counts its requests as a slot does."""

from collections.abc import Iterable, Mapping
from typing import Any

from qslots.control import Control
from qslots.keys import PULSE
from qslots.outcomes import Outcome
from qslots.queueserver import Exchange, Pack, QueueServer
from qslots.records import formed, header
from qslots.reports import Declared, QueueStats, Report

QUEUE = "q"
HANDLER = "h"


def put(
    server: QueueServer, *ids: str, handler: str = HANDLER, queue: str = QUEUE, body: bytes = b"\x80",
    collection: str = "", **how: Any,
) -> int:  # fmt: skip
    """Stores a task of each id."""
    return server.put(queue, handler, header(handler, 7, collection), ids, [formed(body)] * len(ids), **how)


def stats(server: QueueServer, queue: str = QUEUE) -> QueueStats:
    """The counts of the queue."""
    return server.stats([queue])[0]


def resume_long_ago(server: QueueServer) -> None:
    """As if the server had served without a gap for an hour: locks may expire."""
    now = micros_now(server)
    server.redis.hset(PULSE, mapping={"last": now, "resumed": now - 3_600_000_000})


def micros_now(server: QueueServer) -> int:
    """The server's clock."""
    seconds, micros = server.redis.time()
    return int(seconds) * 1_000_000 + int(micros)


def ids(answer: Exchange) -> list[str]:
    """The tasks of an answer, none if it has no pack."""
    return [each.decode() for each in answer.pack.ids] if answer.pack else []


class Holder:
    """One incarnation of a slot."""

    def __init__(self, server: QueueServer, name: str, queue: str = QUEUE, ttl: float = 60.0) -> None:
        self.server = server
        self.name = name
        self.queue = queue
        self.ttl = ttl
        self.seq = 0
        self.held: int | None = None
        self.pack: Pack | None = None

    def take(self, most: int | Mapping[str, int] = 100, **how: Any) -> Exchange:
        """Settles what it holds as done and takes the next pack."""
        self.seq += 1
        return self.again(most, **how)

    def again(self, most: int | Mapping[str, int] = 100, **how: Any) -> Exchange:
        """The last request once more, or the first time."""
        want = {HANDLER: most} if isinstance(most, int) else most
        answer = self.server.exchange(self.queue, self.name, self.seq, settle=self.held, want=want, ttl=self.ttl, **how)
        self.pack = answer.pack
        return answer

    @property
    def ids(self) -> list[str]:
        """The tasks of the last pack."""
        return [task.decode() for task in self.pack.ids] if self.pack else []

    def keep(self, answer: Exchange) -> list[str]:
        """Notes the pack as held, as a slot does when it has read the answer; returns its ids."""
        self.held = self.seq if answer.pack else None
        return ids(answer)

    def work(self, most: int | Mapping[str, int] = 100) -> list[str]:
        """Takes, and holds what it got."""
        return self.keep(self.take(most))

    def settle(self, outcomes: Mapping[int, Outcome], **how: Any) -> bool:
        """Says how tasks of the held pack ended."""
        return self.server.settle(self.queue, self.name, self.held or 0, outcomes, **how)

    def release(self, done: Iterable[int] = (), *, leave: bool = False, busy: float = 0.0) -> bool:
        """Hands back what is not done (positions from 1)."""
        return self.server.release(self.queue, self.name, held=self.held, marks=marks(done), busy=busy, leave=leave)

    def die(self, outcomes: Mapping[int, Outcome] | None = None, done: Iterable[int] = (), rest: str = "back",
            why: str = "", busy: float = 0.0) -> bool:  # fmt: skip
        """What its master does for it afterwards."""
        return self.server.settle_dead(
            self.queue, self.name, held=self.held, asked=self.seq, outcomes=outcomes or {}, marks=marks(done),
            rest=rest, why=why, busy=busy,
        )  # fmt: skip


def marks(done: Iterable[int]) -> bytes:
    """Done marks as in the scoreboard."""
    positions = set(done)
    return bytes(position in positions for position in range(1, max(positions, default=0) + 1))


def report_loaded(server: QueueServer, declared: Declared) -> None:
    """As if a master had reported that it has loaded an application that declares this."""
    loaded = Report(
        server="web", incarnation="i", host="h", pid=1, generation=1, declared=declared.digest(), budget=1, max_slots=1,
        pss=0, free_memory=1, slot_size=1, slot_sizes={}, epoch=1, seq=1,
    )  # fmt: skip
    Control(server).report(loaded, declared)
