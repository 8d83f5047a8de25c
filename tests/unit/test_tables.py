"""What the tables say, and that no record can make the admin command fail."""

import io
import re
import typing

import msgspec
import pytest
from rich.console import Console, RenderableType

from qmanager import figures
from qmanager.admin import queueviews, tables, views
from qslots.reports import MapRow, QueuePlan, QueueStats, pack


def queue(name: str = "mail", **changes: object) -> views.Document:
    return {
        "name": name, "priority": 50, "min": 0, "wanted": 2.0, "granted": 2.0, "max": None, "load": 0.5, "active": 7,
        "inactive": 0, "locked": 0, "buried": 0, "oldest": 1.5, "rate": 3.0, "mean_time": 0.012, "reason": "enough",
        "parked": 0, "takeable": 7, "paused": False, "gates": [], "reasons": {}, "unserved": {}, **changes,
    }  # fmt: skip


def server(name: str, **changes: object) -> views.Document:
    return {
        "name": name, "budget": 1 << 30, "slots": 2, "max_slots": 4, "pss": 1 << 20, "free_memory": 1 << 20,
        "generation": 1, "age": 0.3, "silent": False, **changes,
    }  # fmt: skip


def slot_map(**rows: list[list[str]]) -> views.Document:
    servers = {name: [{"index": i, "queues": names} for i, names in enumerate(row)] for name, row in rows.items()}
    return {"epoch": 5, "published": 1.0, "servers": servers}


def shown(table: RenderableType, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return typing.cast(io.StringIO, console.file).getvalue()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "·"),
        (0, "0B"),
        (999, "999B"),
        (640 << 10, "640K"),
        (1023 << 10, "1.0M"),
        (3 << 29, "1.5G"),
        (12 << 40, "12T"),
    ],
)
def test_bytes_are_told_in_the_units_of_the_settings(count: float | None, text: str) -> None:
    assert figures.size(count) == text


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (None, "·"), (0, "0ms"), (0.00034, "340µs"), (0.012, "12ms"), (4.24, "4.2s"), (59, "59s"), (200, "3m 20s"),
        (7500, "2h 5m"), (273600, "3d 4h"), (3600, "1h"),
    ],
)  # fmt: skip
def test_times_are_told_in_two_units_at_most(span: float | None, text: str) -> None:
    assert figures.seconds(span) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "·"), (0, "0"), (0.01234, "0.0123"), (4.5, "4.5"), (99.96, "100"), (1234.4, "1,234"), (10**6, "1,000,000")],
)
def test_no_number_of_slots_or_tasks_has_an_exponent(count: float | None, text: str) -> None:
    assert figures.number(count) == text


def test_a_queue_is_short_only_by_more_than_rounding() -> None:
    assert tables.is_short(queue(wanted=2.4, granted=2.0))
    assert not tables.is_short(queue(wanted=2.04, granted=2.0))
    assert not tables.is_short(queue(wanted=None, granted=None))


def test_shared_slots_are_counted_apart_from_own_ones() -> None:
    row = slot_map(web=[["mail"], ["mail"], ["mail", "index"]])["servers"]["web"]
    assert tables.count_slots(row) == {"mail": (2, 1), "index": (0, 1)}


def test_the_map_marks_what_is_short_without_relying_on_colour() -> None:
    document = slot_map(web=[["mail"]])
    text = shown(tables.map_table(document, [queue(wanted=3.0, granted=1.0, load=1.2)], [server("web")], 160))
    assert "▼ 1" in text
    assert "120%" in text
    assert "1 of 4" in text


def test_servers_that_do_not_fit_are_summed_in_one_column() -> None:
    names = [f"web-{n}" for n in range(9)]
    document = slot_map(**{name: [["mail"]] for name in names})
    text = shown(tables.map_table(document, [queue()], [server(name) for name in names], 100), 100)
    assert "web-1" in text
    assert "7 others" in text
    assert "7 of 28" in text


def test_a_server_of_the_map_that_does_not_report_is_called_silent() -> None:
    assert "1, silent" in shown(tables.map_table(slot_map(gone=[["mail"]]), [queue()], [], 160))


def one(**changes: object) -> views.Document:
    """What ``queue show`` shows."""
    part = {
        "active": 3,
        "inactive": 0,
        "locked": 1,
        "buried": 0,
        "parked": 0,
        "takeable": 3,
        "paused": False,
        "expired": 0,
    }
    more = {
        "arrivals": 4.0, "expired": 0, "counters": {"put": 12345, "busy": 6.5}, "handlers": ["send"],
        "periodic": [{"handler": "send", "schedule": "every 10m", "state": "done"}],
        "servers": [{"name": "main", "answers": True, **part}],
    }  # fmt: skip
    return queue() | more | changes


def test_one_queue_is_shown_with_all_its_numbers() -> None:
    text = shown(tables.queue_table(one(paused=True, gates=["queue"], parked=9)))
    for words in ("mail (paused)", "2 granted of 2 wanted", "load 50%", "enough", "9 parked", "12,345 put", "send"):
        assert words in text
    assert "queue server" not in text, "one server needs no table"


