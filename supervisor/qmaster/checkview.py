"""The document of ``qmaster check`` for people: a few tables and the lines that ask for something."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qslots.units import counted

_COLOURS = {"must fix": "red", "closed for you": "green", "know": "dim"}


def show(document: dict[str, Any], console: Console) -> None:
    """Prints all of it."""
    console.print(_handlers(document["queues"]))
    for line in (*_memory(document), *_servers(document["queue_servers"]), *_findings(document["mold"]["findings"])):
        console.print(line, soft_wrap=True)
    for line in document["warnings"]:
        if not line.startswith("must fix"):  # that is among the findings
            console.print(f"[yellow]warning[/]: {escape(line)}", soft_wrap=True)
    count = len(document["warnings"])
    verdict = "[green]it can be served[/]" if not count else f"[yellow]it can be served, {count} to mend[/]"
    console.print(f"{escape(', '.join(document['app']))}: {verdict}", soft_wrap=True)


def _handlers(queues: list[dict[str, Any]]) -> Table:
    table = Table("queue", "handler", "takes", "where", "set (others by default)", box=None, pad_edge=False)
    for queue in queues:
        first = " ".join(_said(queue["settings"], ""))
        for handler in queue["handlers"]:
            takes = f"{'async ' if handler['is_async'] else ''}{handler['takes']}"
            said = " ".join([first, *_said(handler["settings"], handler["where"])]).strip()
            table.add_row(*map(escape, (queue["name"], handler["name"], takes, _place(handler["where"]), said)))
            first = ""
    return table


def _said(settings: dict[str, dict[str, Any]], here: str) -> Iterator[str]:
    """name=value of what is not the default; where it is not told here, from where."""
    for name, option in settings.items():
        if option["source"] != "default":
            source = "(settings)" if option["source"] == "settings" else ""
            yield f"{name}={_value(option['value'])}{source if option['source'] != here else ''}"


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _place(where: str) -> str:
    return where.rpartition("/")[2]


def _memory(document: dict[str, Any]) -> Iterator[str]:
    mold, slot, capacity = document["mold"], document["slot"], document["capacity"]
    yield (
        f"mold: {mold['modules']:,} modules, {_mega(mold['pss'])} PSS, loaded in {mold['seconds']:.1f} s\n"
        f"slot: {_mega(slot['private'])} private + {_mega(slot['page_tables'])} page tables when it is fresh, "
        f"ready {slot['seconds'] * 1000:.1f} ms after the order"
    )
    bound = f", max_slots allows {capacity['max_slots']}" if capacity["max_slots"] is not None else ""
    yield (
        f"this server: {_mega(capacity['available'])} available, {_mega(capacity['budget'])} of it for slots, "
        f"{counted(capacity['cpus'], 'processor')}{bound}\n"
        f"slots: {capacity['slots']:,} of {_mega(capacity['slot_size'])} each (memory, or private_limit); "
        f"{capacity['slots_at_best']:,} if none grew at all; {capacity['my_world_slots'] or 0:,} by My World's formula"
    )


def _mega(count: int) -> str:
    return f"{count / (1 << 20):,.{1 if count < 100 << 20 else 0}f} MB"


def _servers(servers: list[dict[str, Any]]) -> Iterator[str]:
    for server in servers:
        why = str(server["why"]).removeprefix(f"queue server {server['url']} ")
        state = "[green]fit[/]" if server["checked"] else f"[yellow]not checked[/]: {escape(why)}"
        yield f"queue server {escape(server['name'])}, {escape(server['url'])}: {state}"
    if not servers:
        yield "no queue server is named: its settings and the durability of queues are [yellow]not checked[/]"


def _findings(findings: list[dict[str, str]]) -> Iterator[str]:
    for each in findings:
        where = f" ({each['where']})" if each["where"] else ""
        colour = _COLOURS[each["severity"]]
        yield f"[{colour}]{each['severity']}[/]: {escape(each['what'] + where)}: {escape(each['remedy'])}"
    if not findings:
        yield "fork safety: [green]nothing found[/]"
