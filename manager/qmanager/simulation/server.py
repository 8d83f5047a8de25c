"""The servers of a simulated fleet, their slots and packs. They hold what is; ``fleet`` makes it happen."""

from dataclasses import dataclass

from qslots.lottery import Lottery, PackSize
from qslots.reports import Report, SlotReport

from .line import Line

Row = tuple[tuple[str, ...], ...]  # the queues of slot 0, 1, 2, …
SLOT_SIZE = 64 << 20  # bytes of a slot of a queue that declares none


@dataclass(frozen=True, slots=True)
class Size:
    """How large the fleet is. A slot of ordinary size (SLOT_SIZE) takes one place, a larger one more of the bytes."""

    servers: int
    slots: int  # of each server
    interval: float = 1.0  # s between two cycles of the manager
    lost_after: float = 5.0  # s after which a server that does not report is lost

    @property
    def capacity(self) -> int:
        """All slots of ordinary size."""
        return self.servers * self.slots


class Pack:
    """What a slot works on. ``starts``: when each of ``tasks`` begins; ``tail``: what stands behind a long one;
    ``whole``: nothing of it goes back.
    """

    __slots__ = ("begun", "line", "slot", "starts", "tail", "tasks", "whole")

    def __init__(self, slot: "Slot", line: Line, begun: float, tasks: list[int]) -> None:
        self.slot, self.line, self.begun, self.tasks = slot, line, begun, tasks
        self.starts = [begun]
        self.tail: list[int] = []
        self.whole = True


class Slot:
    """A place with its tenant."""

    __slots__ = ("bytes", "index", "leaving", "lines", "lottery", "names", "pack", "server", "sizes", "starting")

    def __init__(self, server: "Server", index: int, lines: list[Line]) -> None:
        self.server, self.index = server, index
        self.pack: Pack | None = None
        self.sizes: dict[str, PackSize] = {}
        self.leaving, self.starting = False, True
        self.serve(lines)

    def serve(self, lines: list[Line]) -> None:
        """It is told its queues."""
        self.lines = lines
        self.names = tuple(line.name for line in lines)
        self.bytes = max(line.declared.memory or SLOT_SIZE for line in lines)
        shared = {line.name: line.declared.priority for line in lines} if len(lines) > 1 else {}
        self.lottery = Lottery(shared)

    def report(self, now: float) -> SlotReport:
        """As its master would see it."""
        pack = self.pack
        state = "starting" if self.starting else "leaving" if self.leaving else "busy" if pack else "idle"
        if pack is None:
            return SlotReport(self.index, self.index + 1, 1, state, self.names)
        start = next((at for at in reversed(pack.starts) if at <= now), pack.begun)
        name = pack.line.name
        return SlotReport(
            self.index, self.index + 1, 1, state, self.names, "task", name, now - start, 0, None, None, name
        )  # fmt: skip


class Server:
    """One server: its slots, the row that it obeys, the row that was published for it."""

    __slots__ = ("alive", "name", "row", "seen", "tenants", "wanted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.tenants: dict[int, Slot] = {}
        self.row: Row = ()
        self.wanted: Row = ()
        self.seen: tuple[float, Report] | None = None
