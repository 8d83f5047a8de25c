"""What is believed of a master's report: each field as far as it can be true. Pure.

A master may be broken, of another version, or none of ours. Nothing that it says may harm another server or end the
manager; so numbers have bounds here, slots one index each, and the server's name is that under which the report lies.
Where its capacity cannot be believed it knows no queue: then the planner leaves its row as it is and gives it nothing.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from .keys import NAME
from .reports import MOST_SLOTS, UNDECODABLE, Report, SlotReport

MOST_BYTES = 1 << 50
MOST_EPOCH = 1 << 52  # scripts count in doubles
MOST_GENERATIONS = 1 << 20
LARGEST = 4 << 20  # bytes of one report
NO_NAME = "this is no name of a server"
UNREADABLE = "it cannot be read"
_NEEDED = ("budget", "max_slots", "slot_size", "declared")  # without these nothing can be placed there
_BOUNDS = {"generation": MOST_GENERATIONS, "epoch": MOST_EPOCH, "seq": MOST_EPOCH}
_strict = msgspec.msgpack.Decoder(Report).decode


def blank(name: str) -> Report:
    """A server of which nothing is believed but that it is there: its row stays as it is."""
    return Report(
        server=name, incarnation="", host="", pid=0, generation=0, declared="", budget=MOST_BYTES,
        max_slots=MOST_SLOTS, pss=0, free_memory=0, slot_size=1, slot_sizes={}, epoch=0, seq=0,
    )  # fmt: skip


def read(name: str, raw: bytes) -> tuple[Report | None, tuple[str, ...]]:
    """The report that lies under a server's name, and what of it is not believed; None if nothing can be read."""
    if not NAME.fullmatch(name):
        return None, (NO_NAME,)
    if len(raw) > LARGEST:
        return None, (f"it has {len(raw):,} bytes",)
    faults: list[str] = []
    try:
        report = _strict(raw)
    except UNDECODABLE:
        said = _decoded(raw)
        if said is None:
            return None, (UNREADABLE,)
        report = _piecemeal(name, said, faults)
    return _sane(name, report, faults), tuple(faults)


def _decoded(raw: bytes) -> Mapping[Any, Any] | None:
    try:
        said = msgspec.msgpack.decode(raw)
    except (*UNDECODABLE, TypeError):  # TypeError: a key that cannot be one
        return None
    return said if isinstance(said, dict) else None


def _piecemeal(name: str, said: Mapping[Any, Any], faults: list[str]) -> Report:
    """Field by field what has the right type; the rest as of a server of which nothing is known."""
    slots = said.get("slots", ())
    found = _fields(Report, {key: said[key] for key in said if key != "slots"}, "", faults)
    if not isinstance(slots, list | tuple):
        faults.append("slots is no list")
        slots = ()
    lacking = [field for field in _NEEDED if field not in found]
    report = msgspec.structs.replace(blank(name), **found, slots=tuple(_slots(slots, faults)))
    return _distrusted(report) if lacking else report


def _slots(said: Iterable[Any], faults: list[str]) -> Iterable[SlotReport]:
    for place, each in enumerate(said):
        found = _fields(SlotReport, each, f"slots[{place}].", faults) if isinstance(each, dict) else {}
        if "index" in found:
            yield SlotReport(**{"pid": 0, "generation": 0, "state": "", "queues": (), **found})
        else:
            faults.append(f"slots[{place}] has no index")


def _fields(kind: type[msgspec.Struct], said: Mapping[Any, Any], where: str, faults: list[str]) -> dict[str, Any]:
    found = {}
    for field in msgspec.structs.fields(kind):
        if field.name not in said:
            if field.required:
                faults.append(f"{where}{field.name} is missing")
            continue
        try:
            found[field.name] = msgspec.convert(said[field.name], field.type)
        except (msgspec.ValidationError, UnicodeDecodeError) as error:
            faults.append(f"{where}{field.name}: {error}")
    return found


def _sane(name: str, report: Report, faults: list[str]) -> Report:
    """The same within bounds."""
    changes: dict[str, Any] = {}
    if report.server != name:
        changes["server"] = name
        faults.append(f"it calls itself {ascii(report.server)[:80]}")
    for field, most in (("budget", MOST_BYTES), ("max_slots", MOST_SLOTS)):
        if getattr(report, field) > most:
            changes[field] = most
            faults.append(f"{field} is {getattr(report, field)}: {most} counts")
    for field, most in _BOUNDS.items():
        if not 0 <= getattr(report, field) <= most:
            changes[field] = 0
            faults.append(f"{field} is {getattr(report, field)}")
    if report.slot_sizes and not 1 <= min(report.slot_sizes.values()) <= max(report.slot_sizes.values()) <= MOST_BYTES:
        changes["slot_sizes"] = {queue: n for queue, n in report.slot_sizes.items() if 1 <= n <= MOST_BYTES}
        wrong = next(queue for queue in report.slot_sizes if queue not in changes["slot_sizes"])
        faults.append(f"slot_sizes: {ascii(wrong)[:80]} has {report.slot_sizes[wrong]}")
    if len({slot.index for slot in report.slots}) < len(report.slots):
        first = {slot.index: slot for slot in reversed(report.slots)}
        changes["slots"] = tuple(first[index] for index in sorted(first))
        faults.append("it has two slots of one index")
    sane = msgspec.structs.replace(report, **changes) if changes else report
    if sane.budget < 0 or sane.max_slots < 0 or not 1 <= sane.slot_size <= MOST_BYTES:
        faults.append(f"budget is {sane.budget}, max_slots {sane.max_slots}, slot_size {sane.slot_size}")
        return _distrusted(sane)
    return sane


def _distrusted(report: Report) -> Report:
    """The same with no capacity that could be planned with."""
    own = blank(report.server)
    return msgspec.structs.replace(
        report, declared=own.declared, budget=own.budget, max_slots=own.max_slots, slot_size=own.slot_size,
        slot_sizes=own.slot_sizes,
    )  # fmt: skip
