"""What every measurement gives: lines of a table, some with a goal that they meet or miss."""

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from rich.console import Console, RenderableType
from rich.table import Table

MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """One line. ``met`` is None where there is no goal; ``beside`` holds what puts the figure in proportion."""

    what: str
    figure: float
    unit: str
    goal: str = ""
    met: bool | None = None
    beside: Mapping[str, float | str] = field(default_factory=dict)


def at_most(what: str, figure: float, unit: str, goal: float, **beside: float | str) -> Result:
    """A figure that shall not be above its goal."""
    return Result(what, figure, unit, f"<= {goal:g}", figure <= goal, beside)


def ninth(values: Sequence[float]) -> float:
    """The 90th percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * 9 // 10)]


def spread(values: Sequence[float], of: float = 1.0) -> dict[str, float]:
    """Median, p90 and largest, each divided."""
    return {"median": statistics.median(values) / of, "p90": ninth(values) / of, "max": max(values) / of}


def printed(
    results: Sequence[Result], on: Mapping[str, object], *more: RenderableType, as_json: bool
) -> None:  # fmt: skip
    """The table, what belongs to it, and ``on`` what it was measured; or one document."""
    if as_json:
        print(json.dumps({"on": on, "results": [asdict(each) for each in results]}, indent=2))
        return
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table(results))
    for each in filter(None, more):
        console.print(each, highlight=False)
    console.print(", ".join(f"{what} {value}" for what, value in on.items()), style="dim", highlight=False)


def table(results: list[Result]) -> Table:
    """One aligned line a figure."""
    made = Table("what", "", "", "goal", "", "beside it", box=None, pad_edge=False)
    made.columns[1].justify = "right"
    for each in results:
        beside = ", ".join(f"{what} {_shown(value)}" for what, value in each.beside.items())
        verdict = {None: "", True: "met", False: "[red]missed[/]"}[each.met]
        made.add_row(each.what, _shown(each.figure), each.unit, each.goal, verdict, beside)
    return made


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}" if abs(value) < 1 else f"{value:.1f}"
