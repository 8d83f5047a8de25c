"""What a simulation has shown, as a document for programs and as tables for people. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .load import WARM_UP, Load
from .measures import Figures, QueueFigures
from .play import Outcome
from .server import Size

Document = dict[str, Any]


def document(load: Load, size: Size, seed: int, outcomes: Iterable[Outcome]) -> Document:
    """All figures; times in seconds, equal byte by byte for equal loads, fleets and seeds."""
    return {
        "load": load.name,
        "seed": seed,
        "servers": size.servers,
        "slots": size.slots,
        "duration": load.duration,
        "warm_up": WARM_UP,
        "urgent": list(load.urgent),
        "outcomes": [_outcome(each) for each in outcomes],
    }


def _outcome(outcome: Outcome) -> Document:
    figures = outcome.figures
    return {
        "policy": outcome.policy,
        "note": outcome.note,
        "slots": {
            "mean": _rounded(figures.slots_mean),
            "peak": figures.slots_peak,
            "hours": _rounded(figures.slot_hours),
            "busy": _rounded(figures.busy),
        },
        "moved": {"mean": _rounded(figures.moved_mean), "peak": _rounded(figures.moved_peak)},
        "starved": sum(queue.starved for queue in figures.queues.values()),
        "queues": {name: _queue(queue) for name, queue in figures.queues.items()},
    }


def _queue(queue: QueueFigures) -> Document:
    return {name: _rounded(getattr(queue, name)) for name in QueueFigures.__slots__}


def _rounded(number: float) -> float:
    return round(number, 6)


def table(load: Load, size: Size, outcomes: Sequence[Outcome]) -> RenderableType:
    """A table of the policies and one of the queues."""
    shown: list[RenderableType] = [
        Text(
            f"{load.name}: {load.duration:g} s on {size.servers} servers of {size.slots} slots, "
            f"after {WARM_UP:g} s of warm-up; urgent: {', '.join(load.urgent)}"
        ),
        _policies(load, outcomes),
        _queues(load, outcomes),
    ]
    shown += [Text(f"{each.policy}: {each.note}") for each in outcomes]
    if len(outcomes) > 1:
        shown.append(
            Text("static has as many slots as qslots had on average, backlog may have no more than that and 2 %.")
        )
    return Group(*shown)


def _policies(load: Load, outcomes: Sequence[Outcome]) -> Table:
    titles = ("urgent p99", "slots mean", "peak", "slot-hours", "busy", "moved a cycle", "most", "starved", "unheard")
    grid = _grid(("policy",), titles)
    for each in outcomes:
        figures = each.figures
        grid.add_row(
            each.policy,
            seconds(figures.urgent(load.urgent)),
            f"{figures.slots_mean:.1f}",
            f"{figures.slots_peak}",
            f"{figures.slot_hours:.1f}",
            f"{figures.busy:.0%}",
            f"{figures.moved_mean:.2%}",
            f"{figures.moved_peak:.1%}",
            f"{sum(queue.starved for queue in figures.queues.values()):,}",
            seconds(max(queue.unheard for queue in figures.queues.values())),
        )
    return grid


def _queues(load: Load, outcomes: Sequence[Outcome]) -> Table:
    titles = ("p50", "p95", "p99", "max", "slots", "backlog", "tasks", "unstarted", "starved", "unheard")
    grid = _grid(("queue", "policy"), titles)
    for queue in load.queues:
        for each in outcomes:
            grid.add_row(queue.name if each is outcomes[0] else "", each.policy, *_cells(each.figures, queue.name))
        grid.add_section()
    return grid


def _cells(figures: Figures, name: str) -> list[str]:
    queue = figures.queues[name]
    delays = [seconds(each) for each in (queue.p50, queue.p95, queue.p99, queue.max)]
    counts = [f"{each:,}" for each in (queue.tasks, queue.unstarted, queue.starved)]
    return [*delays, f"{queue.slots:.1f}", f"{queue.backlog:,.1f}", *counts, seconds(queue.unheard)]


def _grid(left: Iterable[str], right: Iterable[str]) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in left:
        grid.add_column(title, no_wrap=True)
    for title in right:
        grid.add_column(title, justify="right", no_wrap=True)
    return grid


def seconds(value: float) -> str:
    """A time as people read it."""
    if value < 0.0005:
        return "0"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"
