"""Reports that are broken, lies or noise: each is believed as far as it can be true, and harms no other server."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import examples

from qmanager.planning.planner import Memory, plan
from qmanager.presence import served
from qslots import believed, keys
from qslots.reports import (
    MOST_SLOTS,
    Declared,
    HandlerDeclared,
    MapRow,
    QueueDeclared,
    QueueStats,
    Report,
    SlotReport,
    pack,
)

DECLARED = Declared(tuple(QueueDeclared(name, handlers=(HandlerDeclared("do"),)) for name in ("a", "b", "c")))
SOUND = Report(
    server="web", incarnation="i", host="h", pid=7, generation=3, declared=DECLARED.digest(), budget=1000, max_slots=8,
    pss=5, free_memory=6, slot_size=100, slot_sizes={"a": 50}, epoch=12, seq=4,
    slots=(SlotReport(0, 70, 3, "busy", ("a", "b"), "t", "do", 4.0), SlotReport(1, 71, 3, "idle", ("c",))),
)  # fmt: skip


def written(**changes: Any) -> bytes:
    return msgspec.msgpack.encode({**msgspec.to_builtins(SOUND), **changes})


def slot(**changes: Any) -> dict[str, Any]:
    return {**msgspec.to_builtins(SOUND.slots[0]), **changes}


def test_a_sound_report_is_believed_as_it_is() -> None:
    assert believed.read("web", pack(SOUND)) == (SOUND, ())
    assert believed.read("web", written(later="a field of a later version")) == (SOUND, ())


def test_names_are_believed_as_everywhere_else() -> None:
    for name in ("a", "A-1._", "_x", "a" * 64, "", "a" * 65, "-a", ".a", "a b", "ä", "a\n"):
        raw = msgspec.msgpack.encode({"name": name})
        try:
            taken = bool(msgspec.msgpack.decode(raw, type=QueueDeclared))
        except msgspec.ValidationError:
            taken = False
        assert taken == bool(keys.NAME.fullmatch(name))


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"max_slots": 10**9}, "max_slots is 1000000000: 4096 counts"),
    ({"budget": 2**63}, "budget is 9223372036854775808: 1125899906842624 counts"),
    ({"epoch": 2**60}, "epoch is 1152921504606846976"),
    ({"generation": -1}, "generation is -1"),
    ({"slot_sizes": {"a": -5, "b": 7}}, "slot_sizes: 'a' has -5"),
    ({"server": "db"}, "it calls itself 'db'"),
    ({"host": 3}, "host: Expected `str`, got `int`"),
    ({"pss": float("nan")}, "pss: Expected `int`, got `float`"),
    ({"slots": [slot(), slot(index=0)]}, "it has two slots of one index"),
    ({"slots": [slot(index=4096)]}, "slots[0].index: Expected `int` <= 4095"),
    ({"slots": [slot(index=-1), 7]}, "slots[0].index: Expected `int` >= 0"),
    ({"slots": [slot(task_age=-1.0)]}, "slots[0].task_age: Expected `float` >= 0.0"),
    ({"slots": [slot(task_age=float("nan"))]}, "slots[0].task_age: Expected `float` >= 0.0"),
    ({"slots": {"0": "x"}}, "slots is no list"),
    ({"draining": "yes"}, "draining: Expected `bool`, got `str`"),
]


@pytest.mark.parametrize(("changes", "fault"), NONSENSE)
def test_nonsense_in_one_field_leaves_the_others(changes: dict[str, Any], fault: str) -> None:
    report, faults = believed.read("web", written(**changes))
    assert report is not None and fault in faults
    assert (report.server, report.declared, report.slot_size) == ("web", SOUND.declared, 100)
    assert all(0 <= each.index < MOST_SLOTS for each in report.slots)


CAPACITY: list[tuple[dict[str, Any], str]] = [
    ({"budget": -1}, "budget is -1, max_slots 8, slot_size 100"),
    ({"max_slots": -3}, "budget is 1000, max_slots -3, slot_size 100"),
    ({"slot_size": 0}, "budget is 1000, max_slots 8, slot_size 0"),
    ({"budget": "much"}, "budget: Expected `int`, got `str`"),
    ({"max_slots": 1.5}, "max_slots: Expected `int`, got `float`"),
    ({"declared": None}, "declared: Expected `str`, got `null`"),
]


@pytest.mark.parametrize(("changes", "fault"), CAPACITY)
def test_a_server_whose_capacity_is_nonsense_keeps_its_row_and_gets_nothing(
    changes: dict[str, Any], fault: str
) -> None:
    report, faults = believed.read("web", written(**changes))
    assert report is not None and faults == (fault,)
    row = (("a",), (), ("b", "c"), ("a",))
    assert planned(report, {"web": row})["web"] == row


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"[]",
        b"\x90",
        b"\x81\x80\x01",
        b"\xff" * 99,
        b"\xa2\xff\xfe",
        b"\x91" * 3000,
        b"\x81\xa1z" + b"\x91" * 3000 + b"\xc0",
    ],
)
def test_what_cannot_be_read_says_nothing(raw: bytes) -> None:
    assert believed.read("web", raw) == (None, (believed.UNREADABLE,))


def test_a_report_that_is_far_too_large_is_not_read() -> None:
    assert believed.read("web", b"\0" * (4 << 20) + b"\0") == (None, ("it has 4,194,305 bytes",))


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "\x1b[31m", "-x", "a\n"])
def test_a_name_that_no_server_can_have_is_none(name: str) -> None:
    assert believed.read(name, pack(SOUND)) == (None, (believed.NO_NAME,))


def test_a_row_is_what_the_slots_serve() -> None:
    assert served(SOUND) == (("a", "b"), ("c",))
    leaving = msgspec.structs.replace(SOUND.slots[1], state="leaving", index=3)
    assert served(msgspec.structs.replace(SOUND, slots=(SOUND.slots[0], leaving))) == (("a", "b"), (), (), ())
    assert served(msgspec.structs.replace(SOUND, slots=())) == ()


# What any report may be

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=80)
    | st.binary(max_size=8) | st.sampled_from([SOUND.declared, "a", "b", "zz", 4096, -1, 10**9]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
near = st.sampled_from([0, 1, 2, 5000, 10**9, 2**60, -1, 100])
slots = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "index": near | values, "pid": near, "generation": near, "state": st.sampled_from(["busy", "idle", "x", 3]),
            "queues": st.lists(st.sampled_from(["a", "b", "c", "zz", "", "\x1b", "x" * 300]), max_size=5) | values,
            "task": values, "handler": values, "task_age": st.floats() | values, "queue": st.just("a") | values,
        },
    )
    | values,
    max_size=6,
)  # fmt: skip
reports = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(SOUND.__struct_fields__), near | values, max_size=5
).flatmap(lambda changes: slots.map(lambda some: written(**{"slots": some, **changes})))


def planned(report: Report, rows: dict[str, tuple[tuple[str, ...], ...]]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """The rows of a cluster of a server that says so beside two sound ones."""
    others = [
        msgspec.structs.replace(SOUND, server=name, slot_sizes={}, slots=(), max_slots=4, budget=400, epoch=1)
        for name in ("db", "mail")
    ]
    stats = {name: QueueStats(name, 9.0, active=50, takeable=50, taken=50, done=50, busy=100.0) for name in "abc"}
    current = {"db": (("a",), ("b",)), "mail": (("c",),), **rows}
    return plan(
        declared={DECLARED.digest(): DECLARED}, stats=stats, reports=[*others, report], current=current, now=9.0,
        memory=Memory(),
    ).rows  # fmt: skip


@examples(30)
@given(reports)
def test_no_report_can_make_a_plan_fail_or_overload_another_server(raw: bytes) -> None:
    report, _ = believed.read("web", raw)
    rows = planned(report or believed.blank("web"), {})
    assert rows.keys() == {"db", "mail", "web"}
    assert len(rows["web"]) <= MOST_SLOTS
    pack(MapRow(1, 1, "m", rows["web"]))
    for name in ("db", "mail"):
        assert sum(bool(queues) for queues in rows[name]) <= 4
    heard = {queue for row in rows.values() for queues in row for queue in queues}
    assert heard == {"a", "b", "c"}


@examples(30)
@given(reports)
def test_what_is_believed_is_believed_again(raw: bytes) -> None:
    report, _ = believed.read("web", raw)
    if report is not None:
        assert believed.read("web", pack(report)) == (report, ())
        assert len(served(report)) <= MOST_SLOTS


BAD_QUEUES: list[dict[str, Any]] = [
    {"name": "a b"}, {"name": "a", "priority": 0}, {"name": "a", "min_slots": -1}, {"name": "a", "rate": 0.0},
    {"name": "a", "target_delay": float("nan")}, {"name": "a", "max_slots": 1.5}, {"name": "a", "lock": -1.0},
    {"name": "a", "handlers": [{"name": ""}]},
]  # fmt: skip


@pytest.mark.parametrize("queue", BAD_QUEUES)
def test_a_declaration_that_no_application_can_have_made_is_not_read(queue: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"queues": [queue]}), type=Declared)
