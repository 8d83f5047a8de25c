"""The status of a master for people: its JSON document in, something for rich out. Pure.

It shows what is there: a key that the master's version does not know is left out, a null is a dot. All texts from
outside are ``Text``, so no name is taken for markup.
"""

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from qslots.units import counted

from .figures import memory_lines
from .imported import briefly

Document = dict[str, Any]
NOTHING = "·"
LABEL = 14  # columns before what a line says
COLUMNS = ("slot", "pid", "gen", "state", "queues", "task", "age", "done", "PSS", "private")
STATES = {"busy": "green", "idle": "dim", "starting": "cyan", "taking": "cyan", "leaving": "yellow"}
LEFT = ("state", "queues", "task")
LEAST_GROWTH = 1024  # bytes a task that are worth a line


def status_text(status: Document) -> RenderableType:
    """All of it."""
    lines = [Text(headline(status), "bold")]
    for label, text, style in _lines(status):
        line = Text(f"  {label:<{LABEL}}", "dim")
        line.append(text, style or "not dim")
        lines.append(line)
    return Group(*lines, _slots(status["slots"]))


def headline(status: Document) -> str:
    """Who it is and how it goes."""
    who = f"qmaster {status['server']} (pid {status['pid']}) is {_stage(status)}"
    return f"{who}, generation {status['generation']}: {', '.join(status['app'])}"


def _stage(status: Document) -> str:
    return f"{status['stage']}, drained" if status.get("draining") else str(status["stage"])


def progress(status: Document) -> str:
    """What is to be seen while something is waited for."""
    old = sum(slot["generation"] < status["generation"] for slot in status["slots"])
    busy = sum(bool(slot["task"]) for slot in status["slots"])
    reload = status.get("reload") or {}
    stage = f", {reload['cause']}: {reload['stage']}" if reload.get("stage") and reload["stage"] != "done" else ""
    slots = counted(len(status["slots"]), "slot")
    return f"{_stage(status)}{stage}: {slots}, {busy} busy, {old} of an older generation"


def _lines(status: Document) -> Iterable[tuple[str, str, str]]:
    """Label, text and style of each line between the headline and the slots."""
    for name, known in status.get("queue_servers", {}).items():
        down = known["down"].removeprefix(f"queue server {known['url']} ")
        yield "queue server", f"{name}, {known['url']}: {down or 'answers'}", "red" * bool(down)
    for number, line in enumerate(memory_lines(status)):
        yield "" if number else "memory", line.removeprefix("memory: "), ""
    if status.get("max_slots_by_hand") is not None:
        yield "by hand", f"at most {counted(status['max_slots_by_hand'], 'slot')} until qmaster is started again", ""
    for each in status.get("generations") or ():
        yield "generation", _generation(each), "red" * (each.get("state") == "dropped")
    reload = status.get("reload")
    if reload:
        yield reload["cause"], _words(reload["stage"], reload.get("why")), "red" * (reload["stage"] == "failed")
    findings = (status.get("mold") or {}).get("findings", ())
    for each in findings:
        if each["severity"] == "must fix":
            yield "must fix", _words(f"{each['what']} ({each['where']})", each["remedy"]), "red"
    for parked in _parked(status):
        yield "parked", parked, "red"
    yield from _counts(status)


def _generation(each: Document) -> str:
    modules = f", {each['modules']} modules" if each.get("modules") else ""
    pss = f", {size(each['pss'])}" if each.get("pss") is not None else ""
    return _words(f"{each['number']} {each['state']}, {counted(each['slots'], 'slot')}{modules}{pss}", each.get("why"))


def _parked(status: Document) -> Iterable[str]:
    for each in status.get("parked", ()):
        yield f"{', '.join(each['queues'])}: {each['why']}; tried again in {seconds(each['next'])}"


def _counts(status: Document) -> Iterable[tuple[str, str, str]]:
    for key in ("deaths", "recycled"):
        found = {name: count for name, count in status.get(key, {}).items() if count}
        if found:
            yield key, ", ".join(f"{name} {count}" for name, count in found.items()), ""
    for each in status.get("plateaus", ()):
        queues = ", ".join(each["queues"])
        remedy = f"set server.private_limit to at least {each['needed'] >> 20}M"
        yield (
            "plateau",
            f"{queues}: a slot needs {size(each['growth'])}, the limit is {size(each['limit'])}: {remedy}",
            "",
        )
    for each in status.get("late_imports", ()):
        slots = counted(each["slots"], "slot")
        yield "late import", f"{briefly(each['modules'])}: {size(each['bytes'])} a slot, in {slots}", ""
    for handler, each in status.get("growth", {}).items():
        if each["bytes_a_task"] >= LEAST_GROWTH:
            yield "growth", f"{handler}: +{size(each['bytes_a_task'])} a task ({counted(each['tasks'], 'task')})", ""


def _words(what: str, why: str | None) -> str:
    return f"{what}: {why}" if why else what


def _slots(slots: list[Document]) -> RenderableType:
    if not slots:
        return Text("  no slot lives: `qslots queues` says what the queues are granted")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=name != "queues")
    for slot in slots:
        cells = (
            slot["index"], slot["pid"], slot["generation"], slot["state"], ", ".join(slot["queues"]) or None,
            f"{slot['handler']} {slot['task']}" if slot["task"] else None, seconds(slot["task_age"]), slot["done"],
            size(slot["pss"]), size(slot["private"]),
        )  # fmt: skip
        texts = [Text(NOTHING, "dim") if cell is None else Text(str(cell)) for cell in cells]
        texts[COLUMNS.index("state")].stylize(STATES.get(slot["state"], ""))
        table.add_row(*texts)
    return table


def size(count: float | None) -> str | None:
    """Bytes as people read them."""
    if count is None:
        return None
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB", "MB") else f"{count:.1f} GB"
        count /= 1024
    return None


def seconds(span: float | None) -> str | None:
    """A time as people read it."""
    if span is None:
        return None
    if span < 100:
        return f"{span:.1f} s"
    return f"{span / 60:.0f} min" if span < 6000 else f"{span / 3600:.1f} h"
