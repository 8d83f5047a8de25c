"""What masters and the manager say to each other through the queue server: registration, reports, the slot map.

Every operation is one script; errors are those of ``qslots.errors``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from . import believed, keys
from .connection import translated
from .errors import Error
from .queueserver import QueueServer
from .reports import UNDECODABLE, Declared, MapRow, Orders, Plan, Report, pack

_row = msgspec.msgpack.Decoder(MapRow).decode
_report = msgspec.msgpack.Decoder(Report).decode
_declared = msgspec.msgpack.Decoder(Declared).decode
_orders = msgspec.json.Decoder(Orders).decode
_CHUNK = 200  # reports read at once: a whole hash of 10,000 blocks the server for 50 to 150 ms


@dataclass(frozen=True, slots=True)
class Heard:
    """What masters have reported, as far as it is believed."""

    now: float  # the queue server's clock, seconds
    reports: dict[str, Report]
    seen: dict[str, float]  # when the newest report of each came, by that clock
    faults: dict[str, tuple[str, ...]]  # server -> what of its report is not believed; without a report: nothing is

    @property
    def ages(self) -> dict[str, float]:
        """Of each report, seconds."""
        return {name: max(0.0, self.now - self.seen.get(name, float("-inf"))) for name in self.reports}

    @property
    def unreadable(self) -> list[str]:
        """The servers of whose report nothing is believed."""
        return sorted(self.faults.keys() - self.reports.keys())


class Control:
    """The control keys of the first queue server."""

    def __init__(self, server: QueueServer) -> None:
        self.server = server

    def take_over(self, name: str, place: str, incarnation: str, *, gone_after: float) -> None:
        """Claims a server's name; QueueServerError naming the incarnation that has it and lives.

        Incarnations that begin with ``place`` were on this machine; the caller knows that they are dead.
        """
        self.server.run(
            "control", "takeover", [keys.MASTERS, keys.SEEN], [name, place, incarnation, round(gone_after * 1e6)]
        )

    def report(self, report: Report, declared: Declared | None) -> tuple[MapRow | None, bool, Orders, float | None]:
        """Publishes a report; returns this server's row, whether its declaration is wanted, its orders, and how many
        seconds ago a manager has published.
        """
        names = [keys.MASTERS, keys.SEEN, keys.REPORTS, keys.MAP, keys.DECLARED, keys.PULSE, keys.ORDERS]
        told = pack(declared) if declared is not None else b""
        args = [report.server, report.incarnation, pack(report), report.declared, told]
        row, wanted, orders, planned = self.server.run("control", "report", names, args)
        age = int(planned) / 1e6 if planned else None
        return _read_row(row, report.server), bool(wanted), _read_orders(orders), age

    def order(
        self, name: str, *, draining: bool | None = None, recycle: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """Orders for one server: to drain, or no longer (None: as it was); slots to be recycled, with their pids."""
        args = [name, "" if draining is None else int(draining), *(part for pair in recycle.items() for part in pair)]
        self.server.run("control", "order", [keys.ORDERS], args)

    def orders(self) -> dict[str, Orders]:
        """Of all servers that have some."""
        with translated(self.server.url):
            stored: Any = self.server.redis.hgetall(keys.ORDERS)
        return {name.decode(errors="backslashreplace"): _read_orders(raw) for name, raw in stored.items()}

    def beat(self) -> None:
        """Stamps the pulse of a server that nobody reports to: locks age only while it serves."""
        self.server.run("control", "beat", [keys.PULSE], [])

    def leave(self, name: str, incarnation: str) -> None:
        """Takes a master that ends off the books."""
        self.server.run("control", "leave", [keys.MASTERS, keys.SEEN, keys.REPORTS], [name, incarnation])

    def heard(self) -> Heard:
        """All reports. Names that are none are among the faults only."""
        reports: dict[str, Report] = {}
        faults: dict[str, tuple[str, ...]] = {}
        with translated(self.server.url):
            for raw_name, raw in self.server.redis.hscan_iter(keys.REPORTS, count=_CHUNK):
                name = raw_name.decode(errors="backslashreplace")
                report, wrong = believed.read(name, raw)
                if report is not None:
                    reports[name] = report
                if wrong:
                    faults[name] = wrong
            scores: Any = self.server.redis.zrange(keys.SEEN, 0, -1, withscores=True)
            seconds, micros = self.server.redis.time()
        seen = {name.decode(errors="backslashreplace"): at / 1e6 for name, at in scores}
        return Heard(seconds + micros / 1e6, reports, seen, faults)

    def reports(self) -> tuple[dict[str, Report], dict[str, float], list[str]]:
        """All reports, the age of each in seconds by the server's clock, and the servers whose report is unreadable."""
        heard = self.heard()
        return heard.reports, heard.ages, heard.unreadable

    def where(self, name: str) -> str:
        """Host and pid of the master that has reported last under this name, "" if that is not known."""
        with translated(self.server.url):
            raw: Any = self.server.redis.hget(keys.REPORTS, name)
        try:
            found = _report(raw or b"")
        except UNDECODABLE:
            return ""
        return f"{found.host}, pid {found.pid}"

    def declared(self, digests: set[str]) -> dict[str, Declared]:
        """The declarations stored under these digests; what cannot be read is left out."""
        return self.declarations(digests)[0]

    def declarations(self, digests: set[str]) -> tuple[dict[str, Declared], dict[str, str]]:
        """The declarations stored under these digests, and why one that is there cannot be believed."""
        wanted = sorted(digests - {""})
        if not wanted:
            return {}, {}
        with translated(self.server.url):
            stored: Any = self.server.redis.hmget(keys.DECLARED, wanted)
        found, faults = {}, {}
        for digest, raw in zip(wanted, stored, strict=True):
            try:
                if raw is not None:
                    found[digest] = _declared(raw)
            except UNDECODABLE as error:
                faults[digest] = str(error)
        return found, faults

    def rows(self) -> dict[str, MapRow]:
        """The published slot map, server by server."""
        found = {}
        with translated(self.server.url):
            for raw_name, raw in self.server.redis.hscan_iter(keys.MAP, count=_CHUNK):
                try:
                    found[raw_name.decode()] = _row(raw)
                except UNDECODABLE:
                    continue
        return found

    def take_epoch(self, manager: str, highest: int, *, respect: float, take_over: bool) -> int:
        """Begins a reign; QueueServerError naming the manager that published within ``respect`` seconds."""
        args = [manager, highest, round(respect * 1e6), int(take_over)]
        return int(self.server.run("control", "epoch", [keys.EPOCH], args))

    def resign(self, manager: str, epoch: int) -> None:
        """Ends a reign in good order: the next manager need not wait. Nothing, if another one has begun."""
        self.server.run("control", "resign", [keys.EPOCH], [manager, epoch])

    def publish(self, plan: Plan, rows: dict[str, MapRow], gone: list[str]) -> int:
        """Publishes changed rows and the plan; returns how many rows the map has now.

        QueueServerError of the code DEPOSED if another manager reigns.
        """
        flat = [part for name, row in rows.items() for part in (name, pack(row))]
        args = [plan.manager, plan.epoch, plan.seq, pack(plan), msgspec.msgpack.encode(gone), *flat]
        return int(self.server.run("control", "publish", [keys.EPOCH, keys.MAP, keys.PLAN, keys.PULSE], args))

    def forget(self, silent: float, digests: Sequence[str], *, most: int = 20) -> list[str]:
        """Strikes servers off the books that have been silent for so many seconds, and these declarations.

        Returns the servers' names, at most so many; one that comes back registers anew, and is asked for its
        declaration.
        """
        names = [keys.MASTERS, keys.SEEN, keys.REPORTS, keys.DECLARED]
        gone = self.server.run("control", "forget", names, [round(silent * 1e6), most, *digests])
        return [name.decode(errors="backslashreplace") for name in gone]

    def digests(self) -> set[str]:
        """Of all declarations that are stored."""
        with translated(self.server.url):
            stored: Any = self.server.redis.hkeys(keys.DECLARED)
        return {digest.decode(errors="backslashreplace") for digest in stored}

    def pin(self, queue: str, slots: int | None) -> None:
        """Gives a queue exactly so many slots from the next plan on; None takes that back."""
        self.server.run("control", "pin", [keys.PINS], [queue, "" if slots is None else slots])

    def pins(self) -> dict[str, int]:
        """queue -> slots, as people have pinned them. What is no number pins nothing."""
        with translated(self.server.url):
            stored: Any = self.server.redis.hgetall(keys.PINS)
        known = {queue.decode(errors="backslashreplace"): slots for queue, slots in stored.items()}
        return {queue: int(slots) for queue, slots in known.items() if slots.isdigit() and len(slots) < 10}


def _read_row(raw: bytes | None, name: str) -> MapRow | None:
    """A server's row. Error if it is none of ours."""
    try:
        return _row(raw) if raw else None
    except UNDECODABLE as error:
        raise Error(
            f"the slot map of {name} cannot be read: {error}; restart qmanager, it publishes all of it"
        ) from None


def _read_orders(raw: bytes | None) -> Orders:
    """What cannot be read orders nothing."""
    try:
        return _orders(raw) if raw else Orders()
    except UNDECODABLE:
        return Orders()
