"""The status as people see it: what is known is shown, what is not is left out, and no name breaks the picture."""

from typing import Any

from rich.console import Console

from qmaster.statustext import headline, progress, status_text

SLOT: dict[str, Any] = {
    "index": 3, "pid": 4711, "generation": 2, "state": "busy", "queues": ["mail", "resize"], "task": "66083f",
    "handler": "send", "task_age": 125.0, "done": 12, "pss": 30 << 20, "private": None, "queue": "mail",
}  # fmt: skip
STATUS: dict[str, Any] = {
    "server": "web-7", "pid": 99, "stage": "running", "draining": False, "generation": 2, "app": ["shop"],
    "queue_server": "redis://a", "queue_server_down": "", "queue_servers": {"main": {"url": "redis://a", "down": ""}},
    "budget": 3 << 30, "max_slots": 20, "max_slots_by_hand": None, "bound": "memory", "my_world_slots": 12,
    "reason": "bound by memory: 3 GB for slots of 150 MB", "free_memory": 1 << 30, "total_memory": 4 << 30,
    "reserve": 1 << 28, "pss": 100 << 20, "swap": 0, "slot_size": 48 << 20, "slot_sizes": {},
    "log_file": None, "slots": [SLOT],
}  # fmt: skip


def shown(status: dict[str, Any], width: int = 200) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(status_text(status))
    return capture.get()


def test_the_usual() -> None:
    lines = [" ".join(line.split()) for line in shown(STATUS).splitlines()]
    assert lines[0] == "qmaster web-7 (pid 99) is running, generation 2: shop"
    assert "queue server main, redis://a: answers" in lines
    assert "at most 20 slots, bound by memory: 3 GB for slots of 150 MB; 12 by My World's formula" in lines
    assert "3 4711 2 busy mail, resize send 66083f 2 min 12 30 MB ·" in lines


def test_a_master_that_has_measured_nothing_yet() -> None:
    text = shown({**STATUS, "budget": None, "max_slots": None, "bound": None, "slots": []})
    assert "not measured yet" in text and "no slot lives" in text


def test_everything_that_may_be_there() -> None:
    text = shown({
        **STATUS, "draining": True, "max_slots_by_hand": 4, "pss": 100 << 20, "free_memory": 1 << 30,
        "reason": "bound by memory: 3 GB for slots of 150 MB",
        "queue_servers": {"main": {"url": "redis://a", "down": "queue server redis://a does not answer"}},
        "generations": [{"number": 1, "state": "dropped", "slots": 2, "modules": None, "pss": None, "why": "it broke"}],
        "reload": {"cause": "reload", "generation": 3, "stage": "failed", "why": "SyntaxError"},
        "mold": {"findings": [
            {"kind": "socket", "severity": "must fix", "what": "a socket", "where": "shop.line",
             "remedy": "open it later"},
            {"kind": "gc", "severity": "know", "what": "many objects", "where": "", "remedy": "none"},
        ]},
        "parked": [{"queues": ["mail"], "why": "its slots die at start", "deaths": 5, "next": 12.0}],
        "deaths": {"left": 3, "memory": 1, "silent": 0}, "recycled": {"growth": 2, "age": 0},
        "late_imports": [{"modules": ["_pickle", "pandas"], "bytes": 38 << 20, "slots": 2}],
        "growth": {"resize": {"bytes_a_task": 2 << 20, "tasks": 40, "slots": 2}},
        "plateaus": [{"queues": ["resize"], "limit": 48 << 20, "growth": 90 << 20, "needed": 96 << 20}],
    })  # fmt: skip
    for expected in (
        "is running, drained", "main, redis://a: does not answer", "bound by memory: 3 GB for slots of 150 MB",
          "at most 4 slots until qmaster is started again", "1 dropped, 2 slots: it broke",
        "  reload        failed: SyntaxError", "a socket (shop.line): open it later",
        "mail: its slots die at start; tried again in 12.0 s", "left 3, memory 1\n", "growth 2\n",
        "pandas: 38 MB a slot, in 2 slots",
        "resize: +2 MB a task (40 tasks)", "resize: a slot needs 90 MB, the limit is 48 MB",
    ):  # fmt: skip
        assert "many objects" not in text
        assert expected in "\n".join(line.rstrip() for line in text.splitlines()) + "\n", expected


def test_names_are_no_markup() -> None:
    assert "[bold]mail[/bold]" in shown({**STATUS, "slots": [{**SLOT, "queues": ["[bold]mail[/bold]"]}]})


def test_what_is_seen_while_something_is_waited_for() -> None:
    assert progress({**STATUS, "generation": 3}) == "running: 1 slot, 1 busy, 1 of an older generation"
    reloading = {**STATUS, "reload": {"cause": "reload", "generation": 3, "stage": "loading", "why": ""}}
    assert progress(reloading) == "running, reload: loading: 1 slot, 1 busy, 0 of an older generation"
    assert headline({**STATUS, "draining": True}).startswith("qmaster web-7 (pid 99) is running, drained, ")
