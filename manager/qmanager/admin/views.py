"""What the admin command shows of map, slots and servers: plain data with the keys that are documented for ``--json``.

Reads only, in chunks, and never fails on a record that it cannot read: such a record is left out and named in
``View.notes``. Ages are by the queue server's clock. Times are seconds, memory is bytes, ``load`` is a share (1.0 is
100 %), and what is not known is null. Errors of the connection pass through as they are.
"""

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping

import msgspec
import redis

from qslots import believed, keys
from qslots.queueserver import QueueServer
from qslots.reports import UNDECODABLE, MapRow, Report
from qslots.servers import QueueServers

from ..figures import seconds
from ..published import clock

SILENT = 10.0  # s after which a plan is old: managers publish once a second, and another takes over within ten
CHUNK = 200  # records a round trip: all of 10,000 reports at once would block the server for 50 ms and more

Document = dict[str, typing.Any]


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """A document for ``--json`` and what people should be told about it."""

    document: typing.Any
    notes: tuple[str, ...] = ()


def map_view(servers: QueueServers) -> View:
    """{epoch, published, age, servers: {name: [{index, queues}]}}; all but servers are null before the first map."""
    client = servers.control
    rows, notes = _records(client.redis, keys.MAP, MapRow, "map row")
    epoch, published = client.redis.hmget(keys.EPOCH, ["epoch", "published"])
    slots = {
        name: [{"index": index, "queues": list(queues)} for index, queues in enumerate(row.slots) if queues]
        for name, row in rows.items()
    }
    at = None if published is None else _number(published) / 1e6
    age = max(0.0, clock(client) - at) if at else None
    document = {
        "epoch": None if epoch is None else int(_number(epoch)),
        "published": at,
        "age": age,
        "servers": slots,
    }
    return View(document, (*notes, *silence("the slot map", age)))


def silence(what: str, age: float | None) -> tuple[str, ...]:
    """The note on what a manager has published last, if that is long ago."""
    if age is None or age <= SILENT:
        return ()
    return (f"{what} is {seconds(age)} old: no manager has published since; is `qmanager run` at work?",)


def slots_view(servers: QueueServers) -> View:
    """[{server, index, pid, generation, state, queues, handler, task, task_age, done, pss, private}], in order."""
    reports, notes = _reports(servers.control.redis)
    document = [
        {"server": name, **{field: getattr(slot, field) for field in SLOT_FIELDS}, "queues": list(slot.queues)}
        for name, report in reports.items()
        for slot in sorted(report.slots, key=lambda slot: slot.index)
    ]
    return View(document, notes)


SLOT_FIELDS = (
    "index", "pid", "generation", "state", "queues", "handler", "task", "task_age", "done", "pss", "private",
)  # fmt: skip


def servers_view(servers: QueueServers) -> View:
    """[{name, budget, slots, max_slots, pss, free_memory, generation, draining, age, my_world_slots, bound, reason,
    silent}]; age is that of the newest report, silent whether a manager would take the server for lost.
    """
    client = servers.control
    reports, notes = _reports(client.redis)
    seen = _seen(client.redis, list(reports))
    now = clock(client)
    ages = {name: None if (at := seen.get(name)) is None else max(0.0, now - at / 1e6) for name in reports}
    document = [
        {
            "name": name,
            "budget": report.budget,
            "slots": len(report.slots),
            "max_slots": report.max_slots,
            "pss": report.pss,
            "free_memory": report.free_memory,
            "generation": report.generation,
            "draining": report.draining,
            "age": ages[name],
            "my_world_slots": report.my_world_slots,
            "bound": report.bound,
            "reason": report.reason,
            "silent": (age := ages[name]) is None or age > servers.lost_after,
        }
        for name, report in reports.items()
    ]
    return View(document, notes)


def is_loaded(client: QueueServer, pid: int, since: float) -> bool:
    """Whether the qmaster of this pid has reported a loaded application after ``since``, and a map was ever published.

    Without ``since`` the report of a former life would do: in a container pids come again.
    """
    fresh = typing.cast(list[bytes], client.redis.zrangebyscore(keys.SEEN, since * 1e6, "+inf"))
    if not fresh or not client.redis.exists(keys.PLAN):
        return False
    raw = typing.cast(list[bytes | None], client.redis.hmget(keys.REPORTS, fresh))
    known = {name: record for name, record in zip(fresh, raw, strict=True) if record is not None}
    reports, _ = decode_all(known, msgspec.msgpack.Decoder(Report).decode)
    return any(report.pid == pid and report.generation >= 1 for report in reports.values())


def _reports(client: redis.Redis) -> tuple[dict[str, Report], tuple[str, ...]]:
    """server -> report as far as it is believed, by name, and notes about what is not."""
    reports: dict[str, Report] = {}
    unreadable, doubted = [], []
    for field, raw in sorted(dict(client.hscan_iter(keys.REPORTS, count=CHUNK)).items()):
        name = field.decode(errors="replace")
        report, faults = believed.read(name, raw)
        if report is None:
            unreadable.append(name)
        else:
            reports[name] = report
            doubted += [f"of the report of {name} is not believed: {', '.join(faults[:3])}"] * bool(faults)
    return reports, (*_note(unreadable, "report"), *doubted[:3])


_R = typing.TypeVar("_R", bound=msgspec.Struct)


def _records(client: redis.Redis, key: str, kind: type[_R], what: str) -> tuple[dict[str, _R], tuple[str, ...]]:
    """server -> record, by name, and one note about those that cannot be read."""
    raw = dict(client.hscan_iter(key, count=CHUNK))  # a scan may give a field twice
    records, unreadable = decode_all(raw, msgspec.msgpack.Decoder(kind).decode)
    return records, _note(unreadable, what)


def decode_all(raw: Mapping[bytes, bytes], decode: Callable[[bytes], _R]) -> tuple[dict[str, _R], list[str]]:
    """The readable records by name, and the names of the others. Pure."""
    records: dict[str, _R] = {}
    unreadable = []
    for field in sorted(raw):
        name = field.decode(errors="replace")
        try:
            records[name] = decode(raw[field])
        except UNDECODABLE:
            unreadable.append(name)
    return records, unreadable


def _note(unreadable: list[str], what: str) -> tuple[str, ...]:
    if not unreadable:
        return ()
    some = ", ".join(unreadable[:3]) + (", …" if len(unreadable) > 3 else "")
    return (f"left out {len(unreadable)} {what}{'s' if len(unreadable) > 1 else ''} that cannot be read: {some}",)


def _seen(client: redis.Redis, servers: list[str]) -> dict[str, float]:
    """When the newest report of each of these servers came, µs of the queue server's clock."""
    seen: dict[str, float] = {}
    for begin in range(0, len(servers), CHUNK):
        chunk = servers[begin : begin + CHUNK]
        pipe = client.pipeline(transaction=False)
        for server in chunk:
            pipe.zscore(keys.SEEN, server)
        found = zip(chunk, pipe.execute(), strict=True)
        seen.update((server, at) for server, at in found if at is not None and math.isfinite(at))
    return seen


def _number(text: bytes | str) -> float:
    """0 for what is no number: a damaged field must not hide the rest of the map."""
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
