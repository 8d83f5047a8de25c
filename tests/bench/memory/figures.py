"""What every measurement gives: lines of a table, some with a goal that they meet or miss."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