def test_one_queue_is_shown_server_by_server_and_who_does_not_answer() -> None:
    main = one()["servers"][0]
    silent = dict.fromkeys(main) | {"name": "b", "answers": False}
    text = shown(tables.queue_table(one(servers=[main, silent])))
    assert re.search(r"main +3 +0 +0 +1 +0", text)
    assert re.search(r"b +· .*does not answer", text)


def test_a_paused_queue_is_marked_in_words() -> None:
    assert "mail (paused)" in shown(tables.queues_table([queue(paused=True)], 160))


def test_counts_that_nobody_could_give_are_null_and_not_0() -> None:
    away = queueviews.queue_document("mail", None, None, silent=True)
    assert (away["active"], away["parked"], away["paused"], away["gates"]) == (None, None, None, [])
    assert queueviews.queue_document("mail", None, None)["active"] == 0


def test_an_unknown_queue_is_told_with_the_nearest_name() -> None:
    assert queueviews.unknown("mial", ["index", "mail"]) == "there is no queue mial: did you mean mail?"
    assert "`qslots queues` lists all" in queueviews.unknown("x", [])


def test_names_from_outside_are_never_taken_for_markup() -> None:
    assert "[red]x" in shown(tables.queues_table([queue("[red]x", reason="[/nothing]")], 160))


def test_a_narrow_terminal_gets_the_reasons_of_short_queues_below_the_table() -> None:
    text = shown(tables.queues_table([queue(wanted=3.0, granted=1.0, reason="memory is full"), queue("fine")], 80), 80)
    assert "▼ mail: memory is full" in text
    assert "enough" not in text
    assert "…" not in text


@pytest.mark.parametrize("width", [20, 80, 160])
def test_nulls_are_shown_at_any_width(width: int) -> None:
    unknown = {**dict.fromkeys(queue()), "name": "mail", "reason": "?", "gates": []}
    empty: views.Document = {"epoch": None, "published": None, "servers": {}}
    slot = dict.fromkeys(("task", "task_age", "pss", "private")) | {
        "server": "web", "index": 0, "pid": 7, "generation": 1, "state": "starting", "queues": [], "done": 0,
    }  # fmt: skip
    assert shown(tables.queues_table([unknown], width), width)
    assert shown(tables.map_table(empty, [unknown], [server("web", age=None)], width), width)
    assert shown(tables.servers_table([server("web", age=None)]), width)
    assert shown(tables.slots_table([slot], any_server=True), width)


@pytest.mark.parametrize("silent", [False, True])
def test_a_server_that_does_not_report_is_silent(silent: bool) -> None:
    assert ("web, silent" in shown(tables.servers_table([server("web", silent=silent)]))) == silent


def test_empty_states_say_what_to_do() -> None:
    empty: views.Document = {"epoch": None, "published": None, "servers": {}}
    assert "qslots up" in shown(tables.map_table(empty, [], [], 160))
    assert "qmaster run" in shown(tables.servers_table([]))
    assert "qslots queues" in shown(tables.slots_table([], any_server=True))
    assert "first task" in shown(tables.queues_table([], 160))


def test_the_watch_line_tells_granted_wanted_and_load() -> None:
    line = tables.map_line(slot_map(web=[["mail"], ["mail"]]), [queue(wanted=2.5)])
    assert line == "epoch 5, 2 slots; granted/wanted load: mail 2/2.5 50%"


def test_records_that_cannot_be_read_are_named_and_left_out() -> None:
    raw = {b"b": b"\xc1", b"a": pack(MapRow(1, 1, "m", ())), b"c": msgspec.msgpack.encode(["not", "a", "row"])}
    raw[b"d"] = raw[b"a"].replace(b"m", b"\xff")
    records, unreadable = views.decode_all(raw, msgspec.msgpack.Decoder(MapRow).decode)
    assert list(records) == ["a"]
    assert unreadable == ["b", "c", "d"]


def test_a_queue_shows_with_plan_alone_with_numbers_alone_and_with_both() -> None:
    plan = QueuePlan("mail", 80, 1, 9, 2.5, 2.0, 1.1, 30.0, 31.0, 0.05, "why")
    stats = QueueStats(
        name="mail",
        now=1.0,
        active=4,
        inactive=3,
        locked=2,
        buried=1,
        oldest=6.0,
        parked=8,
        takeable=3,
        gates=("collection:spring",),
    )
    assert queueviews.queue_document("mail", plan, stats) == {
        "name": "mail", "priority": 80, "min": 1, "wanted": 2.5, "granted": 2.0, "max": 9, "load": 1.1, "active": 4,
        "inactive": 3, "locked": 2, "buried": 1, "oldest": 6.0, "rate": 30.0, "mean_time": 0.05, "reason": "why",
        "parked": 8, "takeable": 3, "paused": False, "gates": ["collection:spring"], "reasons": {}, "unserved": {},
        "plan_age": None,
    }  # fmt: skip
    assert queueviews.queue_document("mail", plan, None)["active"] == 0
    alone = queueviews.queue_document("mail", None, stats)
    assert (alone["active"], alone["wanted"], alone["reason"]) == (4, None, queueviews.NO_PLAN)
