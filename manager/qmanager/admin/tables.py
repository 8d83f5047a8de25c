"""The documents of ``views`` as tables for people. Pure: documents in, something for rich out.

Must never fail on a null or on a name from outside: all cells are ``Text``, so no name is taken for markup. Colour
only underlines what the numbers say; nothing is told by colour alone.
"""

import typing
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qslots.units import counted

from .. import figures
from ..figures import NOTHING, seconds, size
from ..planning.demand import with_reasons
from ..planning.unserved import in_words
from .views import SILENT, Document

NO_SERVERS = "no server reports yet: start one with `qmaster run` or `qslots up`"
NO_QUEUES = "no queues yet: they appear with a server that knows them or with their first task"
NO_SLOTS = "servers report, but no slot yet: `qslots queues` says what the queues are granted"
NO_PERIODIC = "no periodic handlers: @task(every='10m') or @task(cron='0 3 * * *') makes one"
NO_MAP = "no slot map yet: start a manager with `qmanager run` or `qslots up`"
WIDE = 120  # columns from which the reasons stand in the table
SERVER_WIDTH = 14  # columns that one server takes of the map's width
NUMBERS_WIDTH = 56  # columns that the map needs beside its servers


def map_table(slot_map: Document, queues: list[Document], servers: list[Document], width: int) -> RenderableType:
    """Queues downwards, servers across: what is wanted and granted, and where the slots are."""
    if slot_map["epoch"] is None and not servers:
        return Text(NO_SERVERS)
    names = sorted(slot_map["servers"].keys() | {server["name"] for server in servers})
    fit = max(1, (width - NUMBERS_WIDTH) // SERVER_WIDTH)
    shown, folded = (names, []) if len(names) <= fit else (names[: fit - 1], names[fit - 1 :])
    groups = [[name] for name in shown] + ([folded] if folded else [])
    titles = shown + ([f"{len(folded)} {'others' if shown else 'servers'}"] if folded else [])
    table = _table(("queue", "want", "granted", "min", "max", "load", "active", *titles), left=("queue",))
    counts = {name: count_slots(slot_map["servers"].get(name, ())) for name in names}
    for queue in queues:
        cells = [_share_cell([counts[name].get(queue["name"], (0, 0)) for name in group]) for group in groups]
        table.add_row(*_map_numbers(queue), *cells)
    table.add_section()
    capacity = {server["name"]: server["max_slots"] for server in servers}
    used = [_used_cell(group, slot_map["servers"], capacity) for group in groups]
    table.add_row(Text("slots", style="dim"), *[Text()] * 6, *used)
    return Group(_map_title(slot_map), table, *_legend(counts.values()))


def queues_table(queues: list[Document], width: int) -> RenderableType:
    """One row a queue; the reasons beside the numbers, or on a narrow terminal below them, for short queues only."""
    if not queues:
        return Text(NO_QUEUES)
    wide = width >= WIDE
    titles = [title for title in QUEUE_TITLES if wide or title not in ONLY_WIDE]
    table = _table(titles, left=("queue", "why"), wrap=("why",))
    for queue in queues:
        cells = _queue_cells(queue)
        table.add_row(*[cells[title] for title in titles])
    if wide:
        return table
    reasons = [Text(f"▼ {queue['name']}: {queue['reason']}", style="red") for queue in queues if is_short(queue)]
    return Group(table, *reasons)


QUEUE_TITLES = (
    "queue", "prio", "want", "granted", "load", "active", "later", "parked", "locked", "buried", "oldest", "rate",
    "mean", "why",
)  # fmt: skip
ONLY_WIDE = ("prio", "parked", "locked", "mean", "why")


def _queue_cells(queue: Document) -> dict[str, Text]:
    name, want, granted, _, _, load, active = _map_numbers(queue)
    return {
        "queue": name,
        "prio": _count(queue["priority"]),
        "want": want,
        "granted": granted,
        "load": load,
        "active": active,
        "later": _count(queue["inactive"]),
        "parked": _count(queue["parked"]),
        "locked": _count(queue["locked"]),
        "buried": _count(queue["buried"], "red" if queue["buried"] else ""),
        "oldest": _text(seconds(queue["oldest"] or None)),
        "rate": _text(NOTHING if queue["rate"] is None else f"{queue['rate']:,.1f}/s"),
        "mean": _text(seconds(queue["mean_time"])),
        "why": Text(queue["reason"], style="red" if is_short(queue) else "dim"),
    }


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Everything of one thing: what it is called, what it is."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(name), Text(value))
    return grid


def queue_table(queue: Document) -> RenderableType:
    """Everything of one queue."""
    grid = facts(_queue_rows(queue))
    if len(queue["servers"]) < 2:
        return grid
    table = _table(("queue server", "active", "later", "parked", "locked", "buried", ""), left=("queue server", ""))
    for each in queue["servers"]:
        counts = [_count(each[field]) for field in ("active", "inactive", "parked", "locked", "buried")]
        state = "" if each["answers"] else "does not answer"
        table.add_row(Text(each["name"], style="bold"), *counts, Text(state or _paused(each), style="red"))
    return Group(grid, table)


def _queue_rows(queue: Document) -> list[tuple[str, str]]:
    load = "" if queue["load"] is None else f", load {queue['load']:.0%}"
    limits = f"min {_number(queue['min'])}, max {_number(queue['max'])}, priority {_number(queue['priority'])}"
    tasks = (("active", "active"), ("takeable", "of them takeable"), ("inactive", "later"), ("parked", "parked"),
             ("locked", "locked"), ("buried", "buried"))  # fmt: skip
    rates = [f"{_number(queue[field])}/s {word}" for field, word in (("arrivals", "arrive"), ("rate", "done"))]
    return [
        ("queue", queue["name"] + (f" {_paused(queue)}" if queue["paused"] else "")),
        ("slots", f"{slots(queue['granted'])} granted of {slots(queue['wanted'])} wanted ({limits}){load}"),
        ("why", queue["reason"]),
        ("tasks", ", ".join(f"{_number(queue[field])} {word}" for field, word in tasks)),
        ("oldest", seconds(queue["oldest"] or None)),
        ("pace", f"{', '.join(rates)}, {seconds(queue['mean_time'])} a task"),
        ("held back", ", ".join(with_reasons(queue["gates"], queue["reasons"])) or NOTHING),
        ("unserved", in_words(queue["unserved"]) or NOTHING),
        ("so far", ", ".join(f"{_number(value)} {name}" for name, value in queue["counters"].items())),
        ("expired", f"{_number(queue['expired'])} locks"),
        ("handlers", ", ".join(queue["handlers"]) or NOTHING),
        ("periodic", _periodic(queue["periodic"]) or NOTHING),
    ]


def periodic_table(handlers: list[Document], now: float) -> RenderableType:
    """One row a periodic handler; ``now`` is the queue server's clock."""
    if not handlers:
        return Text(NO_PERIODIC)
    titles = ("handler", "queue", "schedule", "last", "state", "next", "missed", "dropped")
    table = _table(titles, left=("handler", "queue", "schedule", "state"))
    for each in handlers:
        last = NOTHING if each["last"] is None else f"{seconds(max(0.0, now - each['last']))} ago"
        coming = NOTHING if each["next"] is None else f"in {seconds(max(0.0, each['next'] - now))}"
        words = [each["queue"], each["schedule"], last, each["state"] or NOTHING, coming]
        counts = [_count(each[field], "red" if each[field] else "") for field in ("missed", "dropped")]
        table.add_row(Text(each["handler"], style="bold"), *map(Text, words), *counts)
    return table


def _periodic(handlers: list[Document]) -> str:
    return ", ".join(f"{each['handler']} {each['schedule']} (last {each['state'] or NOTHING})" for each in handlers)


def _paused(row: Document) -> str:
    return "(paused)" if row["paused"] else ""


def _number(count: float | None) -> str:
    return NOTHING if count is None else f"{count:,}" if isinstance(count, int) else f"{count:,.1f}"


def servers_table(servers: list[Document]) -> RenderableType:
    """One row a server."""
    if not servers:
        return Text(NO_SERVERS)
    table = _table(("server", "slots", "of", "PSS", "budget", "free", "generation", "seen"), left=("server",))
    for server in servers:
        silent = server["silent"]
        table.add_row(
            Text(server["name"] + ", drained" * bool(server.get("draining")) + ", silent" * silent, style="bold"),
            _count(server["slots"]), _count(server["max_slots"]), _text(size(server["pss"])),
            _text(size(server["budget"])), _text(size(server["free_memory"])), _count(server["generation"]),
            _text(f"{seconds(server['age'])} ago", "red" if silent else "green"),
        )  # fmt: skip
    return table


def slots_table(slots: list[Document], any_server: bool) -> RenderableType:
    """One row a slot."""
    if not slots:
        return Text(NO_SLOTS if any_server else NO_SERVERS)
    table = _table(
        ("server", "slot", "pid", "gen", "state", "queues", "task", "for", "done", "PSS", "private"),
        left=("server", "state", "queues", "task"),
        wrap=("queues", "task"),
    )
    for slot in slots:
        task = f"{slot['handler']} {slot['task']}" if slot["task"] else NOTHING
        table.add_row(
            Text(slot["server"], style="bold"), _count(slot["index"]), _text(str(slot["pid"])),
            _count(slot["generation"]), Text(slot["state"], style=STATE_STYLE.get(slot["state"], "")),
            Text(", ".join(slot["queues"]) or NOTHING), Text(task),
            _text(seconds(slot["task_age"])), _count(slot["done"]), _text(size(slot["pss"])),
            _text(size(slot["private"])),
        )  # fmt: skip
    return table


STATE_STYLE = {"busy": "green", "idle": "dim", "starting": "cyan", "taking": "cyan", "leaving": "yellow"}


def map_line(slot_map: Document, queues: list[Document]) -> str:
    """The map in one plain line, for ``--watch`` into a file or a pipe."""
    if slot_map["epoch"] is None:
        return NO_MAP
    parts = []
    for queue in queues:
        load = "" if queue["load"] is None else f" {queue['load']:.0%}"
        parts.append(f"{queue['name']} {slots(queue['granted'])}/{slots(queue['wanted'])}{load}")
    taken = counted(sum(len(row) for row in slot_map["servers"].values()), "slot")
    shown = ", ".join(parts) or "no queues yet"
    return f"epoch {slot_map['epoch']}{_old(slot_map)}, {taken}; granted/wanted load: {shown}"


def count_slots(row: Iterable[Document]) -> dict[str, tuple[int, int]]:
    """queue -> (slots of its own, slots shared with other queues) on one server."""
    counts: dict[str, tuple[int, int]] = {}
    for slot in row:
        shared = len(slot["queues"]) > 1
        for queue in slot["queues"]:
            own, common = counts.get(queue, (0, 0))
            counts[queue] = (own + (not shared), common + shared)
    return counts


def slots(count: float | None) -> str:
    """A number of slots: whole as such, otherwise with one digit."""
    if count is None:
        return NOTHING
    return f"{count:,.0f}" if abs(count - round(count)) < 0.05 else f"{count:,.1f}"


def is_short(queue: Document) -> bool:
    """Whether a queue has fewer slots than it wants."""
    return figures.is_short(queue["wanted"], queue["granted"])


def _map_numbers(queue: Document) -> tuple[Text, ...]:
    short = is_short(queue)
    load = queue["load"]
    style = "" if load is None else "red" if load > 1 else "yellow" if load > 0.8 else "green"
    return (
        Text.assemble((queue["name"], "bold"), (" (paused)", "yellow") if queue["paused"] else ""),
        _text(slots(queue["wanted"])),
        _text(("▼ " if short else "") + slots(queue["granted"]), "bold red" if short else ""),
        _count(queue["min"]),
        _count(queue["max"]),
        _text(NOTHING if load is None else f"{load:.0%}", style),
        _count(queue["active"]),
    )


def _map_title(slot_map: Document) -> Text:
    if slot_map["epoch"] is None:
        return Text(NO_MAP)
    return Text.assemble(("slot map ", "bold"), (f"epoch {slot_map['epoch']}", "dim"), (_old(slot_map), "red"))


def _old(slot_map: Document) -> str:
    """What to say of a map that no manager has published for long."""
    age = slot_map.get("age")
    return f", {seconds(age)} old: no manager" if age is not None and age > SILENT else ""


def _share_cell(counts: Sequence[tuple[int, int]]) -> Text:
    own, shared = sum(count[0] for count in counts), sum(count[1] for count in counts)
    words = [f"{own:,}"] * bool(own) + [f"{shared:,}~"] * bool(shared)
    return _text(" + ".join(words) or NOTHING, "" if own or shared else "dim")


def _used_cell(group: Sequence[str], rows: Document, capacity: dict[str, int]) -> Text:
    used = sum(len(rows.get(name, ())) for name in group)
    known = [capacity[name] for name in group if name in capacity]
    return _text(f"{used:,} of {sum(known):,}" if known else f"{used:,}, silent", "dim" if known else "red")


def _legend(counts: Iterable[dict[str, tuple[int, int]]]) -> list[Text]:
    shared = any(common for count in counts for _, common in count.values())
    return [Text("~ slots shared with other queues", style="dim")] * shared


def _table(columns: Sequence[str], left: tuple[str, ...], wrap: tuple[str, ...] = ()) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold cyan", padding=(0, 1, 0, 0))
    for column in columns:
        justify: typing.Literal["left", "right"] = "left" if column in left else "right"
        table.add_column(Text(column), justify=justify, no_wrap=column not in wrap, overflow="fold")
    return table


def _text(text: str, style: str = "") -> Text:
    return Text(text, style="dim" if text == NOTHING else style)


def _count(count: int | None, style: str = "") -> Text:
    return _text(NOTHING if count is None else f"{count:,}", style)
