"""All that a server holds of one queue, read in one round trip as plain data, and compared with a model of it."""

import struct
from collections.abc import Iterable
from typing import Any

import msgspec

from qslots.packtimes import PackTimes
from qslots.queueserver import QueueServer
from qslots.records import header
from qslots.reports import QueueStats

from .holder import QUEUE
from .queue_model import Moment, QueueModel

COUNTERS = (
    "put", "taken", "returned", "done", "failed", "crashed", "lost", "burials", "deleted", "dropped", "renewed"
)  # fmt: skip
_decode = msgspec.msgpack.decode
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Actual(msgspec.Struct):
    """Ids, locks and names as text; times in µs."""

    now: int
    tasks: dict[str, bytes]
    places: dict[str, dict[str, int]]  # scheduled, parked, locked, buried -> id -> time there
    fates: dict[str, list[Any]]
    wishes: dict[str, list[Any]]  # id -> [gone | rearm | replace, time, record]
    finished: set[str]
    packs: dict[str, tuple[str, list[str | None]]]  # lock -> handler, ids; None for one that has ended
    locks: set[str]
    waiters: set[str]
    gates: dict[str, str]

    def stamp(self, task: str) -> int:
        """When it was put."""
        return self.stamp_of(self.tasks[task])

    @staticmethod
    def stamp_of(record: bytes) -> int:
        """The put time of a record."""
        return int(struct.unpack_from(">d", record)[0])


def look(server: QueueServer, handlers: Iterable[str], collections: Iterable[str] = ("c", "d")) -> Actual:
    """The queue as it is. A task in two schedules, or twice in packs, fails here."""
    keys = server.keys_of(QUEUE)
    schedules, parked = [keys.schedule(name) for name in handlers], [keys.parked(name) for name in collections]
    with server.redis.pipeline() as line:
        for part in ("tasks", "fate", "again", "packs", "gates"):
            line.hgetall(keys.part(part))
        for key in (keys.part("buried"), keys.part("finished"), keys.part("locks"), keys.part("waiters")):
            line.zrange(key, 0, -1, withscores=True)
        for key in (*schedules, *parked):
            line.zrange(key, 0, -1, withscores=True)
        line.time()
        tasks, fates, wishes, packs, gates, *ranges, (seconds, micros) = line.execute()
    now = seconds * 1_000_000 + micros
    buried, finished, locks, waiters = ranges[:4]
    whole = {lock.decode(): _decode(packed) for lock, packed in packs.items()}
    held = [
        (name, dues[at] if isinstance(dues, list) else dues)
        for _, ids, dues in whole.values()
        for at, name in enumerate(ids)
        if name
    ]
    return Actual(
        now=now,
        tasks=_named(tasks),
        places={
            "scheduled": _times(ranges[4 : 4 + len(schedules)]),
            "parked": _times(ranges[4 + len(schedules) :]),
            "locked": _times([held]),
            "buried": _times([buried]),
        },
        fates={name: _decode(packed) for name, packed in _named(fates).items()},
        wishes={name: _wish(packed) for name, packed in _named(wishes).items()},
        finished={name for name, until in _times([finished]).items() if until > now},
        packs={lock: (handler, [name or None for name in ids]) for lock, (handler, ids, _) in whole.items()},
        locks=set(_times([locks])),
        waiters=set(_times([waiters])),
        gates={name: value.decode() for name, value in _named(gates).items() if name != "version"},
    )


def _wish(packed: bytes) -> list[Any]:
    """A record in it is no text: Lua packs binary strings as texts all the same."""
    kind, *rest = _parts(packed)
    return [_decode(kind), *map(_decode, rest[:1]), *map(_bare, rest[1:])]


def _bare(packed: bytes) -> bytes:
    """What stands behind the head of a msgpack text."""
    raw = bytes(packed)
    return raw[{0xD9: 2, 0xDA: 3, 0xDB: 5}.get(raw[0], 1) :]


def _named(raw: dict[bytes, bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in raw.items()}


def _times(ranges: Iterable[Iterable[tuple[Any, float]]]) -> dict[str, int]:
    found = [(_text(name), int(score)) for each in ranges for name, score in each]
    assert len(dict(found)) == len(found), f"twice: {found}"
    return dict(found)


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def agree(model: QueueModel, actual: Actual, before: int) -> None:
    """Every moment that the server chose lies between ``before`` and now, and is what the model goes on with."""
    for name, task in model.tasks.items():
        pairs = [(task.record.put, actual.stamp(name))]
        if task.place == "buried":
            pairs.append((task.buried or Moment(0), actual.places["buried"][name]))
        elif task.at.fresh:
            pairs.append((task.at, actual.places[task.place][name]))
        if task.wish and task.wish.at:
            pairs.append((task.wish.at, int(actual.wishes[name][1])))
        if task.wish and task.wish.record:
            pairs.append((task.wish.record.put, actual.stamp_of(actual.wishes[name][2])))
        for chosen, micros in pairs:
            if chosen.fresh:
                assert before <= micros - chosen.micros <= actual.now, name
                chosen.micros, chosen.fresh = micros, False
            assert chosen.micros == micros, name
    model.now = actual.now


def compare_places(model: QueueModel, actual: Actual) -> None:
    """Each task is where the model has it, in its order, with its record and its fate; and nothing else is there."""
    for place in ("scheduled", "parked", "locked", "buried"):
        expected = {
            name: (task.buried if task.buried and place == "buried" else task.at).micros
            for name, task in model.placed(place).items()
        }
        assert actual.places[place] == expected, place
    tasks = model.tasks.items()
    assert {name: record[8:] for name, record in actual.tasks.items()} == {
        name: header(task.record.handler, 7, task.record.collection) + task.record.body for name, task in tasks
    }
    assert actual.fates == {name: task.fate for name, task in tasks if task.fate}
    assert {name: wish[0] for name, wish in actual.wishes.items()} == {
        name: task.wish.kind for name, task in tasks if task.wish
    }
    assert actual.finished == model.finished
    assert actual.packs == {lock: (pack.handler, pack.ids) for lock, pack in model.packs.items()}
    assert actual.locks == set(model.packs)
    assert actual.waiters == model.waiting
    assert actual.gates == model.gates | {f"drop:{name}": str(at) for name, at in model.drops.items()}


def compare_counts(model: QueueModel, said: QueueStats, handlers: Iterable[str]) -> None:
    """What ``stats`` says is true."""
    due = {handler: len(model.due(handler)) for handler in handlers}
    assert (said.active, said.active + said.inactive) == (sum(due.values()), len(model.placed("scheduled")))
    assert (said.locked, said.parked, said.buried) == tuple(
        len(model.placed(place)) for place in ("locked", "parked", "buried")
    )
    assert said.takeable == sum(due[handler] for handler in due if model.is_open(handler))
    assert said.expired == sum(pack.expired for pack in model.packs.values())
    assert {name: getattr(said, name) for name in COUNTERS} == {name: model.counts.get(name, 0) for name in COUNTERS}
    assert said.packing == PackTimes.counted(model.counts)
    assert said.busy == model.counts.get("busy", 0) / 1e6
